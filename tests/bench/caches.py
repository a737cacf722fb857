"""Our caches, as the rows open them, and the values that all are given."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tiercache import Cache

LIFE = 3600.0
"""Seconds that everything lives, with whoever knows such a thing."""

PATIENCE = "1m"
"""How long a call to a far tier may take."""


def near(policy: str = "hybrid", size: int = 10_000) -> dict[str, Any]:
    """Return the document of a near tier alone; 10,000 entries is what the shipped file has."""
    return {
        "cache": {"namespace": "bench"},
        "tier": {"memory": {"type": "memory", "max_entries": size, "policy": policy}},
        "route": {"all": {"tiers": ["memory"], "ttl": LIFE}},
    }


def far(tier: dict[str, Any], *, memory: int = 0, **options: Any) -> dict[str, Any]:
    """Return the document of one far tier, behind a near one of *memory* entries where that is not zero.

    However long the machine stalls, the tier is waited for: a call that is given up would cost nothing.
    """
    tiers: dict[str, Any] = {"far": {"deadline": PATIENCE, **tier}}
    if memory:
        tiers["memory"] = {"type": "memory", "max_entries": memory}
    names = ["memory", "far"] if memory else ["far"]
    return {
        "cache": {"namespace": "bench"},
        "tier": tiers,
        "route": {"all": {"tiers": names, "ttl": LIFE}},
        **options,
    }


@asynccontextmanager
async def opened(document: dict[str, Any]) -> AsyncIterator[Cache]:
    """Open a cache of ours. Raises AssertionError where calls to a far tier failed: they cost nothing."""
    async with Cache.open(document) as cache:
        yield cache
        failed = {name: tier.errors for name, tier in cache.stats().tiers.items() if tier.errors}
        assert not failed, f"calls to a far tier failed, and were measured as misses: {failed}"


@contextmanager
def directory() -> Iterator[str]:
    """Make a directory, and remove it."""
    with tempfile.TemporaryDirectory(prefix="tc-bench-") as path:
        yield path


def shuffled(count: int, prefix: str = "user:") -> list[str]:
    """Return keys whose order in memory is not that in which they are read."""
    keys = [f"{prefix}{at}" for at in range(count)]
    random.Random(7).shuffle(keys)
    return keys


def user(number: int) -> dict[str, Any]:
    """Return what an application keeps of a user: about 200 bytes of JSON, different for each."""
    return {
        "id": number,
        "name": f"Ada Lovelace {number}",
        "email": f"ada{number}@example.org",
        "active": True,
        "score": number / 7,
        "roles": ["admin", "user"],
        "address": {"street": "12 St James's Square", "city": "London"},
        "logins": number % 97,
    }


def text(number: int) -> str:
    """Return 200 characters, different for each *number*."""
    return f"{number:08}" + "x" * 192
