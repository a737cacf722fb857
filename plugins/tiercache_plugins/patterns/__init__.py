"""The patterns that ship: the module is named like the type in the TOML.

Each is there twice: as a stage of a route, and as an object for code that would rather say it in Python.
"""

from __future__ import annotations

from tiercache_plugins.patterns.cache_aside import CacheAsidePattern
from tiercache_plugins.patterns.invalidation import CacheWithInvalidationPattern
from tiercache_plugins.patterns.prefetch import CacheWithPrefetchPattern
from tiercache_plugins.patterns.read_through import ReadThrough
from tiercache_plugins.patterns.refresh_ahead import RefreshAhead
from tiercache_plugins.patterns.write_behind import OutboxFull, WriteBehindPattern
from tiercache_plugins.patterns.write_through import WriteThroughPattern

__all__ = [
    "CacheAsidePattern",
    "CacheWithInvalidationPattern",
    "CacheWithPrefetchPattern",
    "OutboxFull",
    "ReadThrough",
    "RefreshAhead",
    "WriteBehindPattern",
    "WriteThroughPattern",
]
