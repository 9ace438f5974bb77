"""What calls on the same image share: it is computed once, by content, within a budget."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import Tensor

from llava.chat import Call, Chat, Image, Message
from llava.engines.local.batcher import Batcher
from llava.engines.local.prompt import Prompt
from llava.errors import EngineError
from llava.model.loaded import Loaded
from tests.engines.local.driving import BLUE, CHATS, LONG, RED, add, batcher, before_pass, call, finish, outcome, over_slots, run
from tests.factories import image

QUESTIONS = [call(Chat.ask(question, [RED]), 4) for question in ("what is this?", "where", "the cat", "no")]


class Counts:
    """Images that the tower has seen, and positions that the language model has computed."""

    images = 0
    positions = 0


def tower_of(loaded: Loaded) -> Any:
    """The part of it that sees pixels first."""
    return loaded.model.model.vision_tower.embeddings


@contextmanager
def counting(inside: Batcher[Prompt], loaded: Loaded) -> Iterator[Counts]:
    counts = Counts()

    def tower(_: object, given: tuple[Tensor, ...]) -> None:
        counts.images += len(given[0])

    def decoder(_: Tensor, positions: Tensor) -> None:
        counts.positions += positions.numel()

    hooks = [
        tower_of(loaded).register_forward_pre_hook(tower),
        before_pass(loaded, decoder),
    ]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def test_many_questions_about_one_image_compute_it_once(llava: Loaded) -> None:
    inside = batcher(llava)
    prompts = [inside.runner.prepare(one) for one in QUESTIONS]
    shared = prompts[0].spans[0].end
    with counting(inside, llava) as counts:
        together = run(inside, *QUESTIONS)
    answered = sum(one.sampling.max_tokens - 1 for one in QUESTIONS)
    rests = sum(prompt.tokens - shared for prompt in prompts[1:])
    assert counts.images == 1
    assert counts.positions == prompts[0].tokens + rests + answered
    stats = inside.runner.stats()
    assert (stats.image_hits, stats.image_misses, stats.evictions) == (3, 1, 0)
    assert stats.reused_tokens == 3 * shared
    assert stats.kept_bytes > 0
    assert together == [run(batcher(llava), one)[0] for one in QUESTIONS]


def test_the_cost_of_a_later_call_is_its_new_tokens(llava: Loaded) -> None:
    inside = batcher(llava)
    run(inside, QUESTIONS[0])
    prompt = inside.runner.prepare(call(CHATS[4], 1))
    with counting(inside, llava) as counts:
        run(inside, call(CHATS[4], 1))
    assert counts.images == 0
    assert counts.positions == prompt.tokens - prompt.spans[0].end


def test_what_the_last_call_has_left_in_a_row_is_not_copied_into_it_again(llava: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = batcher(llava)
    slots, loads = over_slots(inside).slots, list[int]()
    load = slots.load

    def counted(owner: Any, snapshot: Tensor, start: int, count: int) -> None:
        loads.append(start)
        load(owner, snapshot, start, count)

    monkeypatch.setattr(slots, "load", counted)
    both = call(Chat.ask("a b", [RED, BLUE]), 4)
    wanted = {one: run(batcher(llava), one)[0] for one in (*QUESTIONS, both, call(CHATS[0]))}
    first = inside.runner.prepare(both).spans[0].end
    for one, copied in [(QUESTIONS[0], []), (QUESTIONS[1], []), (both, []), (QUESTIONS[2], []), (call(CHATS[0]), [0]), (both, [first, 0])]:
        assert run(inside, one) == [wanted[one]]
        assert loads == copied
        loads.clear()


def test_equal_pixels_are_the_same_image_wherever_they_come_from_and_others_are_not(llava: Loaded) -> None:
    inside = batcher(llava)
    run(inside, QUESTIONS[0])
    twin, other = Image.open(RED.png()), image("red", (40, 31))
    with counting(inside, llava) as counts:
        run(inside, call(Chat.ask("what is this?", [twin]), 1))
        assert counts.images == 0
        run(inside, call(Chat.ask("what is this?", [other]), 1))
        assert counts.images == 1


def test_another_system_line_shares_the_features_and_not_the_keys(llava: Loaded) -> None:
    inside = batcher(llava)
    run(inside, QUESTIONS[0])
    one = call(Chat((Message("system", "be kind"), Message("user", "what is this?", (RED,)))), 4)
    with counting(inside, llava) as counts:
        found = run(inside, one)
    assert counts.images == 0
    assert inside.runner.stats().image_misses == 2
    assert found == run(batcher(llava), one)


def test_of_several_images_the_longest_beginning_that_is_known_is_used(llava: Loaded) -> None:
    inside = batcher(llava)
    run(inside, call(Chat.ask("a b", [RED, BLUE]), 2))
    for images, hits in (((RED,), 1), ((RED, BLUE), 2), ((RED, BLUE, RED), 2), ((RED, RED), 1), ((BLUE, RED), 0)):
        before, one = inside.runner.stats().image_hits, call(Chat.ask("c d", images), 3)
        found = run(inside, one)
        assert inside.runner.stats().image_hits - before == hits
        assert found == run(batcher(llava), one)


def test_of_two_images_the_second_goes_before_the_first_that_it_stands_on(llava: Loaded) -> None:
    both, one = call(Chat.ask("a b", [RED, BLUE]), 2), call(Chat.ask("c d", [RED]), 2)
    inside = batcher(llava)
    run(inside, both)
    prefixes = over_slots(inside).prefixes
    while inside.runner.prepare(both).spans[1].key in prefixes._kept:
        prefixes.shrink(prefixes.bytes - 1)
    before = prefixes.hits
    run(inside, one)
    assert prefixes.hits - before == 1


def test_a_text_shares_the_system_line_with_an_image_that_was_seen(llava: Loaded) -> None:
    inside = batcher(llava)
    run(inside, QUESTIONS[0])
    one = call(LONG, 4)
    found = run(inside, one)
    reused = inside.runner.stats().reused_tokens
    head, ids = inside.runner.prepare(QUESTIONS[0]).head, inside.runner.prepare(one).ids
    assert reused >= 8
    assert head[:reused] == ids[:reused]
    assert found == run(batcher(llava), one)


def test_a_new_image_shares_the_system_line_with_one_that_was_seen(llava: Loaded) -> None:
    inside, one = batcher(llava), call(Chat.ask("what is this?", [BLUE]), 4)
    run(inside, QUESTIONS[0])
    head, before = inside.runner.prepare(one).head, inside.runner.stats()
    assert head == inside.runner.prepare(QUESTIONS[0]).head
    found = run(inside, one)
    after = inside.runner.stats()
    assert (after.image_hits - before.image_hits, after.image_misses - before.image_misses) == (0, 1)
    assert after.reused_tokens - before.reused_tokens == len(head) >= 8
    assert found == run(batcher(llava), one)


def test_a_call_that_is_given_up_leaves_the_image_to_those_that_wait_for_it(llava: Loaded) -> None:
    async def main() -> str:
        inside = batcher(llava, chunk=8)
        streaming = add(inside, call(LONG, 60))
        inside.step()
        first, second = (add(inside, one) for one in QUESTIONS[:2])
        inside.step()
        assert len(inside.scheduler.prefilling) == len(inside.scheduler.waiting) == 1
        first.job.cancelled = True
        finish(inside)
        assert streaming.reply is not None
        return (await outcome(second))[1].text

    assert asyncio.run(main()) == run(batcher(llava), QUESTIONS[1])[0]


def test_an_image_that_fails_in_the_tower_fails_its_own_call_only(llava: Loaded) -> None:
    def fail(*_: object) -> None:
        raise ValueError("bad pixels")

    async def main() -> None:
        inside = batcher(llava, max_batch=1)
        broken = add(inside, QUESTIONS[0])
        hook = tower_of(llava).register_forward_pre_hook(fail)
        try:
            inside.step()
        finally:
            hook.remove()
        fine = add(inside, QUESTIONS[1])
        finish(inside)
        with pytest.raises(EngineError, match="ValueError"):
            await outcome(broken)
        assert (await outcome(fine))[1].text

    asyncio.run(main())


def test_a_budget_without_room_for_anything_kept_still_encodes_an_image_once_for_all_its_chunks(llava: Loaded) -> None:
    slots = over_slots(batcher(llava)).slots

    async def main() -> int:
        inside = batcher(llava, chunk=8, budget=2 * slots.needed(1, 256))
        add(inside, call(CHATS[0], 60))
        inside.step()
        add(inside, QUESTIONS[0])
        with counting(inside, llava) as counts:
            over_slots(inside).prefixes.shrink(0)
            finish(inside)
        return counts.images

    assert asyncio.run(main()) == 1


def test_new_images_go_through_the_tower_together_and_give_what_they_give_alone(llava: Loaded) -> None:
    colours = ["red", "green", "blue", "white", "black", "grey", "pink", "cyan", "gold", "lime"]
    calls = [call(Chat.ask("what is this?", [image(colour)]), 8, top_logprobs=20) for colour in colours]
    passes: list[int] = []

    async def main(inside: Batcher[Prompt], *some: Call) -> list[dict[str, float]]:
        answers = [add(inside, one) for one in some]
        finish(inside)
        replies = [(await outcome(answer))[1] for answer in answers]
        texts.extend(reply.text for reply in replies)
        return [{text: math.exp(value) for text, value in (reply.first_logprobs or {}).items()} for reply in replies]

    texts: list[str] = []
    alone = [asyncio.run(main(batcher(llava), one))[0] for one in calls]
    inside = batcher(llava, max_batch=16, chunk=4096)
    hook = tower_of(llava).register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))
    try:
        together = asyncio.run(main(inside, *calls, calls[0]))
    finally:
        hook.remove()
    assert passes == [4, 4, 2]
    for found, wanted in zip(together, alone, strict=False):
        assert found == pytest.approx(wanted, abs=1e-5)
    assert texts[10:] == [*texts[:10], texts[0]]
