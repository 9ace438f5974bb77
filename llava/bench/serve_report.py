"""The figures of `llava bench serve` as Markdown tables, with what they mean. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from llava.bench import report
from llava.bench.report import Column
from llava.bench.serve import LONG, Record, Result
from llava.bench.serve_models import CONVERSATION, First, Throughput
from llava.bench.serve_overhead import Overhead, Streams


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms"


COLUMNS: dict[type, Sequence[Column]] = {
    Overhead: (
        Column("asked", lambda o: o.way),
        Column("clients", lambda o: str(o.clients)),
        Column("picture", lambda o: "yes" if o.picture else "no"),
        Column("requests", lambda o: str(o.requests)),
        Column("lost", lambda o: str(o.lost)),
        Column("above the model's time, p50", lambda o: _ms(o.p50)),
        Column("above the model's time, p99", lambda o: _ms(o.p99)),
        Column("more than directly, p50", lambda o: "-" if o.way == "directly" else _ms(o.added50)),
        Column("more than directly, p99", lambda o: "-" if o.way == "directly" else _ms(o.added99)),
        Column("outside the engine, p50", lambda o: "-" if o.outside50 is None else _ms(o.outside50)),
        Column("outside the engine, p99", lambda o: "-" if o.outside99 is None else _ms(o.outside99)),
        Column("answers/s", lambda o: f"{o.answers_per_second:.1f}"),
    ),
    Streams: (
        Column("through", lambda s: s.way),
        Column("streams", lambda s: str(s.streams)),
        Column("open at one time", lambda s: str(s.open)),
        Column("lost", lambda s: str(s.lost)),
        Column("bytes checked", lambda s: f"{s.mib:.1f} MiB"),
        Column("seconds", lambda s: f"{s.seconds:.1f}"),
    ),
    Throughput: (
        Column("model", lambda t: t.model),
        Column("way", lambda t: t.way),
        Column("clients", lambda t: str(t.clients)),
        Column("questions per picture", lambda t: str(t.questions)),
        Column("requests", lambda t: str(t.requests)),
        Column("lost", lambda t: str(t.lost)),
        Column("answers/s", lambda t: f"{t.answers_per_second:.2f}"),
        Column("tokens/s", lambda t: f"{t.tokens_per_second:.0f}"),
        Column("x fewest clients", lambda t: f"{t.ratio:.2f}"),
        Column("own answer released", lambda t: f"{t.released:.0%}"),
    ),
    First: (
        Column("model", lambda f: f.model),
        Column("stream", lambda f: f.way),
        Column("requests", lambda f: str(f.requests)),
        Column("first text", lambda f: _ms(f.first)),
        Column("whole answer", lambda f: _ms(f.whole)),
        Column("x the worker's first text", lambda f: f"{f.ratio:.1f}"),
    ),
}

RANDOM = (
    "Answers have {tokens} tokens; single questions, and conversations of each client about pictures of its own. Guarded here means the "
    "policy `paper` (random weights never give a clear verdict), and the path is always answer and check:"
)
ABOUT = {
    "overhead": (
        "A scripted model that takes {answer:.2f} s for an answer and {check:.2f} s for a check, asked directly and through the gateway. "
        "Each client asks again when it has its answer. *Above the model's time*: how much later the last byte came than the script says; "
        "it holds both ends' HTTP, the client and, where the guard is on, the second call of the model, but not the {check:.2f} s that the "
        "check itself takes: those depend on the model, and are in the tables below. "
        "*Outside the engine*: without the gateway's calls of the server behind (its client for that server is in them), the gateway's own "
        "work; only a guarded answer tells how long they took. Clients, gateway and model share {cores} cores:"
    ),
    "streams": "Streams of which none ended before all were open; every byte of each was compared with the script:",
    "mini": (
        "The embedded model behind worker, controller and gateway: each question about a picture of its own; and conversations, in which "
        "each client asks {conversation} questions, one after another, about a picture of its own, which the model has seen since the "
        "first one. *Tokens* are all that the model wrote, guarded with its checks and captions: what clients get are the answers a "
        "second. Rates are those while all clients are at work, from when each has had its first answer until the last request is sent:"
    ),
    "long": f"The embedded model's own answers are short; random weights of its shape ({LONG}) say as much as they are asked for. {RANDOM}",
    "shape": f"Random weights of shape {{shape}}. {RANDOM}",
    "first": (
        "When the first text comes, with one client. A guarded stream is the finished result written as events: its first text comes when "
        "the check is done, so that a reader waits for the whole answer and the check. Without the guard the gateway writes finished "
        "results too; only the worker's own stream, which nothing guards, shows text as it is made:"
    ),
}


def line(record: Record) -> str:
    """A record's figures, to be told while the benchmark runs."""
    return ", ".join(f"{column.heading} {column.shown(record)}" for column in COLUMNS[type(record)])


def markdown(result: Result) -> str:
    """The figures as text that can be pasted into docs/results.md."""
    plan, machine = result.plan, result.machine
    head = (
        f"`llava bench serve`, {result.began[:10]}: {machine['processor']}, {machine['cores']} cores, torch {machine['torch']}, "
        f"{plan.rounds} rounds, medians (of each round's percentiles and rates)."
    )
    known = {
        "answer": plan.script.seconds(guarded=False),
        "check": plan.script.check,
        "cores": machine["cores"],
        "shape": plan.shape,
        "tokens": plan.tokens,
        "conversation": len(CONVERSATION),
    }
    tables = [
        f"{ABOUT[part].format(**known)}\n\n{report.table(records, COLUMNS[type(records[0])])}" for part, records in result.medians().items()
    ]
    return "\n\n".join([head, *tables])
