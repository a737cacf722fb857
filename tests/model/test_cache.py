"""Whole caches beside a dictionary: no wrong value, no lost or lengthened life, no type that changes between
near and far hits.
"""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from model.machine import SECRET, Pipeline, machine
from servers import Server
from tiercache import Cache
from tiercache.testing import FakeClock

PIPELINES = {
    "memory": Pipeline(("memory",)),
    "disk": Pipeline(("disk",)),
    "memory and disk": Pipeline(
        ("memory", "disk"), {"local": ("memory",), "cold": ("disk",), "again": ("memory", "disk")}
    ),
    "a memory that evicts": Pipeline(
        ("memory", "disk"), {"cold": ("disk",)}, {"max_entries": 2, "policy": "lru"}
    ),
    "a memory that keeps nothing for long": Pipeline(
        ("memory", "disk"), {"again": ("memory", "disk")}, {"max_ttl": "5s", "policy": "ttl"}
    ),
}


def run(pipeline: Pipeline, examples: int, steps: int = 40, *, shrink: bool = False) -> None:
    run_state_machine_as_test(
        machine(pipeline),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            print_blob=True,
            # Shrinking takes minutes; the slow form does it.
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        ),
    )


@pytest.mark.parametrize("name", PIPELINES)
def test_a_cache_agrees_with_a_dictionary(name):
    run(PIPELINES[name], examples=25)


# The server expires by its own clock, so lives there are long enough to be no matter of either clock.
def test_a_cache_of_three_tiers_agrees_with_a_dictionary(valkey_server: Server):
    pipeline = Pipeline(
        ("memory", "redis", "disk"),
        {"shared": ("memory", "redis"), "local": ("memory",), "cold": ("disk",), "far": ("redis", "disk")},
        url=valkey_server.url,
        slow=100_000.0,
    )
    run(pipeline, examples=20)


@pytest.mark.slow
@pytest.mark.parametrize("name", PIPELINES)
def test_a_cache_agrees_with_a_dictionary_for_long(name):
    run(PIPELINES[name], examples=400, shrink=True)


def life(*documents, clock=None, acts):
    """Run each of *acts* on a cache of its own, one after the other over the same disk."""

    async def scenario():
        results = []
        for document, act in zip(documents, acts, strict=True):
            async with Cache.open(document, clock=clock) as cache:
                results.append(await act(cache))
        return results

    return asyncio.run(scenario())


def disk(tmp_path, serializer="msgpack", compressor="none"):
    return {
        "tier": {
            "disk": {
                "type": "sqlite",
                "path": str(tmp_path / "cache.db"),
                "serializer": serializer,
                "compressor": compressor,
            }
        },
        "serializer": {"pickle": {"type": "pickle", "key": SECRET}},
        "route": {"all": {"tiers": ["disk"]}},
    }


@pytest.mark.parametrize("stands", [5, "text"])
def test_a_counter_does_not_grow_out_of_what_is_only_kept_as_stale(tmp_path, stands):
    clock = FakeClock()

    async def act(cache):
        await cache.set("k", stands, ttl=1, stale=60)
        clock.advance(2)
        return await cache.increment("k", 2), await cache.get("k"), await cache.ttl("k")

    assert life(disk(tmp_path), clock=clock, acts=[act]) == [(2, 2, math.inf)]


def test_what_another_serializer_and_compressor_wrote_is_read_where_neither_is_declared(tmp_path):
    value = ("tuple", b"bytes" * 1000)
    before, after = disk(tmp_path, "msgpack", "zlib"), disk(tmp_path, "json")
    _, found = life(
        before, after, acts=[lambda cache: cache.set("k", value), lambda cache: cache.get_many(["k"])]
    )
    assert found == {"k": value}


@pytest.mark.parametrize("before", ["msgpack", "pickle"])
def test_touching_keeps_a_payload_that_todays_serializer_would_refuse(tmp_path, before):
    clock = FakeClock()

    async def act(cache):
        touched = await cache.touch("k", ttl=30)
        return touched, await cache.get("k"), await cache.ttl("k")

    _, outcome = life(
        disk(tmp_path, before),
        disk(tmp_path, "json"),
        clock=clock,
        acts=[lambda cache: cache.set("k", {1, 2}, tags=["t"]), act],
    )
    assert outcome == (True, {1, 2}, pytest.approx(30, abs=0.001))
