"""Server-sent events: what is new, to one browser, as fast as it takes them and no faster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tiercache.dashboard.history import History
    from tiercache.dashboard.page import Page

RETRY: Final = 500
"""Milliseconds after which a browser resumes a stream that ended."""
HEARTBEAT: Final = 3.0
"""Seconds of silence after which a comment is sent, so that what stands between does not end the stream."""

Message = MutableMapping[str, Any]


class Stream:
    """What one browser is told, for as long as *life* seconds and while *open* says so."""

    __slots__ = ("_history", "_life", "_open", "_page")

    def __init__(self, history: History, page: Page, life: float, open: Callable[[], bool]) -> None:  # noqa: A002
        self._history = history
        self._page = page
        self._life = life
        self._open = open

    async def run(
        self, last: str, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Tell what came after the event *last*, until the browser leaves. A browser that is slow is told the
        more at once; one that takes nothing at all is let go of after the stream's life.
        """
        leaving = asyncio.ensure_future(_left(receive))
        ends = time.monotonic() + self._life
        try:
            async with asyncio.timeout(2 * self._life):
                await self._tell(last, leaving, ends, lambda text: send(_part(text, more=True)))
                if not leaving.done():
                    await send(_part("", more=False))
        except (TimeoutError, OSError):
            # It takes nothing, or has gone: the server ends the connection of a response that is not whole.
            return
        finally:
            leaving.cancel()
            await asyncio.wait([leaving])

    async def _tell(
        self, last: str, leaving: asyncio.Future[None], ends: float, send: Callable[[str], Awaitable[None]]
    ) -> None:
        told = self._page.resume(last)
        await send(f"retry: {RETRY}\n\n")
        spoke = time.monotonic()
        while self._open() and not leaving.done():
            look = await self._history.current()
            if look.number != told.number:
                await send(self._page.event(told, look, self._history))
                spoke = time.monotonic()
            elif time.monotonic() - spoke >= HEARTBEAT:
                await send(":\n\n")
                spoke = time.monotonic()
            left = ends - time.monotonic()
            if left <= 0:
                return
            pause = min(self._history.due, HEARTBEAT, left)
            await asyncio.wait([leaving], timeout=max(pause, 0.01))


async def _left(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _part(text: str, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}
