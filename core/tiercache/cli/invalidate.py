"""`tiercache invalidate`: drop what carries a tag, begins with a prefix, or matches a glob."""

from __future__ import annotations

import click

from tiercache.cli import session


@click.command()
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A tag; may be given several times.")
@click.option("--prefix", metavar="TEXT", help="What the keys begin with.")
@click.option("--match", metavar="GLOB", help="A glob that the keys match; stands alone.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@session.config
@session.as_json
@click.pass_context
def invalidate(
    ctx: click.Context,
    tags: tuple[str, ...],
    prefix: str | None,
    match: str | None,
    yes: bool,
    config: str | None,
    as_json: bool,
) -> None:
    """Drop what carries a tag, begins with a prefix, or matches a glob, from every tier.

    Asks first, unless --yes is given. Exits with 1 where the answer is no.
    Example: tiercache invalidate --tag user:123 --yes
    """
    from tiercache.cli import output

    asked = [f'the tag "{tag}"' for tag in tags]
    asked += [] if prefix is None else [f'the prefix "{prefix}"']
    asked += [] if match is None else [f'the pattern "{match}"']
    if not asked:
        raise click.UsageError("nothing to invalidate: --tag, --prefix or --match is needed")
    what = " and ".join(asked)
    if not yes and not click.confirm(f"drop everything of {what}?", err=True):
        ctx.exit(1)
    dropped = session.use(config, lambda cache: cache.invalidate(tags=tags, prefix=prefix, match=match))
    if as_json:
        output.print_json({"tags": list(tags), "prefix": prefix, "match": match, "dropped": dropped})
    else:
        click.echo(f"invalidated {what}" if dropped is None else f"{dropped} dropped")
