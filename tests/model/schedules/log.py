"""What happened, in order: who asked for what, what the source said, what reached a store and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tiercache import MISSING

OPEN = 2**62
"""The place in the order of what has not ended."""


@dataclass(slots=True)
class Act:
    """One call of a cache. Places in the order are counted, times are virtual microseconds."""

    number: int
    process: str
    kind: str
    keys: tuple[str, ...]
    route: str | None
    begin: int
    began: int
    values: dict[str, Any] = field(default_factory=dict)
    """What it stores, by key."""
    tags: tuple[str, ...] = ()
    ttl: float | None = None
    stale: float | None = None
    pattern: str = ""
    """Prefix or glob of what it invalidates."""
    end: int = OPEN
    ended: int = OPEN
    outcome: str = ""
    """"ok", "error" or "cancelled"; "" while it goes on."""
    result: Any = None
    error: BaseException | None = None
    asked: int = 0
    """Place of the first request to cancel it; 0 for none."""

    def told(self) -> str:
        what = ", ".join(self.keys) or " ".join(self.tags) or self.pattern
        extra = f" {self.values}" if self.values else ""
        route = f" by {self.route}" if self.route else ""
        return f"act {self.number} of {self.process}: {self.kind} {what}{extra}{route}"


@dataclass(slots=True)
class Loading:
    """One call of a loader, of one key."""

    act: Act
    key: str
    value: Any
    tags: tuple[str, ...]
    begin: int
    began: int
    ttl: float | None = None
    end: int = OPEN
    ended: int = OPEN
    outcome: str = ""
    stored: bool = True
    """Whether it allows to be stored."""
    own_doing: bool = False
    """Whether its end by CancelledError was the loader's own doing."""


@dataclass(slots=True)
class Call:
    """One call of a far tier."""

    process: str
    store: str
    what: str
    keys: tuple[str, ...]
    begin: int
    began: int
    fault: str
    end: int = OPEN
    ended: int = OPEN


@dataclass(slots=True)
class Applied:
    """One change of a store. *late*: after its caller was told that the call had failed."""

    at: int
    ticks: int
    process: str
    store: str
    what: str
    key: str
    created_at: int
    value: str
    """What is written, as `key#number`; "" where that can't be told from the frame."""
    late: bool
    stood: int | None
    """When what it replaced was created; None where nothing stood."""
    stored: bool


class Log:
    """All of it. `place` counts up with everything that is written down."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.loads: list[Loading] = []
        self.calls: list[Call] = []
        self.applied: list[Applied] = []
        self.flushes: list[tuple[int, str]] = []
        """Places at which stores lost everything."""
        self.closings: dict[str, int] = {}
        """Where the closing of a process began."""
        self.lines: list[tuple[int, int, str]] = []
        """What a reader wants to know, with its place and time."""
        self.wrong: list[str] = []
        """Findings that need no second look."""
        self._place = 0

    def place(self) -> int:
        self._place += 1
        return self._place

    def tell(self, ticks: int, line: str) -> None:
        self.lines.append((self.place(), ticks, line))

    def begin(self, ticks: int, process: str, kind: str, keys: tuple[str, ...], **about: Any) -> Act:
        route = about.pop("route", None)
        act = Act(len(self.acts), process, kind, keys, route, self.place(), ticks, **about)
        self.acts.append(act)
        self.tell(ticks, act.told())
        return act

    def finish(self, ticks: int, act: Act, outcome: str, result: Any, error: BaseException | None) -> None:
        act.outcome, act.result, act.error = outcome, result, error
        act.end, act.ended = self.place(), ticks
        brought = f"{type(error).__name__}: {error}" if error is not None else repr(result)
        if result is MISSING:
            brought = "a miss"
        self.tell(ticks, f"act {act.number} of {act.process}: {act.kind} ended {outcome}, {brought}")
