"""Sets on a route that has a near tier and nothing else, in a cache that has nothing else either."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tiercache.contracts import Life
from tiercache.engine.stats import OTHER
from tiercache.entry import Entry

if TYPE_CHECKING:
    from tiercache.engine.pipeline import Route

Store = Callable[[str, Any, Life], None]
"""Stores the value of a key, at once."""


def storing(route: Route, *, alone: bool) -> Store | None:
    """Return what `Route.save` comes to on *route* where nothing is to be waited for or asked; None where
    it is not so. *alone*: no other tier may hold the key, and no pattern has a say in it.

    Whether there are far tiers, other near ones, patterns that save, copies, jitter or a bus is known when
    the cache is wired. Asked again in each call, and with a coroutine more, it would be a quarter of a set.
    """
    near, rules, keeping = route.near, route.rules, route.keeping
    if near is None or route.fars or not alone or route.copies or not keeping.plain:
        return None
    if rules.jitter or rules.negative_errors:
        return None
    put, most = near.put, near.max_ttl
    stamp, end = route.clock.stamp, route.clock.end
    house, patterns = route.house, keeping.patterns
    kept = route.life.stale
    usual = None if patterns.declared else keeping.terms(kept)

    def store(key: str, value: Any, life: Life) -> None:
        created_at = stamp()
        for under_way in house:
            if under_way.loads:
                under_way.detach(key)
        ttl, stale, tags = life
        if ttl > most:
            ttl = most
        if usual is not None and stale == kept:
            terms = usual
        else:
            terms = keeping.terms(stale, pattern=patterns.name(key) if patterns.declared else OTHER)
        put(Entry(key, value, created_at, end(ttl), terms), tags)

    return store
