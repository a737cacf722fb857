"""Which rows were read, how often and when last, as long as that is not written down."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

_SPAN: Final = 6
_IN_SPAN: Final = (1 << _SPAN) - 1
_SPANS: Final = 16_384
"""Spans that are remembered: 9 MiB, of a million rows where their numbers are close together."""
_TIME: Final = 52
"""Bits of a word that hold the time in microseconds, until the year 2112; the others count."""
_AT: Final = (1 << _TIME) - 1
_MOST: Final = (1 << 64 - _TIME) - 1


class Reading(NamedTuple):
    """A row that was read."""

    row: int
    times: int
    at: int
    """When it was read last, in microseconds."""


class Readings:
    """Reads by row, in words of spans of 64 rows: a dictionary of rows would take fifteen times the room.

    Noted by the thread that reads, taken by the one that writes.
    """

    __slots__ = ("_count", "_hand", "_lock", "_spans")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: dict[int, array[int]] = {}
        self._count = 0
        self._hand = 0

    def __len__(self) -> int:
        """Return how many rows have something to be written down."""
        return self._count

    @property
    def full(self) -> bool:
        """Whether the next row may be forgotten: it is time to write."""
        return len(self._spans) >= _SPANS

    def note(self, rows: Iterable[int], now: int) -> None:
        """Take note that *rows* were read *now*. Where there is no room for a row, that is left out."""
        at = min(now, _AT)
        spans = self._spans
        with self._lock:
            for row in rows:
                span = spans.get(row >> _SPAN)
                if span is None:
                    if len(spans) >= _SPANS:
                        continue
                    span = spans[row >> _SPAN] = array("Q", bytes(8 << _SPAN))
                place = row & _IN_SPAN
                times = span[place] >> _TIME
                if not times:
                    self._count += 1
                span[place] = (times + 1 if times < _MOST else _MOST) << _TIME | at

    def of(self, rows: Sequence[int]) -> list[Reading]:
        """Take what is known of *rows*."""
        found: list[Reading] = []
        if not self._count:
            return found
        with self._lock:
            for row in rows:
                span = self._spans.get(row >> _SPAN)
                if span is not None and (word := span[row & _IN_SPAN]):
                    found.append(Reading(row, word >> _TIME, word & _AT))
                    span[row & _IN_SPAN] = 0
            self._count -= len(found)
            if not self._count:
                self._spans.clear()
        return found

    def take(self, most: int) -> list[Reading]:
        """Take about *most* rows, at least one span of them, in the order of their numbers.

        It goes on where it stopped the last time: what is read again and again meanwhile holds up no other.
        """
        found: list[Reading] = []
        with self._lock:
            numbers = sorted(self._spans)
            turn = bisect_left(numbers, self._hand)
            for number in numbers[turn:] or numbers:
                if len(found) >= most:
                    break
                self._hand = number + 1
                first = number << _SPAN
                found += [
                    Reading(first + place, word >> _TIME, word & _AT)
                    for place, word in enumerate(self._spans.pop(number))
                    if word
                ]
            self._count -= len(found)
        return found
