"""What `[telemetry]` may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Exporter = Literal["none", "console", "otlp", "prometheus"]


@dataclass(frozen=True, slots=True)
class Options:
    """What is told to OpenTelemetry, and how."""

    metrics: bool = False
    """Whether counters are offered to the application's meter provider, or to the exporter."""
    traces: bool = False
    """Whether far calls, loads and invalidations are spans."""
    hits: bool = False
    """Whether near hits are spans, too: they then cost a hundred times as much."""
    sample: float = 1.0
    """Share of the far calls that are spans."""
    keys: bool = False
    """Whether spans carry keys as they are."""
    patterns: tuple[str, ...] = ()
    """Patterns of keys that are told apart, before those of the routes."""
    exporter: Exporter = "none"
    """Where metrics and spans go if not to the application's own providers."""
    endpoint: str = ""
    """Of the OTLP collector; empty for what its environment variables say."""
    interval: float = 60.0
    """Seconds between two exports of metrics."""
    host: str = "127.0.0.1"
    """Where Prometheus finds them, and the port."""
    port: int = 9464
