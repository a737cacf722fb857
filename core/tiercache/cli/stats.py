"""`tiercache stats`: what the tiers hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from tiercache.cli import session

if TYPE_CHECKING:
    from rich.table import Table

    from tiercache import Cache, Stats


@click.command()
@click.option("--watch", is_flag=True, help="Look again and again, until interrupted.")
@click.option("--every", type=click.FloatRange(min=0.01), default=1.0, help="Seconds between two looks.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many looks.")
@session.config
@session.as_json
def stats(watch: bool, every: float, count: int | None, config: str | None, as_json: bool) -> None:
    """Show what the tiers hold and how they are. What a running application counted, it tells itself.

    With --watch a table is kept up to date on a terminal, with how much came and went since the last look;
    with --json there is one line a look. Example: tiercache stats --watch
    """
    from tiercache.cli import output

    async def snapshot(cache: Cache) -> Stats:
        # One read, so that a tier that is away is known to be.
        await cache.exists("tiercache:probe")
        return cache.stats()

    if watch:
        session.use(config, lambda cache: _watch(cache, every, count, as_json=as_json))
        return
    taken = session.use(config, snapshot)
    if as_json:
        output.print_json(taken.as_dict())
        return
    for name, tier in taken.tiers.items():
        state = tier.kind if tier.available else f"{tier.kind}, away"
        own = ", ".join(f"{what} {count:,}" for what, count in tier.own.items())
        click.echo(f"{name} ({state}): {own or 'it does not say what it holds'}")


async def _watch(cache: Cache, every: float, count: int | None, *, as_json: bool) -> None:
    import json
    import sys

    from rich.console import Console
    from rich.live import Live

    before = cache.stats()
    looks = 0
    console = Console()
    live = Live(console=console, auto_refresh=False) if sys.stdout.isatty() and not as_json else None
    with live or _nothing():
        while count is None or looks < count:
            await cache.exists("tiercache:probe")
            taken = cache.stats()
            if as_json:
                click.echo(json.dumps(taken.since(before).as_dict(), ensure_ascii=False))
            elif live is not None:
                live.update(_table(taken, before), refresh=True)
            else:
                click.echo("  ".join(f"{row[0]}: {' '.join(row[1:])}" for row in _rows(taken, before)))
            before = taken
            looks += 1
            if count is None or looks < count:
                await asyncio.sleep(every)


def _table(taken: Stats, before: Stats) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("tier", "state", "entries", "bytes", "change", "evicted", "waiting", header_style="bold")
    for row in _rows(taken, before):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _rows(taken: Stats, before: Stats) -> Iterator[tuple[str, ...]]:
    recent = taken.since(before)
    for name, tier in taken.tiers.items():
        state = tier.breaker if tier.kind == "far" else "near"
        entries, earlier = tier.own.get("entries"), before.tiers[name].own.get("entries")
        change = "" if entries is None or earlier is None else f"{entries - earlier:+,}"
        shown = "?" if entries is None else f"{entries:,}"
        size = f"{tier.own['bytes']:,}" if "bytes" in tier.own else "?"
        evicted = sum(recent.tiers[name].evictions.values())
        yield (
            name, state if tier.available else f"away, {state}", shown, size, change, f"{evicted:,}",
            f"{tier.queued:,}",
        )  # fmt: skip


def _nothing() -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext()
