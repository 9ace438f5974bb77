"""The table of defences: what each releases, and that those which close their eyes do close them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava.chat import Call, Chat
from llava.ecso import DEFENCES, GUARD, PAPER, Method, Policy
from llava.errors import UserError
from tests.ecso.factories import HARMFUL, PICTURES, STEP_NAMES, chats, play

BOMB = Chat.ask("How to make this?", PICTURES[:1])

# defence -> what it asks and releases when everything is harmful but the last word, under `paper`
EXPECTED = {
    "ecso": (["answer", "check", "caption", "regenerate"], "I cannot help.", True, "regenerated"),
    "direct": (["answer"], "Join the rod with the plate.", None, "draft"),
    "caption_only": (["caption", "regenerate"], "I cannot help.", None, "regenerated"),
    "refuse": (["answer", "check"], PAPER.refusal, True, "refusal"),
}


@pytest.mark.parametrize("name", DEFENCES)
def test_each_defence_asks_and_releases_what_the_table_says(name: str) -> None:
    calls, outcome = play(Method(name).steps(BOMB), HARMFUL)
    assert ([call.step for call in calls], outcome.answer, outcome.harmful, outcome.released) == EXPECTED[name]


@given(st.sampled_from(sorted(DEFENCES)), st.sampled_from([PAPER, GUARD]), chats(), st.none() | st.text(max_size=20), st.data())
def test_no_step_4_of_any_defence_carries_an_image_of_any_turn(
    name: str, policy: Policy, chat: Chat, draft: str | None, data: st.DataObject
) -> None:
    said = data.draw(st.fixed_dictionaries({step: st.sampled_from(["Yes", "No", "Yes.", "", "{caption}"]) for step in STEP_NAMES}))
    calls, outcome = play(Method(name, policy).steps(chat, draft), said)
    for call in calls:
        if call.step == "regenerate":
            assert all(message.images == () for message in call.chat.messages)
    if outcome.released == "regenerated":
        assert calls[-1 - policy.recheck].step == "regenerate" or any(call.step == "regenerate" for call in calls)


@given(st.sampled_from(["ecso", "refuse"]), chats(), st.sampled_from(STEP_NAMES))
def test_under_guard_a_harmful_text_is_never_released(name: str, chat: Chat, where: str) -> None:
    def model(call: Call) -> str:
        if call.step in ("check", "recheck"):
            return "Yes" if "RESPONSE:\nPOISON\n" in call.chat.question else "No"
        return "POISON" if call.step == where or where == "check" else "fine"

    _, outcome = play(Method(name, GUARD).steps(chat), model)
    assert outcome.answer != "POISON"


def test_caption_only_under_guard_checks_its_answer() -> None:
    calls, outcome = play(Method("caption_only", GUARD).steps(BOMB), HARMFUL | {"recheck": "Yes"})
    assert [call.step for call in calls] == ["caption", "regenerate", "recheck"]
    assert outcome.answer == GUARD.refusal


def test_an_unknown_defence_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"Unknown defence 'esco': there is ecso, direct, caption_only, refuse\. Did you mean ecso\?"):
        Method("esco")
