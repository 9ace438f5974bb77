"""The words that everything speaks: what a chat may be, and what is refused."""

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from llava.chat import Call, Chat, Message, Reply, Sampling
from llava.errors import UserError
from tests.factories import image

RED, BLUE = image("red"), image("blue")
SYSTEM, USER, ANSWER = Message("system", "be kind"), Message("user", "what is it?", (RED,)), Message("assistant", "a box")


@pytest.mark.parametrize("messages", [(USER,), (SYSTEM, USER), (USER, ANSWER, USER), (SYSTEM, USER, ANSWER, USER, ANSWER, USER)])
def test_user_and_assistant_take_turns_and_the_user_comes_last(messages: tuple[Message, ...]) -> None:
    assert Chat(messages).messages == messages


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (SYSTEM,),
        (ANSWER,),
        (USER, ANSWER),
        (USER, USER),
        (ANSWER, USER),
        (USER, SYSTEM, USER),
        (SYSTEM, SYSTEM, USER),
        (USER, ANSWER, ANSWER),
    ],
)
def test_any_other_order_is_refused(messages: tuple[Message, ...]) -> None:
    with pytest.raises(UserError, match="ends with a user turn"):
        Chat(messages)


@pytest.mark.parametrize("question", ["", "  ", "\n\t"])
def test_an_empty_question_is_refused(question: str) -> None:
    with pytest.raises(UserError, match="The question is empty"):
        Chat.ask(question, [RED])


def test_an_earlier_turn_may_be_an_image_alone() -> None:
    assert Chat((Message("user", "", (RED,)), ANSWER, Message("user", "which one?"))).images == (RED,)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("human", "x"), "Unknown role 'human'"),
        (("user", None), "text is a string, not NoneType"),
        (("user", b"x"), "text is a string, not bytes"),
        (("user", "x", ("picture.png",)), r"Image objects in a list: \[Image\.open"),
        (("user", "x", RED), r"Image objects in a list"),
        (("user", "x", "picture.png"), r"Image objects in a list"),
        (("user", "x", None), r"Image objects in a list"),
        (("assistant", "x", (RED,)), "Only user messages carry images"),
        (("system", "x", (RED,)), "Only user messages carry images"),
    ],
)
def test_a_message_that_is_none_is_refused(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Message(*arguments)


@pytest.mark.parametrize("messages", [({"role": "user", "content": "x"},), USER, "what is it?", None])
def test_a_chat_of_anything_but_messages_is_refused(messages: Any) -> None:
    with pytest.raises(UserError, match="made of Message objects in a list"):
        Chat(messages)


@pytest.mark.parametrize("images", [RED, None, "picture.png", ["picture.png"]])
def test_a_question_about_what_is_no_list_of_images_is_refused(images: Any) -> None:
    with pytest.raises(UserError, match="Image objects in a list"):
        Chat.ask("what is it?", images)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"step": ""}, "A call names its step"),
        ({"step": None}, "A call names its step"),
        ({"chat": "what is it?"}, r"A call asks a Chat, not str: Chat\.ask"),
        ({"sampling": {"max_tokens": 3}}, "sampling is a Sampling, not dict"),
        ({"top_logprobs": -1}, "top_logprobs is -1: give a whole number, at least 0"),
        ({"top_logprobs": True}, "top_logprobs is True"),
        ({"top_logprobs": "5"}, "top_logprobs is '5'"),
        ({"sought": "yes"}, "seeks are texts in a list"),
        ({"sought": (1,)}, "seeks are texts in a list"),
    ],
)
def test_a_call_of_wrong_values_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Call(**{"step": "answer", "chat": Chat((USER,)), **values})


def test_a_reply_is_settled_when_it_can_begin_with_nothing_that_is_sought() -> None:
    call = Call("check", Chat((USER,)), sought=("yes", "No."))
    assert not any(call.settled(text) for text in ("", " ", " Y", "YES", "yes, it is", "no", "No.", "no. It"))
    assert all(call.settled(text) for text in ("I", "yep", "now", " nope"))
    assert not Call("check", Chat((USER,))).settled("anything")


def test_lists_become_tuples_so_that_chats_are_hashable() -> None:
    listed: Any = [Message("user", "a", [RED])]  # type: ignore[arg-type]
    assert hash(Chat(listed)) == hash(Chat((Message("user", "a", (RED,)),)))
    assert Sampling(stop=["a"]).stop == ("a",)  # type: ignore[arg-type]


def test_a_blind_chat_has_no_image_of_any_turn_and_the_same_words() -> None:
    chat = Chat((SYSTEM, USER, ANSWER, Message("user", "and these?", (BLUE, RED))))
    assert chat.images == (RED, BLUE, RED)
    blind = chat.blind()
    assert blind.images == ()
    assert [(m.role, m.text) for m in blind.messages] == [(m.role, m.text) for m in chat.messages]


def test_asking_changes_the_last_text_alone() -> None:
    chat = Chat((USER, ANSWER, Message("user", "and this?", (BLUE,))))
    other = chat.asking("sure?")
    assert (chat.question, other.question) == ("and this?", "sure?")
    assert other.images == chat.images
    assert other.messages[:-1] == chat.messages[:-1]
    with pytest.raises(UserError, match="empty"):
        chat.asking(" ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": 2.1}, "temperature is 2.1"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"stop": ("a", "")}, "A stop string is empty"),
        ({"stop": "###"}, "stop is '###': give a tuple of strings"),
        ({"temperature": "hot"}, "temperature is 'hot': give a number from 0"),
        ({"temperature": None}, "temperature is None"),
        ({"temperature": True}, "temperature is True"),
        ({"top_p": "1"}, "top_p is '1'"),
        ({"top_p": True}, "top_p is True"),
        ({"max_tokens": 2.5}, "max_tokens is 2.5: give at least 1, a whole number"),
        ({"max_tokens": "9"}, "max_tokens is '9'"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"seed": "x"}, "seed is 'x': give a whole number"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"seed": False}, "seed is False"),
        ({"stop": [1]}, r"stop is \[1\]: give a tuple of strings"),
        ({"stop": None}, "stop is None"),
        ({"stop": 5}, "stop is 5"),
    ],
)
def test_sampling_of_a_wrong_type_or_out_of_range_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Sampling(**options)


def test_the_bounds_themselves_are_fine() -> None:
    assert Sampling(temperature=2.0, top_p=1.0, max_tokens=1, stop=("a",), seed=-1).temperature == 2.0
    assert (Sampling().temperature, Call("answer", Chat.ask("x")).top_logprobs, Reply("x").finish_reason) == (0.0, 0, "stop")


def test_everything_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        USER.text = "other"  # type: ignore[misc]
