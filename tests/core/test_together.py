"""What came together from a far tier is handed out together, and each caller gets what he would alone."""

import asyncio
import itertools
import logging

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gated import document, opened, tier
from tiercache.engine.codec import Decoder, tombstone
from tiercache.testing import FakeClock

FAR = {"all": {"tiers": ["shelf"], "ttl": 60.0, "stale": 60.0}}
NEAR = {"all": {"tiers": ["memory", "shelf"], "ttl": 60.0, "stale": 60.0}}
KINDS = ("plain", "tagged", "counter", "None", "dead", "over", "buried", "damaged", "foreign", "absent")


def run(scenario, routes=FAR):
    async def main():
        clock = FakeClock(1_000_000.0)
        async with opened(document(**routes), clock=clock) as cache:
            return await scenario(cache, clock)

    return asyncio.run(main())


async def stored(cache, clock, kinds):
    """Store a key of each of *kinds*; return what a read is to bring, by key.

    Something plain is read before: from then on all that is plain takes the short way.
    """
    shelf = tier(cache, "shelf")
    await cache.set("first", "plain")
    if cache._house.nears:
        cache._empty()
    assert await cache.get("first") == "plain"
    expected = {}
    numbered = [(f"{kind}{at}", kind) for at, kind in enumerate(kinds)]
    for key, kind in numbered:
        if kind in {"dead", "over"}:
            await cache.set(key, "old", ttl=10)
    clock.advance(20)
    if any(kind == "dead" for _, kind in numbered):
        await cache.invalidate(prefix="dead")
    for key, kind in numbered:
        expected[key] = "miss"
        address = f"tiercache:{key}"
        if kind in {"plain", "tagged", "counter", "None"}:
            value = {"plain": {"a": (1, key)}, "tagged": key, "counter": len(expected), "None": None}[kind]
            await cache.set(key, value, tags=("t",) if kind == "tagged" else ())
            expected[key] = value
        elif kind == "buried":
            now = clock() * 1_000_000
            shelf.rows[address] = (tombstone(address.encode(), int(now), int(now) + 10**9), int(now) + 10**9)
        elif kind == "damaged":
            await cache.set(key, key)
            frame, until = shelf.rows[address]
            shelf.rows[address] = (frame[:-1] + bytes([frame[-1] ^ 1]), until)
        elif kind == "foreign":
            await cache.set("other", "somebody else's")
            shelf.rows[address] = shelf.rows["tiercache:other"]
    if cache._house.nears:
        cache._empty()
    return expected


@settings(max_examples=30, deadline=None)
@example(list(KINDS), True)
@example(list(KINDS), False)
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=12), st.booleans())
def test_each_key_of_a_batch_is_what_it_is_alone(kinds, near):
    async def scenario(cache, clock):
        expected = await stored(cache, clock, kinds)
        shelf = tier(cache, "shelf")
        shelf.calls.clear()
        brought = await asyncio.gather(*(cache.get(key, "miss") for key in expected))
        assert [len(keys) for what, keys in shelf.calls if what == "read"] == [len(expected)]
        assert dict(zip(expected, brought, strict=True)) == expected
        stats = cache.stats().tiers["shelf"]
        assert stats.hits == 1 + sum(value != "miss" for value in expected.values())
        assert stats.corrupt == sum(kind in {"damaged", "foreign"} for kind in kinds)
        if near:
            assert {key: cache.peek(key, "miss") for key in expected} == expected

    run(scenario, NEAR if near else FAR)


def test_loads_and_readers_of_one_batch_are_all_answered_and_who_finds_something_loads_nothing():
    async def scenario(cache, clock):
        expected = await stored(cache, clock, ["plain", "absent", "plain", "tagged", "over"])
        asked = [cache.get_or_set(key, lambda key=key: f"loaded {key}") for key in expected]
        asked += [cache.get(key, "miss") for key in expected]
        async with asyncio.timeout(10):
            brought = await asyncio.gather(*asked)
        loaded = [f"loaded {key}" if value == "miss" else value for key, value in expected.items()]
        assert brought == [*loaded, *expected.values()]

    run(scenario)


def test_what_a_write_that_was_missed_replaced_is_hidden_from_a_batch_under_way():
    async def scenario(cache, clock):
        expected = await stored(cache, clock, ["plain"] * 3)
        shelf = tier(cache, "shelf")
        shelf.gate.clear()
        readers = [asyncio.create_task(cache.get(key, "miss")) for key in expected]
        await asyncio.sleep(0.01)
        cache._house.fars["shelf"].recovery.miss_delete("tiercache:plain1", cache._clock.stamp())
        shelf.gate.set()
        brought = await asyncio.gather(*readers)
        assert brought == ["miss" if key == "plain1" else value for key, value in expected.items()]

    run(scenario)


def test_stamps_that_are_met_together_raise_the_clock():
    async def scenario(cache, clock):
        await stored(cache, clock, ["plain"])
        ahead = FakeClock(clock() + 900)
        shelf = tier(cache, "shelf")
        async with opened(document(**FAR), clock=ahead) as other:
            await other.set("k", "of the future")
            shelf.rows |= tier(other, "shelf").rows
        assert await asyncio.gather(cache.get("k"), cache.get("plain0")) != [None, None]
        assert cache._clock.stamp() > ahead() * 1_000_000
        await cache.invalidate(prefix="k")
        assert await cache.get("k") is None

    run(scenario)


def test_a_plain_frame_where_entries_are_sealed_is_nobodys_answer():
    wanted = document(a={"tiers": ["shelf"], "default": True}, b={"tiers": ["cellar"]})
    wanted["serializer"] = {"signed": {"type": "pickle", "key": "k" * 32}}
    wanted["tier"]["shelf"]["serializer"] = "signed"

    async def main():
        async with opened(wanted, clock=FakeClock()) as cache:
            cellar, shelf = tier(cache, "cellar"), tier(cache, "shelf")
            await cache.set("k", "forged", route="b")
            assert await cache.get("k", route="b") == await cache.get("k", route="b") == "forged"
            shelf.rows |= cellar.rows
            assert await cache.get("k") is None
            assert cache.stats().tiers["shelf"].corrupt == 1

    asyncio.run(main())


def test_a_near_tier_that_can_not_keep_one_of_them_costs_that_one_alone(caplog):
    async def scenario(cache, clock):
        expected = await stored(cache, clock, ["plain"] * 5)
        near = cache._house.nears["memory"]
        put = near.put

        def picky(entry, tags=()):
            if entry.key == "plain2":
                raise RuntimeError("a policy with a bug")
            return put(entry, tags)

        cache._house.default.keeping.near = Picky(near, picky)
        with caplog.at_level(logging.ERROR, "tiercache.engine"):
            brought = await asyncio.gather(*(cache.get(key, "miss") for key in expected))
        assert brought == ["miss" if key == "plain2" else value for key, value in expected.items()]
        assert "taken as a miss" in caplog.text

    run(scenario, NEAR)


class Picky:
    """A near tier that refuses some."""

    def __init__(self, near, put):
        self._near = near
        self.put = put

    def __getattr__(self, name):
        return getattr(self._near, name)


def test_an_error_of_the_short_way_ends_no_read(monkeypatch):
    async def scenario(cache, clock):
        expected = await stored(cache, clock, ["plain", "absent", "counter"])

        def broken(*_):
            raise RuntimeError("a bug")

        monkeypatch.setattr(Decoder, "fresh", broken)
        brought = await asyncio.gather(*(cache.get(key, "miss") for key in expected))
        assert brought == list(expected.values())

    run(scenario)


def test_routes_that_read_one_key_at_once_are_each_answered_by_one_call():
    routes = {
        "a": {"keys": ["none"], "tiers": ["shelf"]},
        "b": {"keys": ["neither"], "tiers": ["memory", "shelf"]},
    }

    async def scenario(cache, clock):
        await cache.set("k", "v", route="a")
        shelf = tier(cache, "shelf")
        shelf.calls.clear()
        asked = [cache.get(key, "miss", route=route) for key, route in itertools.product(("k", "x"), "ab")]
        assert await asyncio.gather(*asked) == ["v", "v", "miss", "miss"]
        assert [keys for what, keys in shelf.calls if what == "read"] == [["tiercache:k", "tiercache:x"]]

    run(scenario, routes | {"all": {"tiers": ["shelf"], "default": True}})


def test_what_changes_while_a_batch_travels_is_kept_by_nobody():
    async def scenario(cache, clock):
        expected = await stored(cache, clock, ["plain"] * 4)
        shelf = tier(cache, "shelf")
        shelf.gate.clear()
        readers = [asyncio.create_task(cache.get(key)) for key in expected]
        await asyncio.sleep(0.01)
        cache._house.default.forget("plain0")
        changes = [
            asyncio.create_task(cache.set("plain1", "new")),
            asyncio.create_task(cache.delete("plain2")),
        ]
        await asyncio.sleep(0.01)
        readers[3].cancel()
        shelf.gate.set()
        await asyncio.gather(*readers, *changes, return_exceptions=True)
        assert readers[3].cancelled()
        assert await readers[0] == expected["plain0"]
        assert cache.peek("plain0", "miss") == "miss"
        assert cache.peek("plain1") == "new"
        assert cache.peek("plain2", "miss") == "miss"
        assert cache.peek("plain3") == expected["plain3"]

    run(scenario, NEAR)
