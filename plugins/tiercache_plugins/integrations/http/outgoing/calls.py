"""Calls of an httpx client as the cache takes requests, and what it answers as httpx takes responses."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import httpx

from tiercache_plugins.integrations.http.answering import Message
from tiercache_plugins.integrations.http.asked import PARTITION, Asked, Scope
from tiercache_plugins.integrations.http.exchange import App
from tiercache_plugins.integrations.http.serving import Serving
from tiercache_plugins.integrations.http.settings import HttpSettings
from tiercache_plugins.integrations.http.web import HttpCache

Partition = str | Callable[[httpx.Request], str] | None
"""Whose the responses are: one user's, or what tells it by the request; None: what the credentials tell."""

REQUEST: Final = "tiercache.request"
"""Where a scope holds the request of httpx."""
CALL: Final = "tiercache.call"
"""Where a scope holds the call that it is the scope of."""
AHEAD: Final = 65_536
"""Bytes that are read ahead of a client where nobody else waits for them."""
ELSEWHERE: Final = frozenset({"target", "sni_hostname"})
"""Extensions of a request by which it means something else than its URL says."""


def cacheable(request: httpx.Request) -> bool:
    """Whether *request* asks for its URL in the usual way, so that its URL can be a key."""
    host = request.headers.get("host")
    return not (
        request.method == "CONNECT"
        or "upgrade" in request.headers
        or ELSEWHERE & set(request.extensions)
        or (host is not None and host.lower().encode("latin-1", "replace") != request.url.netloc.lower())
    )


def scope_of(request: httpx.Request, partition: Partition) -> dict[str, Any]:
    """Return *request* as a scope. Raises TypeError where *partition* gives no text."""
    url = request.url
    path, _, query = url.raw_path.partition(b"?")
    scope: dict[str, Any] = {
        "type": "http",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": path,
        "query_string": query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (url.raw_host.decode("ascii"), url.port),
        REQUEST: request,
    }
    if not any(name == b"host" for name, _ in scope["headers"]):
        scope["headers"].insert(0, (b"host", url.netloc))
    whose = partition(request) if callable(partition) else partition
    if whose is not None:
        if not isinstance(whose, str):
            raise TypeError(f"partition gave {type(whose).__name__}; a str that tells the user is accepted")
        scope[PARTITION] = whose
    return scope


def forwarded(scope: Scope) -> httpx.Request:
    """Return the request that is to be sent: what the client asked, with what the cache changed about it."""
    request: httpx.Request = scope[REQUEST]
    headers = scope["headers"]
    if scope["method"] == request.method and headers == scope_of(request, None)["headers"]:
        return request
    return httpx.Request(
        scope["method"], request.url, headers=headers, stream=request.stream, extensions=request.extensions
    )


class Call:
    """One call: a task of its own serves it, and what that sends waits here for the client.

    What is to be stored is read to its end whether the client reads or not, because others may wait for it;
    it is bounded by the longest body that is stored. Anything else is read as the client reads.
    """

    def __init__(self, scope: Scope, settings: HttpSettings) -> None:
        self.asked = Asked(scope, settings)
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.extensions: dict[str, Any] = {}
        """What the transport says of its response, where there is one."""
        self.scope = {**scope, CALL: self}
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._begun = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(self, task: asyncio.Task[None]) -> None:
        """Wait until status and fields have come from *task*, which answers.

        What it raises before that is raised. Who is cancelled here ends it.
        """
        self._task = task
        task.add_done_callback(self._end)
        try:
            while not self._begun and not task.done():
                self._news.clear()
                await self._news.wait()
        except BaseException:
            await self.aclose()
            raise
        if not self._begun:
            self._raise(task)
            raise httpx.RemoteProtocolError("there was no response")

    def response(self, stream: httpx.AsyncByteStream | httpx.SyncByteStream) -> httpx.Response:
        """Return the response, whose body *stream* gives."""
        extensions = {**self.extensions, "tiercache": self.asked.handling}
        return httpx.Response(self.status, headers=self.headers, stream=stream, extensions=extensions)

    async def receive(self) -> Message:
        """Return the request's content to who serves it: the transport sends it by itself."""
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        """Take what the client is to have."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message["headers"])
            self._begun = True
        elif message["type"] == "http.response.body" and (part := message.get("body", b"")):
            self._parts.append(part)
            self._held += len(part)
        self._news.set()
        asked = self.asked
        ahead = asked.settings.max_body if asked.handling.stored else AHEAD
        while message.get("more_body") and self._held > ahead:
            self._room.clear()
            await self._room.wait()

    async def next(self) -> bytes | None:
        """Return the next part of the body; None at its end, when it is stored. Raises what ended it."""
        assert self._task is not None
        while not self._parts:
            if self._task.done():
                self._raise(self._task)
                return None
            self._news.clear()
            await self._news.wait()
        part = self._parts.popleft()
        self._held -= len(part)
        self._room.set()
        return part

    async def aclose(self) -> None:
        """End the call. What has not come whole is stored nowhere."""
        task = self._task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})

    @staticmethod
    def _raise(task: asyncio.Task[None]) -> None:
        """Raise what ended *task*, if anything did."""
        if task.cancelled():
            # Who waits here was not cancelled.
            raise httpx.ReadError("the call was ended before its response was there")
        task.result()

    def _end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            # A client that left before the end asks for no error.
            task.exception()
        self._news.set()


def start_of(scope: Scope, response: httpx.Response) -> Message:
    """Return the first message of *response*; its extensions are kept for the call that it answers."""
    call: Call = scope[CALL]
    call.extensions = dict(response.extensions)
    return {
        "type": "http.response.start", "status": response.status_code, "headers": response.headers.raw,
    }  # fmt: skip


class Calls:
    """The calls of one transport, which *app* sends where *http* has no answer. For one event loop."""

    def __init__(self, app: App, http: HttpCache) -> None:
        self._http = http
        self._serving = Serving(app, http)
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, scope: Scope) -> Call:
        """Return the call of *scope* once status and fields have come. Raises what sending it raises."""
        call = Call(scope, self._http.settings)
        task = asyncio.create_task(self._serving.answer(call.asked, call.scope, call.receive, call.send))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await call.begin(task)
        return call

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._serving.close()
