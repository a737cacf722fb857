"""An entry as the near tier holds it, and the value that says "nothing there"."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple


class _Missing(enum.Enum):
    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> Literal[False]:
        return False


MISSING: Final = _Missing.MISSING
"""A miss. Never None: None is a value like any other."""

Missing = Literal[_Missing.MISSING]
"""The type of MISSING."""


class Trust:
    """Until when near entries may be believed; shared by all that were put there in one unbroken while."""

    __slots__ = ("_now", "until")

    def __init__(self, now: Callable[[], float], until: float) -> None:
        self.until = until
        """In the seconds of *now*; raised while the bus is heard, -inf once something was missed."""
        self._now = now

    def holds(self) -> bool:
        """Whether it may be believed now."""
        return self._now() < self.until


FOREVER: Final = Trust(lambda: 0.0, float("inf"))
"""Of entries that nobody else changes, or that end before it matters."""


UNPROVEN: Final = Trust(lambda: 0.0, -1.0)
"""Of entries that are asked about at each read."""


class Terms:
    """What entries of one route with equal options share."""

    __slots__ = ("ahead", "hits", "late", "pattern", "route", "stale", "trust")

    def __init__(
        self,
        route: str,
        stale: float = 0.0,
        *,
        ahead: float = 0.0,
        trust: Trust = FOREVER,
        late: Callable[[Entry], None] | None = None,
        pattern: str = "",
    ) -> None:
        self.route = route
        """Name of the route that the entries travel on."""
        self.pattern = pattern
        """Declared pattern that their keys match, so that hits can be counted by it."""
        self.stale = stale
        """Seconds after `fresh_until` during which an entry is kept."""
        self.ahead = ahead
        """Seconds of `stale` during which it is still fresh: a read then starts a refresh, or is noted."""
        self.trust = trust
        """Where it ends, an entry is a stale copy, however fresh it was."""
        self.late = late
        """Told of reads after `fresh_until`, where those lengthen the life."""
        self.hits = 0
        """Hits of entries that are gone, and hits that a policy took off living ones."""


class Entry:
    """A value in the near tier. Eight slots: a ninth would cost 16 bytes an entry (steps of malloc).

    It is updated in place when its key is set again, `value` first and `fresh_until` last, so a holder
    who needs several fields to agree copies them before any await.
    """

    __slots__ = ("created_at", "fresh_until", "hits", "key", "place", "terms", "value", "weight")

    def __init__(
        self, key: str, value: Any, created_at: int, fresh_until: float, terms: Terms, weight: int = 0
    ) -> None:
        self.value = value
        self.fresh_until = fresh_until
        """Seconds of `Clock.monotonic`; -inf once dropped, so that a holder sees a miss."""
        self.hits = 0
        """Reads, raised by the kernel. A policy may lower it if it adds as much to `terms.hits`."""
        self.terms = terms
        self.created_at = created_at
        """Stamp of the value: when it was set, or when its load began."""
        self.key = key
        self.place = 0
        """The policy's own mark; 0 while no policy holds the entry."""
        self.weight = weight
        """Bytes, where the tier is bounded by bytes; else 0."""

    def __repr__(self) -> str:
        # Never the value: it may be a secret, and a repr ends up in logs.
        return f"<Entry {self.key!r} created_at={self.created_at}>"


class Hot(NamedTuple):
    """A key that is read often."""

    key: str
    route: str
    """Name of the route that it travels on."""
    hits: int
    """Its reads, as far as the policy has not taken them off."""
