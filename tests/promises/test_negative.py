"""Nothing is a value too."""

from __future__ import annotations

import pytest

from promises.scene import Source, play, settle


@pytest.mark.parametrize("value", [None, False, 0, "", b"", (), [], {}, set(), 0.0], ids=repr)
@pytest.mark.parametrize("tiers", [("memory",), ("memory", "shelf", "cellar"), ("shelf",)], ids="+".join)
def test_what_is_empty_is_a_hit_in_every_tier(value, tiers):
    """aiocache #452, #540, #1033: None is loaded again and again; py-key-value takes `{}` for a miss."""

    async def scenario(here):
        calls = []

        def loader():
            calls.append(1)
            return value

        for _ in range(3):
            assert await here.cache.get_or_set("k", loader) == value
            await settle()
        assert len(calls) == 1
        assert await here.cache.get("k", "miss") == value
        assert await here.cache.get_many(["k"]) == {"k": value}
        assert await here.cache.exists("k")
        if tiers != ("memory",):
            async with here.another() as other:
                assert await other.cache.get_or_set("k", loader) == value
                assert await other.cache.get("k", "miss") == value
        assert len(calls) == 1

    play(scenario, tiers=tiers)


def test_what_does_not_exist_has_a_life_of_its_own():
    """lua-resty-mlcache has `neg_ttl`: "there is none" is soon wrong, as things come into being."""

    async def scenario(here):
        await here.cache.get_or_set("absent", lambda: None)
        await here.cache.get_or_set("present", lambda: 1)
        await here.cache.set("set", None)
        await here.later(6)
        assert await here.cache.get("absent", "miss") == "miss"
        assert await here.cache.get_many(["present", "set"]) == {"present": 1, "set": None}

    play(scenario, negative_ttl="5s")


def test_a_flood_of_absent_keys_drives_out_nothing_that_exists():
    """lua-resty-mlcache keeps misses in a zone of their own, so that asking for nonsense evicts no data."""

    async def scenario(here):
        for number in range(100):
            await here.cache.set(f"real{number}", number)
        for number in range(3000):
            await here.cache.get_or_set(f"absent{number}", lambda: None)
        assert sum(here.cache.peek(f"real{number}") is not None for number in range(100)) == 100
        assert here.cache.stats().tiers["memory"].own["entries"] <= 100 + 1024

    play(scenario, tiers=("memory",), near={"max_entries": 1500, "policy": "fifo"}, negative_ttl="1h")


def test_errors_are_remembered_for_a_while_where_the_route_asks_for_it():
    """lua-resty-mlcache #82 asks for it: a source that refuses is not to be asked by every request."""

    async def scenario(here):
        source = Source("v")
        source.error = OSError("source")
        for _ in range(5):
            with pytest.raises(OSError, match="source"):
                await here.cache.get_or_set("k", source)
        assert source.calls == 1
        source.error = None
        await here.later(6)
        assert await here.cache.get_or_set("k", source) == "v"

    play(scenario, negative_ttl="5s", negative_errors=True)
