"""Flat settings, and the document that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tiercache import Duration, Size
from tiercache_plugins.advanced.kinds import CacheStrategy, CacheType

Level = Literal["memory", "redis", "disk"]
"""The name of a tier of the document."""

FILE: Final = "tiercache.sqlite3"
"""The file of the disk tier, within `disk_cache_dir`."""

HOTTEST: Final = "hottest"
"""The pattern that keeps the names of what is read most, and the stem of its file."""

_TIERS: Final[Mapping[CacheType, tuple[Level, ...]]] = MappingProxyType({
    CacheType.STATIC: ("memory", "redis", "disk"),
    CacheType.DYNAMIC: ("memory", "redis"),
    CacheType.COMPUTED: ("memory", "redis", "disk"),
    CacheType.TEMPORARY: ("memory",),
})  # fmt: skip


class CacheConfig(BaseSettings):
    """A cache of memory, Redis and disk in flat settings.

    Each can be given by name, or by an environment variable: `CACHE_` and the name in capitals, such as
    `CACHE_REDIS_URL`. Durations are seconds or text such as "1h". What these settings can't say stands in
    `tables`, or in a document of its own that `tiercache.Cache.open` reads.
    """

    model_config = SettingsConfigDict(
        env_prefix="CACHE_", extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    namespace: str = Field(
        "tiercache", description="Goes in front of every key outside this process; one for each application."
    )

    memory_max_size: int = Field(10_000, ge=1, description="The most entries that memory holds.")
    memory_max_bytes: Size | None = Field(None, description="The most bytes there, by estimate.")
    memory_ttl: Duration | None = Field(None, description="The longest that a copy may stay in memory.")
    memory_strategy: CacheStrategy = Field(
        CacheStrategy.HYBRID, description="Which entries memory and disk give up for others."
    )

    redis_url: SecretStr | None = Field(
        None, description="`redis://user:password@host:port/db`, `rediss://…` for TLS; nothing: no Redis."
    )
    redis_max_connections: int = Field(20, ge=1, le=10_000, description="Connections at most.")
    redis_timeout: Duration = Field(0.25, description="How long connecting and one answer may each take.")
    redis_ttl: Duration | None = Field(None, description="The longest that a copy may stay in Redis.")
    redis_compression: bool = Field(True, description="Whether what goes to Redis is compressed.")

    disk_cache_dir: Path | None = Field(
        Path(".cache"), description="Where the file of the disk tier is; nothing: no disk tier."
    )
    disk_max_size_mb: int = Field(1024, ge=1, description="The most that the file holds, in MiB.")
    disk_ttl: Duration | None = Field(None, description="The longest that a copy may stay on disk.")
    disk_compression: bool = Field(True, description="Whether what goes to disk is compressed.")

    enable_compression: bool = Field(True, description="Whether anything is compressed at all.")
    compression_threshold: Size = Field(1024, description="Bytes below which values are stored as they are.")

    static_ttl: Duration = Field(86_400.0, description="How long static values are fresh.")
    dynamic_ttl: Duration = Field(3_600.0, description="The same of dynamic ones.")
    computed_ttl: Duration = Field(43_200.0, description="The same of computed ones.")
    temporary_ttl: Duration = Field(300.0, description="The same of temporary ones.")
    stale_ttl: Duration | None = Field(
        None, description="How much longer a value may be served where its loader fails; nothing: not at all."
    )

    cache_warming: bool = Field(
        True,
        description="Whether the keys that were read most before the last end are read after the next start. "
        "Their names are kept in `disk_cache_dir`.",
    )
    cache_preloading: bool = Field(
        True, description="Whether the rules of `CacheWithPrefetchPattern` fetch anything."
    )
    enable_metrics: bool = Field(True, description="Whether counters are offered to OpenTelemetry.")
    tables: dict[str, Any] = Field(
        default_factory=dict,
        description="Further tables of a document, which win over what the settings above say.",
    )

    def __init__(self, **settings: Any) -> None:
        """Take *settings* as documents have them: text stands for durations, sizes, paths and URLs.

        Raises pydantic's ValidationError, a ValueError, with all that is wrong at once.
        """
        super().__init__(**settings)

    @property
    def directory(self) -> Path | None:
        """Where the disk tier keeps its file, absolute; None where there is no disk tier."""
        return None if self.disk_cache_dir is None else self.disk_cache_dir.expanduser().absolute()

    def levels(self) -> tuple[Level, ...]:
        """Return the names of the tiers that there are, nearest first."""
        there: dict[Level, bool] = {
            "memory": True, "redis": self.redis_url is not None, "disk": self.disk_cache_dir is not None,
        }  # fmt: skip
        return tuple(name for name, is_there in there.items() if is_there)

    def tiers(self, cache_type: CacheType) -> tuple[Level, ...]:
        """Return the names of the tiers that values of *cache_type* travel through, nearest first.

        Without Redis the dynamic ones go to disk, so that they outlive the process all the same.
        """
        wanted = set(_TIERS[cache_type])
        if cache_type is CacheType.DYNAMIC and self.redis_url is None:
            wanted.add("disk")
        return tuple(name for name in self.levels() if name in wanted)

    def document(self) -> dict[str, Any]:
        """Return these settings as a document, which `tiercache.Cache.open` takes."""
        ttls = {
            CacheType.STATIC: self.static_ttl, CacheType.DYNAMIC: self.dynamic_ttl,
            CacheType.COMPUTED: self.computed_ttl, CacheType.TEMPORARY: self.temporary_ttl,
        }  # fmt: skip
        hottest = [HOTTEST] if self.cache_warming and self.directory is not None else None
        routes = {
            kind.value: _given(
                tiers=list(self.tiers(kind)), ttl=ttls[kind], stale=self.stale_ttl,
                default=kind is CacheType.DYNAMIC, patterns=hottest,
            )
            for kind in CacheType
        }  # fmt: skip
        document = self._stages(self.levels()) | {"route": routes}
        if hottest:
            path = str(self.directory / f"{HOTTEST}.jsonl") if self.directory is not None else None
            document["pattern"] = {HOTTEST: _given(type=HOTTEST, path=path)}
        return _merged(document, self.tables)

    def document_of(self, level: Level) -> dict[str, Any]:
        """Return a document with nothing but the tier *level*.

        Raises ValueError where these settings have none.
        """
        if level not in self.levels():
            missing = "redis_url" if level == "redis" else "disk_cache_dir"
            raise ValueError(f"there is no {level} tier without {missing}, which is None")
        return self._stages((level,)) | {
            "route": {"all": _given(tiers=[level], ttl=self.dynamic_ttl, stale=self.stale_ttl)}
        }

    def _stages(self, levels: tuple[Level, ...]) -> dict[str, Any]:
        shrinks = "zstd" if self.enable_compression else "none"
        tiers: dict[Level, dict[str, Any]] = {
            "memory": _given(
                type="memory", max_entries=self.memory_max_size, max_bytes=self.memory_max_bytes,
                max_ttl=self.memory_ttl, policy=self.memory_strategy.value,
            ),
            "redis": _given(
                type="redis", url=None if self.redis_url is None else self.redis_url.get_secret_value(),
                connections=self.redis_max_connections, timeout=self.redis_timeout, max_ttl=self.redis_ttl,
                compressor=shrinks if self.redis_compression else "none",
            ),
            "disk": _given(
                type="sqlite", path=None if self.directory is None else str(self.directory / FILE),
                max_bytes=self.disk_max_size_mb * 2**20, max_ttl=self.disk_ttl,
                policy=self.memory_strategy.value, compressor=shrinks if self.disk_compression else "none",
            ),
        }  # fmt: skip
        stages: dict[str, Any] = {
            "cache": {"namespace": self.namespace},
            "telemetry": {"metrics": self.enable_metrics},
            "tier": {level: tiers[level] for level in levels},
        }
        if any(tiers[level].get("compressor") == "zstd" for level in levels):
            stages["compressor"] = {"zstd": {"type": "zstd", "threshold": self.compression_threshold}}
        return stages


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        held = merged.get(name)
        merged[name] = _merged(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return merged
