"""One decorated function: what its wrapper does when the near tier has no answer."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tiercache.decorators.naming import Naming, Slots
from tiercache.decorators.returned import Returned
from tiercache.entry import MISSING
from tiercache.sync.beside import beside
from tiercache.sync.turn import running_loop

if TYPE_CHECKING:
    from tiercache.sync import SyncCache

REMEMBERED: Final = 16_384
"""Calls whose keys are remembered; then they are forgotten all at once."""

EXACT: Final = frozenset({str, int, bytes, type(None)})
"""Types of which equal values are of equal type too, so that a dictionary can look them up: not bool, which
is equal to int, nor float.
"""


@dataclass(frozen=True, slots=True)
class FunctionStats:
    """What a decorated function did since it was decorated.

    Its hits are not among it: counting them would cost every hit more than finding the value does.
    `cache.stats()` counts them by route.
    """

    loads: int
    """Calls of the function itself."""
    load_errors: int
    load_seconds: float
    remembered: int
    """Calls whose keys are remembered at the moment, at most 16,384."""


class Function:
    """A function, its names for keys, and the cache that keeps what it returns."""

    __slots__ = (
        "_counting", "_errors", "_loads", "_naming", "_options", "_seconds", "face", "memo", "original",
        "returned", "signature", "slots",
    )  # fmt: skip

    def __init__(
        self,
        original: Callable[..., Any],
        signature: inspect.Signature,
        naming: Naming,
        face: SyncCache,
        options: Mapping[str, Any],
    ) -> None:
        self.original = original
        self.signature = signature
        self.face = face
        self.returned = Returned(original)
        self.memo: dict[Any, str] = {}
        self.slots: Callable[..., Slots]
        """Takes what the function takes; set by who writes the wrapper."""
        self._naming = naming
        self._options = options
        self._loads = self._errors = 0
        self._seconds = 0.0
        self._counting = threading.Lock()

    def key(self, slots: Slots) -> str:
        """Return the key of a call, and remember it where its arguments are simple."""
        key = self._naming.key(slots, lambda: self.arguments(slots))
        memoised = self._naming.memoised
        if memoised is not None and self.returned.plain:
            told = tuple(
                value
                for name, value in zip(self.signature.parameters, slots, strict=True)
                if name in memoised
            )
            if all(type(value) in EXACT for value in told):
                if len(self.memo) >= REMEMBERED:
                    self.memo.clear()
                self.memo[told[0] if len(told) == 1 else told] = key
        return key

    def key_for(self, *args: Any, **kwargs: Any) -> str:
        """Return the key under which the result of this call is cached."""
        return self.key(self.slots(*args, **kwargs))

    def arguments(self, slots: Slots) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword arguments for *slots*."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for value, parameter in zip(slots, self.signature.parameters.values(), strict=True):
            if parameter.kind is parameter.VAR_POSITIONAL:
                args += value
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs |= value
            elif parameter.kind is parameter.KEYWORD_ONLY:
                kwargs[parameter.name] = value
            else:
                args.append(value)
        return tuple(args), kwargs

    def stats(self) -> FunctionStats:
        """Return what was counted."""
        return FunctionStats(self._loads, self._errors, self._seconds, len(self.memo))

    async def missed(self, *slots: Any) -> Any:
        """Return what an async function gives, from the cache or from itself."""
        cache = await self.face._arrived()  # noqa: SLF001 - its decorators
        key = self.key(slots)
        return await cache.get_or_set(key, lambda: self._awaited_load(slots), **self._terms(slots))

    def missed_sync(self, *slots: Any) -> Any:
        """The same for a sync function, on any thread."""
        key = self.key(slots)
        if running_loop() is None:
            return self.face.get_or_set(key, lambda: self._load(slots), **self._terms(slots))
        return self._beside(key, slots)

    def _beside(self, key: str, slots: Slots) -> Any:
        """Where an event loop runs nothing may wait: the near tier, else the function itself, and what it
        returns is stored in the background.
        """
        terms = self._terms(slots)
        value = self.face._near(key, terms["route"], terms["as_type"], waits=False)  # noqa: SLF001 - its decorators
        if value is not MISSING:
            return value
        return beside(self.face._opened(), key, lambda: self._load(slots), terms)  # noqa: SLF001 - its decorators

    async def refresh(self, *args: Any, **kwargs: Any) -> Any:
        """Call an async function and cache what it returns; return it."""
        slots = self.slots(*args, **kwargs)
        cache = await self.face._arrived()  # noqa: SLF001 - its decorators
        return await cache.refresh(
            self.key(slots), lambda: self._awaited_load(slots), **self._stored_with(slots)
        )

    def refresh_sync(self, *args: Any, **kwargs: Any) -> Any:
        """The same for a sync function."""
        slots = self.slots(*args, **kwargs)
        return self.face.refresh(self.key(slots), lambda: self._load(slots), **self._stored_with(slots))

    async def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        """Drop what an async function returned for these arguments; return whether it was cached."""
        cache = await self.face._arrived()  # noqa: SLF001 - its decorators
        return await cache.delete(self.key_for(*args, **kwargs))

    def invalidate_sync(self, *args: Any, **kwargs: Any) -> bool:
        """The same for a sync function."""
        return self.face.delete(self.key_for(*args, **kwargs))

    def _terms(self, slots: Slots) -> dict[str, Any]:
        return {**self._stored_with(slots), "as_type": self.returned.shape}

    def _stored_with(self, slots: Slots) -> dict[str, Any]:
        return {**self._options, "tags": self._naming.tags(slots, lambda: self.arguments(slots))}

    def _load(self, slots: Slots) -> Any:
        args, kwargs = self.arguments(slots)
        began = time.perf_counter()
        failed = 1
        try:
            value = self.original(*args, **kwargs)
            failed = 0
        finally:
            self._count(began, failed)
        return value

    async def _awaited_load(self, slots: Slots) -> Any:
        args, kwargs = self.arguments(slots)
        began = time.perf_counter()
        failed = 1
        try:
            value = await self.original(*args, **kwargs)
            failed = 0
        finally:
            self._count(began, failed)
        return value

    def _count(self, began: float, failed: int) -> None:
        with self._counting:
            self._loads += 1
            self._errors += failed
            self._seconds += time.perf_counter() - began
