"""`tiercache explain`: why a key is answered as it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from tiercache.cli import session

if TYPE_CHECKING:
    from tiercache import Cache
    from tiercache.engine.explaining import Copy, Explanation


@click.command()
@click.argument("key")
@session.config
@session.route
@session.as_json
@click.pass_context
def explain(ctx: click.Context, key: str, config: str | None, route: str | None, as_json: bool) -> None:
    """Tell where KEY goes and why, what each tier holds of it, and what a read would be answered with.

    Nothing is changed by it. Exits with 1 where no tier has anything fresh. Memory of other processes can't
    be seen. Example: tiercache explain user:123
    """
    from tiercache.cli import output

    async def look(cache: Cache) -> Explanation:
        return await cache.explain(key, route=route)

    found = session.use(config, look)
    if as_json:
        output.print_json(found.as_dict())
    else:
        click.echo(f"{found.key}: {found.verdict}")
        click.echo(f"route: {found.route}, because {found.why}; key in far tiers: {found.address}")
        output.print_table(
            ("tier", "state", "made", "fresh for", "stale for", "bytes", "codec", "tags", "breaker"),
            [_row(copy) for copy in found.copies],
        )
        for copy in found.copies:
            if copy.reason:
                click.echo(f"{copy.tier}: {copy.reason}")
            if copy.refresh_in is not None:
                due = f"in {_time(copy.refresh_in)}" if copy.refresh_in > 0 else "at the next read"
                click.echo(f"{copy.tier}: refreshed {due}")
    ctx.exit(0 if any(copy.state == "fresh" for copy in found.copies) else 1)


def _row(copy: Copy) -> tuple[str, ...]:
    if not copy.stamp:
        return (copy.tier, copy.state, "", "", "", str(copy.size or ""), "", "", copy.breaker)
    made = datetime.fromtimestamp(copy.stamp / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    codec = "+".join(part for part in (copy.serializer, copy.compressor) if part)
    return (
        copy.tier, copy.state, made, _time(copy.fresh_for), _time(copy.stale_for), f"{copy.size:,}", codec,
        ", ".join(copy.tags), copy.breaker,
    )  # fmt: skip


def _time(seconds: float | None) -> str:
    from tiercache.units import format_seconds

    if seconds is None:
        return "ever"
    if seconds <= 0:
        return "over"
    rounded = float(f"{seconds:.3g}")
    # 21.7 s are not to be read as 21700 ms.
    return f"{rounded:g}s" if 1 <= rounded < 60 else format_seconds(rounded)
