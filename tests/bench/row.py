"""What a row of the table is: its figures, what they are measured against, and the goal."""

from __future__ import annotations

import importlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from gc import collect
from statistics import median
from time import perf_counter, process_time
from types import ModuleType
from typing import Any

Round = Callable[[], Awaitable[float]]
"""One round of a case: seconds an operation, of whatever clock the row goes by."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured. The short form shows that a benchmark works, and says nothing about speed."""

    short: bool = False
    peers: bool = True
    """Whether the peers that are installed take part."""

    def __call__(self, full: int, short: int) -> int:
        """Return one of two numbers."""
        return short if self.short else full


@dataclass(frozen=True, slots=True)
class Result:
    """One row, measured."""

    title: str
    base: str
    """The case that ratios are of."""
    ours: str
    """Our case."""
    unit: str
    figures: Mapping[str, float]
    """Median of each case."""
    ratios: Mapping[str, float]
    """To the base, of each case: the median of the rounds' ratios."""
    terms: str
    """What is promised by whom in this row, and how it was measured."""
    most: float | None = None
    """Goal: a ratio not above this."""
    least: float | None = None
    """Goal: a ratio not below this; ratios are then of throughput, more is better."""
    ahead_of: Sequence[str] = ()
    """Goal: better than these cases."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What a case did beside its time, such as how often it called the loader."""
    wrong: Sequence[str] = ()
    """Parts of the goal that `facts` show to be missed."""
    absent: Sequence[str] = ()
    """Peers that are not installed."""
    rounds: int = 1
    """How many rounds the medians are of."""

    @property
    def goal(self) -> str:
        """The goal in words."""
        parts = []
        if self.most is not None:
            parts.append(f"≤ {self.most:g} ×")
        if self.least is not None:
            parts.append(f"≥ {self.least:g} ×")
        if self.ahead_of:
            parts.append(f"ahead of {', '.join(self.ahead_of)}")
        return ", ".join(parts)

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None where there is none, or its base is not installed."""
        if not self.goal:
            return None
        if self.wrong:
            return False
        ours = self.ratios.get(self.ours)
        if ours is None:
            return None
        well = self.most is None or ours <= self.most
        well = well and (self.least is None or ours >= self.least)
        more = self.least is not None
        rivals = [self.ratios[name] for name in self.ahead_of if name in self.ratios]
        return well and all(ours > rival if more else ours < rival for rival in rivals)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON knows it."""
        return asdict(self)


PATIENCE = 15.0
"""Seconds after which the cases of a row are not run again: all rows together stay below 15 minutes."""


class Cases:
    """The cases of a row, run in turns."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.rounds: dict[str, Round] = {}
        self.absent: list[str] = []
        self.times: dict[str, list[float]] = {}

    def peer(self, package: str) -> ModuleType | None:
        """Return the module of a peer; None where it is not installed, or peers are left out."""
        if not self.scale.peers:
            return None
        try:
            return importlib.import_module(package)
        except ImportError:
            self.absent.append(package)
            return None

    def add(self, name: str, measured: Round) -> None:
        """Add a case."""
        self.rounds[name] = measured

    async def run(self, rounds: int, warm: int = 1) -> None:
        """Run every case once a round, in an order that rotates, after *warm* rounds that are not counted.

        On a busy machine there are fewer rounds, never fewer than three.
        """
        names = list(self.rounds)
        enough = perf_counter() + PATIENCE
        for turn in range(-warm, rounds):
            if turn >= 3 and perf_counter() > enough:
                break
            collect()
            at = turn % len(names)
            for name in names[at:] + names[:at]:
                seconds = await self.rounds[name]()
                if turn >= 0:
                    self.times.setdefault(name, []).append(seconds)

    def figures(self, scale: float) -> dict[str, float]:
        """Return the median of each case, times *scale*."""
        return {name: median(times) * scale for name, times in self.times.items()}

    def ratios(self, base: str, *, throughput: bool = False) -> dict[str, float]:
        """Return the median of the rounds' ratios to *base*: of time, or of throughput."""
        if base not in self.times:
            return {}
        return {
            name: median(
                (b / a if throughput else a / b) for a, b in zip(times, self.times[base], strict=True)
            )
            for name, times in self.times.items()
        }

    def result(self, title: str, base: str, ours: str, terms: str, **more: Any) -> Result:
        """Return the row. Figures are in µs or ns, as suits them."""
        throughput = more.get("least") is not None
        small = median(self.times[ours]) < 5e-6
        return Result(
            title=title, base=base, ours=ours, unit="ns" if small else "µs",
            figures=self.figures(1e9 if small else 1e6),
            ratios=self.ratios(base, throughput=throughput), terms=terms, absent=tuple(self.absent),
            rounds=len(self.times[ours]), **more,
        )  # fmt: skip


ENOUGH = 0.02
"""Seconds that one round of a case should take, so that the clock's own steps do not show."""


def spent(act: Callable[[int], object], operations: int, *, scale: Scale) -> Round:
    """Return a round of `act(passes)`, by processor time; one pass does *operations*."""
    passes = 0

    async def measured() -> float:
        nonlocal passes
        if not passes:
            began = process_time()
            act(1)
            passes = _passes(process_time() - began, scale)
        began = process_time()
        act(passes)
        return (process_time() - began) / (operations * passes)

    return measured


def awaited(act: Callable[[int], Awaitable[object]], operations: int, *, scale: Scale) -> Round:
    """As `spent`, for a coroutine."""
    passes = 0

    async def measured() -> float:
        nonlocal passes
        if not passes:
            began = process_time()
            await act(1)
            passes = _passes(process_time() - began, scale)
        began = process_time()
        await act(passes)
        return (process_time() - began) / (operations * passes)

    return measured


def waited(act: Callable[[], Awaitable[object]], operations: int) -> Round:
    """Return a round by the time on the wall: for what other processes and threads have a part in."""

    async def measured() -> float:
        began = perf_counter()
        await act()
        return (perf_counter() - began) / operations

    return measured


def _passes(seconds: float, scale: Scale) -> int:
    return 1 if scale.short else max(1, int(ENOUGH / max(seconds, 1e-6)))


def pin() -> str:
    """Keep this process, and all that it starts, on one processor; return what was done, in words.

    On a virtual machine a wake-up across processors costs more than the server's answer, and differs from
    minute to minute.
    """
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned to a processor (this system can't)"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return "everything, servers included, pinned to one processor"
