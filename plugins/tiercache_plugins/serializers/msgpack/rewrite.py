"""The walk for what the driver can't write by itself; it also finds the part that nobody can bring back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Never

from ormsgpack import Ext

from tiercache import Unserializable
from tiercache_plugins.serializers.msgpack.forms import Form
from tiercache_plugins.serializers.msgpack.marks import FROZENSET, MAP, REGISTERED, SET, TUPLE
from tiercache_plugins.serializers.msgpack.scalars import WRITERS

DEEPEST: Final = 100
"""Levels of nesting that are taken. The driver stops at about 250 arrays; a registered type takes three."""

_ACCEPTED: Final = (
    "None, bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset, datetime, date, time, "
    'timedelta, Decimal, UUID, and the types named by the option "types"'
)
_LONGEST: Final = 200
_GROUPS: Final[Mapping[type, int | None]] = {list: None, tuple: TUPLE, set: SET, frozenset: FROZENSET}
_PLAIN: Final = frozenset({type(None), bool, float, bytes})


class _Refusal(Exception):
    """On its way up it collects the steps from the refused part to the value, so that values that are taken
    pay nothing for them.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.steps: list[str] = []

    def __str__(self) -> str:
        place = f"value{''.join(reversed(self.steps))}"
        if len(place) > _LONGEST:
            place = f"{place[: _LONGEST - 80]}…{place[-60:]}"
        return f"{place}: {self.reason}"


class Rewriter:
    """Turns values into what the driver writes without help. *marks* are the driver's objects for marks."""

    def __init__(self, marks: Mapping[int, Ext], forms: Mapping[type, Form]) -> None:
        self._marks = marks
        self._forms = forms

    def rewrite(self, value: Any) -> Any:
        """Return *value* rewritten. Raises Unserializable, naming the part that can't be brought back."""
        try:
            return self._part(value, [])
        except _Refusal as refusal:
            raise Unserializable(str(refusal)) from refusal.__cause__

    def _part(self, node: Any, above: list[int]) -> Any:
        kind = type(node)
        if (
            (kind is str and _is_text(node))
            or kind in _PLAIN
            or (kind is int and -(2**63) <= node < 2**64)
        ):  # fmt: skip
            return node
        if kind in WRITERS:
            tag, write = WRITERS[kind]
            try:
                return Ext(tag, write(node))
            except Unserializable as error:
                raise _Refusal(str(error)) from error
        if id(node) in above:
            raise _Refusal("contains itself")
        if len(above) >= DEEPEST:
            raise _Refusal(f"nested deeper than {DEEPEST} levels")
        above.append(id(node))
        if kind is dict:
            written = self._dict(node, above)
        elif kind in _GROUPS:
            written = self._group(node, kind, above)
        elif kind in self._forms:
            written = self._registered(node, self._forms[kind], above)
        else:
            where = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
            raise _Refusal(f"{where}{kind.__qualname__} can't be brought back; accepted are {_ACCEPTED}")
        above.pop()
        return written

    def _group(self, node: Iterable[Any], kind: type, above: list[int]) -> list[Any]:
        tag = _GROUPS[kind]
        written: list[Any] = [] if tag is None else [self._marks[tag]]
        place = 0
        try:
            for part in node:
                written.append(self._part(part, above))
                place += 1
        except _Refusal as refusal:
            _step(refusal, f"[{place}]" if kind is list or kind is tuple else "{…}")
        return written

    def _dict(self, node: dict[Any, Any], above: list[int]) -> Any:
        key: Any = None
        try:
            if all(map(_is_plain_key, node)):
                fields = {}
                for key, part in node.items():
                    fields[key] = self._part(part, above)
                return fields
            pairs: list[Any] = [self._marks[MAP]]
            for key, part in node.items():
                pairs += (self._key(key, above), self._part(part, above))
        except _Refusal as refusal:
            _step(refusal, "" if refusal.steps[-1:] == [_KEYS] else f"[{_shown(key)}]")
        return pairs

    def _key(self, key: Any, above: list[int]) -> Any:
        try:
            return self._part(key, above)
        except _Refusal as refusal:
            _step(refusal, _KEYS)

    def _registered(self, node: Any, form: Form, above: list[int]) -> list[Any]:
        try:
            state = form.take_apart(node)
        except Unserializable as error:
            raise _Refusal(str(error)) from error
        if type(state) is dict:
            state = self._fields(state, above)
        elif type(state) is list:
            state = [self._fields(group, above) if type(group) is dict else group for group in state]
        return [self._marks[REGISTERED], form.name, state]

    def _fields(self, group: dict[str, Any], above: list[int]) -> dict[str, Any]:
        name = ""
        written = {}
        try:
            for name, part in group.items():
                written[name] = self._part(part, above)
        except _Refusal as refusal:
            _step(refusal, f".{name}")
        return written


_KEYS: Final = ".keys()"


def _step(refusal: _Refusal, step: str) -> Never:
    refusal.steps.append(step)
    raise refusal


def _shown(key: Any) -> str:
    if type(key) in {str, int, float, bool, type(None)}:
        # As in JSON, which shows control characters and lone surrogates for what they are.
        return json.dumps(key)[:_LONGEST]
    return repr(key)[:_LONGEST]


def _is_text(node: str) -> bool:
    if not node.isascii():
        try:
            node.encode()
        except UnicodeEncodeError:
            return False
    return True


def _is_plain_key(key: Any) -> bool:
    if type(key) is str:
        return _is_text(key)
    if type(key) is int:
        return -(2**63) <= key < 2**64
    return type(key) in _PLAIN
