"""What tracers are told of a command, by OpenTelemetry's conventions for database clients."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tiercache_plugins.tiers.redis import RedisConfig

OPERATIONS: Final = MappingProxyType({"read": "MGET", "marks": "HGETALL"})
"""The commands of what is not a script."""


def semantics(config: RedisConfig, act: str) -> Mapping[str, str | int]:
    """Return the attributes of the span of *act*."""
    found: dict[str, str | int] = {
        "db.system.name": "redis",
        "db.operation.name": OPERATIONS.get(act, "EVALSHA"),
    }
    if config.mode != "cluster":
        found["db.namespace"] = str(config.address.db)
    if config.address.path:
        return {**found, "server.address": config.address.path, "network.transport": "unix"}
    host, port = config.servers()[0]
    return {**found, "server.address": host, "server.port": port}
