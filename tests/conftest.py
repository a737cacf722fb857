"""Servers for the whole run: started when first asked for, shared by all tests, so keep to a key prefix."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers import Certificates, Cluster, Sentinel, Server, Unavailable


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    """Valkey, the server that must be here: the extra `testing` brings it."""
    with Server("valkey") as server:
        yield server


@pytest.fixture(scope="session")
def redis62_server() -> Iterator[Server]:
    """Redis 6.2, the oldest that is supported."""
    try:
        server = Server("redis62").start()
    except Unavailable as missing:
        pytest.skip(str(missing))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    """Files for TLS on loopback."""
    try:
        made = Certificates()
    except Unavailable as missing:
        pytest.skip(str(missing))
    yield made
    made.remove()


@pytest.fixture(scope="session")
def tls_server(certificates: Certificates) -> Iterator[Server]:
    """Redis 7 with TLS, which asks clients for a certificate too."""
    try:
        server = Server("debian", tls=certificates).start()
    except Unavailable as missing:
        pytest.skip(str(missing))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[Cluster]:
    """Three Valkey primaries."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def sentinel() -> Iterator[Sentinel]:
    """A primary, a replica and a sentinel. Tests that fail it over start one of their own."""
    with Sentinel() as group:
        yield group
