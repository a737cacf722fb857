"""Load on the example shop: two uvicorn workers, two customers, reads between writes.

    python tests/http_cache/shop.py [requests]   # measures, over SQLite alone and over Valkey

What is read must be one's own, and must not be older than the cache promises: in the worker that was told of
a change never; in the other not after one lease and the slowest ask that was under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from servers import Server

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "fastapi_shop"
LEASE = 2.0
PATIENCE = 60.0
ITEMS = 20


@dataclass
class Report:
    """What was seen."""

    requests: int = 0
    seconds: float = 0.0
    hits: int = 0
    reads: int = 0
    slowest: float = 0.0
    workers: set[int] = field(default_factory=set)
    leaks: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    late: list[tuple[float, str]] = field(default_factory=list)
    """Reads behind a change that another worker was told of: by how many seconds, and what."""

    def __str__(self) -> str:
        behind = max((age for age, _ in self.late), default=0.0)
        return (
            f"{self.requests} requests in {self.seconds:.1f} s, {self.requests / self.seconds:.0f} a second, "
            f"{self.hits / max(self.reads, 1):.0%} of {self.reads} reads from the cache, {len(self.workers)} "
            f"workers, {len(self.leaks)} leaks, {len(self.stale)} stale, {len(self.late)} behind another "
            f"worker by at most {behind * 1000:.0f} ms"
        )


class Connection:
    """One connection that is kept open, because a client library costs more than the whole server."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.removeprefix("http://").partition(":")
        self._port = int(port)
        self.pid = 0

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self.pid = (await self.send("GET", "/worker"))[2]["pid"]

    async def send(self, method: str, path: str, who: str = "") -> tuple[int, dict[str, str], Any]:
        """Return status, fields and content of the answer."""
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._host}"]
        lines += [f"authorization: Bearer {who}"] if who else []
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        content = await self._reader.readexactly(int(fields["content-length"]))
        return int(head[0].split()[1]), fields, json.loads(content)

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@contextlib.contextmanager
def shop(configuration: str, directory: Path, example: Path = EXAMPLE, **environment: str) -> Iterator[str]:
    """Yield the address of *example*, served by two workers."""
    listening = socket.socket()
    # uvicorn's workers leave this off, and each answer then waits 40 ms for the client's acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    log = (directory / "log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--app-dir", str(example), "app:app", "--workers", "2", "--fd",
         str(listening.fileno()), "--log-level", "warning"],
        cwd=directory, stdout=log, stderr=log, start_new_session=True, pass_fds=[listening.fileno()],
        env=os.environ | environment | {
            "TIERCACHE_CONFIG": str(example / configuration), "SHOP_DATABASE": str(directory / "shop.db"),
        },
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(0)
        said = log.read()
        log.close()
        listening.close()
        assert "Traceback" not in said, said[-3000:]


@contextlib.asynccontextmanager
async def connections(address: str, each: int) -> AsyncIterator[list[Connection]]:
    """Yield *each* connections to either worker."""
    async with contextlib.AsyncExitStack() as stack:
        found: dict[int, list[Connection]] = defaultdict(list)
        end = time.monotonic() + PATIENCE
        while len(found) < 2 or min(map(len, found.values())) < each:
            assert time.monotonic() < end, f"no two workers at {address}"
            connection = Connection(address)
            try:
                await connection.open()
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.05)
                continue
            stack.push_async_callback(connection.close)
            found[connection.pid].append(connection)
        yield [connection for some in found.values() for connection in some[:each]]


class Load:
    """Requests of two customers through connections to both workers."""

    def __init__(self, requests: int, seed: int) -> None:
        self.report = Report(requests)
        self._left = requests
        self._chance = random.Random(seed)
        self._told: dict[str, list[tuple[float, int, int]]] = {}
        """By thing: when a change was acknowledged, its version, and the worker."""

    async def run(self, address: str) -> Report:
        async with connections(address, each=4) as open_ones:
            self.report.workers = {connection.pid for connection in open_ones}
            began = time.monotonic()
            await asyncio.gather(*map(self._visit, open_ones))
            self.report.seconds = time.monotonic() - began
            for connection in {connection.pid: connection for connection in open_ones}.values():
                await self._settled(connection)
        allowed = LEASE + self.report.slowest
        self.report.stale += [what for age, what in self.report.late if age > allowed]
        return self.report

    async def _visit(self, connection: Connection) -> None:
        while self._left > 0:
            self._left -= 1
            who = self._chance.choice(("ada", "bob"))
            number = self._chance.randrange(ITEMS)
            path = self._chance.choice(("/me", "/me", f"/items/{number}", f"/items/{number}", "/items"))
            if self._chance.random() < 0.05 and path != "/items":
                _, shown = await self._send(connection, "PUT", who, path)
                told = self._told.setdefault(_thing(who, path), [])
                told.append((time.monotonic(), shown["version"], connection.pid))
            else:
                await self._read(connection, who, path)

    async def _send(self, connection: Connection, method: str, who: str, path: str) -> tuple[str, Any]:
        """Return what the cache said of the request, and the content."""
        began = time.monotonic()
        status, fields, shown = await connection.send(method, path, who)
        self.report.slowest = max(self.report.slowest, time.monotonic() - began)
        assert status == 200, f"{method} {path}: {status} {shown}"
        return fields.get("cache-status", ""), shown

    async def _read(self, connection: Connection, who: str, path: str) -> None:
        began = time.monotonic()
        said, shown = await self._send(connection, "GET", who, path)
        self.report.reads += 1
        self.report.hits += "; hit" in said
        if path == "/items":
            for name, version in shown.items():
                self._judge(connection.pid, f"/items/{name.removeprefix('item ')}", version, began, path)
            return
        if path == "/me" and shown["name"] != who:
            self.report.leaks.append(f"{who} was shown {shown}")
        self._judge(connection.pid, _thing(who, path), shown["version"], began, path)

    def _judge(self, pid: int, thing: str, version: int, began: float, path: str) -> None:
        missed = [one for one in self._told.get(thing, ()) if one[1] > version and one[0] < began]
        for when, newer, worker in missed:
            what = f"{path} showed {thing} at version {version}, {began - when:.3f} s after version {newer}"
            if worker == pid:
                self.report.stale.append(f"{what}, which the same worker was told of")
            else:
                self.report.late.append((began - when, what))

    async def _settled(self, connection: Connection) -> None:
        """Once a lease is over, a worker must show what stands: nothing older was left in the cache."""
        for thing, told in self._told.items():
            who, path = ("ada", thing) if thing.startswith("/items") else (thing.split()[1], "/me")
            newest = max(version for _, version, _ in told)
            end = time.monotonic() + LEASE + self.report.slowest + 10
            while (shown := (await self._send(connection, "GET", who, path))[1]["version"]) < newest:
                if time.monotonic() > end:
                    kept = f"worker {connection.pid} kept {thing} at {shown}; {newest} stands"
                    self.report.stale.append(kept)
                    break
                await asyncio.sleep(0.1)


def _thing(who: str, path: str) -> str:
    return f"/me {who}" if path == "/me" else path


def measured(over: str, requests: int, directory: Path, url: str = "", seed: int = 1) -> Report:
    """Put load on the shop over "disk" or "redis", and return what was seen."""
    environment = (
        {"TIERCACHE_TIER__REDIS__URL": url, "TIERCACHE_CACHE__NAMESPACE": f"shop{seed}"}
        if over == "redis"
        else {"TIERCACHE_TIER__DISK__PATH": str(directory / "responses.db")}
    )
    with shop(f"{over}.toml", directory, **environment) as address:
        return asyncio.run(Load(requests, seed).run(address))


def main() -> None:
    """Print what was seen over both."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second, Server() as server:
        print("SQLite:", measured("disk", requests, Path(first)))
        print("Valkey:", measured("redis", requests, Path(second), server.url))


if __name__ == "__main__":
    main()
