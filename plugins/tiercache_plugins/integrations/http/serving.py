"""What becomes of each request: answered from the cache, asked for, or passed on."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

from tiercache_plugins.integrations.http.answering import (
    Message,
    Receive,
    Send,
    answer,
    cache_status_field,
    refuse_unasked,
)
from tiercache_plugins.integrations.http.asked import SAFE, Asked, Scope
from tiercache_plugins.integrations.http.exchange import App
from tiercache_plugins.integrations.http.invalidation import outdated
from tiercache_plugins.integrations.http.leading import Leading
from tiercache_plugins.integrations.http.passes import Passes
from tiercache_plugins.integrations.http.ranges import servable
from tiercache_plugins.integrations.http.reuse import Use, judge
from tiercache_plugins.integrations.http.rules import filled
from tiercache_plugins.integrations.http.shelf import Place
from tiercache_plugins.integrations.http.status import Handling
from tiercache_plugins.integrations.http.stored import Stored
from tiercache_plugins.integrations.http.storing import Storable, may_store
from tiercache_plugins.integrations.http.web import HttpCache

TRIES: Final = 3
"""How often a request waits for another's answer that turns out not to be for it, before it asks alone."""


class Serving:
    """Answers requests from *http*, and asks *app*, or passes the request on to it, where that can't be.

    *app* is an application, or whatever else answers in its way. What goes wrong in the cache is counted and
    logged, and *app* answers.
    """

    def __init__(self, app: App, http: HttpCache) -> None:
        self._app = app
        self._http = http
        self._passes = Passes()
        # Which targets the current request asks the application for: one that the application asks itself
        # for meanwhile must not wait for its own outcome.
        self._asking: ContextVar[frozenset[str]] = ContextVar("tiercache_http_asking", default=frozenset())
        self._leading = Leading(app, http, self._passes, self._asking)

    async def close(self) -> None:
        """End what is fetched in the background."""
        await self._leading.close()

    async def answer(self, asked: Asked, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer *asked*, the request of *scope*."""
        if asked.method not in SAFE:
            await self._change(asked, scope, receive, send)
        elif asked.method not in {"GET", "HEAD"}:
            await self._pass(asked, scope, receive, send, "method")
        elif asked.key is None or asked.has_body or asked.conditional or asked.key in self._asking.get():
            await self._pass(asked, scope, receive, send, "bypass")
        elif "no-store" in asked.directives:
            await self._pass(asked, scope, receive, send, "request")
        else:
            await self._serve(asked, scope, receive, send)

    async def _serve(self, asked: Asked, scope: Scope, receive: Receive, send: Send) -> None:
        ranged = "range" in asked.fields
        why = "uri-miss"
        for _ in range(TRIES):
            try:
                place = await self._http.shelf.find(asked)
            except Exception:  # noqa: BLE001 - whatever ails the cache, the application can answer
                self._http.trouble("a response could not be looked up")
                await self._pass(asked, scope, receive, send, "bypass")
                return
            why = "vary-miss" if place.generation else "uri-miss"
            use = None
            if place.response is not None:
                use, why = judge(asked, place.vary, place.response, self._http.clock()), "stale"
                if use is Use.NEVER or (ranged and not servable(asked)):
                    break
                if use is not Use.VALIDATE:
                    await self._hit(asked, scope, place, place.response, use, send)
                    return
                if place.response.aged(self._http.clock()) < place.response.lifetime:
                    why = "request"
            if "only-if-cached" in asked.directives:
                await refuse_unasked(self._status(asked, forwarded=None, detail="only-if-cached"), send)
                return
            if asked.method != "GET" or ranged or self._passes.known(asked):
                break
            if await self._leading.fly(asked, scope, receive, send, place, why):
                return
            if self._leading.alone(asked):
                break
        await self._pass(asked, scope, receive, send, why)

    async def _hit(
        self, asked: Asked, scope: Scope, place: Place, stored: Stored, use: Use, send: Send
    ) -> None:
        counts, now = self._http.counts, self._http.clock()
        if use is Use.FRESH:
            counts.hits += 1
        else:
            counts.stale += 1
        if use is Use.BEHIND:
            self._leading.behind(asked, scope, place)
        status = self._status(asked, hit=True, ttl=stored.lifetime - stored.aged(now))
        await answer(asked, place.vary, stored, status, now, send)

    async def _pass(self, asked: Asked, scope: Scope, receive: Receive, send: Send, why: str) -> None:
        self._http.counts.passed += 1
        known = self._passes.known(asked)

        async def passing(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if known:
                    verdict = may_store(
                        asked, message["status"], headers, self._http.endpoints.terms(scope),
                        asked.settings, received=self._http.clock(),
                    )  # fmt: skip
                    if isinstance(verdict, Storable):
                        self._passes.forget(asked)
                status = self._status(asked, forwarded=why)
                message = {**message, "headers": [*headers, *cache_status_field(status)]}
            await send(message)

        await self._app(scope, receive, passing)

    async def _change(self, asked: Asked, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an unsafe request on; what it makes out of date is dropped before its client hears of it."""

        async def changing(message: Message) -> None:
            if message["type"] == "http.response.start" and 200 <= message["status"] < 400:
                try:
                    await self._drop(asked, scope, message)
                except Exception:  # noqa: BLE001 - the change was made; its answer must reach the client
                    self._http.trouble("responses that a change made out of date could not be dropped")
            if message["type"] == "http.response.start":
                status = self._status(asked, forwarded="method")
                headers = [*message.get("headers", ()), *cache_status_field(status)]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, changing)

    async def _drop(self, asked: Asked, scope: Scope, message: Message) -> None:
        self._http.counts.changes += 1
        facts = self._http.endpoints.of(scope)
        if facts is not None and facts.rule.drops:
            tags = filled(facts.rule.drops, scope.get("path_params", {}))
            await self._http.cache.invalidate(tags=tags)
        if keys := outdated(asked, message["status"], message.get("headers", ())):
            await self._http.shelf.drop(keys)

    def _status(self, asked: Asked, **said: Any) -> bytes | None:
        name = self._http.settings.name
        asked.handling = Handling(**said)
        return asked.handling.member(name) if name else None
