"""Functions of the application, as documents name them and patterns call them."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from operator import attrgetter
from typing import Annotated, Any, Final

from pydantic import AfterValidator

from tiercache.keys import glob

_NAME: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_ACCEPTED: Final = 'a name such as "package.module:function"'


def _well_named(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f'"{name}" names no function; {_ACCEPTED} is accepted')
    return name


FunctionRef = Annotated[str, AfterValidator(_well_named)]
"""An option that names a function: "package.module:function"."""


def _well_formed(pattern: str) -> str:
    glob(pattern)
    return pattern


Glob = Annotated[str, AfterValidator(_well_formed)]
"""An option that matches keys, such as "user:*"."""


def function_of(name: str) -> Callable[..., Any]:
    """Import the function that *name* means. Raises ValueError where it can't be."""
    module, _, path = _well_named(name).partition(":")
    try:
        function = attrgetter(path)(import_module(module))
    except Exception as error:
        raise ValueError(
            f'"{name}" can\'t be imported: {type(error).__name__}: {error}; {_ACCEPTED} is accepted'
        ) from error
    if not callable(function):
        raise ValueError(f'"{name}" is no function; {_ACCEPTED} is accepted')
    found: Callable[..., Any] = function
    return found


def problems(**named: str | Iterable[str] | None) -> Iterable[tuple[str, str]]:
    """Yield (option, message) for each of the functions *named* that can't be imported."""
    for option, names in named.items():
        for name in (names,) if isinstance(names, str) else names or ():
            try:
                function_of(name)
            except ValueError as error:
                yield option, str(error)


async def called(function: Callable[..., Any], *args: Any) -> Any:
    """Return what *function* gives for *args*. One that is not async runs in a thread, so that it may take
    its time.
    """
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    result = await asyncio.to_thread(function, *args)
    return await result if inspect.isawaitable(result) else result


class Loaders:
    """Functions by the keys that they load: the first glob that matches decides."""

    def __init__(self, named: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self._matching: list[tuple[Callable[[str], object], Callable[..., Any]]] = []
        for pattern, function in (named or {}).items():
            self.register(pattern, function)

    def register(self, pattern: str, function: Callable[..., Any]) -> None:
        """Let *function*, given a key, load the keys that the glob *pattern* matches."""
        self._matching.append((glob(pattern).fullmatch, function))

    def loader(self, key: str) -> Callable[[], Any] | None:
        """Return what loads *key*; None where nothing here does."""
        for matches, function in self._matching:
            if matches(key):
                return lambda function=function: called(function, key)  # type: ignore[misc]
        return None
