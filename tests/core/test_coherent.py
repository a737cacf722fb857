"""Routes that must not be stale: `near = false`, and `coherent = true`."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servers import Server
from tiercache import Cache, ConfigError


def document(far: dict[str, Any], **route: Any) -> dict[str, Any]:
    return {
        # Without a bus nothing but the question itself tells of what others do.
        "cache": {"namespace": "coherent", "bus": "none"},
        "tier": {"memory": {"type": "memory"}, "far": far},
        "route": {"all": {"tiers": ["memory", "far"], "ttl": "1h", **route}},
    }


@pytest.fixture(params=["sqlite", "redis"])
def far(request, tmp_path, valkey_server: Server) -> dict[str, Any]:
    if request.param == "sqlite":
        return {"type": "sqlite", "path": str(tmp_path / "x.db"), "deadline": "60s"}
    valkey_server.ask("FLUSHALL")
    return {"type": "redis", "url": valkey_server.url, "timeout": "30s", "deadline": "60s"}


def fleet(wanted: dict[str, Any], act: Any, count: int = 2) -> None:
    async def life() -> None:
        async with AsyncExitStack() as stack:
            await act(*[await stack.enter_async_context(Cache.open(wanted)) for _ in range(count)])

    asyncio.run(life())


@pytest.mark.parametrize(
    "route", [{"near": False}, {"coherent": True}, {"near": False, "coherent": True}], ids=str
)
def test_what_others_change_is_seen_at_once(far, route):
    async def act(one, other):
        await one.set("k", 1)
        assert await other.get("k") == 1
        await one.set("k", 2)
        assert await other.get("k") == 2
        assert await other.get_many(["k"]) == {"k": 2}
        await one.delete("k")
        assert await other.get("k") is None
        assert not await other.exists("k")
        await one.increment("n", 5)
        assert await other.get("n") == 5
        await one.increment("n", 5)
        assert await other.get("n") == 10
        await one.set("k", 3)
        assert await other.get("k") == 3
        await one.expire("k")
        assert await other.get("k") is None

    fleet(document(far, **route), act)


def test_what_one_process_expires_is_expired_for_one_whose_clock_is_behind(valkey_server):
    far = {"type": "redis", "url": valkey_server.url, "timeout": "30s", "deadline": "60s"}

    async def act(one, other):
        await one.set("behind", 1)
        assert one._house.clock.doubt > 0
        assert await one.expire("behind")
        other._house.clock.shift -= 50_000
        assert await other.get("behind") is None

    fleet(document(far, near=False), act)


def test_a_marker_of_another_process_is_seen_at_once(far):
    async def act(one, other):
        for marked in ({"tags": ["red"]}, {"prefix": "k"}):
            await one.set("k", 1, tags=["red"])
            assert await other.get("k") == 1
            await one.invalidate(**marked)
            assert await other.get("k") is None
        await one.set("k", 1)
        assert await other.get("k") == 1
        await one.clear()
        assert await other.get("k") is None

    fleet(document(far, coherent=True), act)


def test_nothing_is_added_to_or_found_standing_that_another_process_has_marked(far):
    async def act(one, other):
        for marked in ({"tags": ["red"]}, {"prefix": "k"}):
            await other.set("k", 5, tags=["red"])
            await one.invalidate(**marked)
            assert not await other.touch("k", ttl="2h")
            assert await other.add("k", 5, tags=["red"])
            await one.invalidate(**marked)
            assert await other.increment("k", 1, tags=["red"]) == 1
            assert await one.get("k") == 1

    fleet(document(far, coherent=True), act)


def test_a_copy_that_still_holds_is_not_sent_again(far):
    async def act(one, other):
        await one.set("k", "x" * 10_000)
        assert await other.get("k") == "x" * 10_000
        before = other.stats().tiers["far"]
        first = await other.get("k")
        assert first == "x" * 10_000
        assert await other.get("k") is first
        after = other.stats().tiers["far"]
        assert after.hits == before.hits + 2
        assert after.bytes_read - before.bytes_read <= 2 * 48

    fleet(document(far, coherent=True), act)


def test_nothing_is_a_hit_that_the_authority_could_not_be_asked_about():
    far = {"type": "redis", "url": "redis://127.0.0.1:1/0"}

    async def act(one):
        await one.set("k", 1)
        assert one.peek("k") is None
        assert await one.get("k") is None

    fleet(document(far, coherent=True), act, 1)


def test_a_stale_copy_stands_in_where_that_is_allowed_and_the_authority_is_away():
    far = {"type": "redis", "url": "redis://127.0.0.1:1/0"}

    async def act(one):
        await one.set("k", 1)
        assert await one.get("k") == 1

    fleet(document(far, coherent=True, stale="1h"), act, 1)


def test_a_near_route_alone_can_be_neither():
    for option in ({"near": False}, {"coherent": True}):
        wanted = {"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"], **option}}}
        with pytest.raises(ConfigError, match="outside this process"):
            Cache.open(wanted)


STEP = st.tuples(
    st.integers(0, 2),
    st.sampled_from(("set", "delete", "get", "get", "tag", "prefix", "count", "touch")),
    st.sampled_from(("a", "ab")),
)


@settings(
    max_examples=15, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEP, max_size=30))
def test_three_processes_read_what_was_written_last(far, steps):
    async def act(*caches):
        held: dict[str, Any] = {}
        await caches[0].clear()
        for number, (who, what, key) in enumerate(steps, 1):
            cache = caches[who]
            if what == "set":
                await cache.set(key, number, tags=[f"t{key}"])
                held[key] = number
            elif what == "delete":
                await cache.delete(key)
                held.pop(key, None)
            elif what == "tag":
                await cache.invalidate(tags=[f"t{key}"])
                held.pop(key, None)
            elif what == "prefix":
                await cache.invalidate(prefix=key)
                for each in [each for each in held if each.startswith(key)]:
                    del held[each]
            elif what == "count":
                held[key] = await cache.increment(key, number, tags=[f"t{key}"])
            elif what == "touch":
                assert await cache.touch(key, ttl="2h") == (key in held)
            for each in caches:
                assert await each.get(key) == held.get(key)

    fleet(document(far, coherent=True), act, 3)
