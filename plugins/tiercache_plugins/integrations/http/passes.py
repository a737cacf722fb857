"""Which targets are not worth waiting for: what the application answers is for nobody else."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from tiercache_plugins.integrations.http.asked import Asked

SPAN: Final = 60.0
"""Seconds that a target is remembered."""
MOST: Final = 10_000
"""Targets that are remembered; the oldest are forgotten first."""


class Passes:
    """Targets whose requests go to the application without waiting for one another.

    Those with credentials and those without are kept apart.
    """

    __slots__ = ("_clock", "_until")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[tuple[str | None, bool], float] = OrderedDict()

    def known(self, asked: Asked) -> bool:
        """Whether requests such as *asked* are not to wait."""
        until = self._until.get(self._name(asked))
        return until is not None and self._clock() < until

    def note(self, asked: Asked) -> None:
        """Remember that the answer to *asked* may not be stored."""
        name = self._name(asked)
        self._until.pop(name, None)
        self._until[name] = self._clock() + SPAN
        if len(self._until) > MOST:
            self._until.popitem(last=False)

    def forget(self, asked: Asked) -> None:
        """Forget it: the answer could have been stored."""
        self._until.pop(self._name(asked), None)

    @staticmethod
    def _name(asked: Asked) -> tuple[str | None, bool]:
        return asked.key, bool(asked.credentials)
