"""Spans: far calls as those of a database client, loads, refreshes and invalidations as tiercache's own.

A far call serves whoever waits in its batch. It belongs to the trace of the one who came first, and links to
the others. A load, and what runs in the background, is a trace of its own, with a link to what set it off: it
serves others, too, and a task that lives as long as the process would gather everything under the span that
happened to start it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode

from tiercache.contracts import Traced
from tiercache.engine.stats import OTHER, Patterns
from tiercache.engine.telemetry.options import Options
from tiercache.engine.telemetry.watch import called

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

    from tiercache.contracts import FarTier

MOST_LINKS: Final = 32
"""Callers that a batch links to, beside the first."""

ORIGINS: ContextVar[tuple[SpanContext, ...] | None] = ContextVar("tiercache_origins", default=None)
"""Whose calls the batch carries that this task is about to send; None outside of the lanes of a far tier."""

_NO_SDK: Final = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)


def here() -> SpanContext | None:
    """Return the span that is active here, None where there is none."""
    found = trace.get_current_span().get_span_context()
    return found if found.is_valid else None


class Tracing:
    """Makes the spans of one cache."""

    __slots__ = (
        "_chance", "_namespace", "_patterns", "_provider", "_salt", "_sample", "_tracer", "_verbatim", "hits",
    )  # fmt: skip

    def __init__(
        self,
        options: Options,
        namespace: str,
        patterns: Patterns,
        provider: TracerProvider | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.hits = options.hits
        self._verbatim = options.keys
        self._sample = options.sample
        self._namespace = namespace
        self._patterns = patterns
        self._provider = provider
        self._chance = chance
        self._salt = namespace.encode()
        self._tracer: Tracer | None = None

    @property
    def live(self) -> bool:
        """Whether anybody makes use of spans: an SDK that is set up after the cache is noticed."""
        if self._tracer is not None:
            return True
        provider = self._provider or trace.get_tracer_provider()
        if isinstance(provider, _NO_SDK):
            return False
        self._tracer = provider.get_tracer("tiercache")
        return True

    def origin(self) -> SpanContext | None:
        """Return what a far call that is asked for here belongs to."""
        if not self.live:
            return None
        carried = ORIGINS.get()
        if carried is None:
            return here()
        # Asked for by the lane of a tier, as a promotion is: for whoever the lane is working.
        return carried[0] if carried else None

    @staticmethod
    def carry(origins: Sequence[SpanContext | None]) -> None:
        """Let the next calls of this task belong to *origins*; those of nobody are a trace of their own."""
        ORIGINS.set(tuple({origin.span_id: origin for origin in origins if origin is not None}.values()))

    def about(self, key: str) -> dict[str, str]:
        """Return what may be told of *key*: its declared pattern, else a hash, and itself where allowed."""
        if self._verbatim:
            return {"tiercache.key": key}
        pattern = self._patterns.name(key)
        if pattern != OTHER:
            return {"tiercache.key.pattern": pattern}
        digest = blake2b(key.encode(errors="surrogatepass"), digest_size=8, key=self._salt)
        return {"tiercache.key.hash": digest.hexdigest()}

    @contextmanager
    def far(
        self, name: str, tier: FarTier, act: Callable[..., Any], arguments: Sequence[Any]
    ) -> Iterator[Span | None]:
        """Be the span of a call to a far tier, where it is one of a lane, and chance has it."""
        origins = ORIGINS.get()
        if origins is None or not self.live or (self._sample < 1 and self._chance() >= self._sample):
            yield None
            return
        verb, items = called(act, arguments)
        attributes: dict[str, Any] = {"tiercache.cache": self._namespace, "tiercache.tier": name}
        if items:
            attributes["tiercache.batch"] = len(items)
        if len(items) == 1:
            address = getattr(items[0], "key", items[0])
            attributes |= self.about(address[len(self._namespace) + 1 :])
        semantics: Mapping[str, Any] = tier.semantics(verb) if isinstance(tier, Traced) else {}
        attributes |= semantics
        if semantics and len(items) > 1:
            attributes["db.operation.batch.size"] = len(items)
        title = str(semantics.get("db.operation.name", f"tiercache.{verb}"))
        kind = SpanKind.CLIENT if semantics else SpanKind.INTERNAL
        context = trace.set_span_in_context(NonRecordingSpan(origins[0]), Context()) if origins else Context()
        links = [Link(origin) for origin in origins[1 : MOST_LINKS + 1]]
        with self._start(title, context, kind, attributes, links) as span:
            yield span

    @contextmanager
    def load(self, route: str, key: str, links: Sequence[Link], *, refresh: bool) -> Iterator[Span | None]:
        """Be the span of a loader's call, in a context that was detached from whom *links* name."""
        if not self.live:
            yield None
            return
        attributes = {"tiercache.cache": self._namespace, "tiercache.route": route, **self.about(key)}
        title = "tiercache.refresh" if refresh else "tiercache.load"
        with self._start(title, None, SpanKind.INTERNAL, attributes, links) as span:
            yield span

    @contextmanager
    def near(self, route: str, key: str) -> Iterator[Span | None]:
        """Be the span of a look into the near tier."""
        if not self.live:
            yield None
            return
        attributes = {"tiercache.cache": self._namespace, "tiercache.route": route, **self.about(key)}
        with self._start("tiercache.near", None, SpanKind.INTERNAL, attributes, []) as span:
            yield span

    @contextmanager
    def act(self, title: str, attributes: Mapping[str, Any]) -> Iterator[Span | None]:
        """Be a span of *title* in the caller's trace, such as an invalidation's."""
        if not self.live:
            yield None
            return
        told = {f"tiercache.{name}": value for name, value in attributes.items() if value is not None}
        told["tiercache.cache"] = self._namespace
        with self._start(f"tiercache.{title}", None, SpanKind.INTERNAL, told, []) as span:
            try:
                yield span
            except Exception as error:
                failed(span, error)
                raise

    @contextmanager
    def _start(
        self,
        title: str,
        context: Context | None,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        links: Sequence[Link],
    ) -> Iterator[Span]:
        assert self._tracer is not None
        span = self._tracer.start_span(title, context, kind, attributes, links, record_exception=False)
        # Messages of errors may quote values: types alone are told.
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield span


def failed(span: Span | None, error: BaseException | None = None) -> None:
    """Mark *span* as failed, by the type of *error*."""
    if span is not None:
        kind = "error" if error is None else type(error).__name__
        span.set_status(StatusCode.ERROR, kind)
        span.set_attribute("error.type", kind)
