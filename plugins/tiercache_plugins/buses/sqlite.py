"""The bus of a SQLite tier: a table of changes in its file, written by the transaction that makes them.

The table is followed from where one has come to, so nothing is lost while somebody looks elsewhere for a
while. Looking costs one `PRAGMA data_version` where nothing has happened.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tiercache import BusConfig, Context, Duration, FarTier, hookimpl

if TYPE_CHECKING:
    from tiercache_plugins.tiers.sqlite.news import SqliteBus


class SqliteBusConfig(BusConfig):
    """Tells the processes of this host what changed, through the file of a SQLite tier."""

    carries: ClassVar[str] = "sqlite"

    type: Literal["sqlite"] = "sqlite"

    poll: Duration = Field(
        0.1,
        ge=0.001,
        le=60,
        description="Time between two looks for changes; at most an eighth of the lease is taken.",
    )

    def build(self, context: Context, tier: FarTier) -> SqliteBus:
        """Return the bus of *tier*, a tier of type "sqlite"."""
        from tiercache_plugins.tiers.sqlite.news import SqliteBus
        from tiercache_plugins.tiers.sqlite.tier import SqliteTier

        if not isinstance(tier, SqliteTier):
            raise TypeError(f'a bus of type "sqlite" can\'t follow a {type(tier).__name__}')
        return SqliteBus(tier, context.name, self.poll)


@hookimpl
def tiercache_buses() -> Iterable[type[BusConfig]]:
    """Return the bus of this module."""
    return (SqliteBusConfig,)
