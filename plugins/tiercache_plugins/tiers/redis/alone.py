"""The tier of one server, which answers reads without a coroutine: two thirds of what a lone hit cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from tiercache_plugins.tiers.redis.exchange import Reply
from tiercache_plugins.tiers.redis.line import Command, Line
from tiercache_plugins.tiers.redis.tier import READ_AT_ONCE, RedisTier


class LoneRedisTier(RedisTier):
    """Frames in one Redis or Valkey, be it the one that Sentinel names."""

    def read_soon(
        self, keys: Sequence[str], answered: Callable[[Sequence[bytes | None] | None], object]
    ) -> bool:
        """Begin what `read` does, where a connection stands ready."""
        if not isinstance(wire := self._wire, Line):
            return False

        def arrived(replies: list[Reply] | None, error: BaseException | None) -> None:
            self._ended()
            if error is not None or replies is None or any(isinstance(one, Exception) for one in replies):
                answered(None)
            else:
                answered(replies[0] if len(replies) == 1 else [*chain.from_iterable(replies)])

        commands: list[Command] = [
            ("MGET", *keys[i : i + READ_AT_ONCE]) for i in range(0, len(keys), READ_AT_ONCE)
        ]
        if not wire.soon(commands, arrived):
            return False
        self._counts["calls"] += 1
        self._under_way += 1
        return True
