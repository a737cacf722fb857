"""A pattern that knows where values come from, and one that adds a tag; both write down what they do."""

from __future__ import annotations

from typing import Any, Literal

from tiercache import MISSING, Context, Loaded, PatternConfig, hookimpl

LOG: list[Any] = []


class SourceConfig(PatternConfig):
    """Supplies whatever begins with "s:"."""

    type: Literal["source"] = "source"
    on_miss: bool = True
    ahead: float | None = None
    broken: str = ""

    def build(self, context: Context) -> Source:
        return Source(self, context.name)


class Source:
    def __init__(self, config: SourceConfig, name: str) -> None:
        self.on_miss = config.on_miss
        self.ahead = config.ahead
        self._broken = config.broken
        self._name = name

    def loader(self, key):
        return (lambda: self._load(key)) if key.startswith("s:") else None

    async def _load(self, key):
        LOG.append(("load", key))
        return MISSING if key.endswith("none") else f"{key} {LOG.count(('load', key))}"

    async def open(self, cache):
        LOG.append((self._name, "open", cache.is_open))
        if self._broken == "open":
            raise OSError("no source")

    async def close(self):
        LOG.append((self._name, "close"))
        if self._broken == "close":
            raise OSError("no end")


class LabelsConfig(PatternConfig):
    """Adds a tag to what is loaded."""

    type: Literal["labels"] = "labels"

    def build(self, context: Context) -> Labels:
        return Labels()


class Labels:
    def around_load(self, load):
        async def labelled(key, loader):
            return Loaded(await load(key, loader), more_tags=("more",))

        return labelled


@hookimpl
def tiercache_patterns():
    return [SourceConfig, LabelsConfig]
