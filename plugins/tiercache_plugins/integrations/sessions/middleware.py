"""Sessions as ASGI middleware: `request.session` of Starlette and FastAPI."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import timedelta
from typing import Any, Final, Literal

from tiercache import LockTimeout, TierUnavailable
from tiercache.units import seconds
from tiercache_plugins.integrations.http.middleware import HttpCacheMiddleware
from tiercache_plugins.integrations.sessions.cookie import Cookie, SameSite
from tiercache_plugins.integrations.sessions.fields import personal
from tiercache_plugins.integrations.sessions.opened import OpenedSession
from tiercache_plugins.integrations.sessions.session import Session
from tiercache_plugins.integrations.sessions.sessions import SessionCache

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

RETRY: Final = b"5"
"""Seconds after which a client that was refused may ask again."""


class SessionMiddleware:
    """Gives each request of *app* its session, as `request.session`, and keeps what the request changed.

    *sessions* keeps them, and says how long they live. Each is known by a random id in a cookie *name*, which
    is `HttpOnly`, `Path=/`, `SameSite` as *same_site* says, and, unless *secure* is off for plain HTTP,
    `Secure` and called `__Host-` and *name*. An id that nobody issued is never taken over. *rotate_every* is
    the age at which an id is replaced by another one; the old one is good for *grace* more, for requests that
    are under way.

    Only what a request changed is written, item by item, so that requests at the same time lose none of each
    other's. A session that was ended while a request ran stays ended, and what the request changed is gone.

    A response that depends on its session says so, by `Vary: Cookie` and `Cache-Control: private`. Responses
    must be cached outside, where that is heard: an `HttpCacheMiddleware` within is refused.

    Where the tier that all processes share is away, requests have an empty session, what they put in is not
    kept, and the cookie stays as it is; with *unavailable* "refuse" they are answered with 503 instead. It
    is counted, and logged once. Logging out takes the cookie away all the same, and ends the session as
    soon as the tier is back.

    Raises ValueError for options that can't be.
    """

    def __init__(
        self,
        app: App,
        sessions: SessionCache,
        *,
        name: str = "session",
        secure: bool = True,
        same_site: SameSite = "lax",
        rotate_every: float | str | timedelta | None = None,
        grace: float | str | timedelta = "1m",
        unavailable: Literal["empty", "refuse"] = "empty",
    ) -> None:
        if unavailable not in {"empty", "refuse"}:
            raise ValueError(f'unavailable is {unavailable!r}; "empty" and "refuse" are accepted')
        _refuse_caches_within(app)
        self._app = app
        self._sessions = sessions
        self._cookie = Cookie(name, secure, same_site)
        self._period = math.inf if rotate_every is None else seconds(rotate_every)
        self._grace = seconds(grace)
        self._refuses = unavailable == "refuse"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        brought = self._cookie.brought(scope["headers"])
        opened, known = None, True
        if brought is not None:
            try:
                opened = await self._sessions.open_session(brought)
            except TierUnavailable:
                self._sessions.trouble("sessions can't be read")
                known = False
                if self._refuses:
                    await _refuse(scope, receive, send)
                    return
        session = Session(opened.data if opened else {}, readable=scope["type"] == "websocket")
        scope["session"] = session
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, self._keeping(session, brought, opened, known, send))

    def _keeping(
        self, session: Session, brought: str | None, opened: OpenedSession | None, known: bool, send: Send
    ) -> Send:
        """Return *send*, which keeps *session* before the response starts."""
        refused = False

        async def keeping(message: Message) -> None:
            nonlocal refused
            if refused:
                return
            if message["type"] == "http.response.start":
                session.sending()
                headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
                try:
                    cookie = await self._kept(session, brought, opened, known)
                except (TierUnavailable, LockTimeout):
                    self._sessions.trouble("a session can't be kept")
                    if self._refuses:
                        refused = True
                        session.sent()
                        await _answer_503(send)
                        return
                    cookie = self._cookie.taken() if session.ended else None
                if cookie is not None:
                    headers.append(cookie)
                if session.accessed or cookie is not None:
                    headers = personal(headers)
                message = {**message, "headers": headers}
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                session.sent()
            await send(message)

        return keeping

    async def _kept(
        self, session: Session, brought: str | None, opened: OpenedSession | None, known: bool
    ) -> tuple[bytes, bytes] | None:
        """Keep what was changed, and return the cookie that the response is to set."""
        put, gone = session.difference()
        if session.ended and brought is not None:
            await self._sessions.end_session(brought)
        elif not known and (put or gone or session.rotates):
            raise TierUnavailable("a request changed its session, which could not be read")
        if opened is None or brought is None or session.ended:
            if put:
                return await self._begun(put)
            return self._cookie.taken() if session.ended and brought is not None else None

        def merged(data: dict[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in data.items() if name not in gone} | put

        if session.rotates:
            return self._named(await self._sessions.rotate_session(brought, merged), opened)
        age = self._sessions.now() - opened.issued
        if age >= self._period:
            new_id = await self._sessions.rotate_session(brought, merged, grace=self._grace)
            if new_id is not None:
                return self._named(new_id, opened)
        if put or gone:
            await self._sessions.update_session(brought, merged)
        return None

    async def _begun(self, data: dict[str, Any]) -> tuple[bytes, bytes]:
        new_id = await self._sessions.create_session(data)
        return self._cookie.given(new_id, self._sessions.max_age)

    def _named(self, new_id: str | None, opened: OpenedSession) -> tuple[bytes, bytes] | None:
        return None if new_id is None else self._cookie.given(new_id, opened.left)


def rotate(request: Any) -> None:
    """Give the session of *request* a new id; the old one is dead when the response starts.

    Call it where somebody logs in. Takes a request, a websocket or an ASGI scope. Raises RuntimeError where
    there is no session of a `SessionMiddleware`, or the response has started.
    """
    _session(request).rotate()


def logout(request: Any) -> None:
    """End the session of *request*, and take its cookie away. Raises as `rotate` does."""
    _session(request).clear()


def _session(request: Any) -> Session:
    scope = getattr(request, "scope", request)
    session = scope.get("session") if isinstance(scope, MutableMapping) else None
    if not isinstance(session, Session):
        raise RuntimeError("the request has no session; add SessionMiddleware to the application")
    return session


def _refuse_caches_within(app: Any) -> None:
    while app is not None:
        if isinstance(app, HttpCacheMiddleware):
            raise ValueError(
                "responses are cached within the sessions, where nobody hears whose they are; add "
                "SessionMiddleware to the application before the cache"
            )
        app = getattr(app, "app", None)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        # 1013: try again later.
        await send({"type": "websocket.close", "code": 1013})
        return
    await _answer_503(send)


async def _answer_503(send: Send) -> None:
    headers = [(b"content-length", b"0"), (b"retry-after", RETRY), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
