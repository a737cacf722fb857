"""One ask of the application: its answer is passed on as it comes, and kept if it may be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from tiercache_plugins.integrations.http.answering import (
    BODILESS,
    Message,
    Receive,
    Send,
    cache_status_field,
    personal,
)
from tiercache_plugins.integrations.http.asked import Asked, Scope
from tiercache_plugins.integrations.http.fields import joined
from tiercache_plugins.integrations.http.freshness import SURROGATE
from tiercache_plugins.integrations.http.reuse import may_stand_in
from tiercache_plugins.integrations.http.stored import OWN_TAG, PERSONAL, Stored
from tiercache_plugins.integrations.http.storing import Refused, Storable, Terms, may_store
from tiercache_plugins.integrations.http.validation import (
    NOT_MODIFIED,
    asking,
    conditions,
    made_tag,
    unchanged,
)

FAILURES: Final = frozenset({500, 502, 503, 504})
"""Status codes that a stale response may stand in for (RFC 5861, 4)."""
SHORTCUTS: Final = frozenset(
    {"http.response.pathsend", "http.response.zerocopysend", "http.response.trailers"}
)
"""Extensions by which a body, or the end of a response, would not pass through here."""

_log = logging.getLogger("tiercache.http")

App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Old:
    """A stale response that the application may confirm."""

    response: Stored
    vary: tuple[str, ...]


class Exchange:
    """Passes one answer on and collects what may be stored of it.

    *terms* tells, once the application has begun to answer, what its endpoint says; *status* makes the member
    of Cache-Status; *keep* is called with what is to be stored, *refused* as soon as that is nothing.
    """

    def __init__(
        self,
        asked: Asked,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        old: Old | None,
        clock: Callable[[], float],
        terms: Callable[[Scope], Terms],
        status: Callable[[int, bool], bytes | None],
        keep: Callable[[Storable, Stored], Awaitable[None]],
        refused: Callable[[Refused], None],
    ) -> None:
        self._asked = asked
        self._receive = receive
        self._send = send
        self._old = old
        self._clock = clock
        self._terms = terms
        self._status_member = status
        self._keep = keep
        self._refused = refused
        self.scope = _forwarded(scope, asked, old)
        self.began = clock()
        self.news: list[tuple[bytes, bytes]] | None = None
        """The fields of the 304 that confirmed the old response."""
        self.failed = False
        """Whether the old response is to stand in for what the application answered."""
        self.storable: Storable | None = None
        self._code = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self.received = 0.0
        """When the answer began."""
        self._body: list[bytes] = []
        self._size = 0
        self._mute = False
        self._gone = False
        self._ended = False
        self._done = asyncio.Event()

    @property
    def silent(self) -> bool:
        """Whether nothing was passed on, because a stored response is the answer."""
        return self.news is not None or self.failed

    async def run(self, app: App) -> None:
        """Ask *app*. What it raises is raised, unless an old response stands in for it."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            if self._code or self._old is None or not self._stands_in():
                raise
            _log.exception("the application failed; a stale response stands in for its answer")
            self.failed = True
        finally:
            self._done.set()

    async def receive(self) -> Message:
        """Pass on what the client sends. A client who leaves does not end what is being stored for others."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and self.storable is not None:
            await self._done.wait()
        return message

    async def send(self, message: Message) -> None:
        """Pass on what the application sends."""
        kind = message["type"]
        if kind == "http.response.start":
            await self._start(message)
        elif kind == "http.response.body":
            await self._part(message)
        elif not self.silent:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        self._code = code = message["status"]
        self._headers = headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        self.received = self._clock()
        if self._old is not None:
            if code == 304 and conditions(self._old.response):
                self.news = headers
                return
            if code in FAILURES and self._stands_in():
                self.failed = True
                return
        asked, terms = self._asked, self._terms(self.scope)
        verdict = may_store(
            asked, code, headers, terms, asked.settings, received=self.received,
            delay=self.received - self.began,
        )  # fmt: skip
        if isinstance(verdict, Storable):
            length = joined(headers, b"content-length")
            if length is not None and length.isdigit() and int(length) > asked.settings.max_body:
                verdict = Refused("too long")
        if message.get("trailers"):
            verdict = Refused("trailers")
        if isinstance(verdict, Storable):
            self.storable = verdict
        else:
            self._refused(verdict)
        out = headers + cache_status_field(self._status_member(code, self.storable is not None))
        if terms.whose:
            out += personal(terms.whose, PERSONAL, joined(headers, b"cache-control"))
        if (
            self.storable is not None
            and code == 200
            and unchanged(asked, headers, self.received, self.received)
        ):
            # The client has it already; the cache goes on collecting.
            self._mute = True
            out = [pair for pair in out if pair[0].lower() not in NOT_MODIFIED]
            await self._pass({"type": "http.response.start", "status": 304, "headers": out})
            await self._pass({"type": "http.response.body", "body": b""})
            return
        await self._pass({**message, "headers": out})

    async def _part(self, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.silent or self._ended:
            return
        if self.storable is not None:
            self._size += len(body)
            self._body.append(bytes(body))
            if self._size > self._asked.settings.max_body:
                self._drop(Refused("too long"))
        self._ended = not more
        try:
            if not self._mute:
                await self._pass(message)
        finally:
            if not more and self.storable is not None:
                await self._store(self.storable)
                self._done.set()

    async def _pass(self, message: Message) -> None:
        if self._gone:
            if self.storable is None:
                raise OSError("the client has left")
            return
        try:
            await self._send(message)
        except OSError:
            if self.storable is None:
                raise
            # Others may wait for what this client no longer does.
            self._gone = True

    def _drop(self, why: Refused) -> None:
        self.storable = None
        self._body.clear()
        self._refused(why)

    async def _store(self, storable: Storable) -> None:
        body = b"".join(self._body)
        length = joined(self._headers, b"content-length")
        if length is not None and length.strip() != str(len(body)):
            self._drop(Refused("truncated", lasting=False))
            return
        await self._keep(
            storable, response(storable, self._code, self._headers, body, self.received, self._asked)
        )

    def _stands_in(self) -> bool:
        assert self._old is not None
        return may_stand_in(self._asked, self._old.vary, self._old.response, self._clock())


def response(
    storable: Storable,
    code: int,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    received: float,
    asked: Asked,
    flags: int = 0,
) -> Stored:
    """Return what is stored of a response."""
    kept = [(name, value) for name, value in headers if name.lower() not in storable.dropped]
    names = {name.lower() for name, _ in kept}
    flags |= storable.flags
    if code not in BODILESS and b"content-length" not in names:
        kept.append((b"content-length", str(len(body)).encode("ascii")))
    if asked.settings.make_etags and code == 200 and b"etag" not in names:
        kept.append((b"etag", made_tag(body)))
        flags |= OWN_TAG
    return Stored(
        code, tuple(kept), body, received, storable.age, storable.lifetime, flags, storable.revalidate,
        storable.error,
    )  # fmt: skip


def _forwarded(scope: Scope, asked: Asked, old: Old | None) -> dict[str, Any]:
    """Return the scope that the application is given: with the cache's conditions, without shortcuts."""
    out = dict(scope)
    if old is not None and (mine := conditions(old.response)):
        out["headers"] = asking(scope["headers"], mine)
    if SURROGATE in asked.settings.targeted:
        can = f'{asked.settings.name or "cache"}="Surrogate/1.0"'.encode("latin-1", "replace")
        out["headers"] = [*out["headers"], (b"surrogate-capability", can)]
    if extensions := scope.get("extensions"):
        out["extensions"] = {name: value for name, value in extensions.items() if name not in SHORTCUTS}
    return out
