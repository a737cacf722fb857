"""Marks: what an array begins with that is no list, and how it is turned back."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tiercache import Undecodable
from tiercache_plugins.serializers.msgpack.forms import Form

TUPLE: Final = 32
SET: Final = 33
FROZENSET: Final = 34
MAP: Final = 35
"""A dict with keys that MessagePack's own maps can't hold: key, value, key, value …"""
REGISTERED: Final = 36
"""A registered type: its name, then its state."""

MARKED: Final = b"\xc7\x00"
"""How every mark is written: ext 8 of no bytes. Where these are not in the data, there is no mark."""
EXT: Final = MARKED[0]
"""What every mark begins with. One byte, as a number, is looked for in a tenth of the time of two."""


class Mark:
    """Stands for a mark while the arrays are turned back. Unhashable, so that it never gets into a key."""

    __slots__ = ("tag",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tag: int) -> None:
        self.tag = tag

    def read(self, data: bytes) -> Mark:
        """Return this mark; *data* are the bytes of the extension, of which it has none."""
        if data:
            raise Undecodable("a mark that carries bytes")
        return self


MARKS: Final[Mapping[int, Mark]] = MappingProxyType({
    tag: Mark(tag) for tag in (TUPLE, SET, FROZENSET, MAP, REGISTERED)
})  # fmt: skip
"""The mark of each tag."""


class Restorer:
    """Turns arrays that begin with a mark back into what they were."""

    def __init__(self, forms: Mapping[str, Form]) -> None:
        self._forms = forms

    def restore(self, node: Any) -> Any:
        """Return *node*, which is changed in place, without marks. Raises Undecodable or ValueError where
        they make no sense.
        """
        kind = type(node)
        if kind is list:
            mark = node[0] if node and type(node[0]) is Mark else None
            if mark is not None:
                del node[0]
            for place, part in enumerate(node):
                below = type(part)
                if below is list or below is dict or below is Mark:
                    node[place] = self.restore(part)
            if mark is None:
                return node
            return tuple(node) if mark.tag == TUPLE else self._built(mark.tag, node)
        if kind is dict:
            for key, part in node.items():
                below = type(part)
                if below is list or below is dict or below is Mark:
                    node[key] = self.restore(part)
        elif kind is Mark:
            raise Undecodable("a mark where none can be")
        return node

    def _built(self, tag: int, parts: list[Any]) -> Any:
        if tag == SET:
            return set(parts)
        if tag == FROZENSET:
            return frozenset(parts)
        if tag == MAP:
            pairs = iter(parts)
            return dict(zip(pairs, pairs, strict=True))
        name, state = parts
        if type(name) is not str or name not in self._forms:
            raise Undecodable(f"a {str(name)[:200]!r}, which is not among the registered types")
        return self._forms[name].put_together(state)
