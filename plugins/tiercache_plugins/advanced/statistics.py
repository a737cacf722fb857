"""What a cache counted, under the names of the flat interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiercache import Stats, TierStats
from tiercache_plugins.advanced.config import FILE, CacheConfig


def told(stats: Stats, config: CacheConfig) -> dict[str, dict[str, Any]]:
    """Return *stats* by level. A level that *config* does not have is there with zeros, and not `enabled`."""
    return {
        "overall": _overall(stats),
        "memory": _memory(stats.tiers.get("memory"), config),
        "redis": _far(stats.tiers.get("redis")),
        "disk": {**_far(stats.tiers.get("disk")), **_files(config)},
    }


def _overall(stats: Stats) -> dict[str, Any]:
    routes = stats.routes.values()
    return {
        "hits": stats.hits,
        "misses": stats.misses,
        "hit_rate": stats.hit_rate,
        "cache_patterns": {name: route.hits + route.misses for name, route in stats.routes.items()},
        "sets": sum(route.sets for route in routes),
        "loads": sum(route.loads for route in routes),
        "load_errors": sum(route.load_errors for route in routes),
        "load_seconds": sum(route.load_seconds for route in routes),
        "stale_served": sum(route.stale_served for route in routes),
        "refreshes": sum(route.refreshes for route in routes),
    }


def _reads(tier: TierStats | None) -> dict[str, Any]:
    hits, misses = (tier.hits, tier.misses) if tier is not None else (0, 0)
    return {
        "enabled": tier is not None,
        "hits": hits,
        "misses": misses,
        "hit_rate": hits / (hits + misses) if hits + misses else 0.0,
    }


def _own(tier: TierStats | None) -> Mapping[str, int]:
    return tier.own if tier is not None else {}


def _memory(tier: TierStats | None, config: CacheConfig) -> dict[str, Any]:
    own = _own(tier)
    return {
        **_reads(tier),
        "size": own.get("entries", 0),
        "max_size": config.memory_max_size,
        "bytes": own.get("bytes", 0),
        "evictions": own.get("evicted", 0),
        "expired": own.get("expired", 0),
    }


def _far(tier: TierStats | None) -> dict[str, Any]:
    own = _own(tier)
    held = {name: own[key] for name, key in (("entries", "entries"), ("size_bytes", "bytes")) if key in own}
    return {
        **_reads(tier),
        **held,
        "available": tier is not None and tier.available,
        "breaker": tier.breaker if tier is not None else "closed",
        "writes": tier.writes if tier is not None else 0,
        "deletes": tier.deletes if tier is not None else 0,
        "errors": tier.errors if tier is not None else 0,
        "corrupt": tier.corrupt if tier is not None else 0,
        "queued": tier.queued if tier is not None else 0,
    }


def _files(config: CacheConfig) -> dict[str, int]:
    """Count the files that the disk tier has: the database, and its log while it is open."""
    there = [] if config.directory is None else list(config.directory.glob(f"{FILE}*"))
    return {"file_count": len(there)}
