"""JSON, for stores that others read too. What JSON would change on the way is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain
from typing import Any, ClassVar, Final, Literal, NoReturn

from tiercache import Context, Serializer, SerializerConfig, Undecodable, Unserializable, hookimpl

_SCALARS: Final = frozenset({type(None), bool, int, float, str})
_KINDS: Final = _SCALARS | {dict, list}
_ACCEPTED: Final = (
    'accepted are None, bool, int, finite float, str, list, and dict with str keys; "msgpack" takes more'
)


class JsonSerializer:
    """UTF-8 without spaces, as the standard library writes it."""

    def __init__(self) -> None:
        # Text is not escaped: two lone surrogates would come back as one character.
        self._encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
        self._decode = json.JSONDecoder(parse_constant=_refuse_constant).decode

    def dumps(self, value: Any) -> bytes:
        """Return *value* as JSON. Raises Unserializable, naming the part that JSON would change."""
        try:
            data = self._encode(value).encode()
        except (RecursionError, TypeError, ValueError) as error:
            raise Unserializable(_complaint(value) or f"value: {error}") from error
        if not _unchanged(value):
            raise Unserializable(_complaint(value) or f"value: JSON would change it; {_ACCEPTED}")
        return data

    def loads(self, data: bytes) -> Any:
        """Return the value of *data*. Raises Undecodable for what is no JSON."""
        try:
            return self._decode(data.decode())
        except (RecursionError, ValueError) as error:
            raise Undecodable(f"no JSON: {error}") from error


class JsonConfig(SerializerConfig):
    """JSON as anybody reads it. Values that JSON would change (tuples, sets, bytes, nan, keys other than
    str) are refused.
    """

    type: Literal["json"] = "json"

    reads_undeclared: ClassVar[bool] = True

    def build(self, context: Context) -> Serializer:
        """Return the serializer; it has no state."""
        del context
        return JsonSerializer()


@hookimpl
def tiercache_serializers() -> Iterable[type[SerializerConfig]]:
    """Return the serializer type of this module."""
    return [JsonConfig]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _unchanged(value: Any) -> bool:
    # The encoder writes subclasses as what they derive from, tuples as lists, and keys of any kind as text.
    # Level by level this stays in C; it ends, because the encoder has already refused cycles.
    level = [value]
    while level:
        if not _KINDS.issuperset(map(type, level)):
            return False
        dicts = [part for part in level if type(part) is dict]
        if not {str}.issuperset(map(type, chain.from_iterable(dicts))):
            return False
        lists = [part for part in level if type(part) is list]
        level = [*chain.from_iterable(lists), *chain.from_iterable(map(dict.values, dicts))]
    return True


def _complaint(value: Any) -> str:
    """Return where and why *value* is refused, or "" where the walk finds nothing."""
    stack: list[tuple[str, Any, tuple[int, ...]]] = [("value", value, ())]
    while stack:
        path, part, above = stack.pop()
        kind = type(part)
        if kind not in _KINDS:
            return f"{path}: {kind.__qualname__} is nothing that JSON brings back; {_ACCEPTED}"
        if kind in _SCALARS:
            try:
                json.dumps(part, ensure_ascii=False, allow_nan=False).encode()
            except ValueError as error:
                return f"{path}: {error}; {_ACCEPTED}"
            continue
        if id(part) in above:
            return f"{path}: contains itself"
        if len(above) > _DEEPEST:
            return f"{path[:200]}…: nested too deeply"
        inside = (*above, id(part))
        if kind is list:
            stack += [(f"{path}[{place}]", below, inside) for place, below in reversed([*enumerate(part)])]
            continue
        for key in part:
            if type(key) is not str:
                return f"{path}: the key {key!r:.100} is {type(key).__qualname__}; {_ACCEPTED}"
        stack += [(f'{path}["{key}"]', below, inside) for key, below in reversed([*part.items()])]
    return ""


_DEEPEST: Final = 500
