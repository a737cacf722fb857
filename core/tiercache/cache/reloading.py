"""Taking over another configuration while the cache is open."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tiercache.cache.deciding import Deciding
from tiercache.contracts import FarTierConfig, Life
from tiercache.errors import ConfigError, Problem, TiercacheError

if TYPE_CHECKING:
    from tiercache.config.compare import Change

log = logging.getLogger("tiercache.cache")


class Reloading(Deciding):
    """The part of `Cache` that changes what it goes by."""

    __slots__ = ()

    async def reload(
        self, source: str | os.PathLike[str] | Mapping[str, Any] | None = None, **overrides: Any
    ) -> tuple[Change, ...]:
        """Go by *source* from now on; without it, by what the cache was opened with, read anew.

        TTLs, stale times, the timeouts and rules of loads, deadlines, `max_ttl`, `tombstone`, `max_markers`
        and telemetry change live; what is stored keeps the life that it was given. Return what changed.

        Raises ConfigError for a document with problems, and for changes that need the cache to be opened
        anew, such as other tiers; then nothing has changed.
        """
        from tiercache.config.compare import compare
        from tiercache.config.plan import plan

        self._here()
        known, given = self._house.origin
        new = plan(known if source is None else source, {**given, **overrides})
        changes = compare(self._house.plan, new)
        fixed = [
            Problem("reload", change.path, f"{change}: the cache must be opened anew for this")
            for change in changes
            if not change.live
        ]
        if fixed:
            raise ConfigError(fixed)
        await self._adopt(new, {change.path for change in changes})
        self._house.plan = new
        if changes:
            log.info("reloaded: %s", "; ".join(map(str, changes)))
        return tuple(changes)

    def reload_on_hangup(self) -> None:
        """Reload at SIGHUP, what the cache was opened with; what is wrong with it is logged.

        For programs that own their process: the event loop has one handler a signal. Raises
        NotImplementedError where the loop takes no signals, as on Windows, RuntimeError outside the main
        thread.
        """
        self._here()
        loop = asyncio.get_running_loop()
        own = weakref.ref(self)
        tasks: set[asyncio.Task[None]] = set()

        def hung_up() -> None:
            cache = own()
            if cache is None or cache._loop is not loop:  # noqa: SLF001 - its own
                loop.remove_signal_handler(signal.SIGHUP)
                return
            task = loop.create_task(cache._reread(), name="tiercache-reload")  # noqa: SLF001 - its own
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(signal.SIGHUP, hung_up)

    async def _reread(self) -> None:
        try:
            await self.reload()
        except TiercacheError as error:
            log.error("not reloaded, and nothing changed: %s", error)  # noqa: TRY400 - says all
        except OSError as error:
            log.error("not reloaded, and nothing changed: %s", error.strerror)  # noqa: TRY400 - likewise

    async def _adopt(self, new: Any, changed: set[str]) -> None:
        from tiercache.engine.adopting import Terms, adopt

        tiers = {name: new.tier(name) for name in (*self._house.nears, *self._house.fars)}
        terms = Terms(
            tombstone=new.tombstone,
            max_markers=new.max_markers,
            telemetry=new.telemetry,
            lives={name: Life(route.ttl, route.stale) for name, route in new.routes.items()},
            rules={
                name: route.rules for name, route in new.routes.items()
                if any(path.startswith(f"route.{name}.") for path in changed)
            },
            deadlines={
                name: tier.deadline for name, tier in tiers.items() if isinstance(tier, FarTierConfig)
            },
            max_ttls={
                name: math.inf if tier.max_ttl is None else tier.max_ttl for name, tier in tiers.items()
            },
        )  # fmt: skip
        await adopt(self._house, terms)
