"""Changes told through a SQLite file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from tiercache import BusConfig, TierRef, hookimpl


class SqliteBusConfig(BusConfig):
    """Tells the processes of this host what changed, through the file of a SQLite tier.

    The options are accepted and checked. Processes are told of changes by a later release; until then an
    entry of a tier in this process is served until it expires.
    """

    type: Literal["sqlite"] = "sqlite"

    tier: TierRef | None = Field(
        None,
        description="The SQLite tier whose file carries the messages; without it, the one that a route has.",
    )


@hookimpl
def tiercache_buses() -> Iterable[type[BusConfig]]:
    """Return the bus of this module."""
    return (SqliteBusConfig,)
