"""`tiercache delete`: drop keys from every tier."""

from __future__ import annotations

import click

from tiercache.cli import session


@click.command()
@click.argument("keys", nargs=-1, required=True)
@session.config
@session.as_json
@click.pass_context
def delete(ctx: click.Context, keys: tuple[str, ...], config: str | None, as_json: bool) -> None:
    """Drop KEYS from every tier. Exits with 1 where none of them was there.

    What other processes hold in memory goes when its TTL ends. Example: tiercache delete user:123 user:124
    """
    from tiercache.cli import output

    deleted = session.use(config, lambda cache: cache.delete_many(keys))
    if as_json:
        output.print_json({"keys": list(keys), "deleted": deleted})
    else:
        click.echo(f"{deleted} of {len(keys)} deleted")
    ctx.exit(0 if deleted else 1)
