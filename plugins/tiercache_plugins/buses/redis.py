"""The bus of a Redis tier: its own publish and subscribe.

What changes a key in the server publishes it in the same script, so that neither happens without the other.
The messages of one server have numbers without gaps; a heartbeat of one's own, sent by the way of the writes
and received by the way of the messages, proves that nothing before it was lost. In a cluster it is sent
through every primary, and messages have no numbers.

An ACL user needs `&NAMESPACE:*` and `+@pubsub` beside what the tier needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from tiercache import BusConfig, Context, FarTier, hookimpl

if TYPE_CHECKING:
    from tiercache_plugins.tiers.redis.news import RedisBus


class RedisBusConfig(BusConfig):
    """Tells the processes of all hosts what changed, through the server of a Redis tier."""

    carries: ClassVar[str] = "redis"

    type: Literal["redis"] = "redis"

    def build(self, context: Context, tier: FarTier) -> RedisBus:
        """Return the bus of *tier*, a tier of type "redis"."""
        from tiercache_plugins.tiers.redis.news import RedisBus
        from tiercache_plugins.tiers.redis.tier import RedisTier

        if not isinstance(tier, RedisTier):
            raise TypeError(f'a bus of type "redis" can\'t follow a {type(tier).__name__}')
        return RedisBus(tier, context)


@hookimpl
def tiercache_buses() -> Iterable[type[BusConfig]]:
    """Return the bus of this module."""
    return (RedisBusConfig,)
