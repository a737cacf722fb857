"""How a loader is called: with what it takes, and awaited where it is to be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


async def load(key: str, loader: Callable[[], Any]) -> Any:
    """Return what *loader* brings, awaiting it where that is awaitable; *key* is for patterns around it."""
    del key
    result = loader()
    return await result if inspect.isawaitable(result) else result


def takes_context(loader: Callable[..., Any]) -> bool:
    """Whether *loader* must be given one argument."""
    code = getattr(loader, "__code__", None)
    if code is not None and not code.co_argcount and not code.co_kwonlyargcount:
        return False
    try:
        parameters = inspect.signature(loader).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    needed = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    return len(needed) == 1
