"""Put benchmarks to a model, direct and defended: `llava eval` or `python -m llava.eval`.

    llava eval --model mini --tasks vlsafe,mme --methods direct,ecso --out runs/first
    llava eval --model models/llava-v1.5-7b --data data --tasks mm_safetybench --task-option modes=SD_TYPO --out runs/llava
    llava eval --engine http://localhost:8000/v1 --tasks vlsafe --out runs/vllm
    llava eval merge runs/first          # joins shards that ran apart (--shard)

What is recorded is never asked again: the same command goes on where it was interrupted. Exit codes: 0 done, 1 the model or the disk
failed, 2 a mistake in the input, 3 some samples failed or were set aside (they are listed).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llava.cli import pair, program
from llava.ecso import DEFENCES, POLICIES
from llava.ecso.policy import Policy, policy_named
from llava.errors import UserError
from llava.eval.plan import Plan, Shard
from llava.eval.tasks import configured
from llava.paths import DATA, MINI_DATA

if TYPE_CHECKING:
    from llava.eval.session import Summary

SHOWN = 10  # failures that are listed in full
EXIT_SOME_FAILED = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("action", nargs="*", metavar="merge FOLDER", help="join the shards of a run")
    add(
        "--model", "--engine", dest="target", action=_Once, default="mini", metavar="TARGET", help="mini (default), a folder, hub id or URL"
    )
    add("--tasks", type=_words, default=(), metavar="LIST", help="benchmarks, as `llava data list` names them")
    add("--task-option", action="append", default=[], metavar="[TASK.]KEY=VALUE", help="of a benchmark, such as mm_safetybench.modes=SD")
    add("--methods", type=_words, default=("direct", "ecso"), metavar="LIST", help=f"of {', '.join(DEFENCES)} (default: direct,ecso)")
    add("--data", type=Path, metavar="FOLDER", help=f"where the benchmarks are (default: {DATA}; for the model mini {MINI_DATA})")
    add("--out", type=Path, metavar="FOLDER", help="where the run is recorded, and gone on with")
    add("--resume", action="store_true", help="go on where the run in --out was interrupted: what is done anyway")
    add("--preset", default="paper", metavar="NAME", help="paper: the published method (default); repo: with the original scripts' quirks")
    add("--policy", default="paper", metavar="NAME", help=f"{' or '.join(POLICIES)} (default: paper)")
    add("--answers", type=Path, metavar="PATH", help="take first answers from this file or run, or the original's files below this folder")
    add("--original", type=Path, metavar="FOLDER", help="also write the original's answer files (.../merge.jsonl) below this folder")
    add("--model-name", metavar="NAME", help="what answer files call the model (default: the last part of its target)")
    add("--max-tokens", type=int, metavar="N", help="longest answer (default: what each benchmark says)")
    add("--temperature", type=float, metavar="T", help="of the answers; 0 (default) is greedy")
    add("--top-p", type=float, metavar="P", help="of the answers; below 1 and without --temperature, that is 1")
    add("--seed", type=int, default=0, metavar="N", help="of answers that are not greedy (default: 0)")
    add("--limit", type=int, metavar="N", help="only the first N samples of each benchmark")
    add("--shard", type=Shard.of, metavar="I/N", help="only every N-th sample, from number I on; recorded apart, see merge")
    add("--processes", default="auto", metavar="N", help="shards side by side (default: as many as CUDA_VISIBLE_DEVICES names)")
    add("--ray", metavar="ADDRESS", help="spread the model over this Ray cluster: host:port of its head, or auto (extra: ray)")
    add("--concurrency", type=int, metavar="N", help="samples under way at most (default: 48; with a server as many as make it faster)")
    add("--engine-option", action="append", default=[], metavar="KEY=VALUE", help="of the engine, such as device=cuda or model=NAME")
    add("--strict", action="store_true", help="stop at the first row or picture that cannot be read")
    add("--progress", action=argparse.BooleanOptionalAction, help="a bar on standard error (default: where that is a terminal)")


class _Once(argparse.Action):
    """One option under two names: people who give both mean two things by them."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        if getattr(namespace, "said", option_string) != option_string:
            raise UserError("--model and --engine are one option: give one. Of a server's models: --engine-option model=NAME.")
        namespace.said = option_string
        setattr(namespace, self.dest, values)


def run(options: argparse.Namespace) -> int:
    """Evaluate or merge, and print what came of it."""
    if options.action:
        return _merge(options.action)
    plan = _plan(options)
    from llava.eval.processes import devices, run_shards
    from llava.eval.progress import Progress
    from llava.eval.session import evaluate

    count = _processes(options.processes, plan, len(devices()))
    try:
        if count == 1:
            return conclusion(evaluate(plan, shown=options.progress))
        before = evaluate(plan, ask=False)  # finds mistakes before the processes do, and gathers what earlier shards left
        bar = Progress("rows", sum(result.expected for result in before.results), options.progress)
        bar.begin_at(sum(result.rows for result in before.results))
        said = run_shards(plan, count, bar)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; what was answered is kept in {plan.out}, and the same command will go on.") from None
    code = conclusion(evaluate(plan, ask=False))
    if said:
        raise type(said[0])(f"{len(said)} of {count} processes ended early: {said[0]} Mend it and run the same command.")
    return code


def _merge(words: Sequence[str]) -> int:
    if words[0] != "merge" or len(words) != 2:
        raise UserError(f"{words[0]!r} is no option of llava eval. To join shards: llava eval merge FOLDER.")
    from llava.eval.merge import merge

    folder = Path(words[1])
    if not (folder / "shards").is_dir():
        raise UserError(f"{folder} has no shards: give the --out folder of a run with --shard.")
    merged = merge(folder)
    for result in merged:
        failed = f", {result.failed} failed" if result.failed else ""
        aside = f", {result.set_aside} rows of the benchmark set aside (quarantine.jsonl)" if result.set_aside else ""
        print(f"{result.task} {result.method}: {result.rows} of {result.expected} rows{failed}{aside}")
    return EXIT_SOME_FAILED if any(result.rows < result.expected or result.set_aside for result in merged) else 0


def _plan(options: argparse.Namespace) -> Plan:
    if not options.tasks or options.out is None:
        raise UserError("Say what to evaluate and where to record it: --tasks vlsafe,mme --out runs/first.")
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {options.out} is a file: name a folder.")
    return Plan(
        target=options.target,
        tasks=configured(options.tasks, options.task_option),
        data=options.data or (MINI_DATA if options.target == "mini" else DATA),
        out=options.out,
        methods=options.methods,
        options=dict(pair(text) for text in options.engine_option),
        model_name=options.model_name,
        preset=options.preset,
        policy=_policy(options),
        max_tokens=options.max_tokens,
        limit=options.limit,
        shard=options.shard,
        drafts=options.answers,
        originals=options.original,
        concurrency=options.concurrency,
        strict=options.strict,
        ray=options.ray,
    )


def _policy(options: argparse.Namespace) -> Policy:
    sampling = {"temperature": options.temperature, "top_p": options.top_p}
    policy = policy_named(options.policy).answering(**{name: value for name, value in sampling.items() if value is not None})
    if not policy.answer.temperature:
        return policy
    return policy.answering(seed=options.seed)  # else a run that was interrupted could not go on as it began


def _processes(wanted: str, plan: Plan, gpus: int) -> int:
    if wanted == "auto":
        return max(gpus, 1) if plan.shard is None and plan.ray is None and "://" not in plan.target else 1
    if not wanted.isdigit() or int(wanted) < 1:
        raise UserError(f"--processes is {wanted!r}: give a whole number from 1 on, or auto.")
    if plan.ray is not None and int(wanted) > 1:
        raise UserError("With --ray each GPU of the cluster has a worker: leave --processes out.")
    if plan.shard is not None and int(wanted) > 1:
        raise UserError("--shard is one process: leave --processes out.")
    return int(wanted)


def conclusion(summary: Summary) -> int:
    """Print what a session came to; returns the exit code."""
    for result in summary.results:
        share = f", {result.harmful} of {result.checked} first answers judged harmful" if result.checked else ""
        print(f"{result.task} {result.method}: {result.rows} of {result.expected} rows{share} -> {result.path}")
    for path in summary.written:
        print(f"written: {path}")
    failures = [(result, failure) for result in summary.results for failure in result.failures]
    for row in summary.noted[:SHOWN]:
        print(f"noted: {row}", file=sys.stderr)
    for row in summary.set_aside[:SHOWN]:
        print(f"set aside: {row}", file=sys.stderr)
    for result, failure in failures[:SHOWN]:
        print(f"failed: {result.task} {result.method} {json.dumps(failure['id'])}: {failure['error']}", file=sys.stderr)
    more = sum(max(len(told) - SHOWN, 0) for told in (summary.noted, summary.set_aside, failures))
    if more:
        print(f"and {more} more: see failures.jsonl and quarantine.jsonl beside the records.", file=sys.stderr)
    return 0 if summary.whole else EXIT_SOME_FAILED


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


_words.__name__ = "list of names"  # argparse says it in its error


if __name__ == "__main__":
    sys.exit(program("eval", "python -m llava.eval"))
