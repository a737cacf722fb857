"""Decorators at module level: which cache a call uses, and what happens where there is none."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from tiercache import Cache, ConfigError
from tiercache_plugins.advanced import (
    AdvancedCachingSystem,
    CacheConfig,
    CacheType,
    cache_result,
    close_default_cache,
    computed_cache,
    dynamic_cache,
    static_cache,
    temporary_cache,
    use_cache,
)
from tiercache_plugins.advanced.default import DEFAULT

ROOT = Path(__file__).resolve().parents[2]
NEAR = CacheConfig(disk_cache_dir=None)
CALLS: Counter[str] = Counter()


@static_cache(ttl=86400)
async def app_config():
    CALLS["app_config"] += 1
    return {"version": "1.0.0"}


@dynamic_cache(ttl=3600)
async def profile(user_id: int):
    CALLS[f"profile {user_id}"] += 1
    await asyncio.sleep(0)
    return {"id": user_id}


@computed_cache()
def total(word: str) -> int:
    CALLS["total"] += 1
    return len(word)


@temporary_cache(key="tmp:{name}")
async def scratch(name: str) -> str:
    CALLS["scratch"] += 1
    return name


@cache_result(ttl=1800, cache_type=CacheType.COMPUTED)
async def mean(data: list[float]) -> float:
    CALLS["mean"] += 1
    return sum(data) / len(data)


class Users:
    def __init__(self, tenant):
        self.tenant = tenant

    @dynamic_cache(key="{self.tenant}:{name}", tags=["{self.tenant}"])
    async def find(self, name):
        CALLS["find"] += 1
        return f"{self.tenant} {name}"


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    CALLS.clear()
    monkeypatch.chdir(tmp_path)
    yield
    asyncio.run(close_default_cache())
    assert DEFAULT.near() is None


def configure(path: Path) -> None:
    shutil.copy(ROOT / "tiercache.toml", path)


def test_a_decorated_function_uses_the_first_system_that_was_initialized():
    async def main():
        async with AdvancedCachingSystem(NEAR) as first, AdvancedCachingSystem(NEAR) as second:
            for _ in range(3):
                assert await app_config() == {"version": "1.0.0"}
                assert await profile(1) == {"id": 1}
                assert await mean([1.0, 2.0]) == 1.5
                assert await scratch("a") == "a"
                assert await Users("shop").find("Ann") == "shop Ann"
                assert await Users("bank").find("Ann") == "bank Ann"
            patterns = first.get_comprehensive_stats()["overall"]["cache_patterns"]
            assert patterns == {"static": 3, "dynamic": 9, "computed": 3, "temporary": 3}
            assert second.get_comprehensive_stats()["overall"]["hits"] == 0
            assert await first.get("tmp:a", CacheType.TEMPORARY) == "a"
            await first.invalidate_tags("shop")
            await Users("shop").find("Ann")
            await Users("bank").find("Ann")

    asyncio.run(main())
    assert CALLS == {"app_config": 1, "profile 1": 1, "mean": 1, "scratch": 1, "find": 3}


def test_the_next_system_takes_over_when_the_first_is_closed():
    async def main():
        first = await AdvancedCachingSystem(NEAR).initialize()
        await profile(1)
        await first.close()
        async with AdvancedCachingSystem(NEAR) as second:
            await profile(1)
            await profile(1)
            assert second.get_comprehensive_stats()["overall"]["cache_patterns"]["dynamic"] == 2

    asyncio.run(main())
    assert CALLS == {"profile 1": 2}


def test_many_calls_at_once_call_the_function_once():
    async def main():
        async with AdvancedCachingSystem(NEAR):
            assert await asyncio.gather(*(profile(7) for _ in range(50))) == [{"id": 7}] * 50

    asyncio.run(main())
    assert CALLS == {"profile 7": 1}


def test_a_decorated_function_has_all_that_the_cache_gives_to_functions():
    async def main():
        async with AdvancedCachingSystem(NEAR) as system:
            await profile(1)
            assert await system.cache.exists(profile.key_for(1))
            assert await profile.invalidate(1)
            await profile(1)
            await profile.refresh(1)
            assert await profile.uncached(2) == {"id": 2}
            assert profile.cache_info().loads == before + 3
            users = Users("shop")
            await users.find("Ann")
            assert await users.find.invalidate("Ann")

    before = profile.cache_info().loads
    asyncio.run(main())
    assert inspect.iscoroutinefunction(profile)
    assert not inspect.iscoroutinefunction(total)
    assert list(inspect.signature(profile).parameters) == ["user_id"]
    assert profile.__name__ == "profile"


def test_without_a_system_the_nearest_configuration_is_opened_once(tmp_path, monkeypatch):
    configure(tmp_path)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")

    async def main():
        await asyncio.gather(*(profile(at) for at in range(20)))
        await asyncio.gather(*(profile(at) for at in range(20)))
        assert DEFAULT.near().stats().routes["dynamic"].hits == 20
        await close_default_cache()

    asyncio.run(main())
    assert set(CALLS.values()) == {1}
    assert (tmp_path / ".cache" / "tiercache.sqlite3").exists()
    # On another loop it is opened anew, and finds on disk what the first left there.
    asyncio.run(main_of(profile, 3))
    assert CALLS["profile 3"] == 1


async def main_of(function, *args):
    result = await function(*args)
    await close_default_cache()
    return result


def test_another_loop_gets_a_cache_like_the_first():
    got = []

    async def elsewhere():
        got.append(await profile(1))
        got.append(DEFAULT.near())
        await close_default_cache()

    async def main():
        async with AdvancedCachingSystem(NEAR) as system:
            await profile(1)
            await asyncio.to_thread(asyncio.run, elsewhere())
            assert got[0] == {"id": 1}
            assert got[1] is not system.cache
            assert not got[1].is_open
            assert system.cache.is_open

    asyncio.run(main())
    assert CALLS == {"profile 1": 2}


def test_without_a_system_and_a_configuration_it_says_what_is_missing():
    with pytest.raises(ConfigError, match=r"no tiercache\.toml"):
        asyncio.run(profile(1))
    with pytest.raises(ConfigError, match=r"no tiercache\.toml"):
        total("word")


def test_a_configuration_without_the_route_says_which_there_are(tmp_path):
    (tmp_path / "tiercache.toml").write_text(
        '[tier.memory]\ntype = "memory"\n[route.only]\ntiers = ["memory"]\n'
    )
    with pytest.raises(ValueError, match='no route "dynamic" is declared; there are: only'):
        asyncio.run(main_of(profile, 1))


def test_a_cache_of_one_s_own_can_be_the_default():
    async def main():
        document = {
            "route": {name: {"tiers": ["memory"], "default": name == "dynamic"} for name in CacheType}
        }
        async with Cache.open(document) as cache:
            use_cache(cache)
            await profile(1)
            await profile(1)
            assert cache.stats().routes["dynamic"].hits == 1

    asyncio.run(main())


# Threads


def test_a_sync_function_without_any_loop_opens_a_cache_of_its_own(tmp_path):
    configure(tmp_path)
    threads = [threading.Thread(target=total, args=("word",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total("word") == 4
    assert CALLS["total"] == 1
    assert total.invalidate("word")
    assert total("word") == 4
    assert total.refresh("word") == 4
    assert CALLS["total"] == 3


def test_a_sync_function_uses_the_system_of_the_loop_wherever_it_is_called():
    async def main():
        async with AdvancedCachingSystem(NEAR) as system:
            assert await asyncio.to_thread(total, "word") == 4
            assert total("word") == 4
            assert await asyncio.to_thread(total, "word") == 4
            assert system.get_comprehensive_stats()["overall"]["cache_patterns"]["computed"] == 3

    asyncio.run(main())
    assert CALLS["total"] == 1


def test_a_sync_function_called_on_a_loop_without_a_system_is_cached_too(tmp_path):
    configure(tmp_path)

    async def main():
        assert total("word") == 4
        while DEFAULT.face().peek(total.key_for("word")) != 4:
            await asyncio.sleep(0.01)
        assert total("word") == 4

    asyncio.run(main())
    assert CALLS["total"] == 1


# Processes

FORKED = """
import os, sys, warnings
from tiercache_plugins.advanced import computed_cache

@computed_cache()
def total(word):
    print("called", flush=True)
    return len(word)

assert total("word") == 4
warnings.simplefilter("ignore")
child = os.fork()
if not child:
    assert total("other") == 5
    assert total("other") == 5
    os._exit(0)
_, status = os.waitpid(child, 0)
assert total("word") == 4
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_the_child_of_a_fork_opens_the_default_anew(tmp_path):
    # Memory alone: what a fork in the middle of a write does to a file is not the subject.
    (tmp_path / "tiercache.toml").write_text(
        '[tier.memory]\ntype = "memory"\n[route.computed]\ntiers = ["memory"]\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", FORKED], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "called\n" * 2
