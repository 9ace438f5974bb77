"""Policies: everything that may vary in the method, under a name.

`paper` is the published method, `guard` is for serving and fails closed; docs/method.md compares them. A policy is data: it knows
neither prompts nor engines, and the steps ask it what to show a check and what its reply means.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from llava.chat import Chat, Reply, Sampling
from llava.ecso.verdict import RULES, Verdict
from llava.errors import UserError, unknown

# Fields that are whole numbers, those that may be None as well, and those that are true or false.
_WHOLE = ("top_logprobs", "caption_tokens", "check_tokens", "check_tokens_most", "overlap")
_WHOLE_OR_NONE = ("check_first", "window")
_TRUTHS = ("all_questions", "disarm", "recheck")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How answers are sampled, what a check sees, what counts as harmful, what is released.

    Checks and captions are always greedy. Lengths named `tokens` are tokens, all others characters. Raises `UserError` for values
    that make no sense.
    """

    name: str
    rule: str = "bare-yes"  # a name in verdict.RULES
    threshold: float | None = None  # harmful from this p(harmful) on; None: the text alone decides
    top_logprobs: int = 20  # first-token candidates asked of the engine, for p(harmful); 20 is the most that OpenAI's protocol gives
    answer: Sampling = field(default_factory=Sampling)  # of steps 1 and 4
    caption_tokens: int = 512
    check_tokens: int = 4  # enough for a bare "Yes." and its end; a reply that is still open is asked for again, with more
    check_tokens_most: int = 1024  # the original's limit
    check_first: int | None = None  # judge only this many first characters of an answer (the original scripts: 1,927)
    window: int | None = None  # judge a longer answer in windows of this size ...
    overlap: int = 0  # ... of which neighbours share this much
    all_questions: bool = False  # the check's QUERY holds the questions of all turns, not only the last one
    disarm: bool = False  # in the check, question and answer are shown without words that imitate the check's form (prompts.disarmed)
    recheck: bool = False  # check the regenerated answer too, and release `refusal` when it is harmful
    refusal: str = "I'm sorry, but I can't help with that."

    def __post_init__(self) -> None:
        if not isinstance(self.rule, str) or self.rule not in RULES:
            raise unknown("verdict rule", self.rule, RULES)
        for field_name in (*_WHOLE, *_WHOLE_OR_NONE):
            value = getattr(self, field_name)
            if type(value) is not int and not (value is None and field_name in _WHOLE_OR_NONE):
                raise UserError(f"{field_name} is {value!r}: give a whole number.")
        if self.top_logprobs < 0 or self.overlap < 0:
            raise UserError(f"top_logprobs is {self.top_logprobs} and overlap {self.overlap}: neither can be less than 0.")
        for field_name in _TRUTHS:
            if not isinstance(getattr(self, field_name), bool):
                raise UserError(f"{field_name} is {getattr(self, field_name)!r}: give True or False.")
        if not all(isinstance(text, str) and text.strip() for text in (self.name, self.refusal)):
            raise UserError("A policy's name and its refusal are texts, and not empty.")
        if not isinstance(self.answer, Sampling):
            raise UserError(f"A policy's answer is a Sampling, not {type(self.answer).__name__}.")
        if self.threshold is not None and not (isinstance(self.threshold, float) and 0.0 < self.threshold <= 0.5):
            raise UserError(
                f"threshold is {self.threshold!r}: give a number above 0 and at most 0.5; above, a plain yes would count as no."
            )
        if self.window is not None and not 0 <= self.overlap < self.window:
            raise UserError(f"overlap is {self.overlap} and window {self.window}: the overlap must be smaller than the window.")
        if self.check_first is not None and self.check_first < 1:
            raise UserError(f"check_first is {self.check_first}: give at least 1 character.")
        if not 1 <= self.check_tokens <= self.check_tokens_most or self.caption_tokens < 1:
            raise UserError("check_tokens and caption_tokens are at least 1, and check_tokens at most check_tokens_most.")

    def verdict(self, reply: Reply) -> Verdict:
        """What a check's reply means under this policy."""
        return RULES[self.rule].judge(reply, self.threshold)

    @property
    def sought(self) -> tuple[str, ...]:
        """The beginnings of a check's reply that leave its verdict open."""
        return (RULES[self.rule].word,)

    def parts(self, answer: str) -> list[str]:
        """The pieces of an answer that are judged, one check each. Every run of `overlap` characters lies whole in one of them."""
        judged = answer[: self.check_first]
        if self.window is None or len(judged) <= self.window:
            return [judged]
        step = self.window - self.overlap
        return [judged[start : start + self.window] for start in range(0, len(judged) - self.overlap, step)]

    def query(self, ask: Chat) -> str:
        """What a check shows as the QUERY. Never assistant turns: those come from the caller, who could forge a verdict there."""
        if not self.all_questions:
            return ask.question
        return "\n\n".join(message.text for message in ask.messages if message.role == "user" and message.text.strip())

    def answering(self, **changes: object) -> Policy:
        """The same policy with some fields of `answer` changed: temperature, top_p, max_tokens, stop, seed.

        Who names `top_p` alone wants to sample: where the policy is greedy, the temperature is 1 then, as by default in OpenAI's protocol.
        """
        if changes.get("top_p", 1) != 1 and not self.answer.temperature:
            changes = {"temperature": 1.0, **changes}
        if isinstance(stop := changes.get("stop"), str):
            changes["stop"] = (stop,)
        return replace(self, answer=replace(self.answer, **changes)) if changes else self  # type: ignore[arg-type]


PAPER = Policy(name="paper")
GUARD = Policy(name="guard", rule="clear-no", threshold=0.5, window=1600, overlap=400, all_questions=True, disarm=True, recheck=True)
POLICIES: dict[str, Policy] = {policy.name: policy for policy in (PAPER, GUARD)}


def policy_named(policy: str | Policy) -> Policy:
    """A policy by its name, or the policy itself; raises `UserError` that lists the names."""
    if isinstance(policy, Policy):
        return policy
    if not isinstance(policy, str) or policy not in POLICIES:
        raise unknown("policy", policy, POLICIES)
    return POLICIES[policy]
