"""Metrics are the plain integers of `stats`, read when somebody collects."""

import asyncio
import gc

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tiercache import Cache

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
                    ("tiercache.tier", "memory"),
                ): 3,
                (
                    ("tiercache.cache", "counted"),
                    ("tiercache.result", "miss"),
                    ("tiercache.tier", "memory"),
                ): 2,
            }
            assert list(points(reader, "tiercache.loads").values()) == [1]
            assert list(points(reader, "tiercache.tier.entries").values()) == [2]

    asyncio.run(use())
    gc.collect()
    assert points(reader, "tiercache.gets") == {}
    provider.shutdown()
