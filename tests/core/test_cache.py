"""The object that applications hold."""

import asyncio
import gc
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TypedDict

import pydantic
import pytest

from gated import document, opened, tier
from tiercache import Cache, CacheClosed, ConfigError, InvalidKey
from tiercache.cache.variants import Careful, Split, SplitTouching, Touching
from tiercache.testing import FakeClock

NEAR = {"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"], "ttl": "1h"}}}


def near(**options):
    return {
        "tier": {"memory": {"type": "memory", **options}},
        "route": {"all": {"tiers": ["memory"], "ttl": "1h"}},
    }


def run(scenario, doc=None, clock=None):
    async def main():
        async with opened(doc or document(), clock=clock or FakeClock()) as cache:
            return await scenario(cache)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("doc", "form"),
    [
        (near(), Cache),
        (near(policy="lru"), Touching),
        (near(max_entries=1_000_000), Split),
        (near(max_entries=1_000_000, policy="lru"), SplitTouching),
        (document(a={"tiers": ["memory"], "copy": True}), Careful),
        (document(a={"tiers": ["memory"], "default": True}, b={"tiers": ["shelf"]}), Careful),
        (document(a={"tiers": ["shelf"]}), Careful),
    ],
)
def test_each_form_of_the_near_path_reads_what_was_set(doc, form):
    clock = FakeClock()

    async def scenario(cache):
        assert type(cache) is form
        for i in range(500):
            await cache.set(f"k{i}", None if i == 7 else i, ttl=10)
        for i in range(500):
            assert await cache.get(f"k{i}", "miss") == (None if i == 7 else i)
        assert await cache.get("absent", "miss") == "miss"
        if any(route.near for route in cache._house.routes.values() if route is cache._house.default):
            assert cache.peek("k1") == 1
            assert cache.stats().tiers["memory"].hits == 501
        assert cache.peek("absent", "miss") == "miss"
        clock.advance(10)
        assert await cache.get("k1", "miss") == "miss"
        assert cache.peek("k1", "miss") == "miss"
        await cache.set("k", 1)
        await cache.clear()
        assert await cache.get("k") is None
        await cache.set("k", 2)
        assert await cache.get("k") == 2

    run(scenario, doc, clock)


@pytest.mark.parametrize(
    "key", ["", "a\nb", "\x00", "é" * 513, "x" * 1025, "\ud800", 5, None, b"k", ["k"], ("k",)]
)
def test_what_is_no_key_is_a_clear_error_everywhere(key):
    async def scenario(cache):
        for act in (
            lambda: cache.get(key), lambda: cache.set(key, 1), lambda: cache.delete(key),
            lambda: cache.exists(key), lambda: cache.get_or_set(key, lambda: 1),
            lambda: cache.add(key, 1), lambda: cache.increment(key),
            lambda: cache.touch(key, ttl=1), lambda: cache.ttl(key),
        ):  # fmt: skip
            with pytest.raises((InvalidKey, TypeError)):
                await act()
        with pytest.raises(InvalidKey):
            await cache.get(key)

    run(scenario)


@pytest.mark.parametrize(
    "key", ["a", "x" * 1024, "é" * 512, "a b", "%", "*", "{tag}x", "\\", "[", "😀" * 256]
)
def test_any_text_without_control_characters_is_a_key(key):
    async def scenario(cache):
        await cache.set(key, 1)
        assert await cache.get(key) == 1
        cache._empty()
        assert await cache.get(key) == 1
        assert await cache.delete(key)

    run(scenario)


@pytest.mark.parametrize("ttl", [0, -1, "0s", timedelta(0), float("nan"), "soon", "", "-1s", True])
def test_a_life_of_nothing_is_refused(ttl):
    async def scenario(cache):
        with pytest.raises(ValueError, match="duration"):
            await cache.set("k", 1, ttl=ttl)

    run(scenario)


@pytest.mark.parametrize(
    ("ttl", "expected"), [(5, 5), (0.25, 0.25), ("90s", 90), (timedelta(minutes=2), 120), (None, 3600)]
)
def test_a_ttl_is_seconds_or_a_timedelta_or_text(ttl, expected):
    async def scenario(cache):
        await cache.set("k", 1, ttl=ttl)
        assert await cache.ttl("k") == pytest.approx(expected, abs=1e-3)

    run(scenario)


def test_tags_are_a_collection_of_names():
    async def scenario(cache):
        with pytest.raises(TypeError, match="collection of str"):
            await cache.set("k", 1, tags="tag")
        with pytest.raises(InvalidKey):
            await cache.set("k", 1, tags=[""])

    run(scenario)


class Named(TypedDict):
    name: str


class Group(TypedDict, total=False):
    members: list[Named]
    head: Named | None


@dataclass
class User:
    name: str


class Model(pydantic.BaseModel):
    name: str


@pytest.mark.parametrize(
    ("shape", "expected"), [(User, User("a")), (Model, Model(name="a")), (Named, {"name": "a"})]
)
def test_as_type_gives_that_type_on_every_hit(shape, expected):
    async def scenario(cache):
        await cache.set("k", {"name": "a"})
        for empty in (False, True):
            if empty:
                cache._empty()
            value = await cache.get("k", as_type=shape)
            assert value == expected
            assert type(value) is type(expected)
            assert await cache.get_many(["k", "absent"], as_type=shape) == {"k": expected}
            assert await cache.get_or_set("k", lambda: 1, as_type=shape) == expected
        assert await cache.get("k") == {"name": "a"}

    run(scenario)


def test_as_type_takes_typed_dicts_within_others():
    async def scenario(cache):
        await cache.set("k", {"members": [{"name": "a"}], "head": None})
        await cache.set("bad", {"members": [{"nom": "a"}]})
        assert await cache.get("k", as_type=Group) == {"members": [{"name": "a"}], "head": None}
        assert await cache.get("bad", "miss", as_type=Group) == "miss"
        assert await cache.get_many(["k", "bad"], as_type=dict[str, list[Named] | None]) == {
            "k": {"members": [{"name": "a"}], "head": None}
        }

    run(scenario)


def test_a_value_that_does_not_fit_the_type_is_a_miss_and_is_loaded_anew():
    async def scenario(cache):
        await cache.set("k", {"nom": "a"})
        assert await cache.get("k", "miss", as_type=User) == "miss"
        assert await cache.get_or_set("k", lambda: {"name": "b"}, as_type=User) == User("b")
        assert await cache.get("k") == {"name": "b"}
        await cache.set("k", {"nom": "a"})
        cache._empty()
        assert await cache.get("k", "miss", as_type=User) == "miss"
        assert await cache.get_or_set("k", lambda: {"name": "c"}, as_type=User) == User("c")

    run(scenario)


@pytest.mark.parametrize("tiers", [["memory"], ["memory", "shelf"], ["shelf"]])
def test_with_copy_no_reader_can_change_what_others_read(tiers):
    async def scenario(cache):
        value = {"list": [1]}
        await cache.set("k", value)
        value["list"].append(2)
        for read in (
            lambda: cache.get("k"), lambda: cache.get_or_set("k", dict), lambda: cache.get("k"),
        ):  # fmt: skip
            got = await read()
            assert got == {"list": [1]}
            got["list"].append(3)
        (await cache.get_many(["k"]))["k"]["list"].append(4)
        cache._empty()
        if "shelf" in tiers:
            first, second = await asyncio.gather(cache.get("k"), cache.get("k"))
            first["list"].append(5)
            assert second == await cache.get("k") == {"list": [1]}
        loaded = await asyncio.gather(*(cache.get_or_set("new", lambda: [1]) for _ in range(2)))
        loaded[0].append(2)
        assert loaded[1] == await cache.get("new") == [1]

    run(scenario, document(all={"tiers": tiers, "copy": True}))


def test_without_copy_readers_share_the_object():
    async def scenario(cache):
        value = [1]
        await cache.set("k", value)
        assert await cache.get("k") is value

    run(scenario)


def test_delete_says_how_many_were_there():
    async def scenario(cache):
        await cache.set_many({"a": 1, "b": 2, "c": 3})
        cache._house.nears["memory"].remove("b")
        assert await cache.delete("a")
        assert not await cache.delete("a")
        assert await cache.delete_many(["a", "b", "c", "c", "d"]) == 2
        assert await cache.get_many(["a", "b", "c"]) == {}

    run(scenario)


def test_set_many_stores_what_it_can_and_raises_the_first_error():
    async def scenario(cache):
        with pytest.raises(TypeError):
            await cache.set_many({"a": 1, "b": object(), "c": 3})
        assert await cache.get_many(["a", "b", "c"]) == {"a": 1, "c": 3}

    run(scenario)


def test_a_refused_value_leaves_the_old_one_in_place():
    async def scenario(cache):
        await cache.set("k", 1)
        with pytest.raises(TypeError, match="object"):
            await cache.set("k", {"deep": [object()]})
        assert cache.peek("k") == 1
        cache._empty()
        assert await cache.get("k") == 1

    run(scenario)


def test_a_cache_that_is_not_open_says_so():
    async def main():
        cache = opened(document(), clock=FakeClock())
        assert "closed" in repr(cache)
        for _ in range(2):
            for act in (
                lambda: cache.get("k"),
                lambda: cache.set("k", 1),
                cache.clear,
                lambda: cache.delete("k"),
            ):
                with pytest.raises(CacheClosed):
                    await act()
            assert cache.peek("k") is None
            async with cache:
                assert "open" in repr(cache)
                await cache.set("k", 1)
            await cache.close()

    asyncio.run(main())


def test_a_cache_of_another_event_loop_refuses_clearly():
    with asyncio.Runner() as runner:
        cache = opened(document(), clock=FakeClock())
        runner.run(cache.start())
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(cache.get("k"))
        runner.run(cache.close())


class Foreign(asyncio.SelectorEventLoop):
    """A loop that does not tell the thread that it runs in, as others than asyncio's don't."""

    def __getattribute__(self, name):
        if name == "_thread_id" and sys._getframe(1).f_globals["__name__"].startswith("tiercache"):
            raise AttributeError(name)
        return super().__getattribute__(name)


async def asked(cache):
    """What each way into a cache, as far as it gets past a near hit, brings."""
    brought = []
    for act in (
        lambda: cache.get("absent", "none"),
        lambda: cache.set("k", "v"),
        lambda: cache.get("k"),
        lambda: cache.get_or_set("loaded", lambda: "new"),
        lambda: cache.get_or_set("k", lambda: "new", route="all"),
        lambda: cache.get_many(["k"]),
    ):
        try:
            brought.append(await act())
        except RuntimeError as error:
            brought.append("another" if "another event loop" in str(error) else str(error))
    return brought


@pytest.mark.parametrize("kind", [asyncio.SelectorEventLoop, Foreign])
def test_only_the_loop_that_started_a_cache_may_use_it(kind):
    at_home = ["none", None, "v", "new", "v", {"k": "v"}]
    with asyncio.Runner(loop_factory=kind) as runner:
        cache = opened(NEAR, clock=FakeClock())
        runner.run(cache.start())
        assert runner.run(asked(cache)) == at_home
        runner.run(cache.delete("k"))
        strange = asyncio.run(asked(cache))
        assert strange == ["another"] * 6
        with ThreadPoolExecutor(1) as pool:
            # The loop moves to another thread, where it is at home; here, nobody is.
            moved = pool.submit(lambda: runner.get_loop().run_until_complete(asked(cache)))
            assert moved.result(30) == at_home
        elsewhere = asyncio.run(asked(cache))
        assert set(elsewhere[:2]) == {"another"}
        runner.run(cache.close())
        with pytest.raises(CacheClosed):
            runner.run(cache.get("k"))


def test_a_loop_that_runs_elsewhere_does_not_let_this_thread_in():
    loop = asyncio.new_event_loop()
    cache = opened(NEAR, clock=FakeClock())
    loop.run_until_complete(cache.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert set(asyncio.run(asked(cache))) == {"another"}
    finally:
        asyncio.run_coroutine_threadsafe(cache.close(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def test_a_cache_can_be_opened_again_on_another_loop():
    cache = opened(document(), clock=FakeClock())

    async def use():
        async with cache:
            await cache.set("k", 1)
            return await cache.get("k")

    assert asyncio.run(use()) == asyncio.run(use()) == 1


def test_open_takes_tables_that_win_over_the_document():
    cache = Cache.open(NEAR, tier={"memory": {"max_entries": 5}}, cache={"namespace": "mine"})

    async def use():
        async with cache:
            for i in range(10):
                await cache.set(f"k{i}", i)
            return cache.stats().tiers["memory"].own["entries"]

    assert asyncio.run(use()) <= 5
    assert "mine" in repr(cache)


def test_a_wrong_document_is_refused_when_it_is_opened():
    with pytest.raises(ConfigError, match="max_entries"):
        Cache.open({**NEAR, "tier": {"memory": {"type": "memory", "max_entrys": 5}}})


def test_the_real_clock_expires_entries_and_a_parked_clock_is_never_late():
    async def scenario():
        async with Cache.open(NEAR) as cache:
            await cache.set("k", 1, ttl=0.2)
            until = time.monotonic() + 0.2
            assert await cache.get("k") == 1
            while time.monotonic() < until - 0.01:
                assert await cache.get("k") == 1
            # Blocking the loop must not freeze the clock: it is refreshed by a thread, or parked.
            time.sleep(0.05)
            assert await cache.get("k", "gone") == "gone"
            await cache.set("p", 1, ttl=0.9)
            assert await cache.get("p") == 1
            time.sleep(1.0)
            assert cache.now == float("inf")
            assert await cache.get("p", "gone") == "gone"

    asyncio.run(scenario())


def test_closing_leaves_no_thread_no_task_and_no_reference():
    import threading
    import weakref

    async def scenario():
        async with Cache.open(NEAR) as cache:
            await cache.set("k", 1)
            await cache.get("k")
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return weakref.ref(cache)

    gone = asyncio.run(scenario())
    gc.collect()
    assert gone() is None
    until = time.monotonic() + 5
    while any(thread.name == "tiercache-clock" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_stats_tell_hits_by_tier_misses_and_loads():
    async def scenario(cache):
        await cache.set("a", 1)
        await cache.get("a")
        cache._empty()
        await cache.get("a")
        await cache.get("absent")
        await cache.get_or_set("b", lambda: 1)
        await cache.get_or_set("b", lambda: 1)
        stats = cache.stats()
        assert {name: tier.hits for name, tier in stats.tiers.items()} == {
            "memory": 2,
            "shelf": 1,
            "cellar": 0,
        }
        assert (stats.hits, stats.misses) == (3, 2)
        assert stats.hit_rate == pytest.approx(0.6)
        assert stats.routes["all"].loads == 1
        assert stats.as_dict()["tiers"]["shelf"]["hits"] == 1

    run(scenario)


def test_expired_entries_are_swept_without_being_asked_for():
    clock = FakeClock()

    async def scenario(cache):
        await cache.set_many({f"k{i}": i for i in range(100)}, ttl=1)
        clock.advance(2)
        until = time.monotonic() + 5
        while cache.stats().tiers["memory"].own["entries"]:
            assert time.monotonic() < until
            await asyncio.sleep(0.02)

    run(scenario, NEAR, clock)


def test_a_reader_of_many_keys_asks_each_once():
    async def scenario(cache):
        await cache.set("k", 1)
        cache._empty()
        assert await cache.get_many(["k", "k", "l"]) == {"k": 1}
        assert [keys for what, keys in tier(cache, "shelf").calls if what == "read"] == [
            ["tiercache:k", "tiercache:l"]
        ]

    run(scenario)
