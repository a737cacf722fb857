"""The end of the interpreter, with caches that were closed and with caches that nobody closed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

LEFT_OPEN = {
    "an async cache": """
        async def main():
            await cache.start()
            await cache.set("k", 1)
        asyncio.run(main())
    """,
    "an async cache in a module that goes on": """
        async def main():
            await cache.start()
            assert await cache.get_or_set("k", lambda: 1) == 1
            assert await cache.get_or_set("k", lambda: 2) == 1
        asyncio.run(main())
        kept = cache.stats()
    """,
    "an async cache with writes and loads under way": """
        async def main():
            await cache.start()
            async def slow():
                await asyncio.sleep(3600)
            waiting.append(asyncio.create_task(cache.get_or_set("slow", slow)))
            waiting.extend(asyncio.create_task(cache.set(f"k{n}", "x" * 1000)) for n in range(500))
            await asyncio.sleep(0)
        asyncio.run(main())
    """,
    "a cache for threads": """
        own = Cache.open_sync(document)
        own.set("k", 1)
        assert own.get("k") == 1
    """,
    "a cache for threads with writes under way": """
        own = Cache.open_sync(document)
        def writes():
            for n in range(1_000_000):
                own.set(f"k{n}", n)
        for _ in range(4):
            threading.Thread(target=writes, daemon=True).start()
        while own.get("k100") is None:
            time.sleep(0.001)
    """,
    "a cache for threads, of which some wait for a load": """
        own = Cache.open_sync(document)
        entered = threading.Event()
        async def slow():
            entered.set()
            await asyncio.sleep(3600)
        for _ in range(4):
            threading.Thread(target=own.get_or_set, args=("slow", slow), daemon=True).start()
        assert entered.wait(30)
    """,
    "a decorated function": """
        own = Cache.open_sync(document)
        @own.cached(ttl=60)
        def squared(n):
            return n * n
        assert [squared(3), squared(3)] == [9, 9]
    """,
}

CLOSED = {
    "an async cache": """
        async def main():
            async with cache:
                await cache.set_many({f"k{n}": n for n in range(100)}, tags=["t"])
                await cache.invalidate(tags=["t"])
                assert await cache.get_or_set("k", lambda: 1) == 1
        asyncio.run(main())
    """,
    "an async cache, closed with a load and writes under way": """
        async def main():
            async with cache:
                async def slow():
                    await asyncio.sleep(0.2)
                    return "v"
                waiting.append(asyncio.create_task(cache.get_or_set("slow", slow)))
                waiting.extend(asyncio.create_task(cache.set(f"k{n}", "x" * 1000)) for n in range(100))
                await asyncio.sleep(0.01)
            assert (await asyncio.gather(*waiting))[0] == "v"
        asyncio.run(main())
    """,
    "a cache that was never started": """
        async def main():
            await cache.close()
        asyncio.run(main())
    """,
    "a cache for threads": """
        with Cache.open_sync(document) as own:
            own.set("k", 1)
            @own.cached(ttl=60)
            def squared(n):
                return n * n
            assert [squared(3), squared(3)] == [9, 9]
    """,
}

SHARED = {"an async cache", "a cache for threads"}
"""What has a server between, too."""

PROGRAM = """
import asyncio, json, logging, sys, threading, time
from tiercache import Cache
# How fast this machine is says nothing here.
logging.getLogger("asyncio").addFilter(lambda record: "took" not in record.getMessage())
document = json.loads(sys.argv[1])
waiting = []
cache = Cache.open(document)
{body}
{end}
print(time.time(), flush=True)
"""
FORGET = "for name in ('cache', 'own', 'waiting'): globals().pop(name, None)\nimport gc; gc.collect()"
"""While Python still tells of what was forgotten: it does not to the very end."""


@pytest.fixture(scope="module")
def ended(tmp_path_factory, valkey_server):
    """How the programs ended, by what they did: code, what they wrote, and for how long they went on."""
    chosen = {("left open", name): body for name, body in LEFT_OPEN.items()}
    directory = tmp_path_factory.mktemp("exit")
    chosen |= {("closed", name): body for name, body in CLOSED.items()}

    def run(about):
        far = ["far"] if about[1] in SHARED else []
        document = {
            "cache": {"namespace": f"exit-{[*chosen].index(about)}"},
            "tier": {
                "memory": {"type": "memory"},
                "far": {"type": "redis", "url": valkey_server.url},
                "disk": {"type": "sqlite", "path": str(directory / f"{[*chosen].index(about)}.db")},
            },
            "route": {"all": {"tiers": ["memory", *far, "disk"], "ttl": "1h"}},
        }
        end = FORGET if about[0] == "closed" else ""
        code = PROGRAM.format(body=textwrap.dedent(chosen[about]), end=end)
        try:
            done = subprocess.run(
                [sys.executable, "-X", "dev", "-W", "error", "-c", code, json.dumps(document)],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as hung:
            return 1, f"hung: {hung.stderr!r}", 60.0
        over = time.time()
        return done.returncode, done.stderr, over - float(done.stdout or over - 60)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(chosen, pool.map(run, chosen), strict=True))


@pytest.mark.parametrize("name", LEFT_OPEN)
def test_the_interpreter_ends_by_itself_with_a_cache_that_nobody_closed(name, ended, record_property):
    """aiosqlite's thread is joined at exit: a program that forgets `close` hangs for ever."""
    code, said, seconds = ended["left open", name]
    assert code == 0, said
    assert "Task was destroyed" not in said
    assert "never retrieved" not in said
    # What was not closed may be called so in development mode; nothing may have failed.
    assert not re.search(r"^\w+(Error|Exception)\b", said, re.MULTILINE), said
    assert seconds < 10
    record_property("seconds_to_the_end", round(seconds, 3))
    print(f"{name}: {seconds:.3f} s")


@pytest.mark.parametrize("name", CLOSED)
def test_a_cache_that_was_closed_gives_nothing_to_complain_of(name, ended):
    """Python's development mode tells of each socket, file and task that a library has forgotten."""
    code, said, seconds = ended["closed", name]
    assert code == 0, said
    assert said == ""
    assert seconds < 10
