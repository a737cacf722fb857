"""Reading header fields that others wrote: whatever they hold, nothing here raises."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterable
from typing import Final

LONGEST: Final = 8192
"""Characters of one field, its lines joined, that are still looked at."""
FAR_FUTURE: Final = 2**31
"""Seconds beyond which a delta is as good as for ever (RFC 9111, 1.2.2)."""

Headers = Iterable[tuple[bytes, bytes]]

_DIRECTIVE = re.compile(r'([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)(?:(=)("(?:[^"\\]|\\.)*"|[^\s",;]*))?')
_PARTS = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,"]|")+')
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TAG = re.compile(r'\s*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = r"(\d\d):(\d\d):(\d\d)"
_FIXDATE = re.compile(rf"[A-Za-z]{{3}}, (\d\d) ([A-Za-z]{{3}}) (\d{{4}}) {_CLOCK} GMT", re.IGNORECASE)
_RFC850 = re.compile(rf"[A-Za-z]{{6,9}}, (\d\d)-([A-Za-z]{{3}})-(\d\d) {_CLOCK} GMT", re.IGNORECASE)
_ASCTIME = re.compile(rf"[A-Za-z]{{3}} ([A-Za-z]{{3}}) ([ \d]\d) {_CLOCK} (\d{{4}})")


class Directives:
    """The directives of a Cache-Control field, with or without values.

    A field that is too long, or in which quotes do not close, says `no-store`: what can't be read may have
    forbidden it.
    """

    __slots__ = ("_values",)

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str | None]] = {}
        if len(text) > LONGEST or _unclosed(text):
            self._values["no-store"] = [None]
            return
        for part in _PARTS.findall(text):
            stripped = part.strip()
            if not stripped:
                continue
            name = stripped.partition("=")[0].strip().lower()
            match = _DIRECTIVE.fullmatch(stripped)
            # One that is ill-formed counts as there, with a value that means nothing.
            value = "?" if match is None else match[3] if match[2] else None
            self._values.setdefault(name, []).append(_unquoted(value))

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __bool__(self) -> bool:
        return bool(self._values)

    def text(self, name: str) -> str | None:
        """Return the value of *name*; None where it has none, or is not there."""
        return next((value for value in self._values.get(name, ()) if value is not None), None)

    def delta(self, name: str) -> int | None:
        """Return the seconds that *name* gives, None where it is absent.

        The least of several; 0 where one of them is no number, so that what is unclear counts as stale.
        """
        values = self._values.get(name)
        if not values:
            return None
        return min(FAR_FUTURE if len(v) > 10 else int(v) if v else 0 for v in map(_digits, values))


def _digits(value: str | None) -> str:
    return value.lstrip("0") if value and value.isascii() and value.isdigit() else ""


def _unquoted(value: str | None) -> str | None:
    if value is not None and len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def _unclosed(text: str) -> bool:
    return '"' in re.sub(r'"(?:[^"\\]|\\.)*"', "", text)


def lines(headers: Headers, name: bytes) -> list[str]:
    """Return the lines of the field *name*, which is in lower case."""
    return [value.decode("latin-1") for key, value in headers if key.lower() == name]


def joined(headers: Headers, name: bytes) -> str | None:
    """Return the lines of the field *name* as one, None where there is none."""
    found = lines(headers, name)
    return ", ".join(found) if found else None


def members(text: str) -> list[str]:
    """Return the members of a comma-separated list, stripped, without empty ones."""
    if len(text) > LONGEST:
        return []
    return [part for part in (raw.strip() for raw in _PARTS.findall(text)) if part]


def is_token(text: str) -> bool:
    """Whether *text* may be the name of a field or of a method."""
    return _TOKEN.fullmatch(text) is not None


def entity_tags(text: str) -> list[str] | None:
    """Return the entity tags of an If-None-Match field; None where it is none. "*" stands alone."""
    stripped = text.strip()
    if stripped == "*":
        return ["*"]
    if not stripped or len(text) > LONGEST:
        return None
    found, end = [], 0
    while end < len(stripped):
        match = _TAG.match(stripped, end)
        if match is None:
            return None
        found.append(match[1])
        end = match.end()
    return found


def weakly_equal(one: str, other: str) -> bool:
    """Compare two entity tags as RFC 9110, 8.8.3.2 has it for If-None-Match."""
    return one.removeprefix("W/") == other.removeprefix("W/")


def http_date(text: str, now: float) -> float | None:
    """Return the time that one of the three forms of RFC 9110, 5.6.7 gives, in seconds; None for others.

    *now* tells which century a year of two digits is in.
    """
    text = text.strip()
    if match := _FIXDATE.fullmatch(text):
        day, month, year, *clock = match.groups()
    elif match := _RFC850.fullmatch(text):
        day, month, year, *clock = match.groups()
        full = time.gmtime(now).tm_year // 100 * 100 + int(year)
        # More than fifty years ahead is the past.
        year = str(full - 100 if full > time.gmtime(now).tm_year + 50 else full)
    elif match := _ASCTIME.fullmatch(text):
        month, day, *clock, year = match.groups()
    else:
        return None
    if month.lower() not in _MONTHS:
        return None
    hour, minute, second = map(int, clock)
    parts = (int(year), _MONTHS.index(month.lower()) + 1, int(day), hour, minute, second)
    if not (1 <= parts[2] <= 31 and hour < 24 and minute < 60 and second <= 60):
        return None
    return float(calendar.timegm(parts))
