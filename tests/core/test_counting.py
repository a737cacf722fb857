"""Counters in the tiers that raise them in one step: nothing is read first, and nothing dead is added to."""

from __future__ import annotations

import asyncio

import pytest

from servers import Server
from tiercache import Cache, Record
from tiercache.frame import stamp_of


@pytest.fixture(params=["sqlite", "redis"])
def document(request, tmp_path, valkey_server: Server):
    far = {"type": "sqlite", "path": str(tmp_path / "x.db"), "deadline": "60s"}
    if request.param == "redis":
        far = {"type": "redis", "url": valkey_server.url, "timeout": "30s", "deadline": "60s"}
    return {
        "cache": {"namespace": tmp_path.name[-60:], "bus": "none"},
        "tier": {"far": far},
        "route": {"all": {"tiers": ["far"], "ttl": "1h"}},
    }


def using(document, act) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), Cache.open(document) as cache:
            await act(cache)

    asyncio.run(main())


def stage(cache):
    return cache._house.fars["far"].guard.tier


def test_nothing_is_read_to_raise_a_counter(document, monkeypatch):
    async def act(cache):
        await cache.increment("k", tags=["t"])
        calls = []

        async def read(self, keys):
            calls.append(keys)
            raise AssertionError(keys)

        monkeypatch.setattr(type(stage(cache)), "read", read)
        assert await cache.increment("k", 4) == 5
        assert await cache.increment("new", -3) == -3
        assert await cache.increment("new", 0) == -3
        assert calls == []

    using(document, act)


@pytest.mark.parametrize(
    ("by", "value"),
    [
        ("tag", 7),
        ("prefix", 7),
        ("clear", 7),
        ("delete", 7),
        ("expire", 7),
        ("tag", 2**63 - 1),
        ("tag", "text"),
    ],
)
def test_what_is_dead_is_not_added_to(document, by, value):
    document["route"]["all"]["stale"] = "1h"

    async def act(cache):
        await cache.set("k:1", value, tags=["t", "other"])
        if by == "tag":
            await cache.invalidate(tags=["t"])
        elif by == "prefix":
            await cache.invalidate(prefix="k:")
        elif by == "clear":
            await cache.clear()
        elif by == "delete":
            await cache.delete("k:1")
        else:
            assert await cache.expire("k:1")
        assert await cache.increment("k:1", 2) == 2
        assert await cache.increment("k:1", 2) == 4
        assert await cache.get("k:1") == 4

    using(document, act)


@pytest.mark.parametrize("place", [16, 28, 50], ids=["created_at", "fresh_until", "a tag"])
def test_a_damaged_counter_is_not_added_to(document, place):
    async def act(cache):
        await cache.increment("k", 5, tags=["tag"])
        far = stage(cache)
        address = cache._house.fars["far"].prefix + "k"
        (frame,) = await far.read([address])
        damaged = frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :]
        expires = cache._house.clock.micros() + 10**9
        await far.write([Record(address, damaged, expires, stamp_of(frame), False)])
        assert await cache.increment("k") == 1
        assert cache.stats().tiers["far"].corrupt > 0

    using(document, act)


def test_a_life_shorter_than_the_answers_way_is_begun_all_the_same(document):
    async def act(cache):
        assert await cache.increment("k", 3, ttl=0.0001) == 3

    using(document, act)


def test_what_is_added_while_the_counter_is_invalidated_is_counted_once(document):
    async def act(cache):
        for _ in range(5):
            await cache.increment("k", 1000, tags=["t"])
            sums = await asyncio.gather(
                *(cache.increment("k") for _ in range(6)),
                cache.invalidate(tags=["t"]),
                *(cache.increment("k") for _ in range(6)),
            )
            del sums[6]
            before = [total for total in sums if total > 1000]
            after = sorted(total for total in sums if total <= 1000)
            assert len(set(before)) == len(before)
            assert after == [*range(1, len(after) + 1)]
            assert await cache.increment("k", 0) == len(after)
            await cache.delete("k")

    using(document, act)
