from __future__ import annotations

import pytest

from tiercache.testing.tiers import FarTierSuite
from tiercache_plugins.tiers.sqlite import SqliteConfig, batches


class TestSqlite(FarTierSuite):
    @pytest.fixture
    def config(self):
        return SqliteConfig(path="here/cache.db")


class TestSqliteWhereStepsAreSlow(TestSqlite):
    """As beside threads that compute: what is asked for comes in one row, where it is many keys."""

    @pytest.fixture(autouse=True)
    def slow(self, monkeypatch):
        monkeypatch.setattr(batches, "_SLOW", -1.0)
        monkeypatch.setattr(batches, "_FEW", 1)
