"""The Redis tier: frames in Redis 6.2 or newer, or Valkey 7.2 or newer, shared by all hosts that reach it.

One server, a Cluster, or a primary that Sentinel names. This module holds the options; the driver is
imported by `build`.

An ACL user needs no more than `~NAMESPACE:* -@all +@read +@write +@connection +@scripting -@dangerous`,
with a bus `&NAMESPACE:* +@pubsub` too, and in a cluster `+cluster|slots`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict, Field, SecretStr, field_validator

from tiercache import CheckContext, Context, Duration, FarTierConfig, TierConfig, hookimpl
from tiercache_plugins.tiers.redis.address import Address, parse, parse_node

if TYPE_CHECKING:
    from tiercache_plugins.tiers.redis.tier import RedisTier

__all__ = ["RedisConfig", "tiercache_tiers"]


class RedisConfig(FarTierConfig):
    """Options of `type = "redis"`."""

    # A rejected URL must not be repeated in the message that rejects it.
    model_config = ConfigDict(hide_input_in_errors=True)

    scope: ClassVar[Literal["shared", "host"]] = "shared"

    type: Literal["redis"] = "redis"
    url: SecretStr = Field(
        SecretStr("redis://localhost:6379/0"),
        description=(
            "`redis://user:password@host:port/db`, `rediss://…` for TLS, or `unix:///path?db=0`. "
            "Kept secret, because it may hold a password."
        ),
    )
    mode: Literal["standalone", "cluster", "sentinel"] = Field(
        "standalone",
        description=(
            "What answers at `url`: one server, a node of a cluster, or a sentinel. Said here and not found "
            "out, because asking takes rights that a careful ACL does not give."
        ),
    )
    nodes: tuple[str, ...] = Field(
        (),
        description=(
            "`host:port` of several nodes of the cluster, or of the sentinels. They replace host and port of "
            "`url`; its scheme, user, password and database still hold."
        ),
    )
    service: str | None = Field(None, description="The name by which Sentinel knows the primary.")
    username: str | None = Field(None, description="ACL user, where it is not part of `url`.")
    password: SecretStr | None = Field(None, description="Password, where it is not part of `url`.")
    sentinel_username: str | None = Field(None, description="ACL user at the sentinels themselves.")
    sentinel_password: SecretStr | None = Field(None, description="Password of the sentinels themselves.")
    tls_ca: Path | None = Field(
        None, description="PEM file of the authority that signed the server; else the system's authorities."
    )
    tls_cert: Path | None = Field(None, description="PEM file of the certificate shown to the server.")
    tls_key: Path | None = Field(None, description="PEM file of that certificate's key.")
    tls_check_hostname: bool = Field(
        True, description="Whether the server's certificate must name the host that was dialled."
    )
    timeout: Duration = Field(
        0.25, description="How long connecting, one answer, and waiting for a free connection may each take."
    )
    connections: int = Field(20, ge=1, le=10_000, description="Connections at most, to each server.")
    protocol: Literal[2, 3] = Field(
        2,
        description="RESP version. Nothing here needs 3; with 2, proxies work.",
    )
    client_name: str | None = Field(
        None,
        description=(
            "Shown in CLIENT LIST. Takes the right to CLIENT SETNAME, which Redis 6.2 counts as dangerous."
        ),
        pattern=r"^[!-~]+$",
    )

    @field_validator("url")
    @classmethod
    def _url_is_whole(cls, value: SecretStr) -> SecretStr:
        parse(value.get_secret_value())
        return value

    @field_validator("nodes")
    @classmethod
    def _nodes_are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for node in value:
            parse_node(node)
        return value

    @property
    def address(self) -> Address:
        """`url`, taken apart."""
        return parse(self.url.get_secret_value())

    def servers(self) -> tuple[tuple[str, int], ...]:
        """Return host and port of where to begin: `nodes`, else what `url` says."""
        port = 26379 if self.mode == "sentinel" else 6379
        if self.nodes:
            return tuple((host, given or port) for host, given in map(parse_node, self.nodes))
        address = self.address
        return ((address.host, address.port or port),)

    def credentials(self) -> tuple[str | None, str | None]:
        """Return user and password, from the options or else from `url`."""
        address = self.address
        password = self.password.get_secret_value() if self.password else address.password
        return self.username or address.username, password

    def check(self, context: CheckContext) -> Iterable[tuple[str, str]]:
        """Yield what contradicts something else."""
        del context
        address = self.address
        if self.mode == "standalone" and self.nodes:
            yield (
                "nodes",
                'are not asked in mode "standalone"; set mode = "cluster" or "sentinel", or only `url`',
            )
        if self.mode != "standalone" and address.path:
            yield "url", f'a unix socket leads to one server, not to mode "{self.mode}"; redis:// is accepted'
        if self.mode == "cluster" and address.db:
            yield "url", "a cluster has database 0 alone; a URL without a number, or with /0, is accepted"
        if self.mode == "sentinel" and not self.service:
            yield (
                "service",
                'is missing: mode "sentinel" must say the name that Sentinel knows the primary by',
            )
        if self.mode != "sentinel":
            for option in ("service", "sentinel_username", "sentinel_password"):
                if getattr(self, option) is not None:
                    yield option, f'means nothing in mode "{self.mode}"; set mode = "sentinel"'
        for option in ("username", "password"):
            if getattr(self, option) is not None and getattr(address, option) is not None:
                yield option, "is in `url` too; one of the two is accepted"
        if math.isinf(self.timeout):
            yield "timeout", "would let a hung server hang the application; a duration is accepted"
        if self.username and not self.credentials()[1]:
            yield "username", "has no password; set `password`"
        if not address.tls:
            for option in ("tls_ca", "tls_cert", "tls_key"):
                if getattr(self, option) is not None:
                    yield option, "means nothing without TLS; set url = rediss://…"
            if not self.tls_check_hostname:
                yield "tls_check_hostname", "means nothing without TLS; set url = rediss://…"
        if self.tls_key is not None and self.tls_cert is None:
            yield "tls_key", "has no certificate; set `tls_cert`"

    def build(self, context: Context) -> RedisTier:
        """Return the tier, not yet connected. Imports the driver."""
        from tiercache_plugins.tiers.redis.tier import RedisTier

        return RedisTier(self, context)


@hookimpl
def tiercache_tiers() -> Iterable[type[TierConfig]]:
    """Return the Redis tier."""
    return (RedisConfig,)
