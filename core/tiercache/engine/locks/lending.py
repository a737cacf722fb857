"""Where the locks of an application come from: one lender for each route's authority."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from tiercache.clock import Clock
from tiercache.engine.locks.leases import Lease, Leases
from tiercache.engine.locks.local import Local
from tiercache.engine.locks.lock import Lock
from tiercache.errors import Unsupported
from tiercache.units import seconds

if TYPE_CHECKING:
    from tiercache.engine.pipeline import Route


class Lending:
    """Makes the locks of one cache, and knows which of its own tasks holds what."""

    __slots__ = ("_clock", "_holders", "_local", "_namespace")

    def __init__(self, namespace: str, clock: Clock) -> None:
        self._namespace = namespace
        self._clock = clock
        self._local = Leases(Local(clock), clock)
        self._holders: dict[str, tuple[object, Lease]] = {}

    def lock(
        self,
        route: Route,
        name: str,
        ttl: float | str | timedelta,
        wait: float | str | timedelta | None,
        owner: Callable[[], object] = asyncio.current_task,
    ) -> Lock:
        """Return the lock *name*, which the authority of *route* answers for.

        Raises Unsupported where that can't lend, ValueError for a *ttl* that never ends.
        """
        life = seconds(ttl)
        if life == math.inf:
            raise ValueError("a lock that never ends would outlive its holder; a ttl such as 10 is accepted")
        far = route.authority
        leases = self._local if far is None else far.leases
        if leases is None:
            raise Unsupported(
                f"tier {far.name if far else ''} answers for this route, but can't lend locks (the ability "
                "Locks)"
            )
        return Lock(
            name,
            # No key has the character: a lock is no entry's lease, and `clear` leaves it alone.
            address=f"{self._namespace}\x01{name}",
            leases=leases,
            clock=self._clock,
            tier=far.name if far else "",
            ttl=life,
            wait=_patience(wait),
            holders=self._holders,
            owner=owner,
        )

    def end(self) -> None:
        """Prolong no lock of this process any more."""
        self._local.end()


def _patience(wait: float | str | timedelta | None) -> float | None:
    if wait is None or wait == 0 or wait == timedelta():
        return None if wait is None else 0.0
    patience = seconds(wait)
    return None if patience == math.inf else patience
