"""Several things at a time, of which all are needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def together(works: Sequence[Awaitable[T]]) -> list[T]:
    """The results of all, in order; when one fails the others are cancelled and its error is raised."""
    if len(works) == 1:  # as most requests have it
        return [await works[0]]

    async def result(work: Awaitable[T]) -> T:
        return await work

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(result(work)) for work in works]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
