"""Keys and globs: what may be a key, and the one meaning that a pattern has in every tier."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from tiercache.errors import InvalidKey

LONGEST: Final = 1024
"""Bytes of UTF-8 that a key may have."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SPECIAL = re.compile(r"[*?\[\]\\]")


def check_key(key: object) -> None:
    """Raise InvalidKey unless *key* is a str of 1 to 1,024 UTF-8 bytes without control characters."""
    if type(key) is str and 0 < len(key) <= LONGEST and key.isascii() and key.isprintable():
        # What nearly all keys are, in a third of the time that the rest takes.
        return
    if not isinstance(key, str):
        raise InvalidKey(f"a key must be a str, not {type(key).__name__}")
    # Four bytes are the most that a character takes, so short keys need no encoding to be measured.
    if not key:
        raise InvalidKey("a key must have at least one character")
    if len(key) > LONGEST // 4 or not key.isascii():
        try:
            length = len(key.encode())
        except UnicodeEncodeError:
            raise InvalidKey("a key must be valid UTF-8; it has a lone surrogate") from None
        if length > LONGEST:
            raise InvalidKey(f"a key may have {LONGEST} bytes of UTF-8; this one has {length}")
    if _CONTROL.search(key):
        raise InvalidKey(f"a key must have no control characters: {key[:80]!r}")


@lru_cache(maxsize=512)
def glob(pattern: str) -> re.Pattern[str]:
    r"""Compile *pattern*: `*` any run, `?` one character, `[a-z]` and `[!a-z]` classes, `\\` takes the next
    character literally. Use `.fullmatch`. Raises ValueError for an open class or a trailing backslash.
    """
    return re.compile("".join(_translate(pattern)), re.DOTALL)


def literal_prefix(pattern: str) -> str:
    """Return what every match of *pattern* begins with: "user:*" → "user:"."""
    out: list[str] = []
    escaped = False
    for char in pattern:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
            continue
        elif char in "*?[":
            break
        out.append(char)
    return "".join(out)


def escape(text: str) -> str:
    """Return the pattern that matches *text* alone."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _translate(pattern: str) -> list[str]:
    out: list[str] = []
    i = 0
    while i < len(pattern):
        char = pattern[i]
        i += 1
        if char == "*":
            if out[-1:] != [".*"]:
                out.append(".*")
        elif char == "?":
            out.append(".")
        elif char == "[":
            members, i = _members(pattern, i)
            out.append(members)
        elif char == "\\":
            if i == len(pattern):
                raise ValueError(f'the pattern "{pattern}" ends in a backslash; write two to match one')
            out.append(re.escape(pattern[i]))
            i += 1
        else:
            out.append(re.escape(char))
    return out


def _members(pattern: str, start: int) -> tuple[str, int]:
    negated = pattern[start : start + 1] in {"!", "^"}
    first = start + negated
    end = pattern.find("]", first + 1)
    if end < 0:
        raise ValueError(
            f'the pattern "{pattern}" opens a class with "[" and never closes it; write "\\[" to match it'
        )
    body = pattern[first:end]
    ranges: list[str] = []
    i = 0
    while i < len(body):
        if i + 2 < len(body) and body[i + 1] == "-":
            low, high = body[i], body[i + 2]
            if low > high:
                raise ValueError(f'the pattern "{pattern}" has the range "{low}-{high}", which is empty')
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
            i += 3
        else:
            ranges.append(re.escape(body[i]))
            i += 1
    return f"[{'^' if negated else ''}{''.join(ranges)}]", end + 1
