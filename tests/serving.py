"""A real server on loopback, on an event loop in a thread: with a cache, and an application over it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Self

import uvicorn

from tiercache import Cache


class Serving:
    """Serves what *make* makes of the cache of *tables*, until the block ends."""

    def __init__(self, tables: Mapping[str, Any], make: Callable[[Cache], Any]) -> None:
        self.tables = tables
        self.make = make

    def __enter__(self) -> Self:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.ready = threading.Event()
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.ready.wait(60)
        if self.failure is not None:
            raise self.failure
        return self

    def __exit__(self, *_: object) -> None:
        # Streams are not waited for; that they end by themselves too is a test of its own.
        getattr(self.app, "close", lambda: None)()
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.socket.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do *work* on the loop of the server."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self.failure = failure
            raise
        finally:
            self.ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        async with Cache.open(self.tables) as self.cache:
            self.app = self.make(self.cache)
            self.server = uvicorn.Server(uvicorn.Config(
                self.app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=20,
            ))  # fmt: skip
            serving = asyncio.create_task(self.server.serve(sockets=[self.socket]))
            while not self.server.started and not serving.done():
                await asyncio.sleep(0.01)
            self.ready.set()
            await serving
