"""What may be shown: which values are secrets, messages without them, and excerpts with them covered."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretBytes, SecretStr

from tiercache.config.layers import PLAIN_TABLES, TomlFile
from tiercache.config.locate import KeyPath, Places
from tiercache.config.registry import Registry
from tiercache.config.settings import Settings
from tiercache.config.tables import CacheTable, PluginsTable, RouteTable, TelemetryTable, options
from tiercache.contracts import KINDS, Kind

COVER: Final = "…"
"""What stands where a secret was."""

_MODELS: Final[Mapping[str, type[BaseModel]]] = dict(
    zip(PLAIN_TABLES, (CacheTable, PluginsTable, TelemetryTable), strict=True)
)
_CREDENTIALS: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://.*@|[?&](password|token|secret|key)=", re.IGNORECASE | re.DOTALL
)
_TELLING: Final = re.compile(r"pas|pw|secret|tok|key|cred|auth|phrase", re.IGNORECASE)
_SHORT: Final = 4
_WIDTH: Final = 110

Openness = Literal["shown", "unknown", "secret"]


class Secrecy:
    """Knows which values of one document are secrets."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._models: dict[tuple[str, str], type[BaseModel] | None] = {}
        for kind in KINDS:
            tables = getattr(settings.document, kind)
            for name, table in tables.items() if isinstance(tables, Mapping) else ():
                self._models[kind, name] = _model(registry, kind, table)
        self._secrets = sorted(set(self._collect()), key=len, reverse=True)

    def openness(self, path: KeyPath, value: object) -> Openness:
        """Return whether *value* may be shown: "unknown" where nobody can tell, as in a misspelt option."""
        if isinstance(value, str) and _CREDENTIALS.search(value):
            return "secret"
        if isinstance(value, (SecretStr, SecretBytes)):
            return "secret"
        known: Mapping[str, Any] = {}
        depth = 2
        if path[0] in KINDS:
            if len(path) > 2 and path[2] == "type":
                return "shown"
            model = self._models.get((str(path[0]), str(path[1]))) if len(path) > 1 else None
            known = options(model) if model else {}
        elif path[0] == "route":
            known = options(RouteTable)
        elif path[0] in _MODELS:
            known, depth = options(_MODELS[str(path[0])]), 1
        field = known.get(str(path[depth])) if len(path) > depth else None
        if field is None:
            names = [part for part in path if isinstance(part, str)]
            return "secret" if isinstance(value, str) and _TELLING.search(names[-1]) else "unknown"
        return "secret" if _holds_secret(field.annotation) else "shown"

    def may_show(self, path: KeyPath, value: object) -> bool:
        """Return whether a message may repeat *value*."""
        if self._settings.layer(path)[0].secret:
            return False
        return self._visible(path, value)

    def _visible(self, path: KeyPath, value: object) -> bool:
        openness = self.openness(path, value)
        if openness != "unknown":
            return openness == "shown"
        return not isinstance(value, str) and not _TELLING.search(str(path[-1]))

    def _collect(self) -> Iterator[str]:
        for layer in self._settings.layers:
            for path, value in _leaves(layer.values, ()):
                if layer.secret or self.openness(path, value) == "secret":
                    yield from _forms(value)

    def scrub(self, message: str) -> str:
        """Return *message* without any secret of the document."""
        for secret in self._secrets:
            if len(secret) >= _SHORT:
                message = message.replace(secret, COVER)
            else:
                for quote in "\"'":
                    message = message.replace(f"{quote}{secret}{quote}", f"{quote}{COVER}{quote}")
        return message

    def excerpt(self, path: KeyPath) -> str:
        """Return the line where *path* is written, with a marker under it; empty where no file has it."""
        layer, _ = self._settings.layer(path)
        if not isinstance(layer, TomlFile):
            return ""
        found = layer.places.nearest((*layer.prefix, *path))
        if found is None:
            return ""
        span = found[1]
        places = layer.places
        number, _ = places.position(span.start)
        start = places.lines[number - 1]
        line = places.line(number)
        column, width = span.start - start, min(span.end, start + len(line)) - span.start
        covered = sorted(self._covered(layer, start, start + len(line)), reverse=True)
        for begin, end in covered:
            replacement = f'"{COVER}"'
            line = line[: begin - start] + replacement + line[end - start :]
            if end <= span.start:
                column += len(replacement) - (end - begin)
            elif begin <= span.start:
                column, width = begin - start, len(replacement)
        if covered:
            line = _without_comment(line)
        if column + width > _WIDTH:
            cut = max(0, column - _WIDTH // 2)
            line, column = line[cut:], column - cut
        line = line[:_WIDTH]
        width = max(1, min(width, len(line) - column))
        pad = "".join("\t" if char == "\t" else " " for char in line[:column])
        return f" {number} | {line}\n {' ' * len(str(number))} | {pad}{'^' * width}"

    def _covered(self, layer: TomlFile, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield what must not be seen between two offsets, cut to them."""
        places: Places = layer.places
        depth = len(layer.prefix)
        for path, span in places.values.items():
            if span.end <= start or span.start >= end or places.text[span.start] in "[{":
                continue
            ours = path[:depth] == layer.prefix
            if not ours or not self._visible(path[depth:], _at(layer.values, path[depth:])):
                yield max(span.start, start), min(span.end, end)


def _model(registry: Registry, kind: Kind, table: object) -> type[BaseModel] | None:
    type_name = table.get("type") if isinstance(table, Mapping) else None
    return registry.get(kind, type_name) if isinstance(type_name, str) else None


def _holds_secret(annotation: Any) -> bool:
    if annotation in {SecretStr, SecretBytes}:
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_holds_secret(field.annotation) for field in annotation.model_fields.values())
    return any(_holds_secret(part) for part in typing.get_args(annotation) if not isinstance(part, str))


def _leaves(node: object, path: KeyPath) -> Iterator[tuple[KeyPath, object]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _leaves(value, (*path, index))
    elif path:
        yield path, node


def _forms(value: object) -> Iterator[str]:
    """Yield the texts in which a secret may turn up in a message."""
    if isinstance(value, (SecretStr, SecretBytes)):
        value = value.get_secret_value()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = str(value)
    # Messages quote in one of these ways, and then a quote or a line end inside looks different.
    yield from filter(None, {text, text.strip(), repr(text)[1:-1], json.dumps(text)[1:-1]})
    if "://" in text:
        try:
            password = urlsplit(text).password
        except ValueError:
            return
        if password:
            yield password
            yield unquote(password)


def _at(node: Any, path: KeyPath) -> Any:
    for key in path:
        node = node[key]
    return node


def _without_comment(line: str) -> str:
    quote = ""
    for index, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "#":
            return line[:index].rstrip()
    return line
