"""The memory tier under each policy, against what holds for every near tier."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tiercache import NearTier, PolicyConfig
from tiercache.testing.policies import NearTierSuite
from tiercache_plugins.policies.fifo import FifoConfig
from tiercache_plugins.policies.hybrid import HybridConfig
from tiercache_plugins.policies.lfu import LfuConfig
from tiercache_plugins.policies.lru import LruConfig
from tiercache_plugins.policies.ttl import TtlConfig
from tiercache_plugins.tiers.memory.tier import MemoryTier

POLICIES = [HybridConfig(), LruConfig(), LfuConfig(), LfuConfig(aging=False), TtlConfig(), FifoConfig()]


class TestMemory(NearTierSuite):
    @pytest.fixture(params=POLICIES, ids=["hybrid", "lru", "lfu", "lfu-textbook", "ttl", "fifo"])
    def near(self, request: pytest.FixtureRequest) -> Callable[[int, int | None], NearTier]:
        policy: PolicyConfig = request.param
        return lambda max_entries, max_bytes: MemoryTier(policy, max_entries, max_bytes)
