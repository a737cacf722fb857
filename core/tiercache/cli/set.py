"""`tiercache set`: store a value."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from tiercache.cli import session

if TYPE_CHECKING:
    from tiercache import Cache


@click.command()
@click.argument("key")
@click.argument("value")
@click.option("--ttl", metavar="DURATION", help='How long it is fresh, such as "1h"; else the route\'s.')
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A tag; may be given several times.")
@click.option("--parse", is_flag=True, help="VALUE is JSON, and what it says is stored.")
@session.config
@session.route
@session.as_json
def set(  # noqa: A001 - the command's own name
    key: str,
    value: str,
    ttl: str | None,
    tags: tuple[str, ...],
    parse: bool,
    config: str | None,
    route: str | None,
    as_json: bool,
) -> None:
    """Store VALUE under KEY in every tier of its route. "-" takes the value from standard input.

    Example: tiercache set user:123 '{"name": "Ada"}' --parse --ttl 1h
    """
    from tiercache.cli import output

    text = sys.stdin.read() if value == "-" else value
    stored: Any = text
    if parse:
        try:
            stored = json.loads(text)
        except ValueError as error:
            raise click.UsageError(f"the value is no JSON: {error}") from error

    async def store(cache: Cache) -> None:
        await cache.set(key, stored, ttl=ttl, tags=tags, route=route)
        if all(cache.stats().tiers[name].kind == "near" for name in cache.tiers_of(key, route=route)):
            click.echo("warning: its route keeps values in one process only, and this one ends now", err=True)

    session.use(config, store)
    if as_json:
        output.print_json({"key": key, "stored": True})
