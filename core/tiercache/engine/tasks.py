"""How the engine starts its own tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


def begin(
    running: Coroutine[Any, Any, T],
    name: str,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    context: Context | None = None,
) -> asyncio.Task[T]:
    """Return *running* as a task of the running loop, or of *loop* where the caller knows it.

    It begins in the loop's next turn, never here, whatever task factory the application has set: an eager one
    would run it before the caller holds the task, and what came in the same moment would not go together.
    """
    return asyncio.Task(running, loop=loop or asyncio.get_running_loop(), name=name, context=context)
