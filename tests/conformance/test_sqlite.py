from __future__ import annotations

import pytest

from tiercache.testing.tiers import FarTierSuite
from tiercache_plugins.tiers.sqlite import SqliteConfig


class TestSqlite(FarTierSuite):
    @pytest.fixture
    def config(self):
        return SqliteConfig(path="here/cache.db")
