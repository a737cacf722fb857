"""Swapping by TOML alone: one test over every tier, serializer, compressor and policy that fit each other."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import entry_points
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from servers import Server
from tiercache import MISSING, Cache, PolicyConfig, Unserializable
from tiercache.config.registry import Registry
from tiercache.hookspecs import GROUP
from tiercache.testing.codecs import same

SHIPPED = Registry.load(
    points=[
        point for point in entry_points(group=GROUP) if point.dist and point.dist.name == "tiercache-kernel"
    ]
)
SERIALIZERS = SHIPPED.types("serializer")
COMPRESSORS = ("none", *SHIPPED.types("compressor"))
POLICIES = SHIPPED.types("policy")


def ordered(policy: str) -> bool:
    config = SHIPPED.get("policy", policy)
    assert config is not None
    assert issubclass(config, PolicyConfig)
    return config.order is not None


@dataclass(frozen=True)
class Pipeline:
    """One way to put stages together."""

    tiers: tuple[str, ...]
    serializer: str = "msgpack"
    compressor: str = "none"
    policy: str = "hybrid"

    def __str__(self) -> str:
        far = (self.serializer, self.compressor) if self.tiers != ("memory",) else ()
        kept = (self.policy,) if self.tiers != ("redis",) else ()
        return "-".join((*self.tiers, *far, *kept))

    def toml(self, url: str, namespace: str) -> str:
        codec = f'serializer = "{self.serializer}"\ncompressor = "{self.compressor}"\n'
        tables = {
            "memory": f'type = "memory"\npolicy = "{self.policy}"\nmax_entries = 1000\n',
            "sqlite": f'type = "sqlite"\npath = "cache.db"\npolicy = "{self.policy}"\n{codec}',
            "redis": f'type = "redis"\nurl = "{url}"\ntimeout = "5s"\n{codec}',
        }
        text = f'[cache]\nnamespace = "{namespace}"\n'
        for tier in self.tiers:
            text += f"\n[tier.{tier}]\n{tables[tier]}"
        if self.serializer == "pickle":
            text += '\n[serializer.pickle]\ntype = "pickle"\nkey = "a key of the tests"\n'
        if self.compressor != "none":
            text += f'\n[compressor.{self.compressor}]\ntype = "{self.compressor}"\nthreshold = 64\n'
        return text + f'\n[route.all]\ntiers = {json.dumps(self.tiers)}\nttl = "1h"\n'


def pipelines() -> list[Pipeline]:
    codecs = list(itertools.product(SERIALIZERS, COMPRESSORS))
    rows = [policy for policy in POLICIES if ordered(policy)]
    alone = [
        *(Pipeline(("memory",), policy=policy) for policy in POLICIES),
        *(Pipeline(("sqlite",), *codec, policy) for codec in codecs for policy in rows),
        *(Pipeline(("redis",), *codec) for codec in codecs),
    ]
    # Together, what one tier does with a codec was seen above: here each codec meets each layering, and
    # each policy some of them.
    layers = [("memory", "sqlite"), ("memory", "redis"), ("redis", "sqlite"), ("memory", "redis", "sqlite")]
    policies = itertools.cycle(rows)
    return alone + [Pipeline(tiers, *codec, next(policies)) for tiers in layers for codec in codecs]


PLAIN: dict[str, Any] = {"text": "grüße " * 40, "empty": "", "number": 42}
VALUES: dict[str, dict[str, Any]] = {
    "raw": {**PLAIN, "bytes": b"\0\xff" * 100},
    "json": {**PLAIN, "none": None, "true": True, "float": 1.5, "nested": {"a": [1, {"b": ["x"] * 50}]}},
}
VALUES["msgpack"] = VALUES["pickle"] = {
    **VALUES["raw"], **VALUES["json"], "tuple": (1, (2,)), "set": {1, "a"}, "large": 10**40, "nan": math.nan,
    "when": datetime(2026, 1, 2, tzinfo=UTC), "span": timedelta(days=1), "decimal": Decimal("1.50"),
}  # fmt: skip
REFUSED = {"raw": 1.5, "json": (1,), "msgpack": object(), "pickle": lambda: 0}


def test_all_that_ships_is_composed():
    made = pipelines()
    assert {tier for pipeline in made for tier in pipeline.tiers} == set(SHIPPED.types("tier"))
    assert {pipeline.serializer for pipeline in made} == set(SERIALIZERS) == set(VALUES)
    assert {pipeline.compressor for pipeline in made} == set(COMPRESSORS)
    assert {pipeline.policy for pipeline in made} == set(POLICIES)


@pytest.mark.parametrize("pipeline", pipelines(), ids=str)
def test_every_pipeline_keeps_the_same_promises(tmp_path: Path, valkey_server: Server, pipeline: Pipeline):
    file = tmp_path / "tiercache.toml"
    # The directory is this test's own, so its name keeps apart what shares the server.
    namespace = f"{tmp_path.parent.name}.{tmp_path.name}"[-60:]
    file.write_text(pipeline.toml(valkey_server.url, namespace))
    assert tomllib.loads(file.read_text())["route"]["all"]["tiers"] == list(pipeline.tiers)
    asyncio.run(promises(file, pipeline))


async def promises(file: Path, pipeline: Pipeline) -> None:
    values = VALUES["msgpack" if pipeline.tiers == ("memory",) else pipeline.serializer]
    far = pipeline.tiers != ("memory",)
    async with Cache.open(file) as cache:
        await cache.clear()
        await cache.set("short", "lived", ttl=0.02)
        began = monotonic()
        await keeps_values(cache, values, far)
        await keeps_lives_and_tags(cache, far)
        await answers_for_certain(cache)
        await drops(cache)
        if far:
            with pytest.raises(Unserializable):
                await cache.set("text", REFUSED[pipeline.serializer])
        await cache.set_many(values, tags=["kept"], ttl="2h")
        # The near path's clock is coarse: up to 20 ms.
        await asyncio.sleep(max(0.0, 0.05 - (monotonic() - began)))
        assert await cache.get("short", "gone") == "gone"
        for tier in cache.stats().tiers.values():
            assert (tier.errors, tier.corrupt, tier.available) == (0, 0, True)
    async with Cache.open(file) as cache:
        found = await cache.get_many(values)
        assert found.keys() == (values.keys() if far else set())
        assert all(same(found[key], values[key]) for key in found)
        if far:
            assert 7190 < (await cache.ttl("text") or 0) <= 7200
            assert await tags(cache, "text") == ("kept",)
        await cache.clear()
        assert [key async for key in cache.keys()] == []


async def keeps_values(cache: Cache, values: dict[str, Any], far: bool) -> None:
    for key, value in values.items():
        await cache.set(key, value)
    for key, value in values.items():
        assert same(await cache.get(key, MISSING), value), f"{key}, near"
    if far:
        cache._empty()
    for key, value in values.items():
        assert same(await cache.get(key, MISSING), value), f"{key}, far"
        assert same(await cache.get(key, MISSING), value), f"{key}, promoted"
        assert await cache.exists(key)
    found = await cache.get_many([*reversed(values), "nobody"])
    assert list(found) == [*reversed(values)]
    assert await cache.get("nobody", "default") == "default"
    assert {key async for key in cache.keys()} >= values.keys()
    assert {key async for key in cache.keys("te*")} == {"text"}
    calls: list[str] = []
    for _ in range(2):
        assert await cache.get_or_set("loaded", lambda: calls.append("x") or "value") == "value"
    assert calls == ["x"]


async def keeps_lives_and_tags(cache: Cache, far: bool) -> None:
    await cache.set("default", "x")
    await cache.set("minute", "x", ttl="1m", tags=["red", "blue"])
    await cache.set("never", "x", ttl="never")
    for _ in range(2):
        assert 3590 < (await cache.ttl("default") or 0) <= 3600
        assert 50 < (await cache.ttl("minute") or 0) <= 60
        assert await cache.ttl("never") == math.inf
        assert await cache.ttl("nobody") is None
        assert await tags(cache, "minute") == ("red", "blue")
        if far:
            cache._empty()
            assert await cache.get("minute") == "x"


async def answers_for_certain(cache: Cache) -> None:
    assert await cache.add("once", "first") is True
    assert await cache.add("once", "second") is False
    assert await cache.get("once") == "first"
    assert await cache.increment("counter", ttl="10m") == 1
    assert await cache.increment("counter", 41, ttl="never") == 42
    assert await cache.get("counter") == 42
    assert 590 < (await cache.ttl("counter") or 0) <= 600
    assert await cache.increment("number", -2) == 40
    with pytest.raises(TypeError):
        await cache.increment("text")
    with pytest.raises(OverflowError):
        await cache.increment("counter", 2**63 - 1)
    assert await cache.touch("minute", ttl="5h") is True
    assert 17990 < (await cache.ttl("minute") or 0) <= 18000
    assert await cache.get("minute") == "x"
    assert await tags(cache, "minute") == ("red", "blue")
    assert await cache.touch("nobody", ttl=1) is False


async def drops(cache: Cache) -> None:
    assert await cache.delete("text") is True
    assert await cache.delete("text") is False
    assert await cache.get("text", MISSING) is MISSING
    assert await cache.delete_many(["once", "counter", "nobody"]) == 2
    assert not await cache.exists("once")
    await cache.clear()
    assert [key async for key in cache.keys()] == []
    assert await cache.get("never", MISSING) is MISSING


async def tags(cache: Cache, key: str) -> tuple[str, ...]:
    """Return the tags of *key* where a read of it finds them."""
    route = cache._house.default
    if route.near is not None and route.near.get(key) is not None:
        return tuple(route.near.tags(key))
    found = await route.read(key)
    assert found is not MISSING
    return found.tags
