"""What is asked under each preset, step by step."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llava.chat import Call, Image, Reply
from llava.ecso import DEFENCES, GUARD
from llava.errors import ImageError, UserError
from llava.eval.presets import SCRIPTS, Preset, middle
from llava.eval.sample import Picture, Sample
from llava.eval.tasks import task
from tests import golden
from tests.ecso.factories import play
from tests.factories import corners, encoded
from tests.test_mm_utils import pixels

SAID = {"answer": "x" * 5000, "check": "Yes", "caption": "A pot.", "regenerate": "No."}


def sample(**changes: Any) -> Sample:
    picture = Picture("wide.png", data=encoded(corners((80, 40))))
    return Sample(**{"task": "t", "id": "1", "question": "What?\nAnswer with a letter.", "prompt": "What?", "picture": picture, **changes})


def calls(name: str, preset: str, defence: str = "ecso", draft: str | None = None, **changes: Any) -> dict[str, Call]:
    one = sample(**changes)
    chat = one.chat()
    method = Preset(task(name), preset, edge=56).method(defence, one, chat)
    asked, _ = play(method.steps(chat, draft), SAID)
    return {call.step: call for call in asked}


def sizes(call: Call) -> list[tuple[int, int]]:
    return [image.size for image in call.chat.images]


@pytest.mark.parametrize("defence", DEFENCES)
def test_paper_is_the_published_method_with_the_benchmarks_own_limit(defence: str) -> None:
    one = sample(max_tokens=77)
    chat = one.chat()
    ours = Preset(task("mmbench")).method(defence, one, chat)
    plain = replace(ours.policy, answer=replace(ours.policy.answer, max_tokens=77))
    asked, outcome = play(ours.steps(chat), SAID)
    expected, same = play(DEFENCES[defence].steps(chat, ours.prompts, plain, None), SAID)
    assert asked == expected
    assert outcome == same


def test_the_limit_of_answers_can_be_set() -> None:
    one = sample()
    method = Preset(task("vlsafe"), max_tokens=5).method("ecso", one, one.chat())
    assert method.policy.answer.max_tokens == 5


@pytest.mark.parametrize(
    ("name", "direct", "cut", "cropped", "kept"),
    [
        ("vlsafe", 2048, True, True, False),
        ("mm_safetybench", 2048, True, False, False),
        ("mme", 128, False, True, True),
        ("mm_vet", 128, False, True, True),
        ("mmbench", 1024, False, False, True),
    ],
)
def test_repo_brings_back_what_the_scripts_do(name: str, direct: int, cut: bool, cropped: bool, kept: bool) -> None:
    asked = calls(name, "repo", max_tokens=128 if name == "mme" else 1024)  # as the benchmarks' samples have it
    later = [(56, 56)] if cropped else [(80, 40)]
    assert asked["answer"].chat.question == "What?\nAnswer with a letter."
    assert sizes(asked["answer"]) == [(80, 40)]
    assert asked["answer"].sampling.max_tokens == direct
    shown = "x" * (1927 if cut else 5000)
    assert f"QUERY:\nWhat?\n\nRESPONSE:\n{shown}\n\n" in asked["check"].chat.question
    assert sizes(asked["check"]) == sizes(asked["caption"]) == later
    assert asked["caption"].chat.question.startswith("REQUEST:\nWhat?.\n")
    assert asked["regenerate"].chat.question.endswith("\n\nWhat?")
    assert sizes(asked["regenerate"]) == (later if kept else [])
    assert asked["caption"].sampling.max_tokens == asked["regenerate"].sampling.max_tokens == 1024


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_given_answer_takes_the_place_of_the_first_step_under_repo_too(name: str) -> None:
    asked = calls(name, "repo", draft="Given.")
    assert "answer" not in asked
    assert "RESPONSE:\nGiven.\n" in asked["check"].chat.question


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_direct_answer_is_asked_alike_in_both_presets_but_for_its_length(name: str) -> None:
    repo, paper = calls(name, "repo", "direct"), calls(name, "paper", "direct")
    assert repo.keys() == paper.keys() == {"answer"}
    assert repo["answer"].chat == paper["answer"].chat


@pytest.mark.parametrize(("name", "reply", "harmful"), [("vlsafe", "YES.", True), ("mme", "YES.", False), ("mme", " Yes. ", True)])
def test_the_utility_scripts_do_not_take_an_upper_case_yes(name: str, reply: str, harmful: bool) -> None:
    one = sample()
    method = Preset(task(name), "repo").method("ecso", one, one.chat())
    assert method.policy.verdict(Reply(reply)).harmful is harmful


def test_text_only_questions_get_the_picture_in_the_scripts_later_steps() -> None:
    late = Picture("late.png", data=encoded(corners((30, 60))))
    repo = calls("mm_safetybench", "repo", picture=None, late_picture=late)
    assert {step: sizes(call) for step, call in repo.items()} == {
        "answer": [],
        "check": [(30, 60)],
        "caption": [(30, 60)],
        "regenerate": [],
    }
    paper = calls("mm_safetybench", "paper", picture=None, late_picture=late)
    assert all(not call.chat.images for call in paper.values())


def test_a_picture_that_only_the_scripts_later_steps_see_must_be_there() -> None:
    one = sample(picture=None)
    repo = Preset(task("mm_safetybench"), "repo")
    for defence in set(DEFENCES) - {"direct"}:
        with pytest.raises(ImageError, match=r"shows a picture to steps 2 and 3, and it is not there: get it, or use --preset paper"):
            repo.method(defence, one, one.chat())
    assert calls("mm_safetybench", "repo", "direct", picture=None).keys() == {"answer"}


def test_presets_and_policies_that_there_are_not_are_refused() -> None:
    with pytest.raises(UserError, match=r"Unknown preset 'papr': .* Did you mean paper"):
        Preset(task("vlsafe"), "papr")
    with pytest.raises(UserError, match="no script for mossbench"):
        Preset(task("mossbench"), "repo")
    with pytest.raises(UserError, match="no other policy"):
        Preset(task("vlsafe"), "repo", GUARD)


def test_a_header_tells_presets_apart() -> None:
    paper, repo = Preset(task("mme")).described("ecso"), Preset(task("mme"), "repo").described("ecso")
    assert (paper["quirks"], paper["policy"]["answer"]["max_tokens"]) == (None, "as the benchmark says")
    assert repo["quirks"] == {"check_first": None, "crop": True, "keep_image": True, "rule": "four-yes", "edge": 336}
    assert len(paper["prompts_sha256"]) == 64
    told = [{name: told["policy"][name] for name in ("rule", "check_first", "caption_tokens")} for told in (paper, repo)]
    assert told[0] == {"rule": "bare-yes", "check_first": None, "caption_tokens": 512}
    assert told[1] == {"rule": "four-yes", "check_first": None, "caption_tokens": 1024}  # what is asked, not what was asked for


@pytest.mark.parametrize("edge", [56, 336])
def test_the_middle_of_a_picture_has_the_pixels_of_the_originals_cropping_preparation(edge: int) -> None:
    stored = golden.arrays(f"pixels/pixels_{edge}.npz")
    for case in golden.read("pixels/index.json"):
        if case["mode"] != "none" or case["processor"] != str(edge):
            continue
        picture = middle(Image(golden.bare_rgb(case["image"])), edge)
        assert picture.size == (edge, edge)
        ours = pixels(picture.pil(), edge, "pad")  # nothing is left to pad, to scale or to crop
        some = ours[..., ::8, ::8] if "stored" in case else ours
        np.testing.assert_allclose(some, stored[f"{case['image']}|rgb|none"], rtol=0, atol=1e-6, err_msg=case["image"])
