"""The shapes of `metrics.json`: what was measured of a run, ready to be drawn, exported or compared. Plain data; computes nothing.

Shares and rates are percentages from 0 to 100, lengths of time are seconds. What could not be scored has no value and says why
(`refused`): a number that is there may be printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

FORMAT = 1
RULE = "rule"  # the `judge` of a score that needs none: the benchmark's own rule reads the answers
NOBODY = "nobody"  # and of one that needs one and has none
Unit = Literal["%", "points"]
Verdict = Literal["harmful", "harmless", "refused", "answered", "correct", "wrong", "graded", "unparsed", "unjudged", "unanswered"]
# What became of a sample in a defence that checks, told by who was right. See attribution.py.
Stage = Literal[
    "passed",  # nothing wrong, nothing flagged
    "missed",  # harmful, and the check did not see it
    "mended",  # harmful, flagged, and what was released is not
    "carried",  # harmful, flagged, the caption carried the harm over, and what was released is harmful
    "unsafe",  # harmful, flagged, a harmless caption, and what was released is harmful all the same
    "harmful again",  # one of the last two: nobody judged the caption
    "worsened",  # harmless, flagged, and what was released is harmful
    "false alarm",  # flagged without need; what was released is as good as the first answer
    "lost",  # flagged without need, and the right answer became a wrong or refused one
    "gained",  # flagged without need, and a wrong or refused answer became a right one
    "unknown",  # the first answer or the released one is not judged
]


@dataclass(frozen=True, slots=True)
class Score:
    """One number with everything that must be printed beside it.

    `name`: harmless_rate, attack_rate (100 - harmless), over_refusal_rate, accuracy, accuracy_plus, perception, total, ...; `unit` "%" or
    "points", of `most` at most. `better`: which way is good. `n`: what the value is over (samples, pictures, base questions), `of`: how
    many there should be, unanswered, unjudged and unparsed ones included. `low`, `high`: the interval, `interval` says which. `least`,
    `greatest`: the value if all that lack had gone the one way or the other; equal to the value where nothing lacks. `judge`: who
    decided ("keyword", "gpt-4o/llm_binary_strict"), `RULE` for nobody; `keyword`: that judge is only a list of phrases, to be said
    wherever the score is shown. `refused`: the sentence why there is no value. `spread`: standard deviation over the grader's `runs`.
    """

    name: str
    value: float | None
    n: int
    of: int
    unit: Unit = "%"
    most: float = 100.0
    better: Literal["higher", "lower"] = "higher"
    low: float | None = None
    high: float | None = None
    interval: str = ""
    least: float | None = None
    greatest: float | None = None
    judge: str = RULE
    keyword: bool = False
    refused: str | None = None
    runs: int = 1
    spread: float | None = None

    @property
    def coverage(self) -> float:
        """Share of what should be there that the value is over, from 0 to 1."""
        return self.n / self.of if self.of else 0.0


@dataclass(frozen=True, slots=True)
class Group:
    """The scores of one category: `table` says of what kind (scenario, mode, scenario x mode, subtask, category, ...), `key` which one."""

    table: str
    key: str
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """One method on one task: the headline first among `scores`, the categories in the benchmark's order.

    `rows` are recorded, `samples` there should be (what the session was asked for), `flagged` of `checked` first answers the check
    called harmful. `notes` are sentences for a reader, such as that an answer file is incomplete.
    """

    method: str
    rows: int
    samples: int
    checked: int
    flagged: int
    scores: tuple[Score, ...]
    groups: tuple[Group, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Method `b` beside `a` over the samples that both have decided, pair by pair.

    `table` and `key` as in `Group`, ("", "") for the whole task. Counted is what the score counts as a hit: `both`, `only_a`, `only_b`,
    `neither` (None for graded scores). `difference` is b - a in the score's unit with its interval `low`, `high`. `p` comes from `test`:
    "exact McNemar"; "sign flips" for graded scores; "sign flips by group" where samples share a picture, so that pairs are not
    independent (`p_mcnemar` is told there, too). `p_holm` is `p` corrected over the `family` tested comparisons of the same table.
    `n` of `of` pairs are decided under both; where that is less than the coverage that scores need, nothing is tested.
    """

    score: str
    a: str
    b: str
    table: str
    key: str
    n: int
    of: int = 0
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    both: int | None = None
    only_a: int | None = None
    only_b: int | None = None
    neither: int | None = None
    p: float | None = None
    p_mcnemar: float | None = None
    p_holm: float | None = None
    family: int = 1
    test: str = ""
    judge: str = RULE
    keyword: bool = False


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where a defence's good and bad ends come from: samples by `Stage`, in one category ("" for all), by one judge."""

    method: str
    table: str
    key: str
    counts: Mapping[Stage, int]
    judge: str = RULE
    keyword: bool = False


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One threshold of p(harmful): a first answer is flagged from it on (None: never, or by a rule that reads only the word). Rates are
    percentages of the harmful and of the harmless ones."""

    threshold: float | None
    flagged_harmful: float
    flagged_harmless: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """How well the check tells harmful first answers from harmless ones, over `tasks`.

    `harmful`, `harmless`: first answers by the judge's word (or by what the benchmark is: questions without harm have harmless answers).
    `auc` from 0 to 1 with its interval. `points` begin with nothing flagged and end with everything flagged; long curves are thinned,
    the run's own place kept. `chosen` has the largest difference of the two rates (Youden); `recorded` is where the run itself stood.
    """

    method: str
    tasks: tuple[str, ...]
    harmful: int
    harmless: int
    auc: float | None
    low: float | None
    high: float | None
    points: tuple[SweepPoint, ...]
    chosen: SweepPoint | None
    recorded: SweepPoint | None
    judge: str = RULE
    keyword: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """What one sample costs on one `path`: "all", "draft" (the check let it pass), "regenerated", "refusal". Means over `rows`; of seconds
    also the median, over the `timed` rows. Tokens that a server did not tell of every call are None. `calls_x`, `tokens_x`, `seconds_x`:
    times the direct answer of the same samples."""

    method: str
    path: str
    rows: int
    calls: float
    prompt_tokens: float | None
    completion_tokens: float | None
    timed: int
    seconds: float | None
    seconds_median: float | None
    calls_x: float | None = None
    tokens_x: float | None = None
    seconds_x: float | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A published number and ours of the same name. `comparable`: the same questions, all of them, asked in the published way
    (`why` says if not); `same_model`: the published number is of the model of this run. `printed`: what the paper prints where its own
    rows give `value`."""

    score: str
    table: str
    key: str
    method: str
    model: str
    value: float
    source: str
    judge: str = ""
    printed: float | None = None
    note: str = ""
    ours: float | None = None
    ours_judge: str = ""
    comparable: bool = False
    same_model: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """Everything about one task."""

    task: str
    title: str
    scored_by: Literal["harmless", "refusals", "correct"]
    samples: int
    methods: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...] = ()
    attribution: tuple[Attribution, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    costs: tuple[Cost, ...] = ()
    published: tuple[Published, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One sample under one method: for the browser and for whoever computes on. `value`: 1 for a hit, 0 for none, a grade between; None
    where nothing is decided, with the `reason`. A hit is what the task's headline counts. `first`: the verdict on the first answer."""

    task: str
    method: str
    id: str
    group: str
    verdict: Verdict
    value: float | None
    judge: str = RULE
    reason: str = ""
    first: Verdict = "unjudged"
    stage: Stage | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """A run, measured. `model` is the records' description of it. `outcomes` are not in metrics.json but in outcomes.jsonl."""

    run: str
    model: Mapping[str, Any]
    tasks: tuple[TaskMetrics, ...]
    sweeps: tuple[Sweep, ...] = ()
    coverage_needed: float = 0.95
    versions: Mapping[str, str] | None = None
    format: int = FORMAT
    outcomes: tuple[Outcome, ...] = ()

    def task(self, name: str) -> TaskMetrics | None:
        """One of its tasks, None where the run has it not."""
        return next((task for task in self.tasks if task.task == name), None)
