"""Metrics are the plain integers of `stats`, read when somebody collects."""

import asyncio
import gc
import re
from pathlib import Path

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import gated
from gated import document, opened
from tiercache import Cache
from tiercache.engine.telemetry.metrics import COUNTERS, GAUGES

DOCUMENT = {
    "cache": {"namespace": "counted"},
    "tier": {"memory": {"type": "memory"}},
    "route": {"all": {"tiers": ["memory"]}},
    "telemetry": {"metrics": True},
}


def points(reader, name):
    data = reader.get_metrics_data()
    return {
        tuple(sorted(point.attributes.items())): point.value
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    }


def test_metrics_tell_what_stats_tell_and_end_with_the_cache(monkeypatch):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)

    async def use():
        async with Cache.open(DOCUMENT) as cache:
            await cache.set("k", 1)
            for _ in range(3):
                await cache.get("k")
            await cache.get("absent")
            await cache.get_or_set("l", lambda: 1)
            assert points(reader, "tiercache.gets") == {
                (
                    ("tiercache.cache", "counted"),
                    ("tiercache.result", "hit"),
                    ("tiercache.route", "all"),
                    ("tiercache.tier", "memory"),
                ): 3,
                (
                    ("tiercache.cache", "counted"),
                    ("tiercache.result", "miss"),
                    ("tiercache.route", "all"),
                    ("tiercache.tier", "memory"),
                ): 2,
            }
            assert list(points(reader, "tiercache.loads").values()) == [1]
            assert list(points(reader, "tiercache.tier.entries").values()) == [2]

    asyncio.run(use())
    gc.collect()
    assert points(reader, "tiercache.gets") == {}
    provider.shutdown()


@pytest.fixture
def reader(monkeypatch):
    """Reads what a provider that stands in for the application's own collects."""
    found = InMemoryMetricReader()
    provider = MeterProvider([found])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    yield found
    provider.shutdown()


def told(**options):
    return {**document(), "telemetry": {"metrics": True, **options}}


def labelled(reader, name):
    """Return the numbers of *name* by the values of its labels, the namespace apart."""
    return {
        tuple(value for label, value in labels if label != "tiercache.cache"): number
        for labels, number in points(reader, name).items()
    }


def test_a_second_cache_is_told_of_too(reader):
    async def use():
        async with opened(told()) as one:
            await one.get("a")
        async with opened({**told(), "cache": {"namespace": "second"}}) as two:
            await two.get("a")
            await two.get("b")
            async with opened({**told(), "cache": {"namespace": "third"}}) as three:
                await three.get("c")
                return points(reader, "tiercache.misses")

    assert asyncio.run(use()) == {
        (("tiercache.cache", "second"), ("tiercache.route", "all")): 2,
        (("tiercache.cache", "third"), ("tiercache.route", "all")): 1,
    }


def test_caches_of_one_namespace_are_one_series(reader):
    async def use():
        async with opened(told()) as one, opened(told()) as two:
            await one.get("a")
            await two.get("a")
            return labelled(reader, "tiercache.misses")

    assert asyncio.run(use()) == {("all",): 2}


def test_every_instrument_tells_what_stats_tell(reader):
    async def use():
        async with opened(told(patterns=["user:*"])) as cache:
            await cache.set("user:1", 1)
            await cache.get("user:1")
            await cache.get("user:2")
            await cache.get_or_set("user:3", lambda: 3)
            gated.tier(cache, "shelf").error = OSError("away")
            await cache.get("user:4")
            await cache.get("user:4")
            stats = cache.stats()
            assert labelled(reader, "tiercache.gets") == {
                (outcome, "all", tier): number
                for tier, row in stats.routes["all"].tiers.items()
                for outcome, number in (("hit", row.hits), ("miss", row.misses), ("error", row.errors))
                if (tier, outcome) != ("memory", "error")
            }
            assert labelled(reader, "tiercache.pattern.gets")["user:*", "miss"] == 4
            assert labelled(reader, "tiercache.sets") == {("all",): 1}
            assert labelled(reader, "tiercache.tier.errors") == {("shelf",): 2, ("cellar",): 0}
            assert labelled(reader, "tiercache.tier.available") == {("shelf",): 0, ("cellar",): 1}
            assert labelled(reader, "tiercache.tier.breaker")["closed", "cellar"] == 1
            assert labelled(reader, "tiercache.tier.breaker")["open", "cellar"] == 0
            io = labelled(reader, "tiercache.tier.io")
            assert io["write", "cellar"] == stats.tiers["cellar"].bytes_written > 0
            assert labelled(reader, "tiercache.loading") == {("all",): 0}

    asyncio.run(use())


def test_durations_of_far_calls_and_loads_are_histograms_in_seconds(reader):
    async def use():
        async with opened(told()) as cache:
            await cache.get_or_set("a", lambda: 1)

            def fails():
                raise LookupError("no")

            with pytest.raises(LookupError):
                await cache.get_or_set("b", fails)
        return reader.get_metrics_data()

    found = {
        (
            metric.name,
            *sorted(value for key, value in point.attributes.items() if key != "tiercache.cache"),
        ): point
        for metric in asyncio.run(use()).resource_metrics[0].scope_metrics[0].metrics
        if metric.name.endswith("duration")
        for point in metric.data.data_points
    }
    assert found["tiercache.load.duration", "all", "ok"].count == 1
    assert found["tiercache.load.duration", "all", "error"].count == 1
    assert found["tiercache.far.duration", "ok", "read", "shelf"].count == 2
    assert found["tiercache.far.duration", "ok", "shelf", "write"].count == 1
    assert found["tiercache.load.duration", "all", "ok"].explicit_bounds[0] == 5e-5


def test_keys_are_never_in_metrics(reader):
    async def use():
        async with opened(told(keys=True)) as cache:
            await cache.get_or_set("a-secret-key", lambda: 1)
            await cache.invalidate(prefix="a-secret")
            return reader.get_metrics_data().to_json()

    assert "a-secret" not in asyncio.run(use())


def test_one_collection_takes_one_snapshot(reader):
    async def use():
        async with opened(told()) as cache:
            taken = 0
            stats = cache._house.stats

            class Counting:
                def stats(self):
                    nonlocal taken
                    taken += 1
                    return stats()

            import weakref

            counting = Counting()
            cache._house.telemetry._snapshot = weakref.WeakMethod(counting.stats)
            reader.get_metrics_data()
            reader.get_metrics_data()
            return taken

    assert asyncio.run(use()) == 2


def test_the_reference_names_every_metric():
    page = (Path(__file__).parents[2] / "docs/reference/telemetry.md").read_text()
    named = set(re.findall(r"^\| `(tiercache\.[a-z.]+)` \| (?:counter|gauge|histogram)", page, re.MULTILINE))
    histograms = {"tiercache.far.duration", "tiercache.load.duration"}
    assert named == {f"tiercache.{name}" for name, *_ in (*COUNTERS, *GAUGES)} | histograms
