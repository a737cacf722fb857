"""The near tier as a route uses it: what is put there, for how long, and what may stand in for it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tiercache.clock import NEVER, Clock
from tiercache.contracts import Fills, NearTier
from tiercache.engine.coherence import Coherence
from tiercache.engine.flights import Found, Probe
from tiercache.engine.rules import REARM, Rules
from tiercache.engine.stats import OTHER, Patterns
from tiercache.entry import FOREVER, MISSING, UNPROVEN, Entry, Missing, Terms, Trust

if TYPE_CHECKING:
    from tiercache.engine.batching import Arrival
    from tiercache.engine.sliding import Slides

_EXACT_TERMS: Final = 64
_PROMOTION_SLACK: Final = 1_000
"""Microseconds."""


class Keeping:
    """Puts the entries of one route into its near tier; does nothing where it has none."""

    __slots__ = (
        "_alone", "_clock", "_fill", "_hits", "_terms", "coherence", "near", "patterns", "plain", "route",
        "rules", "slides",
    )  # fmt: skip

    def __init__(self, route: str, near: NearTier | None, clock: Clock, rules: Rules) -> None:
        self.route = route
        self.near = near
        self._fill = near.put_many if isinstance(near, Fills) else None
        self._clock = clock
        self.coherence: Coherence | None = None
        """What the near copies are trusted by."""
        self.slides: Slides | None = None
        """What lets entries live on that are read."""
        self.patterns = Patterns()
        """The cache's own, once it is built."""
        self._alone = False
        self.go_by(rules)
        self._terms: dict[tuple[float, float, Trust, str], Terms] = {}
        self._hits: Counter[str] = Counter()

    def go_by(self, rules: Rules) -> None:
        """Take *rules* for what is kept from now on."""
        self.rules = rules
        self.plain = rules.refresh_ahead is None and rules.sliding is None and not rules.coherent
        """Whether near entries live as long as what they are of, and are hits without a question."""

    def terms(self, stale: float, ahead: float = 0.0, trust: Trust = FOREVER, pattern: str = OTHER) -> Terms:
        """Return what entries share that are kept *stale* seconds longer, and fresh for *ahead* of them."""
        terms = self._terms.get((stale, ahead, trust, pattern))
        if terms is None:
            if len(self._terms) >= _EXACT_TERMS:
                # Every one is kept, for the hits that it counts; so that they stay few, they get coarse.
                stale, ahead = _coarse(stale), _coarse(ahead)
            late = self.slides.late if self.slides is not None and self._alone else None
            made = Terms(self.route, stale, ahead=ahead, trust=trust, late=late, pattern=pattern)
            terms = self._terms.setdefault((stale, ahead, trust, pattern), made)
        return terms

    def slide(self, slides: Slides, *, alone: bool) -> None:
        """Let entries live on by *slides*; *alone*: there is no far tier that knows when they were read."""
        self.slides, self._alone = slides, alone

    def hits(self) -> Counter[str]:
        """Return the near hits of entries that are gone, by the pattern of their keys."""
        found = self._hits.copy()
        # A list first: threads ask while the loop adds.
        for terms in list(self._terms.values()):
            found[terms.pattern] += terms.hits
        return found

    def retire(self) -> None:
        """Forget the terms of what was trusted once, and has no entry any more; their hits stay counted."""
        for key, terms in list(self._terms.items()):
            if terms.trust.until == -math.inf:
                self._hits[terms.pattern] += self._terms.pop(key).hits

    def keep(self, key: str, found: Found, began: float, arrival: Arrival) -> None:
        """Put a far entry, whose read began at *began*, into the near tier. Its life is never lengthened,
        whatever the wall clock did.
        """
        near = self.near
        if near is None:
            return
        remaining = math.inf
        if found.fresh_until < NEVER:
            longest = max(found.fresh_until - found.created_at, 0) + _PROMOTION_SLACK
            remaining = min(found.fresh_until - arrival.now, longest) / 1_000_000
        if self.slides is not None and found.end:
            remaining = min(self.slides.left(found, remaining), near.max_ttl)
            if remaining > 0:
                self.put(key, found.value, found.created_at, remaining, 0.0, 0.0, found.tags, began)
            return
        stale = math.inf
        if found.stale_until < NEVER:
            stale = (found.stale_until - found.fresh_until) / 1_000_000
        elif found.fresh_until >= NEVER:
            stale = 0.0
        self.place(key, found.value, found.created_at, remaining, stale, found.tags, began)

    def keep_all(self, probes: Sequence[Probe], founds: Sequence[Found | None], arrival: Arrival) -> None:
        """As `keep`, for what *probes* found, where they found it, in one batch.

        What they share is looked at once, and the near tier takes them together: half of the cost.
        """
        near, coherence = self.near, self.coherence
        if near is None:
            return
        trust, since = FOREVER, -math.inf
        if coherence is not None:
            trust, since = coherence.trust, coherence.since
        plain = self.plain and (coherence is None or arrival.trusted is coherence)
        declared, monotonic, most = self.patterns.declared, arrival.monotonic, near.max_ttl
        entries: list[Entry] = []
        terms, held = None, 0
        for probe, found in zip(probes, founds):  # noqa: B905 - of a lone read it is a tenth
            if found is None or probe.detached:
                continue
            key = probe.key
            value, created_at, fresh_until, stale_until, tags, _ = found
            if not plain or probe.began < since or tags:
                self.keep(key, found, probe.began, arrival)
                continue
            # The life, as `keep` works it out, without a call for each.
            remaining, beyond = math.inf, 0
            if fresh_until < NEVER:
                left, longest = fresh_until - arrival.now, fresh_until - created_at + _PROMOTION_SLACK
                if left > longest:
                    left = min(left, max(longest, _PROMOTION_SLACK))
                remaining = left / 1_000_000
                beyond = stale_until - fresh_until if stale_until < NEVER else NEVER
            if remaining > most:
                remaining = most
            if terms is None or held != beyond or declared:
                stale = math.inf if beyond == NEVER else beyond / 1_000_000
                pattern = self.patterns.name(key) if declared else OTHER
                terms, held = self.terms(stale, 0.0, trust, pattern), beyond
            entries.append(Entry(key, value, created_at, monotonic + remaining, terms))
        if self._fill is not None and len(entries) > 1:
            self._fill(entries)
        else:
            for entry in entries:
                near.put(entry)

    def place(
        self,
        key: str,
        value: Any,
        created_at: int,
        ttl: float,
        stale: float,
        tags: Sequence[str],
        began: float | None = None,
    ) -> None:
        """Put an entry that is fresh for *ttl* more seconds into the near tier.

        *began* is when its read or load began, of `Coherence.now`; None for what begins to be with this.
        """
        if self.near is None:
            return
        if self.plain and self.coherence is None:
            # Nothing of what follows can be so.
            if ttl > self.near.max_ttl:
                ttl = self.near.max_ttl
            self.put(key, value, created_at, ttl, stale, 0.0, tags, began)
            return
        slides = self.slides if self.slides is not None and ttl > self.slides.window else None
        if slides is not None and not self._alone:
            ttl = slides.pause
        if ttl > self.near.max_ttl:
            ttl = self.near.max_ttl
        if slides is not None and self._alone:
            slides.place(key, value, created_at, ttl, tags)
            return
        share = self.rules.refresh_ahead
        if share is None or ttl == math.inf:
            self.put(key, value, created_at, ttl, stale, 0.0, tags, began)
            return
        # Near hits end where a refresh is due; from there to its real end the entry is fresh, and slower.
        age = max(self._clock.micros() - created_at, 0) / 1_000_000
        until_due = max((age + ttl) * share - age, 0.0)
        self.put(key, value, created_at, until_due, stale + ttl - until_due, ttl - until_due, tags, began)

    def put(
        self,
        key: str,
        value: Any,
        created_at: int,
        ttl: float,
        stale: float,
        ahead: float,
        tags: Sequence[str],
        began: float | None = None,
    ) -> None:
        """Put an entry into the near tier, as it is: *ahead* is a part of *stale*."""
        assert self.near is not None
        trust = FOREVER
        if self.rules.coherent:
            # Fresh, and never a hit by itself.
            trust, ttl, stale, ahead = UNPROVEN, 0.0, ttl + stale, ttl + ahead
        elif self.coherence is not None:
            trust, most = self.coherence.grant(self.coherence.now() if began is None else began)
            if ttl + ahead > most:
                ttl, stale, ahead = _ended(ttl, stale, ahead, most)
        pattern = self.patterns.name(key) if self.patterns.declared else OTHER
        terms = self._terms.get((stale, ahead, trust, pattern)) or self.terms(stale, ahead, trust, pattern)
        self.near.put(Entry(key, value, created_at, self._clock.end(ttl), terms), tags)

    def distrust(self, entry: Entry) -> None:
        """Make a stale copy of *entry*, for as long as it may serve as one; drop it where it may not."""
        assert self.near is not None
        terms = entry.terms
        if terms.stale <= terms.ahead:
            self.near.remove(entry.key)
            return
        now = self._clock.monotonic()
        kept = entry.fresh_until + terms.stale - now
        tags = tuple(self.near.tags(entry.key))
        terms = self.terms(kept, pattern=terms.pattern)
        self.near.put(Entry(entry.key, entry.value, entry.created_at, now, terms), tags)

    def lapse(self, entry: Entry) -> None:
        """End the life of a near entry, and keep it for as long as it may serve as a stale copy."""
        assert self.near is not None
        stale = entry.terms.stale - entry.terms.ahead
        self.put(entry.key, entry.value, entry.created_at, 0.0, stale, 0.0, tuple(self.near.tags(entry.key)))

    def candidate(self, key: str) -> Entry | None:
        """Return the near copy of *key* where it is fresh, whether it is trusted or not."""
        entry = self.near.get(key) if self.near is not None else None
        if entry is None or self._clock.monotonic() >= entry.fresh_until + entry.terms.ahead:
            return None
        return entry

    def stale_copy(self, key: str) -> Found | Missing:
        """Return the near copy of *key* where it may serve as a stale copy."""
        entry = self.near.get(key) if self.near is not None else None
        if entry is None or not entry.terms.stale:
            return MISSING
        if entry.terms.stale <= entry.terms.ahead and not entry.terms.trust.holds():
            return MISSING
        elapsed = self._clock.monotonic() - entry.fresh_until
        if elapsed >= entry.terms.stale:
            return MISSING
        now = self._clock.micros()
        stale_until = NEVER
        if entry.terms.stale - elapsed != math.inf:
            stale_until = now + int((entry.terms.stale - elapsed) * 1_000_000)
        fresh_until = now - int((elapsed - entry.terms.ahead) * 1_000_000)
        tags = tuple(self.near.tags(key)) if self.near is not None else ()
        return Found(entry.value, entry.created_at, fresh_until, stale_until, tags)

    def rearm(self, key: str, stale: Found) -> None:
        """Let *stale* stand in for a while: near only, never longer than it may, and announced to nobody."""
        if self.near is None:
            return
        remaining = math.inf
        if stale.stale_until < NEVER:
            remaining = (stale.stale_until - self._clock.micros()) / 1_000_000
        if remaining <= 0:
            return
        pause = min(REARM, remaining)
        self.put(key, stale.value, stale.created_at, pause, remaining - pause, 0.0, stale.tags)

    def postpone(self, key: str) -> bool:
        """Let nobody refresh *key* for a while: its loader failed. Return whether it is still fresh."""
        entry = self.near.get(key) if self.near is not None else None
        if entry is None or self.near is None:
            return False
        now = self._clock.monotonic()
        fresh = entry.fresh_until + entry.terms.ahead - now
        if fresh <= 0:
            return False
        pause = min(REARM, fresh)
        kept = entry.terms.stale - entry.terms.ahead + fresh - pause
        self.put(key, entry.value, entry.created_at, pause, kept, fresh - pause, tuple(self.near.tags(key)))
        return True


def _ended(ttl: float, stale: float, ahead: float, most: float) -> tuple[float, float, float]:
    """Return the three for an entry that is fresh for *most* seconds only, and no stale copy longer."""
    short = min(ttl, most)
    ahead_left = most - short
    return short, (ttl + stale - short if stale > ahead else ahead_left), ahead_left


def _coarse(duration: float) -> float:
    """Return *duration* rounded down to three digits."""
    if duration in {0.0, math.inf}:
        return duration
    scale = 10.0 ** (math.floor(math.log10(duration)) - 2)
    return math.floor(duration / scale) * scale
