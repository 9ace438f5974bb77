"""How a benchmark is asked: `paper`, the published method, or `repo`, with what the original's scripts do otherwise.

A preset turns a defence and a sample into the chat that is asked and the method that asks it. The quirks are data, one row a benchmark;
docs/evaluation.md lists all differences, also those that no preset brings back. Knows no engine and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from llava.chat import Call, Chat, Image
from llava.ecso import PAPER, Method, Policy
from llava.ecso.steps import Outcome, Steps
from llava.errors import ImageError, UserError, unknown
from llava.eval.sample import Sample, Task

PRESETS = ("paper", "repo")
SCRIPT_TOKENS = 1024  # the limit of steps 2 to 4 in all of the original's scripts
CLIP_EDGE = 336  # pixels: what the models see for which the scripts were written


@dataclass(frozen=True, slots=True)
class Quirks:
    """What one of the original's scripts does otherwise than its paper.

    `check_first`: the check sees only so many characters of the answer. `crop`: steps 2 and 3 see the middle of the picture, step 1 the
    whole. `keep_image`: step 4 sees it too. `rule`: which replies of the check mean harmful.
    """

    check_first: int | None = None
    crop: bool = False
    keep_image: bool = False
    rule: str = "bare-yes"


_SAFETY = Quirks(check_first=1927)
_UTILITY = Quirks(keep_image=True, rule="four-yes")
SCRIPTS: Mapping[str, Quirks] = {
    "vlsafe": replace(_SAFETY, crop=True),
    "mm_safetybench": _SAFETY,
    "mme": replace(_UTILITY, crop=True),
    "mm_vet": replace(_UTILITY, crop=True),
    "mmbench": _UTILITY,
}


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset for one task. `max_tokens` overrides the benchmark's own limit of answers; `edge` is the model's picture size in pixels.

    Raises `UserError` for a preset that there is not, and for `repo` where the original has no script or the policy is another.
    """

    task: Task
    name: str = "paper"
    policy: Policy = PAPER
    max_tokens: int | None = None
    edge: int = CLIP_EDGE

    def __post_init__(self) -> None:
        if self.name not in PRESETS:
            raise unknown("preset", self.name, PRESETS)
        if self.name == "repo" and self.task.name not in SCRIPTS:
            raise UserError(f"The original has no script for {self.task.name}: use --preset paper. It has {', '.join(SCRIPTS)}.")
        if self.name == "repo" and self.policy.name != PAPER.name:
            raise UserError("The original's scripts know no other policy: --preset repo goes with --policy paper.")

    @property
    def quirks(self) -> Quirks | None:
        """Those of the task's script, under `repo`."""
        return SCRIPTS[self.task.name] if self.name == "repo" else None

    def method(self, defence: str, sample: Sample, chat: Chat) -> Method:
        """The method that asks `chat`, the sample's; decodes a picture that only later steps see, so it may raise `ImageError`."""
        policy, quirks = self._asking.answering(max_tokens=self._answer_tokens(sample)), self.quirks
        if quirks is None or defence == "direct":
            return Method(defence, policy)
        images = chat.images or ((sample.late_picture.open(),) if sample.late_picture else ())
        if not images:  # asked without a word about it, the preset would be another one
            raise ImageError("The original's script shows a picture to steps 2 and 3, and it is not there: get it, or use --preset paper.")
        if quirks.crop:
            images = tuple(middle(image, self.edge) for image in images)
        return AsInScripts(defence, policy, keep_image=quirks.keep_image, later=Chat.ask(sample.prompt, images))

    def described(self, defence: str) -> dict[str, Any]:
        """For a header: everything that decides what is asked, but for the questions."""
        policy = asdict(self._asking)
        policy["answer"]["max_tokens"] = self.max_tokens or "as the benchmark says"
        quirks = asdict(self.quirks) | {"edge": self.edge} if self.quirks else None
        method = Method(defence, self.policy)
        return {"defence": defence, "preset": self.name, "quirks": quirks, "policy": policy, "prompts_sha256": method.prompts.sha256}

    @property
    def _asking(self) -> Policy:
        """The policy with what the script does otherwise."""
        quirks = self.quirks
        if quirks is None:
            return self.policy
        return replace(self.policy, check_first=quirks.check_first, rule=quirks.rule, caption_tokens=SCRIPT_TOKENS)

    def _answer_tokens(self, sample: Sample) -> int:
        if self.max_tokens is not None:
            return self.max_tokens
        script = self.task.repo_max_tokens if self.name == "repo" else None
        return script or sample.max_tokens


@dataclass(frozen=True, slots=True)
class AsInScripts(Method):
    """A method whose steps after the first speak about `later`, as the original's scripts do: they read the answers of another program,
    with the question and the picture as these scripts store and prepare them."""

    keep_image: bool = False
    later: Chat = field(default_factory=lambda: Chat.ask("-"))

    def steps(self, ask: Chat, draft: str | None = None) -> Steps:
        """A fresh generator for one chat."""
        changes: dict[str, Callable[[Call], Call]] = {"answer": lambda call: replace(call, chat=ask), "regenerate": self._regenerate}
        return _changed(Method.steps(self, self.later, draft), changes)

    def _regenerate(self, call: Call) -> Call:
        chat = Chat.ask(call.chat.question, self.later.images) if self.keep_image else call.chat
        return replace(call, chat=chat, sampling=replace(call.sampling, max_tokens=SCRIPT_TOKENS))


def _changed(steps: Steps, changes: Mapping[Literal["answer", "regenerate"] | str, Callable[[Call], Call]]) -> Steps:
    """The same steps, but that the calls of some are changed on their way."""
    try:
        call = next(steps)
        while True:
            call = steps.send((yield changes.get(call.step, _same)(call)))
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


def _same(call: Call) -> Call:
    return call


def middle(image: Image, edge: int) -> Image:
    """The picture as CLIP's own preparation shows it: its shorter side scaled to `edge` pixels (bicubic), then the middle square."""
    from PIL.Image import Resampling

    width, height = image.size
    short = min(width, height)
    size = (edge if width == short else int(edge * width / height), edge if height == short else int(edge * height / width))
    left, top = (size[0] - edge) // 2, (size[1] - edge) // 2
    return Image(image.pil().resize(size, Resampling.BICUBIC).crop((left, top, left + edge, top + edge)))
