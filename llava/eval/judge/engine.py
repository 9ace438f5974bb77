"""Any engine that `connect` knows, as a judge: a checkpoint here, a controller's workers, a scripted one."""

from __future__ import annotations

import time

from llava.chat import Call, Chat, Message, Role, Sampling
from llava.engines import Engine, generate
from llava.errors import ContextTooLong, EngineClosed, EngineError, EngineTimeout, ModelLost, UserError
from llava.eval.judge.asking import Refused, Request, Said, TryAgain

NO_SERVER = "A guard is shown the answer as a turn of the chat: it needs a server (guard:NAME@URL), not an engine."
_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


class EngineJudge:
    """`engine` under the name `name`; `endpoint` tells it apart from every other one, another state of its weights included."""

    def __init__(self, name: str, engine: Engine, endpoint: str) -> None:
        self._name, self._engine, self._endpoint = name, engine, endpoint

    @property
    def name(self) -> str:
        return self._name

    @property
    def endpoint(self) -> str:
        return self._endpoint

    async def ask(self, request: Request) -> Said:
        """See `Asker.ask`."""
        if request.messages[-1][0] != "user":
            raise UserError(NO_SERVER)
        sampling = Sampling(request.temperature, max_tokens=request.max_tokens, seed=request.seed or None)
        chat = Chat(tuple(Message(_ROLES[role], text) for role, text in request.messages))
        begin = time.monotonic()
        try:
            reply = await generate(self._engine, Call("judge", chat, sampling))
        except ContextTooLong:
            raise Refused("the prompt is too long for the judge") from None
        except (EngineClosed, ModelLost):
            raise
        except EngineError as error:
            raise TryAgain(str(error).rstrip("."), billed=isinstance(error, EngineTimeout)) from error
        seconds = time.monotonic() - begin
        return Said(reply.text, self._engine.name, reply.finish_reason == "length", reply.prompt_tokens, reply.completion_tokens, seconds)

    async def close(self) -> None:
        """Close the engine."""
        await self._engine.close()
