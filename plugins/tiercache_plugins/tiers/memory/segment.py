"""A part of the memory tier: a dictionary, its policy, and the tags of its keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from tiercache import Entry, Policy, PolicyConfig

NO_TAGS: Final[tuple[str, ...]] = ()
DROPPED: Final = -math.inf
WHOLE: Final = 4
"""Times `PolicyConfig.segment` up to which one dictionary holds everything."""
UNSPLIT: Final = 16_384
"""Entries that one dictionary may hold whatever the policy: in segments a hit is slower by a third."""
MOST: Final = 512


def segments(policy: PolicyConfig, max_entries: int) -> int:
    """Return in how many parts a tier of *max_entries* keeps its entries: a power of two."""
    count = 1
    if max_entries > max(WHOLE * policy.segment, UNSPLIT):
        while count < MOST and count * policy.segment < max_entries:
            count *= 2
    return count


class Segment:
    """Everything that is told of the keys of one dictionary. The tier calls it under its lock."""

    __slots__ = ("added", "entries", "policy", "removed", "renewed", "tagged", "tags", "victims")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.entries = policy.entries
        self.added = policy.added
        self.removed = policy.removed
        self.victims = policy.victims
        self.renewed = getattr(policy, "renewed", None)
        """Of policies that are `tiercache.Renews`."""
        self.tags: dict[str, tuple[str, ...]] = {}
        """Tags by key; keys without tags are not in it."""
        self.tagged: dict[str, set[str]] = {}
        """Keys by tag; tags without keys are not in it."""

    def tag(self, key: str, tags: Sequence[str]) -> None:
        """Give *key* these tags in place of those that it has."""
        old = self.tags.get(key, NO_TAGS)
        new = tuple(tags)
        if old == new:
            return
        for tag in set(old).difference(new):
            keys = self.tagged[tag]
            keys.discard(key)
            if not keys:
                del self.tagged[tag]
        for tag in set(new).difference(old):
            self.tagged.setdefault(tag, set()).add(key)
        if new:
            self.tags[key] = new
        else:
            del self.tags[key]

    def drop(self, gone: list[Entry]) -> None:
        """Take the entries *gone*, which the policy has let go, out of the dictionary."""
        entries, dropped = self.entries, DROPPED
        for entry in gone:
            # First, so that whoever holds the entry sees a miss from now on.
            entry.fresh_until = dropped
            del entries[entry.key]
            if entry.hits:
                # Next to each other: between them no reader can raise the count, so no hit is lost.
                entry.terms.hits += entry.hits
                entry.hits = 0
        if tags := self.tags:
            for entry in gone:
                if entry.key in tags:
                    self.tag(entry.key, NO_TAGS)
