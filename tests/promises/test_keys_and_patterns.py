"""Keys, patterns, and what readers share."""

from __future__ import annotations

import asyncio
from enum import Enum

import pytest

from promises.scene import PATIENCE, play
from servers import Server
from tiercache import Cache, InvalidKey

KEYS = [
    "user:1", "user:12", "userAbc", "users", "user.1", "userx1", "user[1]", "user1", "user*", "user?",
    "user+1", "user\\1", "(user", "user|post", "^user$", "user-1",
]  # fmt: skip


MATCHED = {
    "user:*": {"user:1", "user:12"},
    "user.1": {"user.1"},
    "user[[]1]": {"user[1]"},
    "user\\*": {"user*"},
    "user?": {"users", "user1", "user*", "user?"},
    "*[|^]*": {"user|post", "^user$"},
    "user[!:]1": {"user.1", "userx1", "user+1", "user\\1", "user-1"},
    "(*": {"(user"},
}


@pytest.mark.parametrize("pattern", MATCHED)
def test_a_pattern_means_the_same_in_every_tier(pattern, tmp_path):
    """cashews: for memory `*` is `.*` in an unescaped regex, for Redis a glob: they drop other keys."""

    def alone(**tier):
        return {
            "cache": {"bus": "none"},
            "tier": {"only": tier},
            "route": {"all": {"tiers": ["only"], "ttl": "1h"}},
        }

    async def main(server):
        for document in (
            alone(type="memory"),
            alone(type="sqlite", path=str(tmp_path / "c.db")),
            alone(type="redis", url=server.url),
        ):
            async with asyncio.timeout(PATIENCE), Cache.open(document) as cache:
                await cache.set_many(dict.fromkeys(KEYS, 1))
                assert {key async for key in cache.keys(pattern)} == MATCHED[pattern]
                await cache.invalidate(match=pattern)
                assert set(KEYS) - set(await cache.get_many(KEYS)) == MATCHED[pattern]

    with Server("valkey") as server:
        asyncio.run(main(server))


@pytest.mark.parametrize("far_only", [False, True])
def test_a_prefix_ends_where_it_says(far_only):
    """bentocache 1.3: clearing the namespace `users` clears `usersAbc` as well."""

    async def scenario(here):
        await here.cache.set_many({"users:1": 1, "usersAbc": 2, "xusers:2": 3, "users": 4})
        async with here.another() as other:
            there = other if far_only else here
            await there.cache.invalidate(prefix="users:")
            assert await there.cache.get_many(["users:1", "usersAbc", "xusers:2", "users"]) == {
                "usersAbc": 2, "xusers:2": 3, "users": 4,
            }  # fmt: skip

    play(scenario)


def test_one_namespace_never_touches_another(tmp_path):
    """bentocache 1.3, one level up: a namespace may be the beginning of another one's name."""

    def named(namespace):
        return {
            "cache": {"bus": "none", "namespace": namespace},
            "tier": {"disk": {"type": "sqlite", "path": str(tmp_path / "c.db")}},
            "route": {"all": {"tiers": ["disk"], "ttl": "1h"}},
        }

    async def main():
        async with (
            asyncio.timeout(PATIENCE),
            Cache.open(named("app")) as app,
            Cache.open(named("app-2")) as second,
            Cache.open(named("app.2")) as third,
        ):
            for number, cache in enumerate((app, second, third)):
                await cache.set("k", number)
            await app.clear()
            await second.invalidate(match="*")
            assert await app.get("k") is None
            assert await third.get("k") == 2
            assert [key async for key in third.keys()] == ["k"]

    asyncio.run(main())


def test_calls_with_different_arguments_never_share_a_key():
    """fastapi-cache #103: users saw other users' data, as what told them apart was not in the key."""

    class Colour(Enum):
        RED = 1

    arguments = [
        1, True, 1.0, "1", b"1", (1,), [1], {1}, frozenset({1}), {1: 1}, None, "None", Colour.RED,
        ("a", "b"), "a,b", (), "", "('a', 'b')",
    ]  # fmt: skip

    async def scenario(here):
        @here.cache.cached(ttl=60)
        async def told(value, *, as_user="nobody"):
            return (repr(value), as_user)

        for value in arguments:
            for user in ("nobody", "somebody"):
                assert await told(value, as_user=user) == (repr(value), user)
                assert await told(value, as_user=user) == (repr(value), user)
        assert told.cache_info().loads == 2 * len(arguments)

    play(scenario, tiers=("memory",))


def test_no_reader_can_change_what_others_read_where_each_gets_a_copy():
    """FusionCache's AutoClone exists for it: an object from memory that somebody changed is corruption."""

    async def scenario(here):
        mine = {"rows": [1]}
        await here.cache.set("k", mine)
        mine["rows"].append(2)
        found = await here.cache.get("k")
        assert found == {"rows": [1]}
        found["rows"].append(3)
        loaded = await here.cache.get_or_set("k", lambda: None)
        assert loaded == {"rows": [1]}

    play(scenario, copy=True)


def test_a_cache_of_another_event_loop_is_refused_and_does_not_hang():
    """aiocache #426, #484, #1056, litestar #4073: "attached to a different loop", or an endless wait."""
    cache = Cache.open({"route": {"all": {"tiers": ["memory"]}}})

    async def first():
        await cache.start()
        await cache.set("k", 1)

    async def second():
        with pytest.raises(RuntimeError, match="another event loop"):
            await cache.get_or_set("other", lambda: 1)

    async def third():
        await cache.start()
        assert await cache.get("k") is None
        await cache.set("k", 2)
        await cache.close()

    with asyncio.Runner() as one:
        one.run(first())
        asyncio.run(second())
        one.run(cache.close())
    asyncio.run(third())


@pytest.mark.parametrize("key", ["", "a\nb", "a\0b", "x" * 1025, "\ud800", 7, None, b"k"], ids=repr)
def test_what_is_no_key_is_refused_before_it_reaches_a_tier(key):
    """HybridCache bounds keys at 1,024 characters; elsewhere each store does what it likes with odd ones."""

    async def scenario(here):
        for act in (here.cache.get, here.cache.exists, here.cache.delete, lambda key: here.cache.set(key, 1)):
            with pytest.raises(InvalidKey):
                await act(key)
        assert [what for what, _ in here.far("shelf").calls if what not in {"mark", "marks"}] == []

    play(scenario)
