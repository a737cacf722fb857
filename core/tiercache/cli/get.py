"""`tiercache get`: the value of a key."""

from __future__ import annotations

import click

from tiercache.cli import session


@click.command()
@click.argument("key")
@session.config
@session.route
@session.as_json
@click.pass_context
def get(ctx: click.Context, key: str, config: str | None, route: str | None, as_json: bool) -> None:
    """Print the value of KEY. Exits with 1 where nothing fresh is cached.

    Example: tiercache get user:123 --json
    """
    from tiercache import MISSING
    from tiercache.cli import output

    value = session.use(config, lambda cache: cache.get(key, MISSING, route=route))
    found = value is not MISSING
    if as_json:
        output.print_json({"key": key, "found": found, **(session.told(value) if found else {})})
    elif found:
        click.echo(session.shown(value))
    else:
        click.echo(f"nothing is cached under {key}", err=True)
    ctx.exit(0 if found else 1)
