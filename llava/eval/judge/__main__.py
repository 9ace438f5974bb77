"""Have a run's answers judged: `llava judge` or `python -m llava.eval.judge`.

    llava judge runs/first                                                    # by refusal phrases: no network, a rule and not a judge
    llava judge runs/first --judge gpt-4o --max-cost 5                        # OPENAI_API_KEY, or --judge-key-file
    llava judge runs/first --judge qwen3-32b --judge-base-url http://localhost:8000/v1
    llava judge runs/first --judge gpt-4o --judge guard:llama-guard-4-12b@http://localhost:8001/v1         # a panel, with its agreement
    llava judge runs/first --judge gpt-4 --judge-file vlsafe_judge.jsonl      # with the original's prompts
    llava judge --selftest --judge gpt-4o                                     # how good is it on answers made to mislead judges?

What is recorded is not asked again, and what was ever asked of a judge comes from its cache. Exit codes: 0 done, 1 the judge or the disk
failed, 2 a mistake in the input, 3 some texts have no verdict (they are counted in no class).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from llava.cli import program
from llava.errors import UserError
from llava.eval.judge.asking import Patience
from llava.eval.judge.budget import LISTED, PRICES, Estimate, Price
from llava.eval.judge.hostile import CASES
from llava.eval.judge.judges import Spec, key_for
from llava.eval.judge.judging import Order, Outcome, Result, judge
from llava.eval.judge.judgment import KEYWORD
from llava.eval.judge.modes import MODES, QUERY, Mode, named, with_file
from llava.eval.judge.original import OURS, export
from llava.eval.judge.panel import agreement
from llava.eval.judge.selftest import by_model, by_rule
from llava.eval.judge.session import Terms
from llava.eval.judge.work import AUTO, PARTS, Wish
from llava.paths import judge_cache

EXIT_SOME_UNJUDGED = 3
AGAIN = {"failed": ("failed",), "unparsed": ("failed", "unparsed")}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("run", nargs="?", type=Path, metavar="RUN", help="the --out folder of llava eval")
    add(
        "--judge",
        action="append",
        default=[],
        metavar="JUDGE",
        help="keyword (default), NAME, NAME@URL, guard:NAME[@URL], engine:TARGET; again for a panel",
    )
    add(
        "--judge-base-url",
        default="",
        metavar="URL",
        help="of judges without an address of their own (default: LLAVA_JUDGE_BASE_URL, OPENAI_BASE_URL, else OpenAI)",
    )
    add(
        "--judge-key-file",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="of mode 0600; once, or once for each judge that is a model",
    )
    add("--mode", default=AUTO, metavar="MODE", help=f"{', '.join([*MODES, QUERY])}; or auto (default): what fits the task")
    add("--judge-file", type=Path, metavar="FILE", help="prompts in the original's format (vlsafe_judge.jsonl), in place of ours")
    add("--tasks", type=_words, default=(), metavar="LIST", help="only these (default: all of the run)")
    add("--methods", type=_words, default=(), metavar="LIST", help="only these (default: all of the run)")
    add(
        "--parts",
        type=_words,
        default=PARTS,
        metavar="LIST",
        help="of answer, draft, caption (default: answer,draft; drafts where they were checked)",
    )
    add("--runs", type=int, default=1, metavar="N", help="gradings of each text (default: 1; MM-Vet's paper: 5)")
    add("--limit", type=int, metavar="N", help="only the first N samples of each task")
    add(
        "--again",
        choices=(*AGAIN, "all"),
        default="failed",
        help="what to judge anew: failed calls (default), unparsed replies too, or all",
    )
    add("--price", action="append", default=[], metavar="[JUDGE=]IN,OUT", help="dollars for a million tokens of prompts and of replies")
    add("--max-cost", type=float, metavar="DOLLARS", help="stop before more is spent, by all judges together")
    add("--estimate", action="store_true", help="say what it would cost, and ask nobody")
    add("--judge-temperature", type=float, default=0.0, metavar="T", help="default: 0")
    add("--judge-max-tokens", type=int, metavar="N", help="longest reply (default: what the mode needs; more for models that think)")
    add("--concurrency", type=int, default=8, metavar="N", help="calls under way at most (default: 8)")
    add("--retries", type=int, default=4, metavar="N", help="further calls for a text when one fails (default: 4)")
    add("--timeout", type=float, default=120.0, metavar="SECONDS", help="for one call in all (default: 120)")
    add("--cache", default="", metavar="FILE", help="of what judges said (default: one for all runs, in your cache folder), or none")
    add("--selftest", action="store_true", help="judge answers that are made to mislead judges, and say which ones did")
    add(
        "--original", type=Path, metavar="FOLDER", help="also write the original's files (.../gpt4_evaluation/MODE.jsonl) below this folder"
    )
    add("--model-name", metavar="NAME", help="what answer files call the run's model (default: as llava eval does)")
    add("--progress", action=argparse.BooleanOptionalAction, help="a bar on standard error (default: where that is a terminal)")


def run(options: argparse.Namespace) -> int:
    """Judge, or test a judge, and print what came of it."""
    specs = tuple(Spec.of(text, options.judge_base_url) for text in options.judge or [KEYWORD])
    if len({spec.name for spec in specs}) < len(specs):
        raise UserError("Name each judge only once: results are told apart by its name.")
    _check_numbers(options)
    modes = with_file(options.judge_file) if options.judge_file else MODES
    if options.selftest:
        return _selftest(options, specs, modes)
    if options.run is None:
        raise UserError("Say which run to judge: llava judge runs/first.")
    order = _order(options, specs, modes)
    try:
        outcome = judge(order)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; what was judged is kept in {order.out}, and the same command will go on.") from None
    if options.estimate:
        return 0
    conclusion(outcome)
    if options.original:
        _export(options, outcome)
    return 0 if outcome.whole else EXIT_SOME_UNJUDGED


def _check_numbers(options: argparse.Namespace) -> None:
    least = {
        "--runs": options.runs,
        "--limit": options.limit,
        "--concurrency": options.concurrency,
        "--judge-max-tokens": options.judge_max_tokens,
    }
    for name, number in least.items():
        if number is not None and number < 1:
            raise UserError(f"{name} is {number}: give at least 1.")
    ranges: dict[str, tuple[float, float, float]] = {
        "--timeout": (options.timeout, 0.001, 86400),
        "--judge-temperature": (options.judge_temperature, 0, 2),
        "--retries": (options.retries, 0, 20),
        "--max-cost": (options.max_cost or 0, 0, 1e9),
    }
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise UserError(f"{name} is {value:g}: give a number from {low:g} to {high:g}.")


def _order(options: argparse.Namespace, specs: tuple[Spec, ...], modes: dict[str, Mode]) -> Order:
    def announce(name: str, estimate: Estimate) -> bool:
        known = name in PRICES and not {name, ""} & set(prices) and estimate.cost is not None
        listed = f" (prices as of {LISTED}; --price overrules)" if known else ""
        print(f"{name}: {estimate}{listed}", file=sys.stderr)
        return not options.estimate

    prices = dict(_price(text) for text in options.price)
    if strange := [name for name in prices if name and name not in {spec.name for spec in specs}]:
        raise UserError(f"--price names {strange[0][:80]!r}, and no --judge is called so: {', '.join(spec.name for spec in specs)}.")
    wish = Wish(modes, options.mode, options.tasks, options.methods, options.parts, options.runs, options.limit)
    again = AGAIN.get(options.again, ("harmless", "harmful", "refused", "answered", "scored", "unparsed", "failed"))
    return Order(
        out=options.run,
        wish=wish,
        judges=specs,
        keys=_keys(options, specs),
        terms=Terms(options.judge_temperature, options.judge_max_tokens, options.concurrency, afresh=options.again != "failed"),
        timeout=options.timeout,
        retries=options.retries,
        prices=prices,
        max_cost=options.max_cost,
        cache=_cache(options.cache),
        again=again,
        announce=announce,
        shown=options.progress,
    )


def _keys(options: argparse.Namespace, specs: Sequence[Spec]) -> tuple[str, ...]:
    keyed = [spec for spec in specs if spec.keyed]
    files: list[Path | None] = list(options.judge_key_file)
    if len(files) not in (0, 1, len(keyed)):
        raise UserError(
            f"There are {len(files)} key files and {len(keyed)} judges that are models: give one for all, or one for each in turn."
        )
    files = files * len(keyed) if len(files) == 1 else files or [None] * len(keyed)
    return tuple(key_for(spec, file) for spec, file in zip(keyed, files, strict=True))


def _price(text: str) -> tuple[str, Price]:
    name, _, numbers = text.rpartition("=")
    return name, Price.of(numbers)


def _cache(text: str) -> Path | None:
    return None if text == "none" else Path(text) if text else judge_cache()


def _selftest(options: argparse.Namespace, specs: Sequence[Spec], modes: dict[str, Mode]) -> int:
    if options.estimate or options.max_cost is not None:
        raise UserError(
            f"--selftest knows no --estimate and no --max-cost: it asks each judge {len(CASES)} short questions. Leave them out."
        )
    keys = iter(_keys(options, specs))
    for spec in specs:
        if spec.kind == KEYWORD:
            lines = by_rule()
        else:
            mode = "guard" if spec.kind == "guard" else "llm_binary_strict" if options.mode == AUTO else options.mode
            if set(named(mode, modes).verdicts.values()) != {"harmless", "harmful"}:
                raise UserError(f"The mode {mode} does not tell harmless from harmful: the self-test needs one that does.")
            terms = Terms(options.judge_temperature, options.judge_max_tokens, options.concurrency)
            asker = spec.connected(next(keys) if spec.keyed else "none", options.timeout)
            lines = by_model(asker, modes[mode], terms, Patience(options.retries))
        print(f"{spec.name}{' (a rule about words, no judge)' if spec.kind == KEYWORD else ''}:")
        for line in lines:
            print(f"  {line}")
    return 0


def _export(options: argparse.Namespace, outcome: Outcome) -> None:
    stem = options.judge_file.name.partition(".")[0] if options.judge_file else OURS
    name = options.model_name or outcome.model
    for path in export(options.original, options.run, outcome.pairs, stem, name):
        print(f"written: {path}")


def conclusion(outcome: Outcome) -> None:
    """Print what a session came to."""
    for result in outcome.results:
        print(_said(result))
    for spent in outcome.spent:
        if spent.calls or spent.cached or spent.left:
            cost = "" if spent.cost is None else f", ${spent.cost:.4f}"
            left = f"; {spent.left} texts not asked (--max-cost)" if spent.left else ""
            print(f"{spent.judge}: {spent.calls} calls, {spent.cached} texts known already{cost}{left}", file=sys.stderr)
    for who, texts, alpha in agreement(outcome.judgments):
        shown = "not defined (one verdict only)" if alpha is None else f"{alpha:.3f}"
        print(f"agreement of {who}: Krippendorff's alpha {shown} over {texts} texts")
    lacking = [judgment for judgment in outcome.judgments if not judgment.counted]
    for one in lacking[:5]:
        print(f"no verdict: {one.judge} {one.task} {one.method} {one.id} ({one.part}): {one.reason}", file=sys.stderr)
    if len(lacking) > 5:
        print(f"and {len(lacking) - 5} more without a verdict: see judgments.jsonl beside the records.", file=sys.stderr)


def _said(result: Result) -> str:
    name, mode = result.series
    marked = "keyword (a rule about words, no judge)" if name == KEYWORD else f"{name} {mode}"
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(result.verdicts.items()))
    part = "" if result.part == "answer" else f" ({result.part}s)"
    share = f"{result.counted} of {result.texts} judged"
    return f"{result.task} {result.method}{part}: {share} by {marked}" + (f": {counts}" if counts else "")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


_words.__name__ = "list of names"  # argparse says it in its error


if __name__ == "__main__":
    sys.exit(program("judge", "python -m llava.eval.judge"))
