"""From options to connections: what the installed driver is told."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis import asyncio as driver
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from tiercache_plugins.tiers.redis.line import Line

if TYPE_CHECKING:
    from tiercache_plugins.tiers.redis import RedisConfig


def line(config: RedisConfig, directory: Path) -> Line:
    """Return the wire of mode "standalone" or "sentinel"."""
    if config.mode == "sentinel":
        return _sentinel_line(config, directory)
    address = config.address
    if address.path:
        options = connection_options(config, directory)
        return _pooled(config, UnixDomainSocketConnection, {**options, "path": address.path})
    return line_to(config, directory, *config.servers()[0])


def line_to(config: RedisConfig, directory: Path, host: str, port: int) -> Line:
    """Return a wire to the server at *host* and *port*."""
    kind = SSLConnection if config.address.tls else Connection
    return _pooled(config, kind, {**connection_options(config, directory), "host": host, "port": port})


def _pooled(config: RedisConfig, kind: type[AbstractConnection], options: dict[str, Any]) -> Line:
    # The driver's pool is used to make connections, not to keep them.
    return Line(ConnectionPool(kind, **options).make_connection, config.connections, config.timeout)


def _sentinel_line(config: RedisConfig, directory: Path) -> Line:
    options = connection_options(config, directory)
    asked = {**options, "db": 0, "username": config.sentinel_username, "password": None}
    if config.sentinel_password is not None:
        asked["password"] = config.sentinel_password.get_secret_value()
    asked = known(
        driver.Redis.__init__, {**asked, "ssl": config.address.tls, "max_connections": config.connections}
    )
    # The driver has types for little of Sentinel.
    sentinel: Any = Sentinel
    pools: Any = SentinelConnectionPool
    group = sentinel(config.servers(), sentinel_kwargs=known(driver.Redis.__init__, asked))
    pool = pools(config.service, group, ssl=config.address.tls, **options)
    return Line(pool.make_connection, config.connections, config.timeout, group.sentinels)


def connection_options(config: RedisConfig, directory: Path) -> dict[str, Any]:
    """Return what a connection is made with, in the words of the installed driver."""
    username, password = config.credentials()
    options: dict[str, Any] = {
        "db": config.address.db,
        "username": username,
        "password": password,
        "socket_timeout": config.timeout,
        "socket_connect_timeout": config.timeout,
        "protocol": config.protocol,
        "client_name": config.client_name,
        # The tier decides what is asked again.
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
    }
    parameters = inspect.signature(AbstractConnection.__init__).parameters
    if "driver_info" in parameters:
        options["driver_info"] = None
    else:
        options |= {"lib_name": None, "lib_version": None}
    if "maint_notifications_config" in parameters:
        from redis.maint_notifications import MaintNotificationsConfig

        # What it would tell comes over connections that are the driver's no more.
        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    if not config.address.path:
        options["socket_keepalive"] = True
    if config.address.tls:
        options |= {
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": config.tls_check_hostname,
            "ssl_ca_certs": _file(config.tls_ca, directory),
            "ssl_certfile": _file(config.tls_cert, directory),
            "ssl_keyfile": _file(config.tls_key, directory),
        }
    return options


def missing_file(config: RedisConfig, directory: Path) -> str:
    """Return which file of *config* is not there; "" where all are."""
    for option in ("tls_ca", "tls_cert", "tls_key"):
        path = getattr(config, option)
        if path is not None and not (directory / path).is_file():
            return f'{option}: there is no file "{path}"'
    return ""


def known(function: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return those of *options* that *function* takes."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in parameters}


def _file(path: Path | None, directory: Path) -> str | None:
    return None if path is None else str(directory / path)
