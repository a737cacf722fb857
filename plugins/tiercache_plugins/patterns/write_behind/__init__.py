"""Write-behind: the cache at once, the source soon after, and nothing acknowledged is ever lost.

A write is acknowledged when it is in the outbox, a file that survives the process. From there it is delivered
at least once, in order by key, in batches; what fails is tried again with growing pauses, and in the end
becomes a dead letter. Where the source can't keep up, writers wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from pydantic import Field

from tiercache import (
    MISSING,
    Cache,
    CheckContext,
    Context,
    Duration,
    Life,
    Load,
    Pattern,
    PatternConfig,
    Save,
    Serializer,
    hookimpl,
)
from tiercache_plugins.patterns.face import Face, HoldsCache, setting
from tiercache_plugins.patterns.source import FunctionRef, called, function_of, problems
from tiercache_plugins.patterns.write_behind.delivery import Delivery, OutboxFull, Terms, Write
from tiercache_plugins.serializers.msgpack.forms import form_of

__all__ = ["OutboxFull", "Terms", "Write", "WriteBehindConfig", "WriteBehindPattern", "tiercache_patterns"]

FILE: Final = "outbox.sqlite3"
"""The outbox, where nothing else is said."""


class WriteBehindPattern:
    """Stores in an outbox and the cache, and tells the source in the background.

    *cache_system* is an `AdvancedCachingSystem` or a `Cache`; *config* says by `disk_cache_dir` where the
    outbox is, unless *path* does; *cache_type* is the route, None: the key's own. The source is told by
    `writer(key, value)` and `remover(key)`, one write at a time, or by *batch_writer*, which is given a list
    of `Write`; those that are not async run in a thread. They may be called again for what they have done
    before: `Write.seq` tells repeats apart.

    It opens at the first call; several processes may share an outbox, of which one delivers. Use it as
    `async with`, or `close` it before the cache. Values are what the serializer msgpack takes, and *types*.
    """

    def __init__(
        self,
        cache_system: Cache | HoldsCache,
        config: object = None,
        *,
        writer: Callable[..., Any] | None = None,
        remover: Callable[..., Any] | None = None,
        batch_writer: Callable[..., Any] | None = None,
        path: str | Path | None = None,
        cache_type: str | None = None,
        types: Iterable[str] = (),
        terms: Terms | None = None,
    ) -> None:
        self._face = Face(cache_system, cache_type)
        directory = Path(setting(config, "disk_cache_dir", None) or ".cache")
        self.delivery = Delivery(
            Path(path) if path is not None else directory.expanduser() / FILE,
            partial(_serializer, tuple(types)), writer=writer, remover=remover, batch_writer=batch_writer,
            terms=terms,
        )  # fmt: skip
        """What tells the source, with its counters."""

    async def get(
        self,
        key: str,
        loader: Callable[..., Any],
        *args: Any,
        ttl: float | str | timedelta | None = None,
    ) -> Any:
        """Return the value of *key*; where nothing fresh is cached, what waits in the outbox, else
        `loader(*args)`, which is stored. MISSING where the key waits to be removed.
        """
        await self.delivery.open()
        self._face.seen(key)

        async def load() -> Any:
            waiting = await self.delivery.waiting(key)
            return await called(loader, *args) if waiting is None else waiting[0]

        return await self._face.cache.get_or_set(key, load, route=self._face.route, ttl=ttl)

    async def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> None:
        """Put the write into the outbox, then *value* into the cache. What returned is never lost.

        Raises OutboxFull where the source is too far behind, Unserializable for what can't be brought back,
        TierError where the file can't be written; nothing has changed then.
        """
        await self.delivery.open()
        cache = self._face.cache
        async with self.delivery.turns.of(key):
            await self.delivery.push(key, value)
            await cache.set(key, value, route=self._face.route, ttl=ttl, tags=tags)

    async def delete(self, key: str) -> None:
        """Put the removal into the outbox, then drop *key* from the cache. Raises as `set` does, and
        TypeError where nothing says how to remove.
        """
        await self.delivery.open()
        async with self.delivery.turns.of(key):
            await self.delivery.push(key, MISSING)
            await self._face.cache.delete(key)

    async def flush(self) -> None:
        """Wait until the source has everything that waits. Dead letters don't."""
        await self.delivery.open()
        await self.delivery.settle()

    async def dead_letters(self, count: int = 100) -> list[tuple[Write, str]]:
        """Return the first *count* writes that were given up, each with its last error."""
        await self.delivery.open()
        return await self.delivery.dead(count)

    async def retry_dead_letters(self) -> int:
        """Try once more what was given up, behind all that waits; return how much it was."""
        await self.delivery.open()
        return await self.delivery.revive()

    async def close(self) -> None:
        """Deliver for a while what waits, then close the file; the rest is delivered next time. Safe to call
        twice.
        """
        await self.delivery.close()

    async def __aenter__(self) -> Self:
        await self.delivery.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class WriteBehindConfig(PatternConfig):
    """A store goes to an outbox and the cache, and to the source soon after. Loads see what waits."""

    type: Literal["write_behind"] = "write_behind"
    path: str = Field(
        f".cache/{FILE}", min_length=1,
        description="The outbox. Relative to the directory of the configuration; `~` is expanded.",
    )  # fmt: skip
    writer: FunctionRef | None = Field(
        None, description='What tells the source: "package.module:function", called with key and value.'
    )
    batch_writer: FunctionRef | None = Field(
        None, description="In its place: a function that is given a list of `Write`."
    )
    types: tuple[str, ...] = Field(
        (),
        description='Enums, dataclasses and pydantic models that may wait, each as "package.module:Class".',
    )
    batch: int = Field(100, ge=1, description="Writes that are taken from the outbox at once, at most.")
    max_pending: int = Field(10_000, ge=1, description="Writes that may wait; then a store waits.")
    patience: Duration = Field(5.0, description="For how long it does, before it fails.")
    backoff: Duration = Field(0.1, description="Pause after the first failure; each further one doubles it.")
    max_backoff: Duration = Field(300.0, description="The longest pause.")
    max_attempts: int = Field(
        20, ge=1, description="Failures after which a write becomes a dead letter, and later ones go on."
    )
    drain: Duration = Field(2.0, le=4, description="For how long closing goes on delivering.")

    def check(self, context: CheckContext) -> Iterable[tuple[str, str]]:
        """Find functions that can't be imported, and none or two of them."""
        del context
        if (self.writer is None) == (self.batch_writer is None):
            yield "writer", "either writer or batch_writer is needed, and one of them alone"
        for name in self.types:
            try:
                form_of(name)
            except ValueError as error:
                yield "types", str(error)
        yield from problems(writer=self.writer, batch_writer=self.batch_writer)

    def build(self, context: Context) -> Pattern:
        """Return the pattern, not yet open."""
        return Behind(
            Delivery(
                context.directory / Path(self.path).expanduser(),
                partial(_serializer, self.types),
                writer=None if self.writer is None else function_of(self.writer),
                batch_writer=None if self.batch_writer is None else function_of(self.batch_writer),
                terms=Terms(
                    self.batch, self.max_pending, self.patience, self.backoff, self.max_backoff,
                    self.max_attempts, self.drain,
                ),
            )
        )  # fmt: skip


class Behind:
    """The pattern as a stage of a route."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery

    async def open(self, cache: Any) -> None:
        """Begin to deliver what waits."""
        del cache
        await self.delivery.open()

    async def close(self) -> None:
        """Deliver for a while, then leave the rest to the next start."""
        await self.delivery.close()

    def around_load(self, load: Load) -> Load:
        """Return *load* for what does not wait in the outbox: of that, the source knows nothing yet."""

        async def wrapped(key: str, loader: Callable[[], Any]) -> Any:
            waiting = await self.delivery.waiting(key)
            return await load(key, loader) if waiting is None else waiting[0]

        return wrapped

    def around_save(self, save: Save) -> Save:
        """Return *save* after the outbox."""

        async def wrapped(key: str, value: Any, life: Life) -> None:
            async with self.delivery.turns.of(key):
                await self.delivery.push(key, value)
                await save(key, value, life)

        return wrapped


def _serializer(types: Iterable[str] = ()) -> Serializer:
    # Not above: the driver is imported only where a stage needs it.
    from tiercache_plugins.serializers.msgpack.serializer import MsgpackSerializer

    return MsgpackSerializer([form_of(name) for name in types])


@hookimpl
def tiercache_patterns() -> Iterable[type[PatternConfig]]:
    """Return the pattern of this module."""
    return (WriteBehindConfig,)
