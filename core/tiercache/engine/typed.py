"""Values in the shape that a reader asks for."""

from __future__ import annotations

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

            adapter = self._adapters[as_type] = TypeAdapter(as_type)
        try:
            return adapter.validate_python(value)
        except ValueError:
            return MISSING
