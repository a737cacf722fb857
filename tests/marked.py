"""A far tier in a dictionary that keeps markers, beside the ones of `gated`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from gated import Able
from tiercache import Clock, Context, FarTierConfig, hookimpl


class Marked(Able):
    """Keeps markers in `markers`, apart from the rows; `mark_error` fails their writing alone."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.markers: dict[str, int] = {}
        self.mark_error: Exception | None = None

    async def marks(self) -> Mapping[str, int]:
        await self._pass("marks", [])
        return dict(self.markers)

    async def mark(self, markers: Mapping[str, int], below: int) -> None:
        await self._pass("mark", list(markers))
        if self.mark_error is not None:
            raise self.mark_error
        for name, stamp in markers.items():
            self.markers[name] = max(stamp, self.markers.get(name, 0))
        self.markers = {name: stamp for name, stamp in self.markers.items() if stamp >= below}


class MarkedConfig(FarTierConfig):
    """A far tier with markers."""

    type: Literal["marked"] = "marked"

    def build(self, context: Context) -> Marked:
        return Marked(context.clock)


@hookimpl
def tiercache_tiers():
    return [MarkedConfig]


def marked(**options: Any) -> dict[str, Any]:
    """Return a document with a memory tier and two far tiers that keep markers."""
    return {
        "tier": {
            "memory": {"type": "memory", "max_entries": 1000},
            "shelf": {"type": "marked"},
            "cellar": {"type": "marked"},
        },
        "route": {"all": {"tiers": ["memory", "shelf", "cellar"], "ttl": "1h", **options}},
    }
