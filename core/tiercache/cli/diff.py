"""`tiercache diff`: what another configuration would change."""

from __future__ import annotations

import click

from tiercache.cli import session


@click.command()
@click.argument("old")
@click.argument("new")
@session.as_json
@click.pass_context
def diff(ctx: click.Context, old: str, new: str, as_json: bool) -> None:
    """Tell what changes where the configuration OLD gives way to NEW, and what can't be reached any more.

    Environment variables count for both. Exits with 0 where nothing becomes unreachable, else with 1.
    Example: tiercache diff tiercache.toml tiercache.new.toml
    """
    from tiercache.cli import output
    from tiercache.config.compare import compare
    from tiercache.config.plan import plan

    changes = compare(plan(old), plan(new))
    lost = [change for change in changes if change.lost]
    if as_json:
        told = [
            {
                "path": one.path,
                "old": one.old,
                "new": one.new,
                "live": one.live,
                "lost": one.lost,
                "note": one.note,
            }
            for one in changes
        ]
        output.print_json({"changes": told, "unreachable": len(lost)})
    else:
        for change in changes:
            click.echo(str(change))
        leave = "leaves" if len(lost) == 1 else "leave"
        summary = f"{output.counted(len(changes), 'change')}, {len(lost)} {leave}"
        click.echo(f"{summary} something that can't be reached")
    ctx.exit(1 if lost else 0)
