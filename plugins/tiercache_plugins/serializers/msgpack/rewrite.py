"""The walk for what the driver can't write by itself; it also finds the part that nobody can bring back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

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
_GROUPS: Final = {tuple: TUPLE, set: SET, frozenset: FROZENSET}
_PLAIN: Final = frozenset({type(None), bool, float, bytes})
_PLAIN_KEYS: Final = frozenset({type(None), bool, float, bytes, str, int})


class _Step(NamedTuple):
    """One step from the value to one of its parts."""

    above: _Step | None
    label: str

    def __str__(self) -> str:
        labels: list[str] = []
        step: _Step | None = self
        while step is not None:
            labels.append(step.label)
            step = step.above
        return "".join(reversed(labels))


class Rewriter:
    """Turns values into what the driver writes without help. *marks* are the driver's objects for marks."""

    def __init__(self, marks: Mapping[int, Ext], forms: Mapping[type, Form]) -> None:
        self._marks = marks
        self._forms = forms

    def rewrite(self, value: Any) -> Any:
        """Return *value* rewritten. Raises Unserializable, naming the part that can't be brought back."""
        return self._any(value, _Step(None, "value"), [])

    def _any(self, node: Any, step: _Step, above: list[int]) -> Any:
        kind = type(node)
        if kind in _PLAIN or (kind is int and -(2**63) <= node < 2**64) or (kind is str and _is_text(node)):
            return node
        if kind in WRITERS:
            tag, write = WRITERS[kind]
            try:
                return Ext(tag, write(node))
            except Unserializable as error:
                raise Unserializable(f"{step}: {error}") from error
        if id(node) in above:
            raise Unserializable(f"{step}: contains itself")
        if len(above) >= DEEPEST:
            raise Unserializable(f"{_shortened(str(step))}: nested deeper than {DEEPEST} levels")
        above.append(id(node))
        try:
            return self._parts(node, kind, step, above)
        finally:
            above.pop()

    def _parts(self, node: Any, kind: type, step: _Step, above: list[int]) -> Any:
        if kind is list:
            return [*self._items(node, step, above)]
        if kind is tuple:
            return [self._marks[TUPLE], *self._items(node, step, above)]
        if kind is dict:
            return self._dict(node, step, above)
        if kind in _GROUPS:
            inside = _Step(step, "{…}")
            return [self._marks[_GROUPS[kind]], *(self._any(part, inside, above) for part in node)]
        if kind in self._forms:
            return self._registered(node, self._forms[kind], step, above)
        raise Unserializable(
            f"{step}: {kind.__module__}.{kind.__qualname__} can't be brought back; accepted are {_ACCEPTED}"
        )

    def _items(self, node: Any, step: _Step, above: list[int]) -> Iterator[Any]:
        for place, part in enumerate(node):
            yield self._any(part, _Step(step, f"[{place}]"), above)

    def _dict(self, node: dict[Any, Any], step: _Step, above: list[int]) -> Any:
        if all(_is_plain_key(key) for key in node):
            return {key: self._any(part, _Step(step, f"[{key!r}]"), above) for key, part in node.items()}
        pairs: list[Any] = [self._marks[MAP]]
        for key, part in node.items():
            label = _shortened(repr(key))
            pairs.append(self._any(key, _Step(step, f"{{key {label}}}"), above))
            pairs.append(self._any(part, _Step(step, f"[{label}]"), above))
        return pairs

    def _registered(self, node: Any, form: Form, step: _Step, above: list[int]) -> Any:
        try:
            state = form.take_apart(node)
        except Unserializable as error:
            raise Unserializable(f"{step}: {error}") from error
        if type(state) is dict:
            state = {name: self._any(part, _Step(step, f".{name}"), above) for name, part in state.items()}
        elif type(state) is list:
            state = [
                {name: self._any(part, _Step(step, f".{name}"), above) for name, part in group.items()}
                if type(group) is dict
                else group
                for group in state
            ]
        return [self._marks[REGISTERED], form.name, state]


def _is_text(node: str) -> bool:
    if not node.isascii():
        try:
            node.encode()
        except UnicodeEncodeError:
            return False
    return True


def _is_plain_key(key: Any) -> bool:
    kind = type(key)
    if kind is str:
        return _is_text(key)
    if kind is int:
        return -(2**63) <= key < 2**64
    return kind in _PLAIN_KEYS


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:120]}…{text[-60:]}"
