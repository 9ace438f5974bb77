"""The pictures that visitors have sent: how many are kept, for how long, whose leave first, and which stay."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest
from PIL import Image as PIL

from llava.chat import Chat, Image
from llava.errors import ImageError, Overloaded, UserError
from llava.serve.web.pictures import IN_USE, LEAST_BYTES, LIMITS, MOST_BYTES, PREVIEW, Pictures, check_size
from tests.factories import encoded


def png(colour: str = "red", size: tuple[int, int] = (8, 6)) -> bytes:
    return encoded(PIL.new("RGB", size, colour), "PNG")


def room(pictures: int) -> Pictures:
    """A store with room for so many small pictures."""
    return Pictures(most_bytes=pictures * LEAST_BYTES)


def added(pictures: Pictures, count: int, visitor: str = "one") -> list[str]:
    """The ids of pictures that a visitor adds."""
    return [pictures.add(png(), visitor).id for _ in range(count)]


def kept(pictures: Pictures, names: list[str]) -> list[bool]:
    """Which of them are still there."""

    def is_kept(name: str) -> bool:
        try:
            return bool(pictures.look([name]))
        except UserError:
            return False

    return list(map(is_kept, names))


def test_a_picture_is_found_by_its_id_and_by_nothing_else() -> None:
    pictures = Pictures()
    names = [pictures.add(png(colour)).id for colour in ("red", "blue", "red")]
    assert len(set(names)) == 3
    with pictures.use(names) as images:
        assert [image.pil().getpixel((0, 0)) for image in images] == [(255, 0, 0), (0, 0, 255), (255, 0, 0)]
    for stranger in ("", "../etc/passwd", names[0].lower() + "x", names[0][:-1]):
        for find in (pictures.look, lambda names: pictures.use(names).__enter__()):
            with pytest.raises(UserError, match="no longer kept here"):
                find([stranger])


def test_what_is_known_of_a_picture_is_made_once() -> None:
    raw = png(size=(640, 480))
    pictures = Pictures()
    shown = pictures.add(raw)
    assert pictures.look([shown.id]) == (shown,)
    assert (shown.sha256, shown.size) == (Image.open(raw).sha256, (640, 480))
    assert shown.thumbnail.startswith("data:image/jpeg;base64,")
    assert Image.open(shown.thumbnail).size == (PREVIEW, PREVIEW * 480 // 640)


def test_what_is_no_picture_is_not_kept() -> None:
    pictures = Pictures()
    with pytest.raises(ImageError):
        pictures.add(b"words")
    assert pictures.look([]) == ()


def test_the_oldest_pictures_leave_first_when_there_are_too_many_bytes() -> None:
    pictures = room(2)
    names = added(pictures, 3)
    with pytest.raises(UserError, match="remove it and add it again"):
        pictures.look(names[:1])
    assert len(pictures.look(names[1:])) == 2


def test_small_pictures_count_too_so_that_their_number_is_bounded() -> None:
    files = [png(size=(1 + number, 1)) for number in range(5)]
    pictures = room(3)
    assert sum(map(len, files)) < LEAST_BYTES
    assert kept(pictures, [pictures.add(file).id for file in files]) == [False, False, True, True, True]


def test_a_picture_that_is_used_stays_and_its_time_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pictures = Pictures(most_bytes=3 * LEAST_BYTES, seconds=10.0)
    used, unused = added(pictures, 2)
    now = 8.0
    pictures.look([used])
    now = 16.0
    pictures.look([used])
    assert kept(pictures, [unused]) == [False]
    others = added(pictures, 2)
    pictures.look([used])
    added(pictures, 1)
    assert len(pictures.look([used, others[1]])) == 2
    with pictures.use([used]):
        now = 40.0
        assert kept(pictures, others) == [False, False]
    now = 48.0  # its time began when its use had ended
    assert kept(pictures, [used]) == [True]


def test_a_picture_leaves_after_its_time() -> None:
    pictures = Pictures(seconds=-1.0)
    name = pictures.add(png()).id
    with pytest.raises(UserError, match="no longer kept here"):
        pictures.look([name])


def test_who_has_most_gives_way_so_that_one_stranger_pushes_out_nobody() -> None:
    pictures = room(6)
    mine = added(pictures, 2, "me")
    alone = added(pictures, 4, "stranger")
    assert kept(pictures, [*mine, *alone]) == [True] * 6  # as much as there is
    more = added(pictures, 9, "stranger")
    assert kept(pictures, mine) == [True, True]
    assert kept(pictures, [*alone, *more]) == [False] * 9 + [True] * 4
    mine += added(pictures, 1, "me")
    assert kept(pictures, [*mine, *more[-4:]]) == [True, True, True, False, True, True, True]
    mine += added(pictures, 1, "me")  # half of all is mine now
    assert kept(pictures, [*mine, *more[-3:]]) == [False] + [True] * 6
    added(pictures, 1, "another")
    assert kept(pictures, [*mine[1:], *more[-3:]]).count(False) == 1


def test_what_is_in_use_stays_and_counts() -> None:
    pictures = room(2)
    first, second = added(pictures, 1, "one"), added(pictures, 1, "two")
    with pictures.use(first), ExitStack() as stack:
        stack.enter_context(pictures.use(second))
        with pytest.raises(Overloaded, match="add this one when some have ended"):
            added(pictures, 1, "three")
        stack.close()
        (third,) = added(pictures, 1, "three")
        assert kept(pictures, [*first, *second, third]) == [True, False, True]
    added(pictures, 1, "four")
    assert kept(pictures, [*first, third]).count(False) == 1


def test_what_is_refused_pushes_nothing_out() -> None:
    pictures = room(3)
    unused, used = added(pictures, 1), added(pictures, 2)
    noise = encoded(PIL.effect_noise((512, 512), 99.0), "PNG")
    assert len(noise) > LEAST_BYTES
    with pictures.use(used), pytest.raises(Overloaded):
        pictures.add(noise)
    assert kept(pictures, [*unused, *used]) == [True] * 3


def test_the_answers_of_one_visitor_use_a_part_of_all_bytes_and_one_answer_always_may() -> None:
    pictures = room(3 * IN_USE)
    names, others = added(pictures, 5), added(pictures, 2, "another")
    with pictures.use(names[:2]), ExitStack() as stack:
        stack.enter_context(pictures.use(names[2:3]))
        with pytest.raises(Overloaded, match="ask again when one has ended"):
            stack.enter_context(pictures.use(names[3:4]))
        stack.enter_context(pictures.use(names[:3]))  # the same ones once more
        stack.enter_context(pictures.use(others))
        stack.close()
        stack.enter_context(pictures.use(names[4:]))
    with pictures.use(names) as images:
        assert len(images) > 3
    assert LIMITS.images * 10 * 2**20 < MOST_BYTES // IN_USE  # more than any question has


def test_a_conversation_has_the_limits_of_a_request() -> None:
    image = Image(PIL.new("RGB", (8, 6)))
    check_size(Chat.ask("Why?", [image] * LIMITS.images))
    for chat, said in (
        (Chat.ask("Why?", [image] * (LIMITS.images + 1)), "at most 8 pictures"),
        (Chat.ask("w" * (LIMITS.text + 1)), "characters"),
        (Chat.ask("Why?", [Image(PIL.new("RGB", (5000, 5000)))] * 3), "megapixels"),
    ):
        with pytest.raises(UserError, match=said):
            check_size(chat)
