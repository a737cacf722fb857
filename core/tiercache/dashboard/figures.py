"""What the dashboard shows of a snapshot: tables of texts, charts, sentences about what is amiss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tiercache.dashboard.wording import UNKNOWN, count, counts, lasting, mean, millis, part, rate, size
from tiercache.engine.stats import REASONS, BusStats, RouteStats, Stats, TierStats

NOBODY: Final = "the loader, or nobody"
"""The series of the reads that no tier answered."""
LOAD: Final = "a load"
"""The series of what loaders take."""
TONES: Final = 6
"""Colours that the page has."""

BAD: Final = frozenset({"open", "away", "not trusted"})
"""Texts of cells that tell of something amiss."""
POOR: Final = frozenset({"half-open"})
"""Texts of cells that tell of something that is about to be decided."""

Values = tuple[tuple[float | None, ...], ...]


class Column(NamedTuple):
    """One column of a table."""

    title: str
    meaning: str
    cell: Callable[[Any, float | None], str]
    """From the row's part of the snapshot, and its reads a second lately."""


class Table(NamedTuple):
    """One table: a row for each thing of a kind."""

    name: str
    title: str
    note: str
    rows: Callable[[Stats], Mapping[str, Any]]
    columns: Sequence[Column]


class Chart(NamedTuple):
    """One chart over time."""

    name: str
    title: str
    unit: str
    stacked: bool
    """Whether the series are parts of a whole of 100."""
    series: Callable[[Stats], Sequence[str]]
    value: Callable[[Stats, str, Stats | None], float | None]
    """From a snapshot, the name of a series, and what came lately."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What is shown; *alone* leaves out what only an application can count."""

    alone: bool = False

    def tables(self, stats: Stats) -> Iterator[Table]:
        """Return the tables that have rows."""
        tables = (_FAR, _HOLDINGS, _BUSES) if self.alone else (_TIERS, _FAR, _ROUTES, _PATTERNS, _BUSES)
        return (table for table in tables if table.rows(stats))

    def charts(self, stats: Stats) -> Iterator[Chart]:
        """Yield the charts that have series."""
        for chart in _CHARTS:
            shown = chart
            if self.alone:
                shown = chart._replace(series=_fars)
                if chart.name not in {"times", "entries", "waiting"}:
                    continue
            if shown.series(stats):
                yield shown

    def tones(self, chart: Chart, stats: Stats) -> list[int]:
        """Return the colours of the series of *chart*: a tier has the same in all."""
        known = {name: i % (TONES - 1) for i, name in enumerate(stats.tiers)}
        known |= {NOBODY: TONES - 1, LOAD: TONES - 1}
        return [known.get(name, i % TONES) for i, name in enumerate(chart.series(stats))]

    def headline(self, stats: Stats, recent: Stats | None) -> Iterator[tuple[str, str]]:
        """Yield the few figures that stand above everything, each with what it is."""
        if not self.alone:
            yield "of reads were hits", part(stats.hits, stats.hits + stats.misses)
            reads = None if recent is None else recent.per_second(recent.hits + recent.misses)
            yield "reads a second", rate(reads)
            loads = None if recent is None else recent.per_second(_summed(recent, "loads"))
            yield "loads a second", rate(loads)
            yield "a load, on average", mean(_summed(stats, "load_seconds"), _summed(stats, "loads"))
            yield "stale copies served", count(_summed(stats, "stale_served"))
            yield "invalidations", counts(stats.invalidations)
        yield "changes waiting", count(sum(tier.queued for tier in stats.tiers.values()))
        away = sum(not tier.available for tier in stats.tiers.values())
        yield "tiers there", f"{len(stats.tiers) - away} of {len(stats.tiers)}"

    def cells(self, stats: Stats, recent: Stats | None) -> dict[str, str]:
        """Return the text of each cell by its name."""
        found = {f"headline.{i}": text for i, (_, text) in enumerate(self.headline(stats, recent))}
        for table in self.tables(stats):
            recently = {} if recent is None else table.rows(recent)
            for i, (name, row) in enumerate(table.rows(stats).items()):
                lately = _reads(recently.get(name), recent)
                for j, column in enumerate(table.columns):
                    found[f"{table.name}.{i}.{j}"] = column.cell(row, lately)
        return found

    def values(self, stats: Stats, recent: Stats | None) -> Values:
        """Return the numbers of the charts, by chart and series."""
        return tuple(
            tuple(chart.value(stats, name, recent) for name in chart.series(stats))
            for chart in self.charts(stats)
        )

    def troubles(self, stats: Stats) -> Iterator[str]:
        """Yield a sentence for each thing that is amiss."""
        for name, tier in stats.tiers.items():
            if not tier.available:
                yield f"tier {name} is away, its breaker is {tier.breaker}: reads miss and writes are skipped"
            elif tier.breaker != "closed":
                yield f"the breaker of tier {name} is {tier.breaker}"
            if tier.queued:
                waiting = "1 change waits" if tier.queued == 1 else f"{count(tier.queued)} changes wait"
                yield f"{waiting} for tier {name}"
        for name, bus in stats.buses.items():
            if not bus.trusted:
                yield f"near copies in front of {name} are not trusted: nothing is heard of other processes"

    def changed(self, before: Stats, now: Stats) -> Iterator[str]:
        """Yield a sentence for each state that is another one than before."""
        for name, tier in now.tiers.items():
            then = before.tiers.get(name, tier)
            if then.available != tier.available:
                yield f"tier {name} is {'back' if tier.available else 'lost'}"
            if then.breaker != tier.breaker:
                yield f"the breaker of tier {name} is {tier.breaker}"
            if then.queued and not tier.queued:
                yield f"tier {name} has been told of all that it missed"
        for name, bus in now.buses.items():
            if before.buses.get(name, bus).trusted != bus.trusted:
                yield f"near copies in front of {name} are {'trusted' if bus.trusted else 'not trusted'}"


def _summed(stats: Stats, name: str) -> float:
    return float(sum(getattr(route, name) for route in stats.routes.values()))


def _reads(row: Any, recent: Stats | None) -> float | None:
    if recent is None or row is None or not hasattr(row, "hits"):
        return None
    return recent.per_second(row.hits + row.misses)


def _own(name: str, shown: Callable[[int], str]) -> Callable[[TierStats, float | None], str]:
    # A tier whose size has no limit does not measure it.
    return lambda tier, _: shown(tier.own[name]) if tier.own.get(name) else _nothing(tier, name)


def _nothing(tier: TierStats, name: str) -> str:
    return "0" if name in tier.own and not tier.own.get("entries") else UNKNOWN


def _plain(name: str, shown: Callable[[Any], str] = count) -> Callable[[Any, float | None], str]:
    return lambda row, _: shown(getattr(row, name))


def _mean(seconds: str, times: str) -> Callable[[Any, float | None], str]:
    return lambda row, _: mean(getattr(row, seconds), getattr(row, times))


def _by_tier(route: RouteStats, _: float | None) -> str:
    return ", ".join(f"{name} {count(one.hits)}" for name, one in route.tiers.items())


def _trust(bus: BusStats, _: float | None) -> str:
    return "trusted" if bus.trusted else "not trusted"


def _state(tier: TierStats, _: float | None) -> str:
    return "there" if tier.available else "away"


def _given(tier: TierStats, _: float | None) -> str:
    return counts(tier.evictions)


def _lately(_: Any, reads: float | None) -> str:
    return rate(reads)


def _hit_rate(row: Any, _: float | None) -> str:
    return part(row.hits, row.hits + row.misses)


def _rows(kind: str) -> Callable[[Stats], Mapping[str, TierStats]]:
    return lambda stats: {name: tier for name, tier in stats.tiers.items() if tier.kind == kind}


_HITS = Column("hits", "Reads that it answered", _plain("hits"))
_MISSES = Column("misses", "Reads that it could not answer", _plain("misses"))
_RATE = Column("hit rate", "Hits by reads", _hit_rate)
_HELD = (
    Column("entries", "What it holds", _own("entries", count)),
    Column("size", "Its size, by estimate in memory", _own("bytes", size)),
)
_GIVEN_UP = Column("given up", "Entries that it gave up itself, by reason", _given)
_PROMOTED = Column("promoted", "Entries copied here because a farther tier had them", _plain("promotions"))

_TIERS = Table(
    "tiers", "Tiers", "What they hold, and what they answered.", lambda stats: stats.tiers,
    (
        Column("kind", "Near: objects in this process. Far: bytes outside of it", _plain("kind", str)),
        *_HELD, _HITS, _MISSES, _RATE, _GIVEN_UP, _PROMOTED,
    ),
)  # fmt: skip
_FAR = Table(
    "far", "Far tiers", "Calls out of this process.", _rows("far"),
    (
        Column("state", "Whether the last call went well", _state),
        Column("breaker", "Closed: calls go through. Open: the tier is left alone", _plain("breaker", str)),
        Column("waiting", "Changes that it has yet to be told", _plain("queued")),
        Column("a call", "Mean time of a call", _mean("seconds", "calls")),
        Column("calls", "Batches that it was sent", _plain("calls")),
        Column("errors", "Calls that failed", _plain("errors")),
        Column("timeouts", "Calls that were not over by their deadline", _plain("timeouts")),
        Column("damaged", "Frames that were not what they claimed to be", _plain("corrupt")),
        Column("read", "Bytes that came from it", _plain("bytes_read", size)),
        Column("written", "Bytes that went to it", _plain("bytes_written", size)),
    ),
)  # fmt: skip
_HOLDINGS = Table("tiers", "What they hold", "Counted by the tiers themselves.", _rows("far"), _HELD)
_ROUTES = Table(
    "routes", "Routes", "Where reads went, and what was loaded.", lambda stats: stats.routes,
    (
        Column("hits by tier", "How many reads each tier answered", _by_tier),
        Column("misses", "Reads that no tier answered", _plain("misses")),
        Column("hit rate", "Hits by reads", _hit_rate),
        Column("loads", "Calls of loaders", _plain("loads")),
        Column("failed", "Loads that failed", _plain("load_errors")),
        Column("a load", "Mean time of a load", _mean("load_seconds", "loads")),
        Column("under way", "Loads under way now", _plain("loading")),
        Column("stale", "Callers who were given a stale copy", _plain("stale_served")),
        Column("ahead", "Loads that were started while the entry was fresh", _plain("refreshes")),
        Column("sets", "Values that were stored", _plain("sets")),
    ),
)  # fmt: skip
_PATTERNS = Table(
    "patterns", "Patterns of keys", "Those that the configuration declares, in its order; “other” is the "
    "rest.", lambda stats: stats.patterns,
    (
        Column("reads/s", "Reads a second, lately", _lately),
        Column("hits", "Reads that some tier answered", _plain("hits")),
        Column("misses", "Reads that no tier answered", _plain("misses")), _RATE,
        Column("loads", "Calls of loaders", _plain("loads")),
    ),
)  # fmt: skip
_BUSES = Table(
    "buses", "News of other processes", "Near copies are believed for one lease after the last proof that "
    "nothing was missed.", lambda stats: stats.buses,
    (
        Column("near copies", "Whether the lease lives", _trust),
        Column("last proof", "How long ago", _plain("lag", lambda lag: lasting(lag) if lag else "none yet")),
        Column("heard", "Changes by others", _plain("changes")),
        Column("errors", "Times that the bus failed", _plain("errors")),
    ),
)  # fmt: skip


def _fars(stats: Stats) -> Sequence[str]:
    return [name for name, tier in stats.tiers.items() if tier.kind == "far"]


def _answered(_: Stats, name: str, recent: Stats | None) -> float | None:
    reads = 0 if recent is None else recent.hits + recent.misses
    if recent is None or not reads:
        return None
    return 100 * (recent.misses if name == NOBODY else recent.tiers[name].hits) / reads


def _read(_: Stats, name: str, recent: Stats | None) -> float | None:
    if recent is None:
        return None
    counted = {"hits": recent.hits, "misses": recent.misses, "loads": _summed(recent, "loads")}
    return recent.per_second(counted[name])


def _took(_: Stats, name: str, recent: Stats | None) -> float | None:
    if recent is None:
        return None
    if name == LOAD:
        return millis(_summed(recent, "load_seconds"), _summed(recent, "loads"))
    return millis(recent.tiers[name].seconds, recent.tiers[name].calls)


def _given_up(_: Stats, name: str, recent: Stats | None) -> float | None:
    if recent is None:
        return None
    return recent.per_second(sum(tier.evictions.get(name, 0) for tier in recent.tiers.values()))


_CHARTS: Final = (
    Chart("answered", "Who answered reads", "%", True, lambda stats: [*stats.tiers, NOBODY], _answered),
    Chart("reads", "Reads and loads a second", "/s", False, lambda _: ["hits", "misses", "loads"], _read),
    Chart("times", "Mean time", "ms", False, lambda stats: [LOAD, *_fars(stats)], _took),
    Chart(
        "evictions", "Given up a second, by reason", "/s", False,
        lambda _: [reason for _, reason in REASONS], _given_up,
    ),
    Chart(
        "entries", "Entries held", "", False,
        lambda stats: [name for name, tier in stats.tiers.items() if "entries" in tier.own],
        lambda stats, name, _: stats.tiers[name].own.get("entries"),
    ),
    Chart(
        "waiting", "Changes waiting for a far tier", "", False, _fars,
        lambda stats, name, _: stats.tiers[name].queued,
    ),
)  # fmt: skip
