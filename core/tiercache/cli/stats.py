"""`tiercache stats`: what the tiers hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tiercache.cli import session

if TYPE_CHECKING:
    from tiercache import Cache, Stats


@click.command()
@session.config
@session.as_json
def stats(config: str | None, as_json: bool) -> None:
    """Show what the tiers hold and how they are. What a running application counted, it tells itself.

    Example: tiercache stats --json
    """
    from tiercache.cli import output

    async def snapshot(cache: Cache) -> Stats:
        # One read, so that a tier that is away is known to be.
        await cache.exists("tiercache:probe")
        return cache.stats()

    taken = session.use(config, snapshot)
    if as_json:
        output.print_json(taken.as_dict())
        return
    for name, tier in taken.tiers.items():
        state = tier.kind if tier.available else f"{tier.kind}, away"
        own = ", ".join(f"{what} {count:,}" for what, count in tier.own.items())
        click.echo(f"{name} ({state}): {own or 'it does not say what it holds'}")
