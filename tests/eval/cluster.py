"""What `spread` needs of Ray, within this process: real workers on named nodes, any of which can be out of reach."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from llava.chat import Reply
from llava.errors import LlavaError
from llava.eval.worker import Worker

Answer = Coroutine[Any, Any, Reply | LlavaError]


class RayError(Exception):
    """As Ray's."""


class RayActorError(RayError):
    """As Ray's."""


class ActorUnavailableError(RayActorError):
    """As Ray's."""


class ActorDiedError(RayActorError):
    """As Ray's."""


@dataclass
class Cluster:
    """Nodes with a core each. `away`: what a call to a worker on a node raises instead of an answer."""

    names: tuple[str, ...]
    away: dict[str, RayActorError] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)  # by node
    exceptions = SimpleNamespace(RayError=RayError, RayActorError=RayActorError, ActorUnavailableError=ActorUnavailableError)
    util = SimpleNamespace(scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node))

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name, "NodeManagerHostname": name, "Alive": True, "Resources": {"CPU": 1.0}} for name in self.names]

    def remote(self, kind: type[Worker]) -> Any:
        def options(scheduling_strategy: str, **resources: int) -> Any:
            return SimpleNamespace(remote=lambda: self._actor(scheduling_strategy, kind()))

        return SimpleNamespace(options=options)

    def _actor(self, node: str, worker: Worker) -> Any:
        self.workers[node] = worker
        return SimpleNamespace(**{name: SimpleNamespace(remote=self._sent(node, getattr(worker, name))) for name in ("open", "answer")})

    def _sent(self, node: str, method: Callable[..., Answer]) -> Callable[..., Answer]:
        async def call(*words: Any) -> Any:
            if node in self.away:
                raise self.away[node]
            return await method(*words)

        return call

    def kill(self, actor: object) -> None:
        """A worker of this process ends with it."""

    def shutdown(self) -> None:
        """Nothing to leave."""
