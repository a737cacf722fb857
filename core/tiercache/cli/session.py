"""What the commands share that look into a cache: how it is opened, and how values are shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from tiercache import Cache

_Result = TypeVar("_Result")

config = click.option(
    "-c", "--config", metavar="FILE", help="The configuration; else the one that is found from here."
)
route = click.option("--route", metavar="NAME", help="The route; else the key's own.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def use(source: str | None, act: Callable[[Cache], Awaitable[_Result]]) -> _Result:
    """Open the cache of *source*, do *act* with it, close it, and return what it brought.

    Warns about far tiers that could not be reached: what they hold is not in the answer.
    """
    from tiercache import Cache

    async def session() -> _Result:
        async with Cache.open(source) as cache:
            result = await act(cache)
            for name, tier in cache.stats().tiers.items():
                if not tier.available:
                    click.echo(f"warning: tier {name} could not be reached", err=True)
            return result

    try:
        return asyncio.run(session())
    except (ValueError, TypeError, OverflowError) as error:
        # A key that is none, a route that is not declared, a value that can't be stored.
        raise click.UsageError(str(error)) from error


def shown(value: Any) -> str:
    """Return *value* for people: text as it is, everything else as Python writes it."""
    return value if isinstance(value, str) else repr(value)


def told(value: Any) -> Any:
    """Return *value* for JSON: itself where JSON can carry it, else what Python writes, marked as such."""
    try:
        same = json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError):
        same = False
    return {"value": value} if same else {"repr": repr(value), "type": type(value).__name__}
