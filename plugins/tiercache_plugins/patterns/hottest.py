"""Hottest: what was read most before the last end is near again soon after the next start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tiercache import MISSING, Cache, Context, Hot, Pattern, PatternConfig, hookimpl

log = logging.getLogger("tiercache.patterns")


class HottestConfig(PatternConfig):
    """Keeps the names of the keys that are read most, and reads them after the next start, so that they are
    near again: from the far tiers, or by what the route loads at reads (`read_through`).
    """

    type: Literal["hottest"] = "hottest"
    path: str = Field(
        ".cache/hottest.jsonl", min_length=1,
        description="The file of names. Relative to the directory of the configuration; `~` is expanded.",
    )  # fmt: skip
    count: int = Field(1000, ge=1, description="Names at most.")
    rate: float = Field(500.0, gt=0, description="Keys a second that are read after a start, at most.")

    def build(self, context: Context) -> Pattern:
        """Return the pattern."""
        return Hottest(context.directory / Path(self.path).expanduser(), self.count, self.rate)


class Hottest:
    """The pattern as a stage: of the whole cache, whichever routes list it."""

    def __init__(self, path: Path, count: int, rate: float) -> None:
        self._path = path
        self._count = count
        self._rate = rate
        self._cache: Cache | None = None
        self._reading: asyncio.Task[None] | None = None
        self.found = 0
        """Keys that were near again after the start."""

    async def open(self, cache: Any) -> None:
        """Begin to read what the last run read most, in the background."""
        self._cache = cache
        hot = await asyncio.to_thread(self._kept)
        if hot:
            reading = self._read(cache, hot)
            self._reading = asyncio.get_running_loop().create_task(reading, name="tiercache-hottest")

    async def close(self) -> None:
        """Keep the names of what this run has read most."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._cache is not None:
            cache, self._cache = self._cache, None
            hot = cache.hottest(self._count)
            # A run that read nothing has nothing to say against the one before it.
            if hot:
                await asyncio.to_thread(self._keep, hot)

    async def settle(self) -> None:
        """Wait until all names were read."""
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def _read(self, cache: Cache, hot: list[tuple[str, str]]) -> None:
        for key, route in hot:
            try:
                self.found += await cache.get(key, MISSING, route=route) is not MISSING
            except Exception as error:  # noqa: BLE001 - a loader's, or of a route that is no more; others go on
                log.info("%r is not near again: %s: %s", key, type(error).__name__, error)
            await asyncio.sleep(1 / self._rate)

    def _kept(self) -> list[tuple[str, str]]:
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            log.warning("the names of the hottest keys can't be read: %s", error)
            return []
        hot = []
        for line in lines:
            try:
                told = json.loads(line)
                hot.append((str(told["key"]), str(told["route"])))
            except (ValueError, TypeError, KeyError) as error:
                log.warning("%s is no file of names of keys: %s: %s", self._path, type(error).__name__, error)
                return hot
        return hot

    def _keep(self, hot: Iterable[Hot]) -> None:
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.touch(mode=0o600)
            beside.write_text(
                "".join(json.dumps({"key": each.key, "route": each.route}) + "\n" for each in hot)
            )
            # At once, so that a process that ends in the middle leaves the old one whole.
            beside.replace(self._path)
        except OSError as error:
            log.warning("the names of the hottest keys can't be kept: %s", error)
            with contextlib.suppress(OSError):
                beside.unlink()


@hookimpl
def tiercache_patterns() -> Iterable[type[PatternConfig]]:
    """Return the pattern of this module."""
    return (HottestConfig,)
