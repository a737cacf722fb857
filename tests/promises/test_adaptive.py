"""Loaders that say how their value is to be stored."""

from __future__ import annotations

import asyncio

import pytest

from promises.scene import play, settle, until
from tiercache import Loaded, LoadTimeout


def test_a_loader_decides_on_ttl_tags_and_whether_to_store():
    """dotnet/extensions #6434: a token is valid for as long as the answer says, which no option can know."""

    async def scenario(here):
        assert await here.cache.get_or_set("k", lambda: Loaded("v", ttl=5, tags=("t",)), tags=["u"]) == "v"
        assert await here.cache.ttl("k") == pytest.approx(5, abs=0.01)
        await here.cache.invalidate(tags=["u"])
        assert await here.cache.get("k") == "v"
        await here.cache.invalidate(tags=["t"])
        assert await here.cache.get("k") is None
        assert await here.cache.get_or_set("n", lambda: Loaded("v", store=False)) == "v"
        assert not await here.cache.exists("n")

    play(scenario)


def test_what_one_load_asks_for_changes_no_other():
    """FusionCache duplicates options before a factory may change them; bentocache pushes into their tags."""

    async def scenario(here):
        tags = ["u"]
        await here.cache.get_or_set("a", lambda: Loaded("v", ttl=5, tags=("t",)), tags=tags)
        await here.cache.get_or_set("b", lambda: "v", tags=tags)
        assert tags == ["u"]
        assert await here.cache.ttl("b") == pytest.approx(100, abs=0.01)
        await here.cache.set("c", "v")
        assert await here.cache.ttl("c") == pytest.approx(100, abs=0.01)
        await here.cache.invalidate(tags=["t"])
        assert await here.cache.get_many(["a", "b", "c"]) == {"b": "v", "c": "v"}

    play(scenario)


def test_what_a_load_asks_for_holds_where_it_ends_in_the_background():
    """FusionCache: adaptive options must work in background completion as well."""

    async def scenario(here):
        go_on = asyncio.Event()

        async def slow():
            await go_on.wait()
            return Loaded("v", ttl=5)

        with pytest.raises(LoadTimeout):
            await here.cache.get_or_set("k", slow)
        go_on.set()
        await until(lambda: here.cache.peek("k"))
        await settle()
        assert await here.cache.ttl("k") == pytest.approx(5, abs=0.01)

    play(scenario, hard_timeout="1ms")
