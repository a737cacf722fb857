"""Values in the shape that a reader asks for."""

from __future__ import annotations

import sys
import types
import typing
from typing import Any

from tiercache.entry import MISSING, Missing


class Shapes:
    """Turns values into dataclasses, pydantic models, TypedDicts and whatever else pydantic knows.

    Adapters are made once a type: making one costs a thousand times what using it does.
    """

    __slots__ = ("_adapters",)

    def __init__(self) -> None:
        self._adapters: dict[Any, Any] = {}

    def shape(self, value: Any, as_type: Any) -> Any | Missing:
        """Return *value* as *as_type*; MISSING where it does not fit, as after a change of the type."""
        if type(value) is as_type:
            return value
        adapter = self._adapters.get(as_type)
        if adapter is None:
            from pydantic import TypeAdapter

            adapter = self._adapters[as_type] = TypeAdapter(_adaptable(as_type))
        try:
            return adapter.validate_python(value)
        except ValueError:
            return MISSING


def _adaptable(as_type: Any) -> Any:
    """Return *as_type* with each `typing.TypedDict` in it made over: before 3.12 they lack the base classes
    that pydantic looks at, and it takes those of typing_extensions alone.
    """
    if sys.version_info >= (3, 12):
        return as_type
    if typing.is_typeddict(as_type) and type(as_type).__module__ == "typing":
        import typing_extensions

        hints = typing.get_type_hints(as_type)
        fields = {
            name: typing_extensions.Required[_adaptable(hint)]
            if name in as_type.__required_keys__
            else typing_extensions.NotRequired[_adaptable(hint)]
            for name, hint in hints.items()
        }
        return typing_extensions.TypedDict(as_type.__name__, fields)  # type: ignore[operator]
    arguments = typing.get_args(as_type)
    made = tuple(_adaptable(argument) for argument in arguments)
    if made == arguments:
        return as_type
    if isinstance(as_type, types.UnionType):
        return typing.Union[made]  # noqa: UP007 - X | Y is a syntax, and these are in a tuple
    # `list[X]` is made anew from its origin; what comes from typing copies itself.
    copy_with = getattr(as_type, "copy_with", None)
    return copy_with(made) if copy_with is not None else typing.get_origin(as_type)[made]
