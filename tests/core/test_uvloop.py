"""The whole cache on uvloop, where that is installed; and how `open_sync` is told to use it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import pytest

from servers import Server
from tiercache import Cache, CacheClosed, ConfigError, LoadCancelled
from tiercache.config import tables
from tiercache.engine import house

try:
    import uvloop
except ImportError:
    uvloop = None

installed = pytest.mark.skipif(uvloop is None, reason="uvloop is not installed")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


@pytest.fixture(params=["memory", "sqlite", "redis"])
def document(request, tmp_path, valkey_server: Server):
    tiers = {"memory": {"type": "memory"}}
    if request.param == "sqlite":
        tiers["far"] = {"type": "sqlite", "path": str(tmp_path / "x.db"), "deadline": "60s"}
    if request.param == "redis":
        tiers["far"] = {"type": "redis", "url": valkey_server.url, "timeout": "30s", "deadline": "60s"}
    return {
        "cache": {"namespace": f"uvloop-{tmp_path.name}", "lease": "30s"},
        "tier": tiers,
        "route": {"all": {"tiers": list(tiers), "ttl": "1h"}},
    }


def on_uvloop(act) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(act(), 60))


async def until(holds) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.005)


@installed
def test_every_kind_of_call_is_answered(document):
    async def act():
        async with Cache.open(document) as cache:
            tags = ["even", "odd"]
            await asyncio.gather(*(cache.set(f"k:{n}", n, tags=[tags[n % 2]]) for n in range(50)))
            keys = [f"k:{n}" for n in range(50)]
            assert await cache.get_many(keys) == {f"k:{n}": n for n in range(50)}
            assert {key async for key in cache.keys("k:*")} == set(keys)
            await cache.invalidate(tags=["even"])
            assert await cache.get_many(keys) == {f"k:{n}": n for n in range(1, 50, 2)}
            assert await cache.add("k:0", 1)
            assert not await cache.add("k:0", 2)
            assert sorted(await asyncio.gather(*(cache.increment("n") for _ in range(20)))) == [*range(1, 21)]
            assert await cache.delete("k:0")
            assert await cache.get("k:0", "absent") == "absent"
            async with cache.lock("once"):
                assert await cache.get_or_set("loaded", lambda: 5) == 5
            await cache.clear()
            assert await cache.get("loaded") is None
        async with Cache.open(document) as again:
            assert await again.get("k:1") is None

    on_uvloop(act)


@installed
def test_one_callers_cancel_leaves_the_load_to_the_other(document):
    async def act():
        calls = []
        gate = asyncio.Event()

        async def load():
            calls.append(1)
            await gate.wait()
            return "loaded"

        async with Cache.open(document) as cache:
            first, second = (asyncio.create_task(cache.get_or_set("k", load)) for _ in range(2))

            async def loading():
                return bool(calls)

            await until(loading)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            gate.set()
            assert await second == "loaded"
            assert await cache.get("k") == "loaded"
            assert calls == [1]

    on_uvloop(act)


@installed
def test_closing_ends_what_is_under_way_and_leaves_no_task(document, monkeypatch):
    monkeypatch.setattr(house, "CLOSE_WITHIN", 0.05)

    async def act():
        before = asyncio.all_tasks()
        entered = asyncio.Event()

        async def load():
            entered.set()
            await asyncio.Event().wait()

        cache = await Cache.open(document).start()
        waiting = asyncio.create_task(cache.get_or_set("k", load))
        await entered.wait()
        await cache.close()
        with pytest.raises((CacheClosed, LoadCancelled)):
            await waiting

        async def alone():
            return asyncio.all_tasks() == before

        await until(alone)

    on_uvloop(act)


@installed
def test_what_one_cache_changes_the_near_tier_of_the_other_drops(document):
    if "far" not in document["tier"]:
        pytest.skip("a near tier alone is nobody else's")

    async def act():
        async with AsyncExitStack() as stack:
            one, other = [await stack.enter_async_context(Cache.open(document)) for _ in range(2)]
            await one.set("k", 1)

            async def near():
                return await other.get("k") == 1 and other.peek("k") == 1

            await until(near)
            await one.set("k", 2)

            async def told():
                return await other.get("k") == 2

            await until(told)

    on_uvloop(act)


@installed
def test_a_server_that_goes_away_is_a_miss_and_comes_back_without_being_told():
    async def act():
        with Server("valkey") as server:
            document = {
                "cache": {"namespace": "away", "bus": "none"},
                "tier": {"far": {"type": "redis", "url": server.url, "timeout": "10s", "deadline": "20s"}},
                "route": {"all": {"tiers": ["far"], "ttl": "1h"}},
            }
            async with Cache.open(document) as cache:
                await cache.set("k", 1)
                server.stop()
                assert await cache.get("k", "absent") == "absent"
                server.start()

                async def stored():
                    await cache.set("k", 2)
                    return await cache.get("k") == 2

                await until(stored)

    on_uvloop(act)


@installed
def test_open_sync_runs_on_the_loop_that_the_configuration_names(document):
    async def loop():
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    for name in ("asyncio", "uvloop"):
        before = set(threading.enumerate())
        with Cache.open_sync(document, cache={"loop": name}) as cache:
            assert cache.run(loop) == name
            with ThreadPoolExecutor(8) as threads:
                assert set(threads.map(lambda _: cache.get_or_set("k", lambda: 5), range(50))) == {5}
            cache.delete("k")
        assert {t.name for t in set(threading.enumerate()) - before if t.name == "tiercache-loop"} == set()


FORKED = """
import asyncio, os, sys
from tiercache import Cache
async def loop():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
cache = Cache.open_sync({document!r}, cache={{"loop": "uvloop"}})
cache.set("before", 1)
child = os.fork()
if not child:
    try:
        cache.set("child", 3)
        assert cache.get("child") == 3
        assert cache.run(loop) == "uvloop"
        cache.close()
        os._exit(0)
    except BaseException as error:
        print(type(error), error, file=sys.stderr)
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert cache.get("before") == 1
cache.set("after", 2)
assert cache.get("after") == 2
cache.close()
"""


@installed
@forks
@pytest.mark.slow
def test_the_child_of_a_fork_opens_its_own_on_uvloop_too(tmp_path):
    document = {
        "tier": {"memory": {"type": "memory"}, "far": {"type": "sqlite", "path": str(tmp_path / "x.db")}},
        "route": {"all": {"tiers": ["memory", "far"], "ttl": "1h"}},
    }
    done = subprocess.run(
        [sys.executable, "-c", FORKED.format(document=document)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_loop_that_is_not_installed_is_a_problem_with_its_remedy(monkeypatch):
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    stages = {"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"], "ttl": "1h"}}}
    Cache.open({"cache": {"loop": "asyncio"}, **stages})
    with pytest.raises(ConfigError) as caught:
        Cache.open({"cache": {"loop": "uvloop"}, **stages})
    (problem,) = caught.value.problems
    assert problem.path == "cache.loop"
    assert "uvloop is not installed" in str(problem)
    assert "tiercache-kernel[uvloop]" in str(problem)
