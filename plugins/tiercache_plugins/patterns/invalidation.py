"""Invalidation by dependencies: an entry says what it was made of, and goes when that changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from tiercache import Cache, Context, Life, Load, Loaded, Pattern, PatternConfig, Save, hookimpl
from tiercache.keys import glob
from tiercache_plugins.patterns.face import Face, HoldsCache
from tiercache_plugins.patterns.source import Glob, called

_FIELD: Final = re.compile(r"\{(\w*)\}")


class CacheWithInvalidationPattern:
    """Keeps values together with what they depend on.

    *cache_system* is an `AdvancedCachingSystem` or a `Cache`; *cache_type* is the route, None: the key's own.
    *config* may be left out. Dependencies are tags: text of the form of a key.
    """

    def __init__(
        self, cache_system: Cache | HoldsCache, config: object = None, *, cache_type: str | None = None
    ) -> None:
        del config
        self._face = Face(cache_system, cache_type)

    async def set_with_dependencies(
        self,
        key: str,
        value: Any,
        dependencies: Iterable[str],
        *,
        ttl: float | str | timedelta | None = None,
    ) -> None:
        """Store *value*, which goes when any of *dependencies* is invalidated."""
        await self._face.cache.set(key, value, route=self._face.route, ttl=ttl, tags=dependencies)

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, or *default* where nothing fresh is cached."""
        self._face.seen(key)
        return await self._face.cache.get(key, default, route=self._face.route)

    async def get_with_dependencies(
        self,
        key: str,
        loader: Callable[..., Any],
        dependencies: Iterable[str],
        *args: Any,
        ttl: float | str | timedelta | None = None,
    ) -> Any:
        """Return the value of *key*; where nothing fresh is cached, `loader(*args)`, which is stored with
        *dependencies*. One that is invalidated while the loader runs is stored nowhere.
        """
        self._face.seen(key)
        return await self._face.cache.get_or_set(
            key, lambda: called(loader, *args), route=self._face.route, ttl=ttl, tags=dependencies
        )

    async def invalidate_dependencies(self, *dependencies: str) -> None:
        """Drop everything that depends on one of *dependencies*, however much it is: one marker each."""
        await self._face.cache.invalidate(tags=dependencies)


class InvalidationConfig(PatternConfig):
    """Entries get tags by their keys, and storing a key may drop what depends on it."""

    type: Literal["invalidation"] = "invalidation"
    dependencies: dict[str, tuple[str, ...]] = Field(
        {},
        description='Tags by keys, such as `"profile:*" = ["user:{1}"]`: what a star stands for is named by '
        "its number. They are added to the tags of a call.",
    )
    invalidates: tuple[Glob, ...] = Field(
        (),
        description="Keys whose being stored drops all that has a tag of the same name, such as `user:*`. "
        "One marker is written each time.",
    )

    @field_validator("dependencies")
    @classmethod
    def _sound(cls, rules: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for pattern, tags in rules.items():
            stars = pattern.count("*")
            if any(char in pattern for char in "?[]\\"):
                raise ValueError(
                    f'"{pattern}" is more than text and stars, which is all that is accepted here'
                )
            for tag in tags:
                for name in _FIELD.findall(tag):
                    if not name.isdigit() or not 1 <= int(name) <= stars:
                        raise ValueError(
                            f'"{tag}" names {{{name}}}, and "{pattern}" has {stars} stars; '
                            f"{{1}} is what the first stands for"
                        )
        return rules

    def build(self, context: Context) -> Pattern:
        """Return the pattern."""
        del context
        return Dependencies(self.dependencies, self.invalidates)


class Dependencies:
    """The pattern as a stage of a route."""

    def __init__(self, rules: Mapping[str, tuple[str, ...]], invalidates: Iterable[str]) -> None:
        self._rules = [
            (re.compile("(.*?)".join(map(re.escape, pattern.split("*"))), re.DOTALL).fullmatch, tags)
            for pattern, tags in rules.items()
        ]
        self._invalidates = [glob(pattern).fullmatch for pattern in invalidates]
        self._cache: Cache | None = None

    async def open(self, cache: Any) -> None:
        """Take note of the cache."""
        self._cache = cache

    async def close(self) -> None:
        """Nothing is left to end."""

    def tags(self, key: str) -> tuple[str, ...]:
        """Return the tags that *key* gets by the rules."""
        return tuple(
            _FIELD.sub(lambda field, found=found: found[int(field[1])], tag)  # type: ignore[misc]
            for matches, tags in self._rules
            if (found := matches(key)) is not None
            for tag in tags
        )

    def around_load(self, load: Load) -> Load:
        """Return *load* with the tags of the key."""

        async def wrapped(key: str, loader: Callable[[], Any]) -> Any:
            brought = await load(key, loader)
            tags = self.tags(key)
            if not tags:
                return brought
            if isinstance(brought, Loaded):
                return replace(brought, more_tags=(*brought.more_tags, *tags))
            return Loaded(brought, more_tags=tags)

        return wrapped

    def around_save(self, save: Save) -> Save:
        """Return *save* with the tags of the key, after what depends on the key was dropped."""

        async def wrapped(key: str, value: Any, life: Life) -> None:
            if self._cache is not None and any(matches(key) for matches in self._invalidates):
                # Before it is stored: it may carry its own name as a tag.
                await self._cache.invalidate(tags=[key])
            tags = tuple(dict.fromkeys((*life.tags, *self.tags(key))))
            await save(key, value, life._replace(tags=tags))

        return wrapped


@hookimpl
def tiercache_patterns() -> Iterable[type[PatternConfig]]:
    """Return the pattern of this module."""
    return (InvalidationConfig,)
