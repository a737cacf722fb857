"""Where each key of a TOML document is written: the standard parser gives values without places.

One pass over the text, on tokens alone. It runs after `tomllib` has accepted the text, so it need not
know what is invalid, only where things begin and end. It uses no recursion: nesting is the document's.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and array indexes from the root of a document."""


class Position(NamedTuple):
    """A place in a text. Both count from 1; columns count characters, not bytes."""

    line: int
    column: int


class Span(NamedTuple):
    """Where a key or an array element is, as offsets into a text whose line ends are one character."""

    start: int
    end: int


@dataclass(slots=True)
class Places:
    """What one scan of a document found."""

    text: str
    """The text that offsets count in, without carriage returns before line ends."""
    keys: dict[KeyPath, Span]
    """The key, where the path ends in a name; the element, where it ends in an index."""
    values: dict[KeyPath, Span]
    """The value, where one is written: not for tables made by a header."""
    lines: list[int]
    """Offset of the first character of each line."""

    def position(self, offset: int) -> Position:
        """Return line and column of *offset*."""
        line = bisect_right(self.lines, offset)
        return Position(line, offset - self.lines[line - 1] + 1)

    def line(self, number: int) -> str:
        """Return the text of line *number*, without its end."""
        start = self.lines[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : end if end >= 0 else len(self.text)]

    def nearest(self, path: KeyPath) -> tuple[KeyPath, Span] | None:
        """Return the longest beginning of *path* that is written down, and where; None where none is."""
        for length in range(len(path), 0, -1):
            span = self.keys.get(path[:length])
            if span is not None:
                return path[:length], span
        return None


def positions(text: str) -> dict[KeyPath, Position]:
    """Return line and column of every key, table and array element of *text*.

    A key stands where its own name stands, also in the middle of a dotted key or a table header; an array
    element stands where it begins. *text* must be TOML that `tomllib` accepts; ValueError otherwise, where
    the scan can tell.
    """
    places = scan(text)
    return {path: places.position(span.start) for path, span in places.keys.items()}


def scan(text: str) -> Places:
    """Return keys and values of *text* with their offsets. Raises ValueError as `positions` does."""
    return _Scanner(text.replace("\r\n", "\n")).run()


_GAP: Final = re.compile(r"(?:[ \t\n,]|#[^\n]*+)*+")
_BLANK: Final = re.compile(r"[ \t]*+")
_KEY: Final = re.compile(r"""[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'""")
_DOT: Final = re.compile(r"[ \t]*+\.[ \t]*+")
_SCALAR: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+"""(?:"{1,2})?'
    r"|'''(?:[^']|'(?!''))*+'''(?:'{1,2})?"
    r'|"(?:[^"\\\n]|\\.)*+"'
    r"|'[^'\n]*+'"
    r"""|[^\s,\[\]{}#"'](?:[^\n,\[\]{}#"']*[^\s,\[\]{}#"'])?""",
    re.DOTALL,
)


@dataclass(slots=True)
class _Open:
    """An array or an inline table whose end is still to come."""

    path: KeyPath
    start: int
    index: int | None
    """Of the next element; None in an inline table."""


class _Scanner:
    __slots__ = ("at", "counts", "keys", "text", "values")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.keys: dict[KeyPath, Span] = {}
        self.values: dict[KeyPath, Span] = {}
        self.counts: dict[KeyPath, int] = {}

    def run(self) -> Places:
        prefix: KeyPath = ()
        self._skip(_GAP)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                prefix = self._header()
            else:
                self._value(self._key(prefix))
            self._skip(_GAP)
        lines = [0, *(match.end() for match in re.finditer("\n", self.text))]
        return Places(self.text, self.keys, self.values, lines)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def _take(self, pattern: re.Pattern[str]) -> Span:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise self._unexpected()
        self.at = match.end()
        return Span(match.start(), match.end())

    def _expect(self, token: str) -> None:
        self._skip(_BLANK)
        if not self.text.startswith(token, self.at):
            raise self._unexpected()
        self.at += len(token)

    def _unexpected(self) -> ValueError:
        return ValueError(f"the text is not TOML from character {self.at + 1} on")

    def _name(self, span: Span) -> str:
        token = self.text[span.start : span.end]
        return str(tomllib.loads(f"k = {token}")["k"]) if token[0] in "\"'" else token

    def _segments(self) -> list[Span]:
        self._skip(_BLANK)
        out = [self._take(_KEY)]
        while match := _DOT.match(self.text, self.at):
            self.at = match.end()
            out.append(self._take(_KEY))
        return out

    def _header(self) -> KeyPath:
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        *parents, last = self._segments()
        self._expect("]]" if array else "]")
        path: KeyPath = ()
        for span in parents:
            path = (*path, self._name(span))
            self.keys.setdefault(path, span)
            # A name that is an array of tables means its latest element here.
            if path in self.counts:
                path = (*path, self.counts[path])
        path = (*path, self._name(last))
        if not array:
            self.keys[path] = last
            return path
        self.keys.setdefault(path, last)
        self.counts[path] = self.counts.get(path, -1) + 1
        path = (*path, self.counts[path])
        self.keys[path] = last
        return path

    def _key(self, prefix: KeyPath) -> KeyPath:
        path = prefix
        for span in self._segments():
            path = (*path, self._name(span))
            self.keys.setdefault(path, span)
        self._expect("=")
        self._skip(_BLANK)
        return path

    def _value(self, path: KeyPath) -> None:
        containers: list[_Open] = []
        while True:
            start = self.at
            if self.text.startswith(("[", "{"), start):
                index = 0 if self.text[start] == "[" else None
                containers.append(_Open(path, start, index))
                self.at += 1
            else:
                self.values[path] = self._take(_SCALAR)
                self._element(path, self.values[path])
            following = self._following(containers)
            if following is None:
                return
            path = following

    def _following(self, containers: list[_Open]) -> KeyPath | None:
        """Close what ends here; return the path of the next value, None after the last."""
        while containers:
            self._skip(_GAP)
            inner = containers[-1]
            if self.text.startswith(("]", "}"), self.at):
                self.at += 1
                self.values[inner.path] = Span(inner.start, self.at)
                self._element(inner.path, self.values[inner.path])
                containers.pop()
            elif inner.index is None:
                return self._key(inner.path)
            else:
                path = (*inner.path, inner.index)
                inner.index += 1
                return path
        return None

    def _element(self, path: KeyPath, span: Span) -> None:
        if isinstance(path[-1], int):
            self.keys[path] = span
