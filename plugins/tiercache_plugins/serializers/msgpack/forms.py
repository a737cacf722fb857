"""Registered types: how an enum, a dataclass or a pydantic model is taken apart and put together again.

They are put together as pickle does it, without `__init__`: what comes back is what was stored, not what a
constructor makes of it today. A class whose fields have changed since is not filled up with guesses; what
was stored under the old fields is Undecodable, and so a miss.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
from importlib import import_module
from operator import attrgetter
from typing import Any, Final, Protocol

from pydantic import BaseModel

from tiercache import Undecodable, Unserializable

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_ACCEPTED: Final = 'a name such as "package.module:Class" of an Enum, a dataclass or a pydantic model'
# What these hold beside their fields would be lost.
_OPAQUE: Final = (BaseException, bytes, bytearray, dict, float, frozenset, int, list, set, str, tuple)


class Form(Protocol):
    """One registered type."""

    name: str
    """As in the option `types`, and in what is stored."""
    cls: type

    def take_apart(self, value: Any) -> Any:
        """Return the state of *value*: a str or int of an enum, else a dict or list of its fields."""
        ...

    def put_together(self, state: Any) -> Any:
        """Return the value that had *state*. Raises Undecodable where it doesn't fit the class."""
        ...


class EnumForm:
    """Members by name; nameless combinations of a Flag by number."""

    def __init__(self, name: str, cls: type[enum.Enum]) -> None:
        self.name = name
        self.cls = cls
        self._members = dict(cls.__members__)

    def take_apart(self, value: enum.Enum) -> str | int:
        """Return the member's name; the number of a Flag that has none."""
        if value.name is not None and self._members.get(value.name) is value:
            return value.name
        number = value.value
        if not isinstance(number, int):
            raise Unserializable(f"a member of {self.name} without a name")
        return int(number)

    def put_together(self, state: Any) -> enum.Enum:
        """Return the member called *state*, or the Flag of that number."""
        if isinstance(state, str) and state in self._members:
            return self._members[state]
        if type(state) is int and issubclass(self.cls, enum.Flag):
            return self.cls(state)
        raise Undecodable(f"{self.name} has no such member")


class DataclassForm:
    """Fields by name. Cached properties are left behind; any other attribute is refused."""

    def __init__(self, name: str, cls: type) -> None:
        self.name = name
        self.cls = cls
        self._fields = tuple(field.name for field in dataclasses.fields(cls))
        self._known = frozenset(self._fields) | _cached(cls)
        self._get = attrgetter(*self._fields) if self._fields else None

    def take_apart(self, value: Any) -> dict[str, Any]:
        """Return the fields of *value*."""
        own = getattr(value, "__dict__", None)
        if own and not self._known.issuperset(own):
            extra = min(own.keys() - self._known)
            raise Unserializable(f'the attribute "{extra}" is no field of {self.name}')
        if self._get is None:
            return {}
        try:
            found = self._get(value)
        except AttributeError as error:
            raise Unserializable(f"a {self.name} with a field that was never set") from error
        return dict(zip(self._fields, found if len(self._fields) > 1 else (found,), strict=True))

    def put_together(self, state: Any) -> Any:
        """Return a new instance with the fields of *state*."""
        if type(state) is not dict or len(state) != len(self._fields):
            raise Undecodable(f"the fields of {self.name} have changed since")
        value: Any = object.__new__(self.cls)
        for name in self._fields:
            if name not in state:
                raise Undecodable(f"the fields of {self.name} have changed since")
            # Frozen classes refuse plain assignment.
            object.__setattr__(value, name, state[name])
        return value


class PydanticForm:
    """What `BaseModel.__getstate__` gives: fields, extras, which fields were set, private attributes."""

    def __init__(self, name: str, cls: type[BaseModel]) -> None:
        self.name = name
        self.cls = cls
        self._fields = frozenset(cls.model_fields)
        self._private = frozenset(cls.__private_attributes__)
        self._cached = _cached(cls)

    def take_apart(self, value: BaseModel) -> list[Any]:
        """Return the parts of *value*'s state, in a fixed order."""
        state = value.__getstate__()
        own = {name: part for name, part in state["__dict__"].items() if name not in self._cached}
        if own.keys() != self._fields:
            raise Unserializable(f"a {self.name} whose attributes are not its fields")
        private = state["__pydantic_private__"]
        return [own, state["__pydantic_extra__"], sorted(state["__pydantic_fields_set__"]), private]

    def put_together(self, state: Any) -> BaseModel:
        """Return a new instance with the state of *state*; nothing is validated again."""
        if type(state) is not list or len(state) != 4:
            raise Undecodable(f"no state of {self.name}")
        own, extra, fields_set, private = state
        allows_extra = self.cls.model_config.get("extra") == "allow"
        if (
            type(own) is not dict
            or own.keys() != self._fields
            or (type(extra) is dict) is not allows_extra
            or type(fields_set) is not list
            or (type(private) is dict) is not bool(self._private)
            or (private is not None and not self._private.issuperset(private))
        ):
            raise Undecodable(f"the fields of {self.name} have changed since")
        value = object.__new__(self.cls)
        value.__setstate__({
            "__dict__": own,
            "__pydantic_extra__": extra,
            "__pydantic_fields_set__": set(fields_set),
            "__pydantic_private__": private,
        })  # fmt: skip
        return value


def check_name(name: str) -> None:
    """Raise ValueError unless *name* has the form "package.module:Class"."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f'"{name}" names no type; {_ACCEPTED} is accepted')


def form_of(name: str) -> Form:
    """Import the type that *name* means and return its form.

    Raises ValueError where it can't be imported, or is nothing that can be taken apart without loss.
    """
    check_name(name)
    module, _, path = name.partition(":")
    try:
        cls = attrgetter(path)(import_module(module))
    except Exception as error:
        raise ValueError(
            f'"{name}" can\'t be imported: {type(error).__name__}: {error}; {_ACCEPTED} is accepted'
        ) from error
    if not isinstance(cls, type):
        raise ValueError(f'"{name}" is no class; {_ACCEPTED} is accepted')
    if issubclass(cls, enum.Enum):
        return EnumForm(name, cls)
    if issubclass(cls, BaseModel):
        return PydanticForm(name, cls)
    if dataclasses.is_dataclass(cls) and not issubclass(cls, _OPAQUE):
        return DataclassForm(name, cls)
    raise ValueError(f'"{name}" is neither Enum, dataclass nor pydantic model; {_ACCEPTED} is accepted')


def _cached(cls: type) -> frozenset[str]:
    return frozenset(
        name
        for base in cls.__mro__
        for name, attribute in vars(base).items()
        if isinstance(attribute, functools.cached_property)
    )
