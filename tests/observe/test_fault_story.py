"""An outage, told alike by log, stats, metrics, spans, `doctor` and dashboard: see read-an-outage.md."""

import asyncio
import logging
import re

from click.testing import CliRunner
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from servers import Server
from tiercache import Cache
from tiercache.cli import main
from tiercache.dashboard import Dashboard

SECRET = "a-value-nobody-may-see"


async def until(done, asked=None):
    async with asyncio.timeout(30):
        while not done():
            if asked is not None:
                await asked()
            await asyncio.sleep(0.02)


def gauge(reader, name, **labels):
    """Return the one number of *name* whose labels are these."""
    found = [
        point.value
        for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
        if all(point.attributes.get(f"tiercache.{label}") == value for label, value in labels.items())
    ]
    assert len(found) == 1, found
    return found[0]


async def shown(app, then=None):
    """Return what the page says is amiss, and its changes of state, the first first.

    The page is asked for again and again until *then* fits what it says.
    """
    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""}
    async with asyncio.timeout(30):
        while True:
            sent = []

            async def send(message, sent=sent):
                sent.append(message)

            await app(scope, None, send)
            text = sent[1]["body"].decode()
            assert SECRET not in text
            status = re.search(r'<p id="status"[^>]*>(.*?)</p>', text)[1]
            if then is None or then(status):
                return status, re.findall(r"</time> (.*?)</li>", text)[::-1]
            await asyncio.sleep(0.02)


def lines(caplog):
    return [
        (record.levelname, record.getMessage().partition(":")[0])
        for record in caplog.records
        if record.name == "tiercache.tier" and record.levelno >= logging.INFO
    ]


def test_redis_stops_and_comes_back(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="tiercache")
    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    meters, tracers = MeterProvider([reader]), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(metrics, "get_meter", meters.get_meter)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    with Server("valkey") as server:
        (tmp_path / "tiercache.toml").write_text(
            f'[tier.redis]\ntype = "redis"\nurl = "redis://{server.host}:{server.port}/0"\n'
            '[route.all]\ntiers = ["redis"]\nttl = "1h"\n[telemetry]\nmetrics = true\ntraces = true\n'
        )
        monkeypatch.chdir(tmp_path)

        async def story():
            async with Cache.open() as cache:
                app = Dashboard(cache, every=0.01)
                await cache.set("k", SECRET)
                assert await shown(app) == ("Nothing is amiss.", [])
                assert gauge(reader, "tiercache.tier.available", tier="redis") == 1
                server.kill()
                for _ in range(200):
                    await cache.get("k")
                    await cache.set("k", SECRET)
                stats = cache.stats().tiers["redis"]
                assert (stats.available, stats.breaker) == (False, "open")
                assert stats.queued > 0
                assert gauge(reader, "tiercache.tier.available", tier="redis") == 0
                assert gauge(reader, "tiercache.tier.breaker", tier="redis", state="open") == 1
                broken = [
                    s for s in exporter.get_finished_spans() if s.status.status_code is StatusCode.ERROR
                ]
                assert broken
                assert {span.attributes["tiercache.tier"] for span in broken} == {"redis"}
                told, _ = await shown(app, lambda status: "its breaker is open" in status)
                assert "Tier redis is away, its breaker is open: reads miss and writes are skipped." in told
                assert re.search(r"[1-9]\d* changes? waits? for tier redis\.", told)
                found = await cache.explain("k")
                assert found.copies[0].state in {"behind", "unreachable"}
                assert lines(caplog)[0] == (
                    "WARNING", "tier redis is lost, reads miss and writes are skipped",
                )  # fmt: skip
                told = await asyncio.to_thread(CliRunner().invoke, main, ["doctor"])
                assert told.exit_code == 1
                assert "PROBLEM tier redis: open: it can't be reached" in told.output
                server.start()
                await until(lambda: cache.stats().tiers["redis"].available, lambda: cache.get("other"))
                await until(lambda: not cache.stats().tiers["redis"].queued, lambda: cache.get("other"))
                assert await cache.get("k") == SECRET
                assert gauge(reader, "tiercache.tier.available", tier="redis") == 1
                _, changes = await shown(app, lambda status: status == "Nothing is amiss.")
                assert changes[0] == "tier redis is lost"
                assert "the breaker of tier redis is open" in changes
                assert "tier redis is back" in changes
                assert "tier redis has been told of all that it missed" in changes

        asyncio.run(story())
    # One line for each change of state, however many requests there were; the breaker may have tried twice.
    told = lines(caplog)
    assert told.count(("WARNING", "tier redis is lost, reads miss and writes are skipped")) == 1
    assert told.count(("INFO", "tier redis is back")) == 1
    assert len(told) <= 8
    assert SECRET not in caplog.text
    assert SECRET not in "".join(span.to_json() for span in exporter.get_finished_spans())
    assert {r.tiercache_tier for r in caplog.records if r.name == "tiercache.tier"} == {"redis"}
    meters.shutdown()
    tracers.shutdown()


def test_the_disk_is_full_and_has_room_again(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="tiercache")
    tables = {
        "tier": {"memory": {"type": "memory"}, "disk": {"type": "sqlite", "path": str(tmp_path / "c.db")}},
        "route": {"all": {"tiers": ["memory", "disk"], "ttl": "1h"}},
    }

    async def story():
        async with Cache.open(tables) as cache:
            await cache.set("first", SECRET)
            writer = cache._house.fars["disk"].guard.tier._database._writer
            pages = await writer.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
            await writer.run(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
            for i in range(40):
                await cache.set(f"k{i}", SECRET * 2000)
            assert await cache.get("k39") == SECRET * 2000
            stats = cache.stats().tiers["disk"]
            assert stats.errors > 0
            assert stats.queued > 0
            await writer.run(lambda c: c.execute("PRAGMA max_page_count = 100000").fetchone())
            await until(lambda: not cache.stats().tiers["disk"].queued, lambda: cache.get("absent"))
            assert cache.stats().tiers["disk"].available

    asyncio.run(story())
    told = [line for line in lines(caplog) if "is lost" in line[1] or "is back" in line[1]]
    assert ("WARNING", "tier disk is lost, reads miss and writes are skipped") in told
    assert ("INFO", "tier disk is back") in told
    assert len(told) < 40
    assert SECRET not in caplog.text


def test_trust_that_ends_and_comes_back_is_one_line_each(caplog):
    caplog.set_level(logging.INFO, logger="tiercache")

    def told():
        lines = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "tiercache.bus"]
        return [line for line in lines if "trusted" in line[1]]

    lives = ("INFO", "tier redis: the lease lives, near copies are trusted")
    ends = (
        "WARNING", "tier redis: changes by others may have been missed, near copies are trusted no more",
    )  # fmt: skip
    with Server("valkey") as server:
        tables = {
            # So long that no machine is too slow for it: what ends it is the new connection.
            "cache": {"lease": "60s"},
            "tier": {"memory": {"type": "memory"}, "redis": {"type": "redis", "url": server.url}},
            "route": {"all": {"tiers": ["memory", "redis"], "ttl": "1h"}},
        }

        async def story():
            async with Cache.open(tables):
                await until(lambda: told() == [lives])
                server.kill()
                await until(lambda: "its bus failed" in caplog.text)
                server.start()
                await until(lambda: told() == [lives, ends, lives])

        asyncio.run(story())
    assert told() == [lives, ends, lives]
    assert {r.tiercache_tier for r in caplog.records if r.name == "tiercache.bus"} == {"redis"}
