"""`tiercache warm`: fill a cache from a file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

import click

from tiercache.cli import session

if TYPE_CHECKING:
    from tiercache import Cache, Warmed


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--ttl", metavar="DURATION", help='How long values are fresh that say nothing, such as "1h".')
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A tag for all; may be repeated.")
@click.option("--concurrency", type=click.IntRange(1), default=64, show_default=True, help="Keys at once.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Keys a second, at most.")
@session.config
@session.route
@session.as_json
def warm(
    file: str,
    ttl: str | None,
    tags: tuple[str, ...],
    concurrency: int,
    rate: float | None,
    config: str | None,
    route: str | None,
    as_json: bool,
) -> None:
    """Store what is in FILE: in each line a JSON object with "key" and "value", and, if wanted, "route",
    "ttl" and "tags".

    Example: tiercache warm hot.jsonl --rate 500
    """
    from tiercache import read_lines
    from tiercache import warm as store
    from tiercache.cli import output

    # Read twice, so that a line which is wrong is told before anything is stored, and the bar knows its end.
    try:
        total = sum(1 for _ in read_lines(file))
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    async def fill(cache: Cache) -> Warmed:
        with _Bar(total) as bar:
            return await store(
                cache, read_lines(file), route=route, ttl=ttl, tags=tags, concurrency=concurrency, rate=rate,
                progress=bar.show,
            )  # fmt: skip

    done = session.use(config, fill)
    if as_json:
        output.print_json({"stored": done.stored, "failed": done.failed})
    else:
        click.echo(f"stored {done.stored} of {total}")
    if done.failed:
        click.echo(f"error: {done.failed} could not be stored; the log says why", err=True)
        raise click.exceptions.Exit(1)


class _Bar:
    """A progress bar on the terminal; nothing where standard error is none."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("warming"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=Console(stderr=True), disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self._task = self._bar.add_task("warming", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, so_far: Warmed) -> None:
        """Show how far it has come."""
        self._bar.update(self._task, completed=so_far.stored + so_far.failed)
