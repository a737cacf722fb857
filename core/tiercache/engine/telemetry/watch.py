"""What the engine tells of its far calls and loads while somebody listens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Span, SpanContext

    from tiercache.contracts import FarTier
    from tiercache.engine.telemetry.metrics import Histograms
    from tiercache.engine.telemetry.tracing import Tracing

log = logging.getLogger("tiercache.telemetry")


class Watch:
    """Spans and histograms, as far as they are wanted. Where neither is, the engine holds None instead."""

    __slots__ = ("histograms", "tracing")

    def __init__(self, tracing: Tracing | None, histograms: Histograms | None) -> None:
        self.tracing = tracing
        self.histograms = histograms

    def origin(self) -> SpanContext | None:
        """Return the span that a far call asked for here belongs to."""
        try:
            return None if self.tracing is None else self.tracing.origin()
        except Exception:
            log.exception("the span that a call belongs to is not known")
            return None

    def carry(self, origins: Sequence[SpanContext | None]) -> None:
        """Let the next far calls of this task belong to *origins*; where there are none, to nobody."""
        try:
            if self.tracing is not None:
                self.tracing.carry(origins)
        except Exception:
            log.exception("the spans that a batch belongs to are not known")

    def far(self, name: str, tier: FarTier, act: Callable[..., Any], arguments: Sequence[Any]) -> FarCall:
        """Return what is to be told of the call `act(*arguments)` to the tier *name*."""
        return FarCall(self, name, tier, act, arguments)

    def load(self, route: str, key: str, links: Sequence[Link], *, refresh: bool) -> LoadCall:
        """Return what is to be told of the call of a loader; *refresh*: nobody waits for it."""
        return LoadCall(self, route, key, links, refresh=refresh)


class Call:
    """One call, from its beginning to its end: a context manager. Trouble of its own is only logged."""

    __slots__ = ("_began", "_entered", "error", "span", "watch")

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.span: Span | None = None
        self.error: BaseException | None = None
        """What went wrong."""
        self._entered: AbstractContextManager[Span | None] | None = None
        self._began = 0.0

    def begin(self, tracing: Tracing) -> AbstractContextManager[Span | None]:
        """Return the span."""
        raise NotImplementedError

    def record(self, histograms: Histograms, seconds: float) -> None:
        """Record how long it took."""
        raise NotImplementedError

    def failed(self, error: BaseException) -> None:
        """Take note of what went wrong."""
        self.error = error

    def __enter__(self) -> Self:
        self._began = perf_counter()
        if (tracing := self.watch.tracing) is not None:
            try:
                self._entered = self.begin(tracing)
                self.span = self._entered.__enter__()
            except Exception:
                log.exception("a span could not be begun; the call goes on without it")
                self._entered = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if (histograms := self.watch.histograms) is not None:
                self.record(histograms, perf_counter() - self._began)
            if self._entered is not None:
                self.error = self.error or error
                if self.span is not None and self.error is not None:
                    from tiercache.engine.telemetry.tracing import failed

                    failed(self.span, self.error)
                self._entered.__exit__(None, None, None)
        except Exception:
            log.exception("a call could not be told of")


class FarCall(Call):
    """A batch that a far tier is sent."""

    __slots__ = ("_act", "_arguments", "_name", "_tier")

    def __init__(
        self, watch: Watch, name: str, tier: FarTier, act: Callable[..., Any], arguments: Sequence[Any]
    ) -> None:
        super().__init__(watch)
        self._name = name
        self._tier = tier
        self._act = act
        self._arguments = arguments

    def begin(self, tracing: Tracing) -> AbstractContextManager[Span | None]:
        """Return the span of the call."""
        return tracing.far(self._name, self._tier, self._act, self._arguments)

    def record(self, histograms: Histograms, seconds: float) -> None:
        """Record how long it took."""
        verb, _ = called(self._act, self._arguments)
        histograms.far(self._name, verb, seconds, failed=self.error is not None)

    def ended(self, result: Any) -> None:
        """Take note of what the tier answered: of a read, how much was there."""
        if (
            self.span is not None
            and isinstance(result, list)
            and called(self._act, self._arguments)[0] == "read"
        ):
            self.span.set_attribute("tiercache.found", sum(1 for frame in result if frame is not None))


class LoadCall(Call):
    """A call of a loader."""

    __slots__ = ("_key", "_links", "_refresh", "_route")

    def __init__(self, watch: Watch, route: str, key: str, links: Sequence[Link], *, refresh: bool) -> None:
        super().__init__(watch)
        self._links = links
        self._route = route
        self._key = key
        self._refresh = refresh

    def begin(self, tracing: Tracing) -> AbstractContextManager[Span | None]:
        """Return the span of the load."""
        return tracing.load(self._route, self._key, self._links, refresh=self._refresh)

    def record(self, histograms: Histograms, seconds: float) -> None:
        """Record how long it took."""
        histograms.load(self._route, seconds, failed=self.error is not None)


def called(act: Callable[..., Any], arguments: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Return the name of what a tier is asked for, and the keys or records that it is asked about."""
    if len(arguments) > 1 and callable(arguments[0]):
        # A batch, whose answers are checked: see `guard.answers`.
        return arguments[0].__name__, arguments[1]
    inner: Any = act
    while isinstance(inner, partial):
        inner, arguments = inner.func, inner.args
    return getattr(inner, "__name__", "call").strip("_"), [
        one for one in arguments[:1] if hasattr(one, "key")
    ]
