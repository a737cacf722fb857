"""The cache in flat settings: one object, four cache types, and decorators for module level.

Written on the public names of `tiercache` alone, as any application may be.
"""

from __future__ import annotations

from tiercache_plugins.advanced.alone import DiskCache, MemoryCache, RedisCache
from tiercache_plugins.advanced.config import CacheConfig
from tiercache_plugins.advanced.decorators import (
    cache_result,
    computed_cache,
    dynamic_cache,
    static_cache,
    temporary_cache,
)
from tiercache_plugins.advanced.default import close_default_cache, use_cache
from tiercache_plugins.advanced.kinds import CacheStrategy, CacheType
from tiercache_plugins.advanced.system import AdvancedCachingSystem

__all__ = [
    "AdvancedCachingSystem",
    "CacheConfig",
    "CacheStrategy",
    "CacheType",
    "DiskCache",
    "MemoryCache",
    "RedisCache",
    "cache_result",
    "close_default_cache",
    "computed_cache",
    "dynamic_cache",
    "static_cache",
    "temporary_cache",
    "use_cache",
]
