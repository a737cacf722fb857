"""The buses on every server they are made for."""

from __future__ import annotations

import asyncio
import re

import pytest

from servers import Cluster, Sentinel, Server
from tiercache import Cache
from tiercache.testing import BusSuite
from tiercache_plugins.buses.redis import RedisBusConfig
from tiercache_plugins.buses.sqlite import SqliteBusConfig
from tiercache_plugins.tiers.redis import RedisConfig
from tiercache_plugins.tiers.sqlite import SqliteConfig

PATIENT = 5.0


class OverRedis(BusSuite):
    @pytest.fixture
    def config(self) -> RedisBusConfig:
        return RedisBusConfig()


class TestValkey(OverRedis):
    @pytest.fixture
    def tier_config(self, valkey_server: Server) -> RedisConfig:
        return RedisConfig(url=valkey_server.url, timeout=PATIENT)


class TestValkeyByResp3(OverRedis):
    @pytest.fixture
    def tier_config(self, valkey_server: Server) -> RedisConfig:
        return RedisConfig(url=valkey_server.unix_url, protocol=3, timeout=PATIENT)


class TestRedis62(OverRedis):
    @pytest.fixture
    def tier_config(self, redis62_server: Server) -> RedisConfig:
        return RedisConfig(url=redis62_server.url, timeout=PATIENT)


class TestCluster(OverRedis):
    @pytest.fixture
    def tier_config(self, valkey_cluster: Cluster) -> RedisConfig:
        return RedisConfig(mode="cluster", nodes=valkey_cluster.addresses, timeout=PATIENT)


class TestSentinel(OverRedis):
    @pytest.fixture
    def tier_config(self, sentinel: Sentinel) -> RedisConfig:
        return RedisConfig(
            mode="sentinel", nodes=sentinel.addresses, service=sentinel.service, timeout=PATIENT
        )


class TestSqlite(BusSuite):
    @pytest.fixture
    def config(self) -> SqliteBusConfig:
        return SqliteBusConfig(poll="5ms")

    @pytest.fixture
    def tier_config(self) -> SqliteConfig:
        return SqliteConfig(path="shared.db")


def test_many_writes_at_once_are_few_messages(valkey_server: Server):
    wanted = {
        "cache": {"namespace": "storm"},
        "tier": {
            "memory": {"type": "memory"},
            "far": {"type": "redis", "url": valkey_server.url, "timeout": "30s", "deadline": "60s"},
        },
        "route": {"all": {"tiers": ["memory", "far"], "ttl": "1h"}},
    }

    def published() -> int:
        told = re.search(r"cmdstat_publish:calls=(\d+)", str(valkey_server.ask("INFO", "commandstats")))
        return int(told[1]) if told else 0

    async def main() -> None:
        async with Cache.open(wanted) as one, Cache.open(wanted) as other:
            before = published()
            await asyncio.gather(*(one.set("hot", number) for number in range(2_000)))
            # Heartbeats of both are among them.
            assert published() - before < 100
            async with asyncio.timeout(30):
                while await other.get("hot") != 1_999:
                    await asyncio.sleep(0.01)

    asyncio.run(main())
