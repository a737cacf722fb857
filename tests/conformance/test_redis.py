"""The Redis tier on every server it is made for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from servers import Certificates, Cluster, Sentinel, Server
from tiercache import FarTier, TierError
from tiercache.testing.tiers import FarTierSuite, Surroundings, record_of
from tiercache_plugins.tiers.redis import RedisConfig

# A loaded machine may take longer than the default of 250 ms; what is tested here is not speed.
PATIENT = 5.0


class TestValkey(FarTierSuite):
    fake_clock = False

    @pytest.fixture
    def config(self, valkey_server: Server) -> RedisConfig:
        return RedisConfig(url=valkey_server.url, timeout=PATIENT)


class TestValkeyByResp3OverAUnixSocket(FarTierSuite):
    fake_clock = False
    examples = 5

    @pytest.fixture
    def config(self, valkey_server: Server) -> RedisConfig:
        return RedisConfig(url=valkey_server.unix_url, protocol=3, timeout=PATIENT)


class TestRedis62(FarTierSuite):
    fake_clock = False
    examples = 10

    @pytest.fixture
    def config(self, redis62_server: Server) -> RedisConfig:
        return RedisConfig(url=redis62_server.url, timeout=PATIENT)


class TestRedis7ByTls(FarTierSuite):
    fake_clock = False
    examples = 5

    @pytest.fixture
    def config(self, tls_server: Server, certificates: Certificates) -> RedisConfig:
        return RedisConfig(
            url=tls_server.url,
            tls_ca=certificates.ca,
            tls_cert=certificates.cert,
            tls_key=certificates.key,
            timeout=PATIENT,
        )


class TestClusterByResp3(FarTierSuite):
    fake_clock = False
    examples = 4

    @pytest.fixture
    def config(self, valkey_cluster: Cluster) -> RedisConfig:
        return RedisConfig(mode="cluster", nodes=valkey_cluster.addresses, protocol=3, timeout=PATIENT)


class TestSentinel(FarTierSuite):
    fake_clock = False
    examples = 5

    @pytest.fixture
    def config(self, sentinel: Sentinel) -> RedisConfig:
        return RedisConfig(
            mode="sentinel", nodes=sentinel.addresses, service=sentinel.service, timeout=PATIENT
        )


@pytest.fixture(scope="module")
def mortal() -> Iterator[Server]:
    """A server for one module, to be killed."""
    with Server("valkey") as server:
        yield server


class TestValkeyKilledInTheMiddle(FarTierSuite):
    """Each test finds a tier that was at work when its server died and came back empty."""

    fake_clock = False
    examples = 5

    @pytest.fixture
    def config(self, mortal: Server) -> RedisConfig:
        return RedisConfig(url=mortal.url, timeout=PATIENT)

    @pytest.fixture
    def tier(
        self, config: RedisConfig, context: Surroundings, runner: asyncio.Runner, mortal: Server
    ) -> Iterator[FarTier]:
        lost = [record_of(f"{context.namespace}:lost:{n}") for n in range(50)]

        async def interrupted() -> FarTier:
            tier = config.build(context)
            await tier.open()
            assert await tier.write(lost) == [1] * len(lost)
            await asyncio.to_thread(mortal.kill)
            with pytest.raises(TierError):
                await tier.read([record.key for record in lost])
            await asyncio.to_thread(mortal.start)
            assert await tier.read([record.key for record in lost]) == [None] * len(lost)
            return tier

        tier = runner.run(interrupted())
        yield tier
        runner.run(tier.close())
