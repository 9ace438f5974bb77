"""What was made lately is not made again, and takes no more room than it may."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from llava.recent import Kept, Recent


def kept(most: int) -> tuple[Recent[str, str], list[str]]:
    """A cache of words, and what is made for it."""
    return Recent(most, len), []


def ask(words: Recent[str, str], made: list[str], *wanted: str) -> None:
    def make(word: str) -> str:
        made.append(word)
        return word

    for word in wanted:
        assert words.get(word, partial(make, word)) == word


def test_a_value_is_made_once_and_the_one_that_was_not_wanted_for_longest_goes_first() -> None:
    words, made = kept(6)
    ask(words, made, "aa", "bb", "cc", "aa", "dd")
    assert made == ["aa", "bb", "cc", "dd"]
    ask(words, made, "aa", "cc", "dd", "bb")
    assert made == ["aa", "bb", "cc", "dd", "bb"]


def test_what_is_larger_than_all_that_may_be_kept_pushes_nothing_out() -> None:
    words, made = kept(3)
    ask(words, made, "aa", "bbbb", "aa", "bbbb")
    assert made == ["aa", "bbbb", "bbbb"]


def test_what_could_not_be_made_is_tried_again() -> None:
    words, made = kept(6)
    with pytest.raises(ValueError, match="no"):
        words.get("aa", lambda: str(int("no")))
    ask(words, made, "aa")
    assert made == ["aa"]


def test_two_threads_may_make_the_same_value_and_it_is_counted_once() -> None:
    words, made = kept(4)
    both = threading.Barrier(2)

    def make() -> str:
        both.wait(10)
        return "aa"

    threads = [threading.Thread(target=words.get, args=("aa", make)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ask(words, made, "bb", "aa", "bb")
    assert made == ["bb"]


def test_least_recently_used_goes_first_and_too_large_is_not_kept() -> None:
    kept: Kept[str] = Kept(10)
    for name in "abc":
        kept.put(name, name, 3)
    assert kept.get("a") == "a"
    assert kept.put("d", "d", 4) == ["b"]
    assert kept.put("d", "d", 4) == []
    assert [name for name in "abcd" if name in kept] == ["a", "c", "d"]
    kept.put("e", "e", 11)
    assert (kept.bytes, kept.evictions, kept.get("e")) == (10, 1, None)
    kept.shrink(4)
    assert [name for name in "acd" if name in kept] == ["d"]


def test_room_is_made_by_what_was_not_used_for_long_and_who_made_it_gets_that() -> None:
    kept: Kept[str] = Kept(10)
    for name in "abc":
        kept.put(name, name, 3)
    assert kept.make_room(1) == []
    assert kept.get("a") == "a"
    assert kept.make_room(5) == ["b", "c"]
    assert (kept.bytes, kept.evictions) == (3, 2)
    assert kept.make_room(11) == []  # too large to be kept: nobody has to go for it
    assert kept.make_room(10) == ["a"]
    assert kept.bytes == 0
