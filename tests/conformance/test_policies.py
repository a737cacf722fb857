"""The policies that ship, against what holds for every policy."""

from __future__ import annotations

import pytest

from tiercache import PolicyConfig
from tiercache.testing.policies import PolicySuite
from tiercache_plugins.policies.fifo import FifoConfig
from tiercache_plugins.policies.hybrid import HybridConfig
from tiercache_plugins.policies.lfu import LfuConfig
from tiercache_plugins.policies.lru import LruConfig
from tiercache_plugins.policies.ttl import TtlConfig


class TestLru(PolicySuite):
    @pytest.fixture
    def policy(self) -> PolicyConfig:
        return LruConfig()


class TestLfu(PolicySuite):
    @pytest.fixture(params=[True, False], ids=["aging", "textbook"])
    def policy(self, request: pytest.FixtureRequest) -> PolicyConfig:
        return LfuConfig(aging=request.param)


class TestTtl(PolicySuite):
    @pytest.fixture
    def policy(self) -> PolicyConfig:
        return TtlConfig()


class TestFifo(PolicySuite):
    @pytest.fixture
    def policy(self) -> PolicyConfig:
        return FifoConfig()


class TestHybrid(PolicySuite):
    @pytest.fixture
    def policy(self) -> PolicyConfig:
        return HybridConfig()
