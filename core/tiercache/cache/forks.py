"""What becomes of open caches in the child of a fork."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """What must know that it is in the child of a fork."""

    def _abandon(self) -> None: ...


_STARTED: weakref.WeakSet[Forked] = weakref.WeakSet()


def remember(cache: Forked) -> None:
    """Tell *cache* when it finds itself in the child of a fork."""
    _STARTED.add(cache)


def _after_fork() -> None:
    for cache in list(_STARTED):
        cache._abandon()  # noqa: SLF001 - the fork hook is part of the cache


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
