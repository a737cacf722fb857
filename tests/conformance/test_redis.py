"""The Redis tier on every server it is made for."""

from __future__ import annotations

import pytest

from servers import Certificates, Cluster, Sentinel, Server
from tiercache.testing.tiers import FarTierSuite
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


class TestCluster(FarTierSuite):
    fake_clock = False
    examples = 8

    @pytest.fixture
    def config(self, valkey_cluster: Cluster) -> RedisConfig:
        return RedisConfig(mode="cluster", nodes=valkey_cluster.addresses, timeout=PATIENT)


class TestClusterByResp3(FarTierSuite):
    fake_clock = False
    examples = 5

    @pytest.fixture
    def config(self, valkey_cluster: Cluster) -> RedisConfig:
        return RedisConfig(mode="cluster", url=valkey_cluster.url, protocol=3, timeout=PATIENT)


class TestSentinel(FarTierSuite):
    fake_clock = False
    examples = 5

    @pytest.fixture
    def config(self, sentinel: Sentinel) -> RedisConfig:
        return RedisConfig(
            mode="sentinel", nodes=sentinel.addresses, service=sentinel.service, timeout=PATIENT
        )
