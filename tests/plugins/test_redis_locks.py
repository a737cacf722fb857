"""Processes, real ones, that load or lock by one server; and what it sees of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers import Server
from servers.server import wait_until
from tiercache import Cache, LockTimeout, TierUnavailable
from tiercache.engine.locks import turns
from tiercache.testing import FaultProxy

TESTS = Path(__file__).parents[1]
PATIENCE = 60.0

# A process that loads "k" once told to, and counts in the server how often its loader ran.
WORKER = """
import asyncio, sys
from tiercache import Cache
from tiercache.engine.locks import turns
from servers.server import _reply, _send
import json, socket

document, control, act = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
turns.LIFE = float(sys.argv[4])

def ask(*command):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(control)
        with line.makefile("rwb") as stream:
            _send(stream, *command)
            return _reply(stream)

async def loader():
    ask("INCR", "count:loads")
    if act == "hang":
        print("loading", flush=True)
        await asyncio.sleep(3600)
    # Until all the others have come as far as waiting for this load.
    await asyncio.to_thread(sys.stdin.readline)
    return "value"

async def main():
    async with Cache.open(document) as cache:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        asking = [asyncio.create_task(cache.get_or_set("k", loader)) for _ in range(10)]
        while not (await asyncio.sleep(0.01)) and not ask("EXISTS", "count:loads"):
            pass
        print("asked", flush=True)
        print(set(await asyncio.gather(*asking)), flush=True)

asyncio.run(main())
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server("valkey") as server:
        yield server


def document(url: str, **route: Any) -> dict[str, Any]:
    return {
        "tier": {"redis": {"type": "redis", "url": url, "timeout": "5s", "deadline": "10s"}},
        "route": {"all": {"tiers": ["memory", "redis"], "ttl": "1h", "lock": True, **route}},
    }


class Worker:
    """A process of its own."""

    def __init__(self, server: Server, act: str = "load", life: float = 120.0) -> None:
        arguments = json.dumps(document(server.url)), str(server.socket), act, str(life)
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TESTS,
        )  # fmt: skip

    def says(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == line

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def test_four_processes_load_once(server: Server) -> None:
    workers = [Worker(server) for _ in range(4)]
    try:
        for worker in workers:
            worker.says("ready")
        for worker in workers:
            worker.go()
        for worker in workers:
            worker.says("asked")
        for worker in workers:
            # One of them waits for this line in its loader; to the others it means nothing.
            worker.go()
        for worker in workers:
            worker.says("{'value'}")
        assert server.ask("GET", "count:loads") == "1"
        # Who took the lease only to find the value gives it back behind the answer.
        wait_until(lambda: not server.ask("EXISTS", "tiercache:\0htiercache:k"), "the lease's end")
    finally:
        for worker in workers:
            worker.end()


def test_a_process_that_is_killed_while_it_loads_is_followed_within_the_life_of_its_lease(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LIFE", 1.0)
    worker = Worker(server, "hang", 1.0)

    async def follow() -> None:
        async with Cache.open(document(server.url)) as cache:
            worker.process.kill()
            assert await asyncio.wait_for(cache.get_or_set("k", lambda: "mine"), PATIENCE) == "mine"

    try:
        worker.says("ready")
        worker.go()
        worker.says("loading")
        assert 0 < server.ask("PTTL", "tiercache:\0htiercache:k") <= 1000
        asyncio.run(follow())
        assert server.ask("GET", "count:loads") == "1"
    finally:
        worker.end()


def test_a_delete_in_another_process_voids_the_lease(server: Server) -> None:
    async def scenario() -> None:
        async with Cache.open(document(server.url)) as one, Cache.open(document(server.url)) as two:
            gate, loading = asyncio.Event(), asyncio.Event()

            async def loader() -> str:
                loading.set()
                await gate.wait()
                return "old"

            asking = asyncio.create_task(one.get_or_set("k", loader))
            await asyncio.wait_for(loading.wait(), PATIENCE)
            assert server.ask("EXISTS", "tiercache:\0htiercache:k") == 1
            await two.delete("k")
            assert server.ask("EXISTS", "tiercache:\0htiercache:k") == 0
            assert await two.get_or_set("k", lambda: "new") == "new"
            gate.set()
            assert await asking == "old"

    async def after() -> None:
        async with Cache.open(document(server.url)) as cache:
            assert await cache.get("k") == "new"

    asyncio.run(scenario())
    asyncio.run(after())


def test_who_waits_leaves_the_connections_to_who_works(server: Server) -> None:
    async def scenario() -> None:
        configuration = document(server.url)
        configuration["tier"]["redis"]["connections"] = 1
        async with Cache.open(configuration) as cache, cache.lock("job"):
            waiting = [asyncio.create_task(cache.lock("job").acquire()) for _ in range(100)]
            for n in range(50):
                await cache.set(f"k{n}", n)
                await asyncio.sleep(0.002)
            assert cache.stats().tiers["redis"].errors == 0
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(scenario())


def test_without_the_server_loads_go_on_and_locks_are_not_guessed(server: Server) -> None:
    async def scenario() -> None:
        async with FaultProxy(server.host, server.port) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}/0"
            async with Cache.open(document(url)) as cache, Cache.open(document(server.url)) as other:
                assert await cache.get_or_set("a", lambda: 1) == 1
                held = await other.lock("job").acquire()
                with pytest.raises(LockTimeout):
                    await cache.lock("job", wait=0).acquire()
                proxy.refuse = True
                proxy.reset()
                assert await asyncio.wait_for(cache.get_or_set("b", lambda: 2), PATIENCE) == 2
                many = await asyncio.wait_for(
                    cache.get_or_set_many(["c", "d"], lambda keys: dict.fromkeys(keys, 3)), PATIENCE
                )
                assert many == {"c": 3, "d": 3}
                with pytest.raises(TierUnavailable):
                    await asyncio.wait_for(cache.lock("job").acquire(), PATIENCE)
                assert held.held
                await held.release()

    asyncio.run(scenario())


def test_fences_rise_from_process_to_process(server: Server) -> None:
    async def fence() -> int:
        async with Cache.open(document(server.url)) as cache, cache.lock("job") as lock:
            return lock.fence

    fences = [asyncio.run(fence()) for _ in range(3)]
    assert fences == sorted(set(fences))
