"""`tiercache keys`: what is cached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tiercache.cli import session

if TYPE_CHECKING:
    from tiercache import Cache


@click.command()
@click.argument("match", default="*")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after this many.")
@session.config
@session.as_json
def keys(match: str, limit: int | None, config: str | None, as_json: bool) -> None:
    """List the fresh keys that MATCH, from all tiers that can list theirs; memory of other processes apart.

    MATCH is a glob: * any run, ? one character, [a-z] a class. Example: tiercache keys 'user:*'
    """
    from tiercache.cli import output

    async def listed(cache: Cache) -> list[str]:
        found: list[str] = []
        async for key in cache.keys(match):
            found.append(key)
            if not as_json:
                click.echo(key)
            if limit is not None and len(found) >= limit:
                break
        return found

    found = session.use(config, listed)
    if as_json:
        output.print_json({"match": match, "keys": found})
