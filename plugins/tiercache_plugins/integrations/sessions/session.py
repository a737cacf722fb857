"""Session: the data of one session, as a request sees them, and what the request changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from tiercache import MISSING


class Session(dict[str, Any]):
    """What `request.session` is: a dict that knows whether it was looked at, and what became different.

    Changes are kept before the response starts. Values that can be changed in place are compared with what
    they were, so `session["cart"].append(…)` is noticed. `clear` ends the session, and what is put in
    afterwards begins another one.

    Raises RuntimeError at a change after the response started or on a websocket, as nobody would keep it,
    and at the first look while a response is being sent, as it went out as one for everybody.
    """

    __slots__ = ("_before", "_ended", "_phase", "_rotates", "accessed")

    def __init__(self, data: Mapping[str, Any], *, readable: bool = False) -> None:
        super().__init__(data)
        self._before: dict[str, Any] | None = None
        self._ended = False
        self._rotates = False
        self._phase = "read" if readable else "open"
        self.accessed = False

    @property
    def ended(self) -> bool:
        """Whether the session that the request came with is to be ended."""
        return self._ended

    @property
    def rotates(self) -> bool:
        """Whether it is to be given a new id."""
        return self._rotates

    def rotate(self) -> None:
        """Give the session a new id when it is kept; the old one is dead then."""
        self._change()
        self._rotates = True

    def sending(self) -> None:
        """Take note that the response starts."""
        self._phase = "sending"

    def sent(self) -> None:
        """Take note that the response is out."""
        self._phase = "sent"

    def difference(self) -> tuple[dict[str, Any], frozenset[str]]:
        """Return the items that are new or other than they were, and the names that are gone."""
        if self._before is None:
            return {}, frozenset()
        now = dict(dict.items(self))
        before = {} if self._ended else self._before
        put = {
            name: value for name, value in now.items() if name not in before or not alike(before[name], value)
        }
        return put, frozenset(before.keys() - now.keys())

    def _look(self) -> None:
        if self._before is None:
            if self._phase == "sending":
                raise RuntimeError(
                    "the session is first looked at while the response is being sent; look at it before"
                )
            self.accessed = True
            self._before = copy.deepcopy(dict(dict.items(self)))

    def _change(self) -> None:
        self._look()
        if self._phase != "open":
            where = "a websocket" if self._phase == "read" else "a response that has started"
            raise RuntimeError(f"a session can't be changed on {where}; change it in a request, before")

    def __getitem__(self, name: str) -> Any:
        self._look()
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self._look()
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self._look()
        return super().__iter__()

    def __reversed__(self) -> Iterator[str]:
        self._look()
        return super().__reversed__()

    def __len__(self) -> int:
        self._look()
        return super().__len__()

    def __eq__(self, other: object) -> bool:
        self._look()
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __repr__(self) -> str:
        # It may be logged where it is nobody's business.
        return f"<Session of {super().__len__()} items>"

    def __or__(self, other: Any) -> Any:
        return dict(self.items()) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self.items())

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"items of a session are named by str, not by {type(name).__name__}")
        self._change()
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        self._change()
        super().__delitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the item *name*, or *default*."""
        self._look()
        return super().get(name, default)

    def keys(self) -> Any:
        """Return the names."""
        self._look()
        return super().keys()

    def values(self) -> Any:
        """Return the values."""
        self._look()
        return super().values()

    def items(self) -> Any:
        """Return names and values."""
        self._look()
        return super().items()

    def copy(self) -> dict[str, Any]:
        """Return a plain dict of the items."""
        return dict(self.items())

    def pop(self, name: str, default: Any = MISSING) -> Any:
        """Take the item *name* out and return it; without one, *default*. Raises KeyError without both."""
        self._change()
        return super().pop(name) if default is MISSING else super().pop(name, default)

    def popitem(self) -> tuple[str, Any]:
        """Take the newest item out and return it. Raises KeyError where there is none."""
        self._change()
        return super().popitem()

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the item *name*, after putting *default* there where there was none."""
        if name not in self:
            self[name] = default
        return self[name]

    def update(self, *given: Any, **named: Any) -> None:
        """Put in the items of *given* and *named*."""
        for name, value in dict(*given, **named).items():
            self[name] = value

    def clear(self) -> None:
        """End the session; what is put in afterwards begins another one, with another id."""
        self._change()
        super().clear()
        self._ended = True


def alike(one: Any, other: Any) -> bool:
    """Return whether two values are equal, types and all: neither is True 1 here, nor [1] [True]."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(map(alike, one.items(), other.items()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, (set, frozenset)):
        return {(type(each), each) for each in one} == {(type(each), each) for each in other}
    return bool(one == other)
