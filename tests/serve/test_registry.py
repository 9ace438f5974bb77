"""The controller's core: who is in the table, and who takes the next call."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llava.cluster.wire import Status
from llava.errors import Overloaded, UserError
from llava.serve.registry import DISPATCH, FREE, MAX_WORKERS, SLACK, Registry


def status(*models: str, speed: float = 1, queue: int = 0) -> Status:
    return Status(models or ("m",), speed, queue)


def registry(dispatch: str, *speeds: float) -> Registry:
    found = Registry(dispatch, rng=random.Random(0))
    for i, speed in enumerate(speeds):
        found.register(f"w{i}", status(speed=speed), 0.0)
    return found


def test_a_worker_is_forgotten_when_its_beats_stay_away_and_has_to_register_again() -> None:
    found = Registry(expiry=30)
    found.register("w", status("a"), 0)
    assert found.models(30) == ["a"]
    assert found.heart_beat("w", 3, 29)
    assert found.models(59) == ["a"]
    assert found.models(59.1) == []
    assert found.pick("a", 59.1) is None
    assert not found.heart_beat("w", 0, 60)


def test_a_worker_that_promised_no_beats_stays() -> None:
    found = Registry(expiry=30)
    found.register("w", status("a"), 0, beats=False)
    assert found.pick("a", 10_000) == "w"
    assert found.remove("w")
    assert not found.remove("w")


def test_only_a_worker_that_serves_the_model_is_picked() -> None:
    found = Registry()
    found.register("one", status("a", "b"), 0)
    found.register("two", status("b", "c"), 0)
    assert {found.pick("a", 0) for _ in range(20)} == {"one"}
    assert {found.pick("b", 0) for _ in range(50)} == {"one", "two"}
    assert found.pick("nope", 0) is None
    assert found.models(0) == ["a", "b", "c"]
    assert found.status(0) == Status(("a", "b", "c"), 2, 70)


def test_shortest_queue_goes_by_load_per_speed_and_counts_what_it_sent() -> None:
    found = registry("shortest_queue", 1, 3)
    assert Counter(found.pick("m", 0) for _ in range(400)) == {"w0": 100, "w1": 300}
    found.heart_beat("w0", 0, 1)
    assert [found.pick("m", 1) for _ in range(5)] == ["w0"] * 5


def test_lottery_goes_by_speed() -> None:
    found = registry("lottery", 1, 9)
    picked = Counter(found.pick("m", 0) for _ in range(2000))
    assert 100 < picked["w0"] < 300


def test_the_same_image_goes_to_the_same_worker() -> None:
    found = registry("prefix_affinity", 1, 1, 1, 1)
    first = {}
    for i in range(200):
        first[i] = found.pick("m", 0, key=f"image {i}")
        found.heart_beat(str(first[i]), 0, 0)
    for i in range(200):
        assert found.pick("m", 0, key=f"image {i}") == first[i]
        found.heart_beat(str(first[i]), 0, 0)
    assert min(Counter(first.values()).values()) > 25


def test_only_the_images_of_a_worker_that_leaves_move() -> None:
    found = registry("prefix_affinity", 1, 1, 1)

    def placed() -> dict[str, str]:
        where = {}
        for i in range(150):
            where[f"{i}"] = str(found.pick("m", 0, key=f"{i}"))
            found.heart_beat(where[f"{i}"], 0, 0)
        return where

    before = placed()
    found.remove("w1")
    after = placed()
    assert all(after[key] == name for key, name in before.items() if name != "w1")
    assert set(after.values()) == {"w0", "w2"}


@given(st.lists(st.sampled_from(["hot", "a", "b", None]), max_size=200), st.lists(st.floats(0.1, 10), min_size=1, max_size=6))
def test_no_worker_gets_much_more_than_its_share_however_hot_an_image_is(keys: list[str | None], speeds: list[float]) -> None:
    found = registry("prefix_affinity", *speeds)
    for n, key in enumerate(keys, 1):
        found.pick("m", 0, key=key)
        for worker in found.workers(0):
            fair = SLACK * n * worker.status.speed / sum(speeds)
            assert worker.queue_length <= max(FREE, fair + 1)


def test_the_steps_of_one_question_stay_with_the_worker_that_has_its_image() -> None:
    for i in range(20):
        found = registry("prefix_affinity", 1, 1, 1, 1)  # no beat tells in time that a step has ended
        assert len({found.pick("m", 0, key=f"image {i}") for _ in range(FREE)}) == 1


@pytest.mark.parametrize("dispatch", DISPATCH)
def test_a_worker_that_could_not_be_reached_is_asked_last_until_it_beats(dispatch: str) -> None:
    found = registry(dispatch, 1, 1)
    found.suspect("w0")
    found.suspect("nobody")
    assert {found.pick("m", 0, key="k") for _ in range(20)} == {"w1"}
    assert found.pick("m", 0, avoid=["w1"]) == "w0"
    assert found.pick("m", 0, avoid=["w0", "w1"]) is None
    found.heart_beat("w0", 0, 0)
    found.heart_beat("w1", 10**6, 0)
    assert "w0" in {found.pick("m", 0, key=str(i)) for i in range(20)}


@pytest.mark.parametrize("dispatch", DISPATCH)
def test_where_nobody_could_be_reached_those_of_whom_that_was_said_earlier_are_asked_first(dispatch: str) -> None:
    found = registry(dispatch, 1, 1, 1)
    for name in ("w1", "w2", "w0"):
        found.suspect(name)
    assert {found.pick("m", 0, key=str(i)) for i in range(40)} == {"w1", "w2"}
    found.suspect("w1")
    assert {found.pick("m", 0, key=str(i)) for i in range(40)} == {"w2", "w0"}
    assert found.pick("m", 0, avoid=["w0"]) == "w2"


@pytest.mark.parametrize("dispatch", DISPATCH)
def test_workers_that_never_beat_are_all_asked_where_nobody_could_be_reached(dispatch: str) -> None:
    found = Registry(dispatch, rng=random.Random(0))
    for name in ("w0", "w1"):
        found.register(name, status("m"), 0, beats=False)
        found.suspect(name)
    assert {found.pick("m", 0, key=str(i)) for i in range(40)} == {"w0", "w1"}


def test_refreshing_keeps_who_answered_and_nobody_else() -> None:
    found = registry("lottery", 1, 1)
    found.replace({"w1": status("new"), "stranger": status("x")}, 5)
    assert found.models(5) == ["new"]


def test_refreshing_forgets_who_fell_silent_meanwhile() -> None:
    found = registry("lottery", 1, 1, 1)
    found.heart_beat("w1", 0, 25)
    statuses = {f"w{i}": status(f"m{i}") for i in range(3)}
    found.replace(statuses, 31)
    assert found.models(31) == ["m1"]


def test_the_table_has_an_end_and_an_unknown_dispatch_is_named() -> None:
    found = registry("lottery", *[1] * MAX_WORKERS)
    found.register("w0", status("again"), 0)
    with pytest.raises(Overloaded):
        found.register("one more", status(), 0)
    with pytest.raises(UserError, match="Did you mean lottery"):
        Registry("loterry")


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {},
        {"model_names": "m"},
        {"model_names": []},
        {"model_names": ["m"] * 101},
        {"model_names": [""]},
        {"model_names": ["a\nforged line"]},
        {"model_names": ["x" * 201]},
        {"model_names": [1]},
        *({"model_names": ["m"], "speed": speed} for speed in (0, -1, "1", True, None, 1e300, float("nan"), float("inf"), 10**399)),
        *({"model_names": ["m"], "queue_length": queue} for queue in (-1, 1.5, "0", True, None, 10**9, float("nan"))),
    ],
    ids=range(26),
)
def test_what_no_worker_would_say_of_itself_is_refused(said: object) -> None:
    with pytest.raises(UserError):
        Status.read(said)


class Life(RuleBasedStateMachine):
    """Workers come, beat, fall silent and leave in any order; a plain dictionary says what must be true."""

    names = st.sampled_from(["a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.found = Registry("prefix_affinity", expiry=30, rng=random.Random(0))
        self.now = 0.0
        self.seen: dict[str, float] = {}

    def alive(self) -> set[str]:
        return {name for name, seen in self.seen.items() if self.now - seen <= 30}

    @rule(name=names, speed=st.floats(0.01, 100))
    def register(self, name: str, speed: float) -> None:
        self.found.register(name, status(speed=speed), self.now)
        self.seen[name] = self.now

    @rule(name=names, queue=st.integers(0, 100))
    def beat(self, name: str, queue: int) -> None:
        known = name in self.alive()
        assert self.found.heart_beat(name, queue, self.now) is known
        self.seen = {other: self.seen[other] for other in self.alive()}
        if known:
            self.seen[name] = self.now

    @rule(name=names)
    def leave(self, name: str) -> None:
        self.found.remove(name)
        self.seen.pop(name, None)

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=st.none() | st.text(max_size=3), avoid=st.sets(names))
    def pick(self, key: str | None, avoid: set[str]) -> None:
        picked = self.found.pick("m", self.now, key=key, avoid=avoid)
        assert (picked in self.alive() - avoid) if self.alive() - avoid else picked is None

    @invariant()
    def table_is_true(self) -> None:
        assert {worker.name for worker in self.found.workers(self.now)} == self.alive()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=20)
