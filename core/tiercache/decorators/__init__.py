"""`@cache.cached`: functions that remember what they returned."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from tiercache.decorators.function import Function, FunctionStats
from tiercache.decorators.method import Method
from tiercache.decorators.naming import Naming
from tiercache.decorators.wrapper import written
from tiercache.units import seconds

if TYPE_CHECKING:
    from tiercache.sync import SyncCache

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")


class SyncCached(Protocol[P, T_co]):
    """A decorated function: called as before, with all of this besides.

    A method taken from its object wants the same arguments as when it is called, so without `self`; taken
    from its class it wants the object first.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Return the cached result, or call the function."""
        ...

    @property
    def uncached(self) -> Callable[P, T_co]:
        """The function as it was."""
        ...

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of this call is cached."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Drop the result of this call from every tier; return whether it was there."""
        ...

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Call the function whatever is cached, cache what it returns, and return it."""
        ...

    def cache_info(self) -> FunctionStats:
        """Return how often the function itself was called."""
        ...

    @overload
    def __get__(self, instance: None, owner: type, /) -> SyncCached[P, T_co]: ...
    @overload
    def __get__(
        self: SyncCached[Concatenate[S, Q], U], instance: S, owner: type | None = None, /
    ) -> SyncCached[Q, U]: ...


class AsyncCached(Protocol[P, T_co]):
    """A decorated coroutine function: as `SyncCached`, with what waits to be awaited."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T_co]:
        """Return the cached result, or call the function."""
        ...

    @property
    def uncached(self) -> Callable[P, Coroutine[Any, Any, T_co]]:
        """The function as it was."""
        ...

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of this call is cached."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, bool]:
        """Drop the result of this call from every tier; return whether it was there."""
        ...

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T_co]:
        """Call the function whatever is cached, cache what it returns, and return it."""
        ...

    def cache_info(self) -> FunctionStats:
        """Return how often the function itself was called."""
        ...

    @overload
    def __get__(self, instance: None, owner: type, /) -> AsyncCached[P, T_co]: ...
    @overload
    def __get__(
        self: AsyncCached[Concatenate[S, Q], U], instance: S, owner: type | None = None, /
    ) -> AsyncCached[Q, U]: ...


class Decorator(Protocol):
    """What `cache.cached(…)` returns: it takes a function, sync or async."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, function: Callable[P, Coroutine[Any, Any, U]], /
    ) -> AsyncCached[P, U]: ...
    @overload
    def __call__(self, function: Callable[P, U], /) -> SyncCached[P, U]: ...


def decorator(
    face: SyncCache,
    *,
    ttl: float | str | timedelta | None,
    stale: float | str | timedelta | None,
    key: str | Callable[..., str] | None,
    tags: Iterable[str] | Callable[..., Iterable[str]],
    route: str | None,
    ignore: Sequence[str],
    version: int | str,
    own_loop: bool,
) -> Any:
    """Return the decorator for these options; it is a `Decorator`.

    *own_loop* says that nobody else's coroutines can run on the loop of the cache. Raises ValueError or
    TypeError, when a function is decorated, for what can't be right whatever the arguments.
    """
    options = {
        "route": route,
        "ttl": None if ttl is None else seconds(ttl),
        "stale": None if stale is None else seconds(stale),
    }
    if isinstance(ignore, str):
        raise TypeError(f"ignore must be a collection of names; for one parameter write ({ignore!r},)")
    if key is not None and ignore:
        raise ValueError("key= says what tells calls apart, so there is nothing to ignore; give one of them")

    def decorate(function: Any) -> Any:
        static, of_class = isinstance(function, staticmethod), isinstance(function, classmethod)
        plain = function.__func__ if static or of_class else function
        _check(plain, own_loop=own_loop)
        signature = inspect.signature(plain)
        first = None if static else _first(plain, signature)
        of_class = of_class or first == "cls"
        left_out = _left_out(plain, signature, ignore, first, of_class=of_class, keyed=key is not None)
        naming = Naming(
            plain, signature.parameters, key=key, tags=tags, ignore=left_out, version=version
        )  # fmt: skip
        inner = Function(plain, signature, naming, face, options)
        wrapper: Any = written(inner, naming.memoised, reads=face._written_out)  # noqa: SLF001 - its decorators
        asynchronous = inspect.iscoroutinefunction(plain)
        wrapper.uncached = plain
        wrapper.key_for = inner.key_for
        wrapper.invalidate = inner.invalidate if asynchronous else inner.invalidate_sync
        wrapper.refresh = inner.refresh if asynchronous else inner.refresh_sync
        wrapper.cache_info = inner.stats
        if static:
            return staticmethod(wrapper)
        return wrapper if first is None else Method(wrapper, of_class=of_class)

    return decorate


def _check(function: Any, *, own_loop: bool) -> None:
    """Raise TypeError for what can't be cached at all."""
    if not inspect.isfunction(function):
        raise TypeError(
            f"cached takes a function, a method, a classmethod or a staticmethod, "
            f"not {type(function).__name__}"
        )
    name = f"{function.__module__}.{function.__qualname__}"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{name} is a generator, and what it yields is gone once it was read; return a list, or cache "
            "what it is made of"
        )
    if own_loop and inspect.iscoroutinefunction(function):
        raise TypeError(
            f"{name} is a coroutine function, and this cache has a loop of its own, on which it must not "
            "run; decorate it with a cache from `Cache.open`, started on the loop that calls it"
        )


def _first(function: Any, signature: inspect.Signature) -> str | None:
    """Return "self" or "cls" where *function* stands in a class and takes that first."""
    inside = function.__qualname__.rpartition(".")[0]
    if not inside or inside.endswith("<locals>"):
        return None
    name = next(iter(signature.parameters), None)
    return name if name in {"self", "cls"} else None


def _left_out(
    function: Any,
    signature: inspect.Signature,
    ignore: Sequence[str],
    first: str | None,
    *,
    of_class: bool,
    keyed: bool,
) -> tuple[str, ...]:
    """Return the parameters that are no part of the key from the signature.

    Raises ValueError where that key would be shared by calls that it can't tell apart.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    for ignored in ignore:
        if ignored not in signature.parameters:
            known = ", ".join(signature.parameters) or "none"
            raise ValueError(f"{name}: ignore names {ignored!r}, which is no parameter; there are: {known}")
    if keyed:
        return ()
    if first == "self" and "self" not in ignore:
        raise ValueError(
            f'{name} has a self, which no key can tell from another: give ignore=("self",) where all objects '
            'return the same, or a key that names what tells them apart, such as key="{self.id}:…"'
        )
    if function.__name__ == "<lambda>":
        raise ValueError(f"{name}: lambdas of one module share their name; give key=, or a def")
    used = ", ".join(name for name in function.__code__.co_freevars if name != "__class__")
    if used:
        raise ValueError(
            f"{name} uses {used} of the function around it, of which its name tells nothing, so that all "
            "such functions would share their keys; give key= that tells them apart"
        )
    return (*ignore, next(iter(signature.parameters))) if of_class else tuple(ignore)
