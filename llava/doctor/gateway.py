"""A gateway of ours: is it ready, does the guard guard, what stands behind it? Asks as any client would."""

from __future__ import annotations

import re
from typing import Any

from llava.chat import Call, Chat, Reply
from llava.doctor.address import Address
from llava.doctor.identify import check_let_in, check_loaded, check_version
from llava.doctor.model import GuardFailed, check_model
from llava.doctor.report import Site, Trouble
from llava.doctor.web import Answer, Web
from llava.engines import is_server
from llava.errors import EngineError, EngineTimeout, LlavaError, Overloaded, Unavailable, UnknownModel, UserError

DIRECT = ":direct"
ERRORS: dict[int, type[LlavaError]] = {404: UnknownModel, 429: Overloaded, 503: Unavailable, 504: EngineTimeout}


async def look_at_gateway(site: Site, web: Web, model: str | None) -> str | None:
    """Examine it; returns the target of its engine, where it tells that. Raises `Trouble`."""
    listed = await web.get("/v1/models")
    check_let_in(listed, web, "key")
    check_loaded(listed)
    site.fine("key", "The key is accepted." if web.key else "It asks for no key on this machine.")
    await check_version(site, web)
    if (await web.get("/ready")).status == 200:
        site.fine("ready", "It is ready: its guard has passed the self-test.")
    else:
        site.wrong("not_ready", "It is not ready: its model, or the way to it, failed the guard's self-test.")
    names = [row["id"] for row in listed.fields.get("data", []) if isinstance(row, dict) and isinstance(row.get("id"), str)]
    asked = [name for name in names if (not name.endswith(DIRECT) if model is None else name == model)]
    if not asked:
        serves = ", ".join(names[:20]) or "no model"
        site.wrong("no_models", f"It serves {serves}." if model is None else f"It does not serve {model}: it serves {serves}.")
    for name in asked:
        await _Asked(site, web, name).check()
    return await _behind(web)


class _Asked:
    """One model behind the guard."""

    def __init__(self, site: Site, web: Web, name: str) -> None:
        self._site = site
        self._web = web
        self._name = name
        self._mode: str | None = None

    async def check(self) -> None:
        await check_model(self._site, self._name, self._ask)
        if self._mode in ("off", "shadow"):
            said = "delivers answers unchecked" if self._mode == "off" else "only records verdicts, and delivers harmful answers too"
            self._site.wrong(f"guard_{self._mode}", f"The guard before {self._name} is in mode {self._mode}: it {said}.")
        elif self._mode is not None:
            self._site.fine("guard", f"The guard before {self._name} is on.")

    async def _ask(self, call: Call) -> Reply:
        said = {"messages": _messages(call.chat), "max_tokens": call.sampling.max_tokens, "temperature": 0, "guard": {"report": True}}
        try:
            answer = await self._web.post("/v1/chat/completions", {"model": self._name, **said}, slow=True)
        except Trouble as trouble:
            raise (EngineTimeout if trouble.code == "silent" else EngineError)(trouble.said) from None
        if answer.status != 200:
            raise _error(answer)
        if mode := re.search(r"mode=(\w+)", answer.headers.get("x-llava-guard", "")):
            self._mode = mode[1]
        return self._reply(answer)

    def _reply(self, answer: Answer) -> Reply:
        """The model's own call, as far as the guard tells of it; a report without a check tells nothing of log-probabilities."""
        try:
            choice = answer.fields["guard"]["choices"][0]
            step = choice["steps"][0]
            tokens, score = (step["usage"] or {}).get("prompt_tokens"), choice["score"]
        except (KeyError, IndexError, TypeError, AttributeError):
            return Reply("", first_logprobs={})
        known: dict[str, float] | None = {"": 0.0} if score is not None else {} if self._mode == "off" else None
        return Reply("", prompt_tokens=tokens if isinstance(tokens, int) and tokens > 0 else None, first_logprobs=known)


def _error(answer: Answer) -> LlavaError:
    """The gateway's refusal as the error that it was made of."""
    if answer.code == "guard_unavailable":
        return GuardFailed(answer.said)
    if answer.status == 400:
        return UserError(answer.said)
    return ERRORS.get(answer.status, EngineError)(answer.said)


def _messages(chat: Chat) -> list[dict[str, Any]]:
    images = [{"type": "image_url", "image_url": {"url": image.data_url()}} for image in chat.images]
    return [{"role": "user", "content": [*images, {"type": "text", "text": chat.question}]}]


async def _behind(web: Web) -> str | None:
    """The target of the gateway's engine; a key without the right to ask for it gets none."""
    target = (await web.get("/engine")).fields.get("engine")
    return target if isinstance(target, str) else None


def next_address(target: str, gateway: Address) -> Address | str:
    """Where to go on, or a sentence why not. Another machine's loopback is not ours."""
    if not is_server(target):
        return f"Its model runs in its own process ({target[:100]})."
    try:
        found = Address.read(target)
    except UserError:
        return "The address behind it cannot be read."
    if found.is_local and not gateway.is_local:
        return f"Behind it is {target[:200]}, on its own machine: run llava doctor there too."
    return found
