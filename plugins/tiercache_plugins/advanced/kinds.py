"""The words of the flat interface: what is cached, and what makes room for what."""

from __future__ import annotations

from enum import StrEnum


class CacheType(StrEnum):
    """What a value is, which decides the tiers that it travels through and for how long it is fresh. Each is
    the name of a route.
    """

    STATIC = "static"
    """Changes with a release: configuration, templates, assets. Every tier."""
    DYNAMIC = "dynamic"
    """Changes while the application runs: rows, sessions, API responses. Memory and the shared tier."""
    COMPUTED = "computed"
    """Expensive to make, cheap to keep: results, aggregations. Every tier."""
    TEMPORARY = "temporary"
    """Locks, counters, scratch. Memory alone."""


class CacheStrategy(StrEnum):
    """Which entries are given up where there is no room. Each is the name of a policy."""

    LRU = "lru"
    """Those that were not read for the longest time."""
    LFU = "lfu"
    """Those that were read least."""
    TTL = "ttl"
    """Those that expire first."""
    HYBRID = "hybrid"
    """Those that were read neither lately nor often."""
