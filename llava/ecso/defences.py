"""Defences to choose from and to compare: generators of the same shape as ECSO's `steps`, in a table.

To add one, write such a generator and put it into `DEFENCES`; command line, notebooks and drivers then know it. Nothing here knows
an engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from llava.chat import Chat
from llava.ecso.policy import PAPER, Policy
from llava.ecso.prompts import Prompts
from llava.ecso.steps import Outcome, Steps, answer, answer_blind, judged_harmful, steps
from llava.errors import UserError, unknown


def direct(ask: Chat, prompts: Prompts, policy: Policy, draft: str | None = None) -> Steps:
    """No defence: step 1 alone."""
    if draft is None:
        draft = yield from answer(ask, policy)
    return Outcome(draft, harmful=None, released="draft")


def caption_only(ask: Chat, prompts: Prompts, policy: Policy, draft: str | None = None) -> Steps:
    """ECSO without its check: always captions and answers with eyes closed; a `draft` is ignored."""
    return (yield from answer_blind(ask, prompts, policy, harmful=None))


def refuse(ask: Chat, prompts: Prompts, policy: Policy, draft: str | None = None) -> Steps:
    """ECSO without steps 3 and 4: a harmful draft is replaced by the policy's refusal (ablation in the paper)."""
    if draft is None:
        draft = yield from answer(ask, policy)
    if (yield from judged_harmful("check", ask, draft, prompts, policy)):
        return Outcome(policy.refusal, harmful=True, released="refusal")
    return Outcome(draft, harmful=False, released="draft")


@dataclass(frozen=True, slots=True)
class Defence:
    """A row of the table: the generator, and a sentence for people."""

    steps: Callable[[Chat, Prompts, Policy, str | None], Steps]
    summary: str


DEFENCES: dict[str, Defence] = {
    "ecso": Defence(steps, "answer, check; when harmful: caption, and answer again without the image"),
    "direct": Defence(direct, "no defence: the model's answer as it is"),
    "caption_only": Defence(caption_only, "always caption and answer without the image, unchecked"),
    "refuse": Defence(refuse, "answer, check; when harmful: a fixed refusal"),
}


@dataclass(frozen=True, slots=True)
class Method:
    """All that decides what a model is asked, besides the chat: a defence by name, its policy, its prompts.

    Raises `UserError` for a defence that is not in the table, and for a policy or prompts of another type.
    """

    defence: str = "ecso"
    policy: Policy = PAPER
    prompts: Prompts = field(default_factory=Prompts)

    def __post_init__(self) -> None:
        if not isinstance(self.defence, str) or self.defence not in DEFENCES:
            raise unknown("defence", self.defence, DEFENCES)
        if not isinstance(self.policy, Policy) or not isinstance(self.prompts, Prompts):
            raise UserError("A method's policy is a Policy, and its prompts are Prompts.")

    def steps(self, ask: Chat, draft: str | None = None) -> Steps:
        """A fresh generator for one chat."""
        return DEFENCES[self.defence].steps(ask, self.prompts, self.policy, draft)
