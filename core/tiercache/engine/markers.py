"""Markers: the stamps of what was invalidated by tag, by prefix, or altogether.

An invalidation writes one number, however many entries it concerns; an entry is judged when it is met, by
its own tags and by the beginnings of its key, one look-up for each distinct length of a prefix. What was
created at or before a marker that covers it is dead.

A marker is never dropped for its age, as nobody knows the longest life of what a far tier holds. Beyond a
bound, the oldest are folded into the one for everything: where nothing that old lives any more, that costs
nothing, and otherwise it costs loads, but lets nothing survive.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

log = logging.getLogger("tiercache.engine")

MOST: Final = 10_000
"""Markers that are kept where nothing else is said."""

EVERYTHING: Final = "*"
"""Name of the marker for everything."""
_TAG: Final = "t:"
_PREFIX: Final = "p:"


def of_tag(tag: str) -> str:
    """Return the name of the marker of *tag*."""
    return _TAG + tag


def of_prefix(prefix: str) -> str:
    """Return the name of the marker of the keys that begin with *prefix*; of everything for none."""
    return _PREFIX + prefix if prefix else EVERYTHING


class Markers:
    """All markers of one cache. Stamps only rise: an older one never takes the place of a newer one."""

    __slots__ = ("_lengths", "_prefixes", "_tags", "most", "newest", "whole")

    def __init__(self, most: int = MOST) -> None:
        self.whole = 0
        """Stamp of the marker for everything; 0 for none."""
        self.newest = 0
        """The latest stamp of all: what was created after it is alive."""
        self.most = most
        self._tags: dict[str, int] = {}
        self._prefixes: dict[str, int] = {}
        self._lengths: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._tags) + len(self._prefixes) + (self.whole > 0)

    def killed(self, key: str, tags: Iterable[str], created_at: int) -> int:
        """Return the stamp of a marker that an entry is dead by, 0 where it is alive."""
        if created_at > self.newest:
            return 0
        if created_at <= self.whole:
            return self.whole
        for tag in tags:
            if (stamp := self._tags.get(tag, 0)) >= created_at:
                return stamp
        for length in self._lengths:
            if length <= len(key) and (stamp := self._prefixes.get(key[:length], 0)) >= created_at:
                return stamp
        return 0

    def mark(self, markers: Mapping[str, int]) -> dict[str, int]:
        """Raise *markers*, given by name. Return those that rose, and the one that others were folded into.

        A name that is not understood, as of a later release, counts for everything: that may cost loads.
        """
        risen: dict[str, int] = {}
        for name, stamp in markers.items():
            if stamp <= self.whole:
                continue
            known = name
            if name.startswith(_TAG):
                rose = _raise(self._tags, name[len(_TAG) :], stamp)
            elif name.startswith(_PREFIX) and len(name) > len(_PREFIX):
                prefix = name[len(_PREFIX) :]
                if prefix not in self._prefixes:
                    self._lengths[len(prefix)] += 1
                rose = _raise(self._prefixes, prefix, stamp)
            else:
                rose, known = True, EVERYTHING
                self._bury(stamp)
            if rose:
                risen[known] = stamp
                self.newest = max(self.newest, stamp)
        if len(self) > self.most:
            self._fold()
            risen[EVERYTHING] = self.whole
        return risen

    def all(self) -> dict[str, int]:
        """Return every marker by its name."""
        found = {of_tag(tag): stamp for tag, stamp in self._tags.items()}
        found.update((of_prefix(prefix), stamp) for prefix, stamp in self._prefixes.items())
        if self.whole:
            found[EVERYTHING] = self.whole
        return found

    def _fold(self) -> None:
        """Let the marker for everything stand for the oldest others, a tenth more than must be."""
        stamps = sorted([*self._tags.values(), *self._prefixes.values()])
        surplus = len(self) - self.most + self.most // 10
        self._bury(stamps[min(surplus, len(stamps) - 1)])
        log.info("more than %d markers: the oldest were folded into one for everything", self.most)

    def _bury(self, stamp: int) -> None:
        """Raise the marker for everything, and drop those that say nothing beyond it."""
        self.whole = max(self.whole, stamp)
        self._tags = {tag: at for tag, at in self._tags.items() if at > self.whole}
        self._prefixes = {prefix: at for prefix, at in self._prefixes.items() if at > self.whole}
        self._lengths = Counter(map(len, self._prefixes))


def _raise(stamps: dict[str, int], name: str, stamp: int) -> bool:
    if stamp <= stamps.get(name, 0):
        return False
    stamps[name] = stamp
    return True
