"""Faults on purpose: a far tier that misbehaves by chance, and a proxy that stands in for a bad network."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Any, Literal, Self

from tiercache.contracts import FarTier, Record

Fault = Literal["fail", "delay", "hang", "corrupt", "lie"]


class ChaosTier:
    """A far tier in front of *inner* that, by chance, fails, delays, hangs, damages frames, or lies.

    *chances* says how likely each fault is, from 0 to 1, and may be changed at any time; *seed* makes a run
    repeat itself. Of the further abilities it has none, so that the kernel meets the faults at every call.
    """

    def __init__(
        self, inner: FarTier, *, seed: int = 0, delay: float = 0.01, chances: dict[Fault, float] | None = None
    ) -> None:
        self.inner = inner
        self.chances: dict[Fault, float] = dict(chances or {})
        self.delay = delay
        """Seconds that a delayed call takes longer."""
        self.faults: list[Fault] = []
        """What was done, in order."""
        self._random = random.Random(seed)

    async def open(self) -> None:
        """Open what is behind."""
        await self.inner.open()

    async def close(self) -> None:
        """Close what is behind."""
        await self.inner.close()

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Read, with faults: frames may come damaged, or under the wrong keys."""
        await self._before()
        frames: list[bytes | None] = list(await self.inner.read(keys))
        if self._happens("corrupt"):
            frames = [self._damaged(frame) for frame in frames]
        if self._happens("lie"):
            self._random.shuffle(frames)
        return frames

    async def write(self, records: Sequence[Record]) -> Sequence[int]:
        """Write, with faults: a call that fails may have been done all the same."""
        stamps: Sequence[int] = await self._around(self.inner.write, records)
        return stamps

    async def delete(self, keys: Sequence[str]) -> Sequence[bool]:
        """Delete, with faults: a call that fails may have been done all the same."""
        there: Sequence[bool] = await self._around(self.inner.delete, keys)
        return there

    async def _around(self, act: Any, items: Sequence[Any]) -> Any:
        await self._before()
        result = await act(items)
        if self._happens("fail"):
            raise ConnectionResetError("chaos: the answer was lost")
        return result

    async def _before(self) -> None:
        if self._happens("delay"):
            await asyncio.sleep(self.delay)
        if self._happens("hang"):
            await asyncio.Event().wait()
        if self._happens("fail"):
            raise ConnectionRefusedError("chaos: nobody answers")

    def _happens(self, fault: Fault) -> bool:
        if self._random.random() >= self.chances.get(fault, 0.0):
            return False
        self.faults.append(fault)
        return True

    def _damaged(self, frame: bytes | None) -> bytes | None:
        if not frame:
            return frame
        # Behind the stamp, which a tier may raise.
        at = self._random.randrange(min(8, len(frame) - 1), len(frame))
        return frame[:at] + bytes([frame[at] ^ 0xFF]) + frame[at + 1 :]


class FaultProxy:
    """A TCP proxy on loopback: connect to `port`, and set `delay`, `black_hole` or `refuse` at any time.

    Used as `async with FaultProxy(host, port) as proxy`.
    """

    def __init__(self, host: str, port: int) -> None:
        self.delay = 0.0
        """Seconds by which each piece of data comes later."""
        self.black_hole = False
        """While true nothing passes, and connections stay; what came meanwhile passes afterwards."""
        self.refuse = False
        """While true new connections are cut at once."""
        self.port = 0
        """Where to connect to, once entered."""
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def reset(self) -> None:
        """Cut every connection with RST."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.refuse:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, back}
        self._writers |= pair
        try:
            # A reset reaches the other side too, and being cancelled is how the proxy ends.
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            self._writers -= pair
            for each in pair:
                each.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            while self.black_hole:  # noqa: ASYNC110 - a flag is what a test can set
                await asyncio.sleep(0.005)
            if self.delay:
                await asyncio.sleep(self.delay)
            sink.write(data)
            await sink.drain()
        sink.close()
