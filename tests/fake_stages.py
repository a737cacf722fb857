"""Small plugins for tests of the configuration: every kind, no drivers, all sorts of options."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from tiercache import (
    BusConfig,
    CheckContext,
    CompressorConfig,
    Duration,
    FarTierConfig,
    NearTierConfig,
    PatternConfig,
    PolicyConfig,
    PolicyRef,
    SerializerConfig,
    Size,
    hookimpl,
)
from tiercache.config.registry import Registry
from tiercache.contracts import Order


class Memory(NearTierConfig):
    """Objects."""

    type: Literal["memory"] = "memory"
    max_entries: int | None = Field(None, ge=1, description="How many.")
    max_bytes: Size | None = Field(None, description="How much.")
    policy: PolicyRef = Field("hybrid", description="What goes.")


class Login(BaseModel):
    """Options in a table of their own."""

    model_config = ConfigDict(extra="forbid")

    user: str = "me"
    secret: SecretStr = SecretStr("")


class Server(FarTierConfig):
    """A server."""

    type: Literal["redis"] = "redis"
    url: SecretStr = Field(SecretStr("redis://localhost"), description="Where.")
    password: SecretStr | None = Field(None, description="Secret.")
    nodes: tuple[str, ...] = Field((), description="Where, of a cluster.")
    labels: dict[str, str] = Field({}, description="Any.")
    login: Login | None = Field(None, description="Who.")
    timeout: Duration = Field(0.25, description="How long.")
    retry: bool = Field(False, description="Whether to.")
    mode: Literal["single", "cluster"] = Field("single", description="Which.")

    @field_validator("url")
    @classmethod
    def _talkative(cls, value: SecretStr) -> SecretStr:
        if "://" not in value.get_secret_value():
            raise ValueError(f'"{value.get_secret_value()}" is no URL')
        return value


class Disk(FarTierConfig):
    """A file."""

    type: Literal["sqlite"] = "sqlite"
    scope: ClassVar[Literal["shared", "host"]] = "host"
    path: Path = Field(description="Which.")
    max_bytes: Size = Field(2**30, description="How much.")
    policy: PolicyRef = Field("hybrid", description="What goes.")

    def check(self, context: CheckContext) -> Iterable[tuple[str, str]]:
        if context.policy(self.policy).order is None:
            yield "policy", f'"{self.policy}" has no order for rows; "hybrid" is accepted'


class Msgpack(SerializerConfig):
    """Bytes."""

    type: Literal["msgpack"] = "msgpack"
    reads_undeclared: ClassVar[bool] = True


class Pickle(SerializerConfig):
    """Dangerous bytes."""

    type: Literal["pickle"] = "pickle"
    key: SecretStr = Field(description="To sign with.")


class Zstd(CompressorConfig):
    """Fewer bytes."""

    type: Literal["zstd"] = "zstd"
    level: int = Field(3, ge=1, le=22, description="How hard.")


class Hybrid(PolicyConfig):
    """Some go."""

    type: Literal["hybrid"] = "hybrid"
    order: ClassVar[Order | None] = Order(("last_read",))


class Lru(PolicyConfig):
    """Others go."""

    type: Literal["lru"] = "lru"


class Warm(PatternConfig):
    """Before."""

    type: Literal["warm"] = "warm"


class Radio(BusConfig):
    """News."""

    carries: ClassVar[str] = "sqlite"

    type: Literal["radio"] = "radio"


class Stages:
    """A plugin with all of them."""

    @hookimpl
    def tiercache_tiers(self):
        return [Memory, Server, Disk]

    @hookimpl
    def tiercache_serializers(self):
        return [Msgpack, Pickle]

    @hookimpl
    def tiercache_compressors(self):
        return [Zstd]

    @hookimpl
    def tiercache_policies(self):
        return [Hybrid, Lru]

    @hookimpl
    def tiercache_patterns(self):
        return [Warm]

    @hookimpl
    def tiercache_buses(self):
        return [Radio]


def registry() -> Registry:
    """Return a registry of these alone."""
    return Registry.of({"stages": Stages()})
