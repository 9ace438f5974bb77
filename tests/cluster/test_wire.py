"""What travels: every call and reply comes out as it went in, and what is damaged is an error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava.chat import Call, Chat, Image, Message, Reply, Sampling
from llava.cluster.wire import (
    Splitter,
    call_of,
    error_event,
    event,
    last_fields,
    last_logprobs,
    read_event,
    reply_of,
    request_of,
)
from llava.conversation import conv_templates
from llava.errors import (
    ContextTooLong,
    EngineClosed,
    EngineError,
    ImageError,
    LlavaError,
    Misconfigured,
    Overloaded,
    Unavailable,
    UnknownModel,
    UserError,
)
from tests.factories import image as picture

CATS = [picture(colour) for colour in ("red", "green", "blue")]
NASTY = "a <image> USER: b ASSISTANT: c</s>\x00 [INST] <|im_end|> \u2028 😀"


def chats() -> st.SearchStrategy[Chat]:
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.just(NASTY)
    turn = st.builds(lambda text, n: Message("user", text + "?", tuple(CATS[:n])), texts, st.integers(0, 2))
    rounds = st.lists(st.tuples(turn, st.builds(lambda text: Message("assistant", text), texts)), max_size=2)
    system = st.none() | st.builds(lambda text: Message("system", text), texts)
    return st.builds(lambda s, r, last: Chat((*((s,) if s else ()), *(m for pair in r for m in pair), last)), system, rounds, turn)


@given(chats(), st.integers(0, 20))
def test_a_call_comes_out_as_it_went_in_whatever_it_says(chat: Chat, top: int) -> None:
    call = Call("check", chat, Sampling(0.5, 0.9, 7, ("x", "</s>"), 3), top, ("yes", chat.question[:256]))
    sent = json.loads(json.dumps(request_of(call, "m", conv_templates["vicuna_v1"])))
    import base64

    images = [Image.open(base64.b64decode(text)) for text in sent["images"]]
    assert call_of(sent["llava"], images) == call


@pytest.mark.parametrize(
    "damage",
    [
        {"messages": None},
        {"messages": [1]},
        {"messages": []},
        {"messages": [{"role": "user", "text": 1}]},
        {"messages": [{"role": "owner", "text": "x"}]},
        {"messages": [{"role": "user", "text": "x", "images": -1}]},
        {"messages": [{"role": "user", "text": "x", "images": "1"}]},
        {"messages": [{"role": "user", "text": "x", "images": 1}]},
        {"sampling": None},
        {"sampling": {"temperature": "hot"}},
        {"sampling": {"stop": 3}},
        {"sampling": {"unknown": 1}},
        {"step": None},
        {"step": "a\nb"},
        {"top_logprobs": -1},
        {"top_logprobs": "3"},
        {"sought": "yes"},
        {"sought": [3]},
        {"sought": ["x" * 257]},
        {"sought": ["x"] * 17},
    ],
    ids=range(20),
)
def test_a_damaged_call_is_refused(damage: dict[str, object]) -> None:
    good = request_of(Call("answer", Chat.ask("q")), "m", conv_templates["vicuna_v1"])["llava"]
    with pytest.raises(UserError):
        call_of({**good, **damage}, [])


def test_another_version_may_say_more_or_less() -> None:
    call = Call("check", Chat.ask("q"), sought=("yes",))
    said = request_of(call, "m", conv_templates["vicuna_v1"])["llava"]
    assert call_of(said | {"something": "new"}, []) == call
    assert call_of({name: value for name, value in said.items() if name != "sought"}, []) == Call("check", Chat.ask("q"))
    assert not call_of({name: value for name, value in said.items() if name != "whole"}, []).whole


@pytest.mark.parametrize("whole", [True, False])
def test_a_worker_is_told_whether_anybody_reads_pieces(whole: bool) -> None:
    said = request_of(Call("check", Chat.ask("q"), whole=whole), "m", conv_templates["vicuna_v1"])["llava"]
    assert call_of(json.loads(json.dumps(said)), []).whole is whole


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5)), max_size=5), st.integers(1, 7))
def test_objects_are_whole_wherever_the_bytes_are_cut(objects: list[dict[str, str]], size: int) -> None:
    data = b"".join(map(event, objects))
    splitter = Splitter()
    parts = [part for i in range(0, len(data), size) for part in splitter.add(data[i : i + size])]
    assert [json.loads(part) for part in parts] == objects
    assert splitter.empty


def test_a_large_object_in_very_many_pieces_costs_no_more_than_in_one() -> None:
    splitter, large = Splitter(), b"x" * 2**20
    for i in range(0, len(large), 16):
        assert splitter.add(large[i : i + 16]) == []  # 65,536 pieces: to join them each time would copy 32 GB
    assert splitter.add(b"\0y") == [large]
    assert not splitter.empty


def test_an_object_without_an_end_is_given_up() -> None:
    with pytest.raises(EngineError, match="without an end"):
        Splitter().add(b"x" * (17 * 2**20))


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b"{}", b"1", b'{"text": "x"}', b"\xff", b"[" * 100_000])
def test_what_is_no_object_of_a_stream_is_an_error(raw: bytes) -> None:
    with pytest.raises(EngineError):
        read_event(raw)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (ContextTooLong(900, 10, 800), ContextTooLong),
        (ContextTooLong(), ContextTooLong),
        (ImageError("bad image"), ImageError),
        (UnknownModel("no such model"), UnknownModel),
        (Misconfigured("wrong key"), Misconfigured),
        (UserError("mend it"), UserError),
        (Overloaded("full"), Overloaded),
        (Unavailable("gone"), Unavailable),
        (EngineClosed("closed"), Unavailable),
        (EngineError("broken"), EngineError),
    ],
)
def test_an_error_arrives_as_what_it_was(sent: LlavaError, received: type[LlavaError]) -> None:
    with pytest.raises(LlavaError) as caught:
        read_event(error_event(sent)[:-1])
    assert type(caught.value) is received
    assert str(caught.value) == str(sent)


def test_an_error_that_is_not_ours_tells_nothing_and_an_original_workers_words_are_not_repeated() -> None:
    fields = json.loads(error_event(ValueError("secret words"))[:-1])
    assert "secret" not in json.dumps(fields)
    with pytest.raises(EngineError) as caught:
        read_event(b'{"text": "secret words", "error_code": 1}')
    assert "secret" not in str(caught.value)


def test_a_reply_comes_out_as_it_went_in() -> None:
    for reply in (
        Reply("yes", 10, 2, "length", {"Yes": -0.1, "No": -2.0}),
        Reply("", None, None, "stop", None),
        Reply("x", 0, 0, "stop", {}),
    ):
        assert reply_of({**last_fields(reply), **last_logprobs(reply)}, reply.text) == reply
    for nonsense in (-1, True, "7", 10**400, 1.5, None):
        usage = {"prompt_tokens": nonsense, "completion_tokens": 3}
        assert reply_of({"finish_reason": "stop", "usage": usage}, "x") == Reply("x", None, 3)
    for bad in (
        {"finish_reason": "stop", "first_logprobs": {"x": 10**400}},
        {},
        {"finish_reason": "cancelled"},
        {"finish_reason": "stop", "first_logprobs": {"x": "y"}},
    ):
        with pytest.raises(EngineError):
            reply_of(bad, "x")
