"""Decorated methods: bound to their object or class, with all that a decorated function can do."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any


class Method:
    """A decorated method as it stands in its class.

    Taken from an object it gives a `Bound`; taken from the class it wants the object first, as any method.
    """

    def __init__(self, wrapper: Callable[..., Any], *, of_class: bool) -> None:
        self._wrapper = wrapper
        self._of_class = of_class
        self._bound = AsyncBound if inspect.iscoroutinefunction(wrapper) else Bound
        functools.update_wrapper(self, wrapper)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method, given its object."""
        return self._wrapper(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if self._of_class:
            return self._bound(self._wrapper, owner if owner is not None else type(instance))
        return self if instance is None else self._bound(self._wrapper, instance)


class Bound:
    """A decorated method of one object."""

    __slots__ = ("__self__", "_wrapper")

    def __init__(self, wrapper: Any, instance: Any) -> None:
        self._wrapper = wrapper
        self.__self__ = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return self._wrapper(self.__self__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapper, name)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Bound) and self.__self__ is other.__self__ and self._wrapper is other._wrapper
        )

    def __hash__(self) -> int:
        return hash((id(self.__self__), self._wrapper))

    def __repr__(self) -> str:
        return f"<cached method {self._wrapper.__qualname__} of {self.__self__!r}>"

    @property
    def __signature__(self) -> inspect.Signature:
        whole = inspect.signature(self._wrapper)
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    @property
    def uncached(self) -> Callable[..., Any]:
        """The method itself."""
        return functools.partial(self._wrapper.uncached, self.__self__)

    def key_for(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call."""
        key: str = self._wrapper.key_for(self.__self__, *args, **kwargs)
        return key

    def invalidate(self, *args: Any, **kwargs: Any) -> Any:
        """Drop the result of a call."""
        return self._wrapper.invalidate(self.__self__, *args, **kwargs)

    def refresh(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method, and cache what it returns."""
        return self._wrapper.refresh(self.__self__, *args, **kwargs)


class AsyncBound(Bound):
    """The same for a coroutine method, and known as such to `asyncio` and `inspect`."""

    __slots__ = ()

    _is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", None)


if (mark := getattr(inspect, "markcoroutinefunction", None)) is not None:
    mark(AsyncBound)
