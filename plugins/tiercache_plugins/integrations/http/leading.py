"""Asking the application: one request for all that want the same, and in the background."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from tiercache import Loaded
from tiercache_plugins.integrations.http.answering import Message, Receive, Send, answer
from tiercache_plugins.integrations.http.asked import CONDITIONS, Asked, Scope
from tiercache_plugins.integrations.http.exchange import App, Exchange, Old, response
from tiercache_plugins.integrations.http.flight import Flight, Outcome, StandIn, outcome_of
from tiercache_plugins.integrations.http.passes import Passes
from tiercache_plugins.integrations.http.reuse import Use, judge, may_stand_in
from tiercache_plugins.integrations.http.rules import filled
from tiercache_plugins.integrations.http.shelf import Place
from tiercache_plugins.integrations.http.status import Handling
from tiercache_plugins.integrations.http.stored import OWN_TAG, Stored
from tiercache_plugins.integrations.http.storing import Refused, Storable, may_store
from tiercache_plugins.integrations.http.validation import updated
from tiercache_plugins.integrations.http.web import HttpCache

MOST_BEHIND: Final = 100
"""Responses that are fetched anew in the background at a time."""
_LEFT_OUT: Final = frozenset({*CONDITIONS, b"range", b"cache-control", b"pragma"})

_log = logging.getLogger("tiercache.http")


class Leading:
    """Sends requests to *app* so that each target is asked for once at a time."""

    def __init__(self, app: App, http: HttpCache, passes: Passes, asking: ContextVar[frozenset[str]]) -> None:
        self._app = app
        self._http = http
        self._passes = passes
        self._asking = asking
        self._behind: dict[str, asyncio.Task[None]] = {}

    def alone(self, asked: Asked) -> bool:
        """Whether *asked* should not wait again."""
        return self._passes.known(asked)

    async def fly(
        self, asked: Asked, scope: Scope, receive: Receive, send: Send, place: Place, why: str
    ) -> bool:
        """Answer *asked* by asking the application, or by what it answers another; return whether it was.

        False: what the other was answered is not for this one.
        """
        flight = Flight()
        # A response that stands, and has to be confirmed, is loaded whatever stands.
        forced = place.response is not None
        load = asyncio.create_task(self._http.shelf.load(place, flight.load, forced=forced))
        try:
            await asyncio.wait({load, flight.called}, return_when=asyncio.FIRST_COMPLETED)
            if load.done():
                return await self._follow(asked, place, load, send)
            await self._lead(asked, scope, receive, send, place, flight, why)
            return True
        finally:
            flight.settle(Outcome.ABORTED)
            if flight.called.done():
                await self._landed(load)
            else:
                load.cancel()

    async def _landed(self, load: asyncio.Task[object]) -> None:
        try:
            await load
        except asyncio.CancelledError:
            if not load.cancelled():
                raise
        except Exception:  # noqa: BLE001 - the client has its answer
            self._http.trouble("a response could not be stored")

    async def _follow(self, asked: Asked, place: Place, load: asyncio.Task[object], send: Send) -> bool:
        try:
            found = outcome_of(load.result())
        except Exception:  # noqa: BLE001 - whatever ails the cache, the application can answer
            self._http.trouble("a response could not be loaded")
            self._passes.note(asked)
            return False
        now = self._http.clock()
        if isinstance(found, Outcome) or not asked.keyed <= set(found.vary):
            return False
        if isinstance(found, StandIn):
            if not may_stand_in(asked, found.vary, found.response, now):
                return False
            self._http.counts.stood_in += 1
            await self._answer(asked, found.vary, found.response, send, hit=True, collapsed=True)
            return True
        if found.response is None:
            return False
        if judge(asked, place.vary, found.response, now) not in {Use.FRESH, Use.STALE, Use.BEHIND}:
            return False
        self._http.counts.collapsed += 1
        await self._answer(asked, place.vary, found.response, send, forwarded="uri-miss", collapsed=True)
        return True

    async def _lead(
        self, asked: Asked, scope: Scope, receive: Receive, send: Send, place: Place, flight: Flight, why: str
    ) -> None:
        known = place.response
        if known is None and flight.stale is not None and asked.keyed <= set(flight.stale.vary):
            known = flight.stale.response
        old = None
        use = Use.NEVER if known is None else judge(asked, place.vary, known, self._http.clock())
        if known is not None and use is Use.STALE:
            # Who takes it stale need not ask; those who wait for a fresh one do that by themselves.
            flight.settle(Outcome.UNSHARED)
            self._http.counts.stale += 1
            await self._answer(asked, place.vary, known, send, hit=True)
            return
        if known is not None and use is not Use.NEVER:
            old, why = Old(known, place.vary), "stale" if place.response is None else why
        exchange: Exchange

        async def keep(storable: Storable, stored: Stored) -> None:
            await self._keep(asked, place, flight, exchange.scope, storable, stored)

        exchange = Exchange(
            asked, scope, receive, send, old=old, clock=self._http.clock, terms=self._http.endpoints.terms,
            status=partial(self._member, asked, why), keep=keep,
            refused=partial(self._refused, asked, flight),
        )  # fmt: skip
        assert asked.key is not None
        token = self._asking.set(self._asking.get() | {asked.key})
        try:
            await exchange.run(self._app)
        finally:
            self._asking.reset(token)
        if not exchange.silent:
            self._http.counts.misses += 1
            return
        assert old is not None
        if exchange.failed:
            flight.settle(StandIn(old.response, old.vary))
            self._http.counts.stood_in += 1
            await self._answer(asked, old.vary, old.response, send, hit=True, detail="stale-if-error")
            return
        self._http.counts.confirmed += 1
        await self._confirmed(asked, place, flight, exchange, old, send, why)

    async def _confirmed(
        self, asked: Asked, place: Place, flight: Flight, exchange: Exchange, old: Old, send: Send, why: str
    ) -> None:
        """Store and send what the application confirmed by a 304, with the fields that it changed."""
        news = exchange.news or []
        headers = list(updated(old.response, news))
        if not any(name.lower() == b"date" for name, _ in news):
            # That of the old answer would make the new one old.
            headers = [pair for pair in headers if pair[0].lower() != b"date"]
        terms = self._http.endpoints.terms(exchange.scope)
        verdict = may_store(
            asked, old.response.status, headers, terms, asked.settings, received=exchange.received,
            delay=exchange.received - exchange.began,
        )  # fmt: skip
        if isinstance(verdict, Refused):
            self._refused(asked, flight, verdict)
            plain = Stored(
                old.response.status, tuple(headers), old.response.body, exchange.received, 0.0, 0.0,
                old.response.flags, 0.0, 0.0,
            )  # fmt: skip
            await self._discard(asked)
            await self._answer(asked, place.vary, plain, send, forwarded=why, answered=304)
            return
        flags = old.response.flags & OWN_TAG
        fresh = response(
            verdict, old.response.status, headers, old.response.body, exchange.received, asked, flags
        )
        await self._keep(asked, place, flight, exchange.scope, verdict, fresh)
        await self._answer(asked, place.vary, fresh, send, forwarded=why, answered=304, stored=True)

    async def _keep(
        self, asked: Asked, place: Place, flight: Flight, scope: Scope, storable: Storable, stored: Stored
    ) -> None:
        """Hand a response to those who wait, and to the cache."""
        try:
            facts = self._http.endpoints.of(scope)
            tags = filled(facts.rule.tags, scope.get("path_params", {})) if facts is not None else ()
            brought: Loaded | Outcome = await self._http.shelf.brought(
                asked, place, storable.vary, stored, tags
            )
            self._http.counts.stored += 1
        except Exception:  # noqa: BLE001 - the client has its answer, or will have it
            self._http.trouble("a response could not be stored")
            brought = Outcome.UNSHARED
        flight.settle(brought)

    async def _discard(self, asked: Asked) -> None:
        assert asked.key is not None
        try:
            await self._http.shelf.drop((asked.key,))
        except Exception:  # noqa: BLE001 - the client must have its answer
            self._http.trouble("a response that may no longer be stored could not be dropped")

    def _refused(self, asked: Asked, flight: Flight, why: Refused) -> None:
        self._http.counts.refused += 1
        if why.lasting:
            self._passes.note(asked)
        flight.settle(Outcome.PRIVATE if why.lasting else Outcome.UNSHARED)

    def behind(self, asked: Asked, scope: Scope, place: Place) -> None:
        """Fetch the response of *place* anew, while the client has the stale one already."""
        if place.key in self._behind or len(self._behind) >= MOST_BEHIND:
            return
        quiet = dict(scope)
        quiet["method"] = "GET"
        quiet["headers"] = [pair for pair in scope["headers"] if pair[0].lower() not in _LEFT_OUT]
        task = asyncio.create_task(self._refresh(Asked(quiet, asked.settings), quiet, place))
        self._behind[place.key] = task
        task.add_done_callback(lambda _: self._behind.pop(place.key, None))

    async def _refresh(self, asked: Asked, scope: Scope, place: Place) -> None:
        rest = asyncio.Event()
        waiting: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Message:
            if not waiting:
                await rest.wait()
            return waiting.pop()

        async def nowhere(message: Message) -> None:
            del message

        try:
            await self.fly(asked, scope, receive, nowhere, place, "stale")
            self._http.counts.refreshed += 1
        except Exception:  # noqa: BLE001 - nobody waits for it; the next request asks again
            _log.exception("a stale response could not be fetched anew")

    async def close(self) -> None:
        """End what is fetched in the background."""
        tasks = list(self._behind.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(
        self, asked: Asked, vary: tuple[str, ...], one: Stored, send: Send, **said: Any
    ) -> None:
        now, name = self._http.clock(), self._http.settings.name
        asked.handling = Handling(ttl=one.lifetime - one.aged(now), **said)
        await answer(asked, vary, one, asked.handling.member(name) if name else None, now, send)

    def _member(self, asked: Asked, why: str, code: int, stored: bool) -> bytes | None:
        name = self._http.settings.name
        asked.handling = Handling(forwarded=why, answered=code, stored=stored)
        return asked.handling.member(name) if name else None
