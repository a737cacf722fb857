"""The tables of a document that no plugin owns: what they may hold, with which defaults."""

from __future__ import annotations

import math
import re
from importlib.util import find_spec
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tiercache.engine.telemetry.options import Exporter
from tiercache.keys import glob
from tiercache.units import Duration, Size

NAME: Final = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"
"""What stages and routes may be called: lower case and no double underscore, so that each option has exactly
one environment variable.
"""
NAMESPACE: Final = r"^[A-Za-z0-9_.-]{1,64}$"
"""What a namespace may be."""


def _finite(value: float) -> float:
    if math.isinf(value):
        raise ValueError('"never" is not accepted here; a duration such as "2s" is')
    return value


def _namespace(value: str) -> str:
    if not re.fullmatch(NAMESPACE, value):
        raise ValueError(
            f'"{value[:80]}" is no namespace; 1 to 64 of the characters A-Z a-z 0-9 _ . - are accepted'
        )
    return value


def _installed(value: str) -> str:
    if value != "asyncio" and find_spec(value) is None:
        raise ValueError(
            f'the package {value} is not installed; "asyncio" is accepted, or `pip install '
            f"'tiercache-kernel[{value}]'` where {value} runs"
        )
    return value


def _glob(value: str) -> str:
    if not value:
        raise ValueError('a pattern must not be empty; "*" matches every key')
    glob(value)
    return value


Namespace = Annotated[str, AfterValidator(_namespace), Field(json_schema_extra={"pattern": NAMESPACE})]
"""What keeps the keys of one cache apart from those of others on the same server."""


class Table(BaseModel):
    """Base of the tables."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class CacheTable(Table):
    """What holds for the cache as a whole."""

    namespace: Namespace = Field(
        "tiercache",
        description="Goes in front of every key outside this process; caches that share a server need "
        "different ones.",
    )
    max_value_bytes: Size = Field(
        64 * 2**20,
        description="The most that one value may have as bytes, before compression; larger ones are refused.",
    )
    bus: str = Field(
        "auto",
        description='How other processes are told of changes: "auto", "none", a declared bus, or a bus type.',
    )
    lease: Annotated[Duration, AfterValidator(_finite)] = Field(
        2.0,
        description="How long entries of near tiers may be trusted without word from the bus.",
    )
    tombstone: Annotated[Duration, AfterValidator(_finite)] = Field(
        60.0,
        description="How long far tiers remember a delete, and keep out what was loaded or read before it; "
        "at least the longest hard_timeout.",
    )
    max_markers: int = Field(
        10_000,
        ge=10,
        le=1_000_000,
        description="Invalidated tags and prefixes that are remembered. Beyond that the oldest become one "
        "marker for everything that is as old as they are.",
    )
    loop: Annotated[Literal["asyncio", "uvloop"], AfterValidator(_installed)] = Field(
        "asyncio",
        description="The event loop that `Cache.open_sync` starts in its thread. A cache on an application's "
        "own loop has nothing to choose.",
    )


class PluginsTable(Table):
    """Which installed plugins are left alone."""

    disabled: tuple[str, ...] = Field(
        (), description="Plugins that are not even imported, by the names that `tiercache plugins` shows."
    )


class TelemetryTable(Table):
    """What is told to OpenTelemetry."""

    metrics: bool = Field(
        False, description="Whether counters are offered to the application's meter provider."
    )
    patterns: tuple[Annotated[str, AfterValidator(_glob)], ...] = Field(
        (),
        description='Patterns of keys, such as "user:*", that statistics and spans tell apart, before those '
        "of the routes.",
    )
    traces: bool = Field(False, description="Whether far calls, loads and invalidations are spans.")
    hits: bool = Field(
        False, description="Whether near hits are spans, too. They then cost a hundred times as much."
    )
    sample: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Share of the far calls that are spans."
    )
    keys: bool = Field(
        False,
        description="Whether spans carry keys as they are; otherwise the pattern that matches, or a hash.",
    )
    exporter: Exporter = Field(
        "none",
        description="Where metrics and spans go where the application has no set-up of its own. Its "
        "providers are never touched.",
    )
    endpoint: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description='Of the OTLP collector, such as "http://localhost:4318"; nothing: what the variables '
        "OTEL_EXPORTER_OTLP_* say.",
    )
    interval: Annotated[Duration, AfterValidator(_finite)] = Field(
        60.0, ge=0.01, description="Time between two exports of metrics."
    )
    host: str = Field("127.0.0.1", description="Address that Prometheus finds the metrics at.")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(9464, description="Port of the same.")


class RouteTable(Table):
    """Where the values of some keys go, and for how long."""

    tiers: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Declared tiers or tier types, fastest first; a tier in this process can only come first."
    )
    keys: tuple[Annotated[str, AfterValidator(_glob)], ...] = Field(
        (), description='Patterns of the keys that take this route unasked, such as "user:*".'
    )
    ttl: Duration | None = Field(
        None,
        description='How long values are fresh, unless a call says otherwise; "never" or nothing: for ever.',
    )
    stale: Duration | None = Field(
        None, description="How much longer values may be served where fresh ones can't be had."
    )
    sliding: Duration | None = Field(
        None,
        description="How long values are fresh that nobody reads: reads lengthen the life, up to the ttl. "
        "They are noted at most four times in that while. Not with stale or refresh_ahead.",
    )
    soft_timeout: Duration | None = Field(
        None, description="After it, callers of a slow load are given a stale copy, if any; the load goes on."
    )
    hard_timeout: Duration | None = Field(
        None,
        description="After it, callers of a slow load are given a stale copy or an error; the load goes on.",
    )
    refresh_ahead: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="Share of the life after which a read starts a load in the background, such as 0.8."
    )
    jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="The most by which chance shortens a life, as a share of it, such as 0.1."
    )
    negative_ttl: Duration | None = Field(
        None, description="How long a None that a loader brought is fresh; nothing: as any value."
    )
    negative_errors: bool = Field(
        False, description="Whether errors of loaders are remembered for `negative_ttl`, too."
    )
    near: bool = Field(
        True, description="Whether copies are kept in the tier of this process, where `tiers` names one."
    )
    coherent: bool = Field(
        False,
        description="Whether each read asks the route's shared tier, else its disk tier, if the near copy is "
        "still what it holds. For what must not be stale in any process.",
    )
    lock: bool = Field(
        False,
        description="Whether one process at a time loads a key, of all that share the tier: the others wait "
        "for its value.",
    )
    patterns: tuple[str, ...] = Field((), description="Declared patterns or pattern types, outermost first.")
    default: bool = Field(False, description="Whether keys that no pattern matches take this route.")
    # `copy` itself is a method of pydantic's.
    copies: bool = Field(
        False,
        alias="copy",
        description="Whether each reader gets a copy of its own; otherwise all share one object, "
        "as with functools.lru_cache.",
    )


def options(model: type[BaseModel]) -> dict[str, Any]:
    """Return the fields of *model* by the names that documents use."""
    return {field.alias or name: field for name, field in model.model_fields.items()}
