"""Entries in an SQLite file: they outlive the process, and all processes of a host may share them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import Field

from tiercache import (
    CheckContext,
    Context,
    Duration,
    FarTier,
    FarTierConfig,
    PolicyRef,
    Size,
    TierConfig,
    TierRefused,
    hookimpl,
)

_SHIPPED: Final = ("hybrid", "lru", "lfu", "fifo", "ttl")


class SqliteConfig(FarTierConfig):
    """Entries in an SQLite file."""

    scope: ClassVar[Literal["shared", "host"]] = "host"

    type: Literal["sqlite"] = "sqlite"
    path: str = Field(
        ".cache/tiercache.db",
        min_length=1,
        description="The database file. Relative to the directory of the configuration; `~` is expanded.",
    )
    max_bytes: Size = Field(
        2**30,
        ge=2**16,
        description="Bytes of keys, frames and their upkeep. The file stays within 1.25 times that "
        "and half a MiB, its log within a few MiB of a 64th of that (4 to 32 MiB).",
    )
    policy: PolicyRef = Field("hybrid", description="What goes first where there is no room.")
    busy_timeout: Duration = Field(
        5.0,
        le=600,
        description="How long to wait for another process that is writing, before a write is skipped.",
    )

    def check(self, context: CheckContext) -> Iterable[tuple[str, str]]:
        """Find a policy that can't be said in SQL."""
        if context.policy(self.policy).order is None:
            able = [f'"{name}"' for name in _SHIPPED if _ordered(context, name)]
            yield (
                "policy",
                f'the policy "{self.policy}" has no order for rows; of the shipped ones these have: '
                + ", ".join(able),
            )

    def build(self, context: Context) -> FarTier:
        """Return the tier, not yet open. Raises TierRefused where it can't be."""
        # Not before something is built: it brings the driver.
        from tiercache_plugins.tiers.sqlite.tier import SqliteTier

        try:
            path = context.directory / Path(self.path).expanduser()
        except RuntimeError as error:
            raise TierRefused(f'tier "{context.name}": "{self.path}" names no home directory') from error
        order = context.policy(self.policy).order
        if order is None:
            raise TierRefused(f'tier "{context.name}": the policy "{self.policy}" has no order for rows')
        return SqliteTier(
            path,
            context.clock,
            order,
            namespace=context.namespace,
            max_bytes=self.max_bytes,
            patience=self.busy_timeout,
        )


def _ordered(context: CheckContext, name: str) -> bool:
    try:
        return context.policy(name).order is not None
    except Exception:  # noqa: BLE001 - a name that is not installed here is only left out of a hint
        return False


@hookimpl
def tiercache_tiers() -> Iterable[type[TierConfig]]:
    """Return the SQLite tier."""
    return (SqliteConfig,)
