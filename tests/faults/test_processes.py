"""Three processes, one server, and faults: nothing old is read for longer than a lease."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from faults.member import Source
from servers import Server
from tiercache.testing import FaultProxy

TESTS = Path(__file__).parents[1]
MEMBERS = 3
KEYS = 8
LEASE = 1.0
SLACK = 0.15
"""For the scheduler of a machine with fewer cores than processes; the bound itself has none."""
WAKING = 0.1
"""Seconds in which all threads of a process that was stopped have had their turn."""


def document(folder: Path, number: int, port: int) -> dict[str, Any]:
    return {
        "cache": {"namespace": "faults", "lease": LEASE},
        "tier": {
            "memory": {"type": "memory"},
            "shared": {"type": "redis", "url": f"redis://127.0.0.1:{port}/0", "deadline": "400ms"},
            # The first two are of one host.
            "disk": {"type": "sqlite", "path": str(folder / f"host{max(number, 1)}.db")},
        },
        "route": {"all": {"tiers": ["memory", "shared", "disk"], "ttl": "1h"}},
    }


class Fleet:
    """The processes, each behind a proxy of its own."""

    def __init__(self, folder: Path, server: Server, seed: int) -> None:
        self.folder = folder
        self.server = server
        self.random = random.Random(seed)
        self.proxies = [FaultProxy(server.host, server.port) for _ in range(MEMBERS)]
        self.processes: list[subprocess.Popen[str]] = []
        self.woken: list[tuple[int, float]] = []
        """Which process was stopped, and went on when."""

    async def live(self, faults: int) -> list[dict[str, Any]]:
        source = self.folder / "source"
        Source.make(source, KEYS * MEMBERS)
        for proxy in self.proxies:
            await proxy.__aenter__()
        try:
            for number, proxy in enumerate(self.proxies):
                told = {
                    "number": number, "members": MEMBERS, "keys": KEYS, "source": str(source),
                    "log": str(self.folder / f"log{number}"),
                    "document": document(self.folder, number, proxy.port),
                }  # fmt: skip
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "faults.member", json.dumps(told)],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TESTS,
                    )
                )  # fmt: skip
            for process in self.processes:
                assert process.stdout is not None
                assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
            for _ in range(faults):
                await asyncio.sleep(0.1 + self.random.random() * 0.5)
                await self.strike()
            await asyncio.sleep(1)
            for process in self.processes:
                await asyncio.to_thread(process.communicate, timeout=60)
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
            for proxy in self.proxies:
                await proxy.__aexit__()
        logs = [json.loads((self.folder / f"log{number}").read_text()) for number in range(MEMBERS)]
        for number, log in enumerate(logs):
            log["woken"] = [at for who, at in self.woken if who == number]
        return logs

    async def strike(self) -> None:
        proxy = self.random.choice(self.proxies)
        seconds = 0.1 + self.random.random() * 1.4
        match self.random.choice(
            ("black hole", "reset", "refuse", "delay", "stop", "kill", "flush", "freeze")
        ):
            case "black hole":
                proxy.black_hole = True
                await asyncio.sleep(seconds)
                proxy.black_hole = False
            case "reset":
                proxy.reset()
            case "refuse":
                proxy.refuse = True
                proxy.reset()
                await asyncio.sleep(seconds)
                proxy.refuse = False
            case "delay":
                proxy.delay = 0.15
                await asyncio.sleep(seconds)
                proxy.delay = 0.0
            case "stop":
                await asyncio.to_thread(self.server.freeze)
                await asyncio.sleep(seconds)
                await asyncio.to_thread(self.server.thaw)
            case "kill":
                await asyncio.to_thread(self.server.kill)
                await asyncio.sleep(seconds / 2)
                await asyncio.to_thread(self.server.start)
            case "flush":
                await asyncio.to_thread(self.server.ask, "FLUSHALL")
            case "freeze":
                number = self.random.randrange(MEMBERS)
                os.kill(self.processes[number].pid, signal.SIGSTOP)
                await asyncio.sleep(seconds)
                self.woken.append((number, time.monotonic()))
                os.kill(self.processes[number].pid, signal.SIGCONT)


def staleness(logs: list[dict[str, Any]]) -> list[tuple[float, int, int, int]]:
    """Return for how long each old value was known to be old, with reader, key, version; the worst first.

    Not what a process read while the thread of its clock had no turn since the process was stopped: the page
    of what is not promised says that.
    """
    written: dict[int, list[tuple[int, float]]] = {}
    for log in logs:
        for key, version, at in log["written"]:
            written.setdefault(key, []).append((version, at))
    found = []
    for number, log in enumerate(logs):
        for key, version, began in log["old"]:
            known = min((at for newer, at in written.get(key, ()) if newer > version), default=began)
            waking = any(0 <= began - at <= WAKING for at in log["woken"])
            if known < began and not waking:
                found.append((began - known, number, key, version))
    return sorted(found, reverse=True)


def suffered(folder: Path, faults: int, seed: int) -> list[dict[str, Any]]:
    with Server("valkey") as server:
        return asyncio.run(Fleet(folder, server, seed).live(faults))


def check(logs: list[dict[str, Any]], reads: int) -> None:
    assert [error for log in logs for error in log["errors"]] == []
    assert sum(log["reads"] for log in logs) >= reads
    # Trust that is never given would hold every bound.
    assert sum(log["near"] for log in logs) >= sum(log["reads"] for log in logs) / 3
    worst = staleness(logs)[:5]
    assert not worst or worst[0][0] <= LEASE + SLACK, worst
    # One's own changes are known at once.
    own = [each for each in staleness(logs) if each[2] // KEYS == each[1]]
    assert not own, own[:5]


def test_after_any_fault_nothing_is_older_than_a_lease(tmp_path):
    check(suffered(tmp_path, 20, seed=1), 5_000)


@pytest.mark.slow
@pytest.mark.alone
def test_after_hundreds_of_faults_nothing_is_older_than_a_lease(tmp_path):
    check(suffered(tmp_path, 200, seed=random.getrandbits(32)), 100_000)
