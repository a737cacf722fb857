"""What a function says that it returns, so that far hits come back as that."""

from __future__ import annotations

import dataclasses
import logging
import types
import typing
from collections.abc import Callable
from typing import Any

log = logging.getLogger("tiercache.decorators")


class Returned:
    """The return annotation, looked at as soon as its names can be resolved."""

    __slots__ = ("_function", "_late", "_resolved", "_shape")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._shape: Any = None
        self._resolved = False
        self._resolve(final=False)
        self._late = not self._resolved

    @property
    def shape(self) -> Any:
        """What far values are to be made into: the annotation where a dataclass, a pydantic model or a
        TypedDict is in it, else None.
        """
        if not self._resolved:
            self._resolve(final=True)
        return self._shape

    @property
    def classes(self) -> frozenset[type]:
        """The classes of which an instance needs no closer look. Empty where there is nothing to look at, or
        where it takes more, or where that was unknown when the function was decorated.
        """
        if self._late or self._shape is None:
            return frozenset()
        alternatives = typing.get_args(self._shape) if _is_union(self._shape) else (self._shape,)
        plain = all(_is_class(each) and not typing.is_typeddict(each) for each in alternatives)
        return frozenset(alternatives) if plain else frozenset()

    @property
    def plain(self) -> bool:
        """Whether near values may be given as they are, once they were found to be of `classes`."""
        return self.shape is None or bool(self.classes)

    @property
    def maybe_plain(self) -> bool:
        """The same when the function is decorated, and names that it returns may still be unknown."""
        return self._late or self.plain

    def _resolve(self, *, final: bool) -> None:
        hint = getattr(self._function, "__annotations__", {}).get("return")
        holder = types.SimpleNamespace(__annotations__={"return": hint})
        scope = getattr(self._function, "__globals__", {})
        try:
            hint = typing.get_type_hints(holder, scope).get("return") if hint is not None else None
        except Exception as error:  # noqa: BLE001 - an annotation may be any expression
            if not final:
                return
            log.info(
                "%s.%s: the return annotation can't be resolved (%s), so far hits come as they were stored",
                self._function.__module__, self._function.__qualname__, error,
            )  # fmt: skip
            hint = None
        self._resolved = True
        self._shape = hint if _shaped(hint) else None


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in {typing.Union, types.UnionType}


def _is_class(hint: Any) -> bool:
    return isinstance(hint, type) and not typing.get_args(hint)


def _shaped(hint: Any) -> bool:
    """Whether values of *hint* lose their type on the way through a far tier."""
    if _is_class(hint):
        return dataclasses.is_dataclass(hint) or typing.is_typeddict(hint) or _is_model(hint)
    return any(_shaped(argument) for argument in typing.get_args(hint))


def _is_model(hint: type) -> bool:
    from pydantic import BaseModel

    return issubclass(hint, BaseModel)
