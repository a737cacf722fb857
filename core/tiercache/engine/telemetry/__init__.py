"""What a cache tells OpenTelemetry: metrics over the plain integers of `stats`, spans of what is slow anyway.

Nothing here is on a near hit's way. Only the API is imported; where `[telemetry]` asks for nothing, the
engine holds None in place of what is here, and pays one comparison a far call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from tiercache.engine.stats import Patterns, Stats
from tiercache.engine.telemetry.options import Options
from tiercache.engine.telemetry.watch import FarCall, LoadCall, Watch

if TYPE_CHECKING:
    from tiercache.engine.telemetry.exporting import Exporting
    from tiercache.engine.telemetry.metrics import Histograms
    from tiercache.engine.telemetry.tracing import Tracing

__all__ = ["FarCall", "LoadCall", "Options", "Telemetry", "Watch"]

log = logging.getLogger("tiercache.telemetry")

CLOSE_WITHIN: Final = 5.0
"""Seconds that the last export may take."""

_TELLING: Final[weakref.WeakSet[Telemetry]] = weakref.WeakSet()


class Telemetry:
    """The metrics and spans of one cache, from `start` to `stop`; its options may be changed meanwhile."""

    __slots__ = (
        "__weakref__", "_apply", "_exporting", "_patterns", "_served", "_snapshot", "_started", "_taken",
        "invalidations", "namespace", "options", "tracing", "watch",
    )  # fmt: skip

    def __init__(
        self,
        options: Options,
        namespace: str,
        patterns: Patterns,
        snapshot: Callable[[], Stats],
        apply: Callable[[Watch | None], None],
    ) -> None:
        self.options = options
        self.watch: Watch | None = None
        self.tracing: Tracing | None = None
        """What makes spans; None where none are wanted."""
        self.namespace = namespace
        self._patterns = patterns
        self._snapshot = weakref.WeakMethod(snapshot)
        self._apply = weakref.WeakMethod(apply)
        self._exporting: Exporting | None = None
        self._started = False
        self.invalidations = {"tags": 0, "prefix": 0, "match": 0, "clear": 0}
        """Calls, by what was asked for."""
        self._taken: Stats | None = None
        self._served: set[str] = set()

    @property
    def export_errors(self) -> int:
        """Batches that the exporter could not deliver."""
        return 0 if self._exporting is None else self._exporting.errors

    def start(self) -> None:
        """Begin to tell. Safe to call twice."""
        if self._started:
            return
        self._started = True
        options = self.options
        if options.exporter != "none":
            from tiercache.engine.telemetry.exporting import Exporting

            self._exporting = Exporting(options, self.namespace)
        histograms = self._metrics() if options.metrics else None
        if options.traces:
            from tiercache.engine.telemetry.tracing import Tracing

            provider = None if self._exporting is None else self._exporting.tracers
            self.tracing = Tracing(options, self.namespace, self._patterns, provider)
        if histograms is not None or self.tracing is not None:
            self.watch = Watch(self.tracing, histograms)
        self._hand_out(self.watch)

    async def stop(self) -> None:
        """Tell no more; give the exporter a moment for what is left. Safe to call twice."""
        exporting, self._started = self._exporting, False
        self._hand_out(None)
        if exporting is not None:
            # The last export reads once more what is counted.
            await _within(exporting.close, CLOSE_WITHIN)
        self.watch = self.tracing = self._taken = self._exporting = None

    async def change(self, options: Options) -> None:
        """Go by *options* from now on."""
        started = self._started
        if options == self.options:
            return
        await self.stop()
        self.options = options
        if started:
            self.start()

    def invalidating(self, **asked: int) -> AbstractContextManager[object]:
        """Count an invalidation by what was *asked* for; return its span, where spans are wanted."""
        kinds = [kind for kind, wanted in asked.items() if wanted]
        for kind in kinds:
            self.invalidations[kind] += 1
        if self.tracing is None:
            return contextlib.nullcontext()
        told = {"kind": " and ".join(kinds), "tags": asked.get("tags") or None}
        return self.tracing.act("invalidate", told)

    def reading(self, name: str) -> Stats | None:
        """Return the snapshot for the instrument *name*; None where no metrics are wanted.

        A provider asks instrument by instrument; one snapshot serves all of them, until one asks a second
        time.
        """
        snapshot = self._snapshot()
        if snapshot is None or self.watch is None or self.watch.histograms is None:
            return None
        if self._taken is None or name in self._served:
            self._taken = snapshot()
            self._served.clear()
        self._served.add(name)
        return self._taken

    def _metrics(self) -> Histograms:
        from opentelemetry import metrics as api

        from tiercache.engine.telemetry.metrics import Histograms, observe

        if self._exporting is not None and self._exporting.meters is not None:
            meter = self._exporting.meters.get_meter("tiercache")
            own = weakref.ref(self)
            observe(meter, lambda: [one for one in (own(),) if one is not None])
        else:
            meter = api.get_meter("tiercache")
            # A provider has each instrument once, so that the first cache's must speak for all.
            _TELLING.add(self)
            observe(meter, lambda: list(_TELLING))
        return Histograms(meter, self.namespace)

    def _hand_out(self, watch: Watch | None) -> None:
        if (apply := self._apply()) is not None:
            apply(watch)


async def _within(act: Callable[[], None], seconds: float) -> None:
    """Do *act* in a thread; leave it to itself after *seconds*, so that a dead collector holds nobody up."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def end() -> None:
        if not done.done():
            done.set_result(None)

    def work() -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - what an exporter raises is told, and stops nothing
            log.warning("the exporter did not close cleanly: %s: %s", type(error).__name__, error)
        finally:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(end)

    threading.Thread(target=work, name="tiercache-export", daemon=True).start()
    await asyncio.wait([done], timeout=seconds)
