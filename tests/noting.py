"""A pattern that writes down what it sees."""

from typing import Literal

from tiercache import PatternConfig, hookimpl

LOG = []


class Noted:
    def __init__(self, name):
        self.name = name

    def around_load(self, load):
        async def wrapped(key, loader):
            LOG.append((self.name, "load", key))
            return await load(key, loader)

        return wrapped

    def around_save(self, save):
        async def wrapped(key, value, life):
            LOG.append((self.name, "save", key))
            await save(key, value, life)

        return wrapped

    def seen(self, key, *, hit):
        LOG.append((self.name, "seen", key, hit))


class NotedConfig(PatternConfig):
    """Writes down what it sees."""

    type: Literal["noted"] = "noted"
    name: str = "noted"

    def build(self, context):
        return Noted(self.name)


@hookimpl
def tiercache_patterns():
    return [NotedConfig]
