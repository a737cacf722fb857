"""Providers of the cache's own, for applications that have none. The global ones are never touched."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)

from tiercache.engine.telemetry.options import Options

log = logging.getLogger("tiercache.telemetry")

PATIENCE: Final = 3.0
"""Seconds that one export may take."""


class Exporting:
    """A tracer provider and a meter provider that export as *options* say, from threads of their own.

    A collector that is away costs a counter: nothing waits for it, and what it was not told is dropped.
    """

    def __init__(self, options: Options, namespace: str) -> None:
        self.errors = 0
        """Exports that failed."""
        self.tracers: TracerProvider | None = None
        self.meters: MeterProvider | None = None
        self._well = True
        self._server: Any = None
        resource = Resource.create({"service.namespace": namespace} if not _named() else {})
        if options.traces and options.exporter != "prometheus":
            self.tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
            exporter = CountedSpans(_spans(options), self._told)
            self.tracers.add_span_processor(BatchSpanProcessor(exporter))
        if options.metrics:
            reader = self._reader(options)
            if reader is not None:
                self.meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)

    def close(self) -> None:
        """Export what is left, and end the threads. May take a few seconds."""
        if self.tracers is not None:
            self.tracers.shutdown()
        if self.meters is not None:
            self.meters.shutdown(timeout_millis=PATIENCE * 1000)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _reader(self, options: Options) -> MetricReader | None:
        if options.exporter == "prometheus":
            return self._scraped(options)
        exporter = CountedMetrics(_metrics(options), self._told)
        return PeriodicExportingMetricReader(exporter, options.interval * 1000, PATIENCE * 1000)

    def _scraped(self, options: Options) -> MetricReader | None:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

        # Older releases know the registry of the process alone.
        own = "registry" in inspect.signature(PrometheusMetricReader.__init__).parameters
        registry = CollectorRegistry() if own else REGISTRY
        try:
            self._server, _ = start_http_server(options.port, options.host, registry)
        except OSError as error:
            self.errors += 1
            log.warning("metrics are not served on %s:%s: %s", options.host, options.port, error.strerror)
            return None
        return PrometheusMetricReader(registry=registry) if own else PrometheusMetricReader()

    def _told(self, well: bool, reason: str) -> None:
        """Count an export; log where it begins to fail, and where that ends."""
        self.errors += not well
        if well != self._well:
            self._well = well
            if well:
                log.info("telemetry is exported again")
            else:
                log.warning("telemetry can't be exported, and is dropped meanwhile: %s", reason)


class CountedSpans(SpanExporter):
    """An exporter of spans whose failures are counted, and go no further."""

    def __init__(self, exporter: SpanExporter, told: Callable[[bool, str], None]) -> None:
        self._exporter = exporter
        self._told = told

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export *spans*."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - counted; a collector must never be the application's trouble
            self._told(False, type(error).__name__)
            return SpanExportResult.FAILURE
        self._told(result is SpanExportResult.SUCCESS, "the collector did not take spans")
        return result

    def shutdown(self) -> None:
        """End."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what waits."""
        return self._exporter.force_flush(timeout_millis)


class CountedMetrics(MetricExporter):
    """The same for metrics."""

    def __init__(self, exporter: MetricExporter, told: Callable[[bool, str], None]) -> None:
        super().__init__(
            preferred_temporality=exporter._preferred_temporality,  # noqa: SLF001 - no public name
            preferred_aggregation=exporter._preferred_aggregation,  # noqa: SLF001 - likewise
        )
        self._exporter = exporter
        self._told = told

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Export *metrics_data*."""
        try:
            result = self._exporter.export(metrics_data, timeout_millis, **kwargs)
        except Exception as error:  # noqa: BLE001 - likewise
            self._told(False, type(error).__name__)
            return MetricExportResult.FAILURE
        self._told(result is MetricExportResult.SUCCESS, "the collector did not take metrics")
        return result

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """End."""
        self._exporter.shutdown(timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Export what waits."""
        return self._exporter.force_flush(timeout_millis)


def _spans(options: Options) -> SpanExporter:
    if options.exporter == "console":
        return ConsoleSpanExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=_endpoint(options, "traces"), timeout=PATIENCE)


def _metrics(options: Options) -> MetricExporter:
    if options.exporter == "console":
        return ConsoleMetricExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter(endpoint=_endpoint(options, "metrics"), timeout=PATIENCE)


def _endpoint(options: Options, signal: str) -> str | None:
    return f"{options.endpoint.rstrip('/')}/v1/{signal}" if options.endpoint else None


def _named() -> bool:
    return "OTEL_SERVICE_NAME" in os.environ or "OTEL_RESOURCE_ATTRIBUTES" in os.environ
