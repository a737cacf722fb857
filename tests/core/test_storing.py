"""A set on a route that has a near tier and nothing else: stored at once, where nobody else has a say."""

import asyncio
import math

import pytest

from tiercache import Cache
from tiercache.testing import FakeClock


def document(*, tiers=("near",), near=None, **route):
    stages = {"near": {"type": "memory", **(near or {})}, "other": {"type": "memory"}}
    return {
        "cache": {"namespace": "n"},
        "tier": {name: stages[name] for name in {*tiers, "near"}},
        "route": {"all": {"tiers": list(tiers), "ttl": 60.0, "default": True, **route}},
    }


def play(document, scenario):
    async def run():
        clock = FakeClock(1_000_000.0)
        async with Cache.open(document, clock=clock) as cache:
            return await scenario(cache, clock)

    return asyncio.run(run())


def short(document):
    async def scenario(cache, clock):
        return cache._house.default.store is not None

    return play(document, scenario)


def test_a_near_tier_alone_is_stored_in_at_once():
    assert short(document())


def test_whatever_else_has_a_say_is_asked(tmp_path):
    disk = document()
    disk["tier"]["disk"] = {"type": "sqlite", "path": str(tmp_path / "d.sqlite3")}
    beside = document()
    beside["tier"]["other"] = {"type": "memory"}
    beside["route"]["more"] = {"tiers": ["other"], "keys": ["x:*"]}
    far = {**disk, "route": {"all": {"tiers": ["near", "disk"], "default": True}}}
    elsewhere = {**disk, "route": {**disk["route"], "more": {"tiers": ["disk"], "keys": ["x:*"]}}}
    for told in (
        document(jitter=0.1),
        document(copy=True),
        document(refresh_ahead=0.8),
        document(sliding="10s"),
        document(negative_ttl="5s", negative_errors=True),
        beside,
        far,
        elsewhere,
    ):
        assert not short(told), told


@pytest.mark.parametrize("most", [None, 20.0])
def test_it_ends_where_its_life_does(most):
    async def scenario(cache, clock):
        await cache.set("k", "v")
        await cache.set("k2", "v", ttl=30.0, stale=5.0)
        await cache.set("k3", "v", ttl="never")
        for until, keys in ((20.0, {"k", "k2", "k3"}), (30.0, {"k", "k3"}), (60.0, {"k3"})):
            ends = min(until, most or math.inf)
            clock.advance(1_000_000.0 + ends - 0.001 - clock())
            assert {key for key in ("k", "k2", "k3") if await cache.get(key) is not None} >= keys
            if ends == most:
                clock.advance(0.001)
                assert await cache.get_many(["k", "k2", "k3"]) == {}
                return
            clock.advance(0.001)
        assert await cache.get_many(["k", "k2", "k3"]) == {"k3": "v"}

    play(document(near={} if most is None else {"max_ttl": most}), scenario)


def test_a_stale_copy_lives_as_long_as_it_was_stored_with():
    async def failing():
        raise OSError

    async def scenario(cache, clock):
        await cache.set("k", "old", ttl=1.0, stale=5.0)
        clock.advance(1.5)
        assert await cache.get_or_set("k", failing) == "old"
        await cache.set("k2", "old", ttl=1.0, stale=5.0)
        clock.advance(6.0)
        with pytest.raises(OSError):
            await cache.get_or_set("k2", failing)

    play(document(), scenario)


def test_a_load_under_way_is_not_stored_after_a_set():
    async def scenario(cache, clock):
        begun, go = asyncio.Event(), asyncio.Event()

        async def load():
            begun.set()
            await go.wait()
            return "loaded"

        task = asyncio.ensure_future(cache.get_or_set("k", load))
        await begun.wait()
        await cache.set("k", "set")
        # The set is evicted, so that its stamp keeps nothing out any more.
        await cache.set("k2", "v")
        go.set()
        assert await task == "loaded"
        assert await cache.get("k") is None

    play(document(near={"max_entries": 1}), scenario)


def test_tags_patterns_and_counts_are_kept():
    async def scenario(cache, clock):
        await cache.set("user:1", "v", tags=["t"])
        await cache.set("user:2", "v")
        assert await cache.get("user:1") == await cache.get("user:2") == "v"
        stats = cache.stats()
        assert stats.routes["all"].sets == 2
        assert stats.patterns["user:*"].hits == 2
        await cache.invalidate(tags=["t"])
        assert await cache.get_many(["user:1", "user:2"]) == {"user:2": "v"}

    told = document()
    told["telemetry"] = {"patterns": ["user:*"]}
    play(told, scenario)


def test_rules_that_change_while_the_cache_is_open_are_heeded():
    async def scenario(cache, clock):
        await cache.set("k", "v")
        await cache.reload(document(near={"max_ttl": 5.0}))
        await cache.set("k2", "v")
        clock.advance(6.0)
        assert await cache.get_many(["k", "k2"]) == {"k": "v"}
        await cache.reload(document(refresh_ahead=0.5))
        await cache.set("k3", "v")
        clock.advance(31.0)
        assert await cache.get_or_set("k3", lambda: "new") == "v"
        for _ in range(100):
            if await cache.get("k3") == "new":
                break
            await asyncio.sleep(0)
        assert await cache.get("k3") == "new"

    play(document(), scenario)
