"""Changes told through Redis or Valkey."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from tiercache import BusConfig, TierRef, hookimpl


class RedisBusConfig(BusConfig):
    """Tells the processes of all hosts what changed, through the server of a Redis tier.

    The options are accepted and checked. Processes are told of changes by a later release; until then an
    entry of a tier in this process is served until it expires.
    """

    type: Literal["redis"] = "redis"

    tier: TierRef | None = Field(
        None,
        description="The Redis tier whose server carries the messages; without it, the one that a route has.",
    )


@hookimpl
def tiercache_buses() -> Iterable[type[BusConfig]]:
    """Return the bus of this module."""
    return (RedisBusConfig,)
