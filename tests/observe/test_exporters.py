"""`[telemetry] exporter`: real exports over HTTP, a real scrape, and a collector that is not there."""

import asyncio
import logging
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry import metrics, trace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gated import document, opened
from servers import free_port
from tiercache import ConfigError
from tiercache.config.plan import plan


class Collector:
    """Takes what is posted to it, and answers with `status`."""

    def __init__(self):
        self.posted = []
        self.status = 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                collector.posted.append((self.path, body))
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def of(self, path):
        return [body for posted, body in self.posted if posted == path]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def collector():
    found = Collector()
    yield found
    found.close()


def exported(**options):
    return {**document(), "telemetry": {"metrics": True, "traces": True, **options}}


def test_spans_and_metrics_arrive_at_an_otlp_collector(collector):
    before = trace.get_tracer_provider(), metrics.get_meter_provider()

    async def use():
        async with opened(exported(exporter="otlp", endpoint=collector.url)) as cache:
            await cache.get_or_set("k", lambda: 1)
            return cache.stats()

    asyncio.run(use())
    spans = {
        span.name
        for body in collector.of("/v1/traces")
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert {"tiercache.load", "tiercache.read", "tiercache.write"} <= spans
    numbers = {
        metric.name
        for body in collector.of("/v1/metrics")
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert {"tiercache.gets", "tiercache.loads", "tiercache.load.duration"} <= numbers
    assert (trace.get_tracer_provider(), metrics.get_meter_provider()) == before


def test_a_collector_that_is_away_costs_a_counter_and_one_line(caplog, monkeypatch):
    monkeypatch.setattr("tiercache.engine.telemetry.exporting.PATIENCE", 0.2)
    # The exporter of the SDK has lines of its own.
    monkeypatch.setattr(logging.getLogger("opentelemetry"), "disabled", True)
    monkeypatch.setattr(logging.getLogger("opentelemetry"), "propagate", False)
    dead = f"http://127.0.0.1:{free_port()}"

    async def use():
        async with opened(exported(exporter="otlp", endpoint=dead, interval="50ms")) as cache:
            async with asyncio.timeout(30):
                while cache.stats().export_errors < 2:
                    await cache.get("k")
                    await asyncio.sleep(0.05)
            assert cache.stats().tiers["shelf"].errors == 0

    asyncio.run(use())
    lines = [record for record in caplog.records if record.name == "tiercache.telemetry"]
    assert [record.levelname for record in lines if "can't be exported" in record.message] == ["WARNING"]


def test_prometheus_finds_the_metrics():
    port = free_port()

    async def use():
        async with opened(exported(exporter="prometheus", port=port)) as cache:
            await cache.set("k", 1)
            await cache.get("k")
            url = f"http://127.0.0.1:{port}/metrics"
            return await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())

    scraped = asyncio.run(use())
    line = next(
        line for line in scraped.splitlines() if line.startswith("tiercache_gets_total") and '"hit"' in line
    )
    assert 'tiercache_tier="memory"' in line
    assert line.endswith(" 1.0")


def test_a_port_that_is_taken_stops_nobody(caplog):
    taken = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)

    async def use():
        async with opened(exported(exporter="prometheus", port=taken.server_port)) as cache:
            await cache.set("k", 1)
            assert await cache.get("k") == 1
            return cache.stats().export_errors

    try:
        assert asyncio.run(use()) == 1
    finally:
        taken.server_close()
    assert "metrics are not served" in caplog.text


def test_the_console_is_told(capsys):
    async def use():
        async with opened(exported(exporter="console")) as cache:
            await cache.get_or_set("k", lambda: 1)

    asyncio.run(use())
    told = capsys.readouterr().err
    assert '"tiercache.load"' in told
    assert "tiercache.loads" in told


def test_an_exporter_without_the_sdk_is_a_problem_of_the_configuration(monkeypatch):
    monkeypatch.setattr("tiercache.config.check.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"telemetry.exporter.*tiercache-kernel\[otel\]"):
        plan({**document(), "tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"]}},
              "telemetry": {"exporter": "otlp"}})  # fmt: skip
