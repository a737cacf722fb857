"""What a route remembers of keys that have no value, so that their source is not asked for ever."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from tiercache.clock import Clock
from tiercache.contracts import NearTier
from tiercache.engine.rules import Rules

MOST: Final = 1024
"""Absent keys, and errors, that a route keeps: a flood of them must not evict what has a value."""


class Negatives:
    """Errors of loaders for as long as the route says, and a bound on near entries that hold None."""

    __slots__ = ("_absent", "_clock", "_failed", "_near", "rules")

    def __init__(self, near: NearTier | None, clock: Clock, rules: Rules) -> None:
        self._near = near
        self._clock = clock
        self.rules = rules
        self._absent: OrderedDict[str, None] = OrderedDict()
        self._failed: OrderedDict[str, tuple[Exception, float]] = OrderedDict()

    def remember(self, key: str, error: Exception) -> None:
        """Keep *error* for the callers of the next while, where the route asks for that."""
        if self.rules.negative_ttl is None or not self.rules.negative_errors:
            return
        self._failed.pop(key, None)
        self._failed[key] = (error, self._clock.monotonic() + self.rules.negative_ttl)
        if len(self._failed) > MOST:
            self._failed.popitem(last=False)

    def remembered(self, key: str) -> Exception | None:
        """Return the error that the loader of *key* raised a short while ago."""
        if not self._failed or key not in self._failed:
            return None
        error, until = self._failed[key]
        if self._clock.monotonic() < until:
            return error
        del self._failed[key]
        return None

    def absent(self, key: str) -> None:
        """Let what has no value take only so many places in the near tier."""
        self._absent.pop(key, None)
        self._absent[key] = None
        if len(self._absent) > MOST:
            oldest, _ = self._absent.popitem(last=False)
            entry = self._near.get(oldest) if self._near is not None else None
            if entry is not None and entry.value is None and self._near is not None:
                self._near.remove(oldest)

    def forget(self, key: str) -> None:
        """Forget the error of *key*: it has a value now, or is to be asked for again."""
        self._failed.pop(key, None)

    def forget_all(self, prefix: str | None) -> None:
        """Forget the errors of the keys that begin with *prefix*; nothing for None."""
        if prefix is not None and self._failed:
            for key in [key for key in self._failed if key.startswith(prefix)]:
                del self._failed[key]

    def clear(self) -> None:
        """Forget everything."""
        self._failed.clear()
        self._absent.clear()
