"""Prefetch: who reads some keys of a kind will read others of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tiercache import Cache, CheckContext, Context, Pattern, PatternConfig, hookimpl
from tiercache_plugins.patterns.face import Face, HoldsCache, setting
from tiercache_plugins.patterns.source import FunctionRef, called, function_of, problems

log = logging.getLogger("tiercache.patterns")


class Rule:
    """What to fetch once enough keys of a prefix were read."""

    def __init__(self, prefix: str, fetch: Callable[..., Any], threshold: int) -> None:
        if threshold < 1:
            raise ValueError(f"threshold is {threshold}; 1 or more is accepted")
        self.prefix = prefix
        self.threshold = threshold
        self.reads = 0
        self.running = False
        self._fetch = fetch
        self._wants_key = bool(inspect.signature(fetch).parameters)

    async def fetched(self, key: str) -> Mapping[str, Any]:
        """Return the values to be stored, by key."""
        found: Mapping[str, Any] = await (
            called(self._fetch, key) if self._wants_key else called(self._fetch)
        )
        return found


class Prefetching:
    """Counts reads by prefix, and stores what the rules fetch."""

    def __init__(self, cache: Callable[[], Cache], route: str | None) -> None:
        self._cache = cache
        self._route = route
        self._tasks: set[asyncio.Task[None]] = set()
        self.rules: list[Rule] = []
        self.runs = 0
        """Fetches that were begun."""
        self.failures = 0
        """Fetches that failed; nothing was stored then."""

    def read(self, key: str) -> Iterable[Rule]:
        """Count a read of *key*; return the rules that are to run for it."""
        due = []
        for rule in self.rules:
            if key.startswith(rule.prefix) and not rule.running:
                rule.reads += 1
                if rule.reads >= rule.threshold:
                    rule.reads = 0
                    rule.running = True
                    due.append(rule)
        return due

    def begin(self, rule: Rule, key: str) -> None:
        """Run *rule* in the background. On the loop."""
        self.runs += 1
        task = asyncio.get_running_loop().create_task(self._run(rule, key), name="tiercache-prefetch")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait for what is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def end(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()

    async def _run(self, rule: Rule, key: str) -> None:
        try:
            values = await rule.fetched(key)
            await self._cache().set_many(values, route=self._route)
        except Exception as error:  # noqa: BLE001 - nobody waits for it; readers load as they would without it
            self.failures += 1
            log.warning("prefetch for %r failed: %s: %s", rule.prefix, type(error).__name__, error)
        finally:
            rule.running = False


class CacheWithPrefetchPattern:
    """Fetches what is likely to be read next.

    *cache_system* is an `AdvancedCachingSystem`, of which all reads count, or a `Cache`, of which those by
    this object's `get` do. *config* with `cache_preloading` off switches all rules off. What is fetched is
    stored on the route *cache_type*, None: the key's own.
    """

    def __init__(
        self, cache_system: Cache | HoldsCache, config: object = None, *, cache_type: str | None = None
    ) -> None:
        self._face = Face(cache_system, cache_type)
        self._enabled = bool(setting(config, "cache_preloading", otherwise=True))
        self._prefetching = Prefetching(lambda: self._face.cache, self._face.route)
        self._told = self._enabled and self._face.watch(self._seen)

    async def register_prefetch_rule(
        self, prefix: str, fetch: Callable[..., Any], threshold: int = 3
    ) -> None:
        """Call *fetch* in the background after every *threshold* reads of keys that begin with *prefix*, and
        store the mapping that it returns. It takes nothing, or the key of the last of those reads; one that
        is not async runs in a thread. It never runs twice at once.
        """
        self._prefetching.rules.append(Rule(prefix, fetch, threshold))

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, or *default* where nothing fresh is cached."""
        if self._told:
            self._face.seen(key)
        else:
            self._seen(key)
        return await self._face.cache.get(key, default, route=self._face.route)

    async def settle(self) -> None:
        """Wait for the fetches that are under way."""
        await self._prefetching.settle()

    @property
    def runs(self) -> int:
        """Fetches that were begun."""
        return self._prefetching.runs

    @property
    def failures(self) -> int:
        """Fetches that failed; nothing was stored then."""
        return self._prefetching.failures

    def _seen(self, key: str) -> None:
        if self._enabled:
            for rule in self._prefetching.read(key):
                self._prefetching.begin(rule, key)


class RuleTable(BaseModel):
    """One rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fetch: FunctionRef = Field(
        description="What returns values by key. It takes nothing, or the key of the last read."
    )
    threshold: int = Field(3, ge=1, description="Reads after which it is called.")


class PrefetchConfig(PatternConfig):
    """Reads of some keys of a kind bring others into the cache. Reads of its routes cost a little more."""

    type: Literal["prefetch"] = "prefetch"
    rules: dict[str, RuleTable] = Field(
        min_length=1,
        description='What to fetch by prefix, such as `"user:" = { fetch = "shop.store:near" }`.',
    )

    def check(self, context: CheckContext) -> Iterable[tuple[str, str]]:
        """Find functions that can't be imported."""
        del context
        return problems(rules=[rule.fetch for rule in self.rules.values()])

    def build(self, context: Context) -> Pattern:
        """Return the pattern."""
        del context
        return Prefetch([
            Rule(prefix, function_of(rule.fetch), rule.threshold) for prefix, rule in self.rules.items()
        ])  # fmt: skip


class Prefetch:
    """The pattern as a stage of a route."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = rules
        self._prefetching: Prefetching | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self, cache: Any) -> None:
        """Count from now on."""
        self._loop = asyncio.get_running_loop()
        self._prefetching = Prefetching(lambda: cache, None)
        self._prefetching.rules = self._rules

    async def close(self) -> None:
        """Give up what is under way."""
        if self._prefetching is not None:
            prefetching, self._prefetching = self._prefetching, None
            prefetching.end()
            await prefetching.settle()

    def seen(self, key: str, *, hit: bool) -> None:
        """Count a read."""
        del hit
        if self._prefetching is not None and self._loop is not None:
            for rule in self._prefetching.read(key):
                # A near read may be another thread's.
                self._loop.call_soon_threadsafe(self._prefetching.begin, rule, key)


@hookimpl
def tiercache_patterns() -> Iterable[type[PatternConfig]]:
    """Return the pattern of this module."""
    return (PrefetchConfig,)
