"""Entries as objects in this process: the near tier that ships.

Inserting, evicting, expiring, sweeping and clearing hold the caller for less than 2 ms each, whatever the
number of entries. Two things are beyond that promise: a dictionary that grows is copied by Python in one
go (which is why large tiers are made of many), and Python's cyclic garbage collector, which looks at every
entry in a full collection and stops the process for some hundreds of milliseconds at a million entries.
An application that holds so many can call `gc.freeze()` once they are there, or `gc.disable()`.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from tiercache import Context, NearTier, NearTierConfig, PolicyRef, Size, TierConfig, hookimpl


class MemoryConfig(NearTierConfig):
    """Keeps entries as objects in this process."""

    type: Literal["memory"] = "memory"
    max_entries: int = Field(10_000, ge=1, description="The most entries that are held.")
    max_bytes: Size | None = Field(
        None,
        description="The most bytes that keys and values may take, by estimate; measuring costs some "
        "microseconds a write. What is larger by itself is not kept.",
    )
    policy: PolicyRef = Field("hybrid", description="Which entries are given up for others.")

    def build(self, context: Context) -> NearTier:
        """Return an empty tier."""
        from tiercache_plugins.tiers.memory.tier import MemoryTier

        return MemoryTier(
            context.policy(self.policy),
            self.max_entries,
            self.max_bytes,
            math.inf if self.max_ttl is None else self.max_ttl,
        )


@hookimpl
def tiercache_tiers() -> list[type[TierConfig]]:
    """Return the tier of this module."""
    return [MemoryConfig]
