"""What was found, as problems: in the order of the document, with places and excerpts, without secrets."""

from __future__ import annotations

from collections.abc import Iterable

from tiercache.config.layers import TomlFile, dotted
from tiercache.config.locate import KeyPath
from tiercache.config.secrecy import Secrecy
from tiercache.config.settings import Settings
from tiercache.errors import Problem

Finding = tuple[KeyPath, str]
"""The key that is meant, and what is to say about it."""


def report(found: Iterable[Finding], settings: Settings, secrecy: Secrecy) -> tuple[Problem, ...]:
    """Return *found* as problems, each once: those of the file first, from its top to its end."""
    ranked = [(_rank(path, settings), path, message) for path, message in dict.fromkeys(found)]
    ranked.sort(key=lambda item: item[0])
    return tuple(
        Problem(
            settings.layer(path)[0].where(path), dotted(path), secrecy.scrub(message), secrecy.excerpt(path)
        )
        for _, path, message in ranked
    )


def _rank(path: KeyPath, settings: Settings) -> tuple[int, int, int]:
    layer, _ = settings.layer(path)
    if isinstance(layer, TomlFile):
        return (0, *layer.position(path))
    return (1 + settings.layers.index(layer), 0, 0)
