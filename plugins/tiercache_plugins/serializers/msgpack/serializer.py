"""The serializer: one pass of the driver where it can be trusted, a walk of our own where it can't.

MessagePack has no tuple, no set, no map with any key. They are written as arrays that begin with a mark: an
extension of one tag and no bytes. That keeps one level of the driver's recursion to one level of the value,
so that its own limit bounds hostile nesting; extensions inside extensions would each begin anew, and a few
kilobytes of them end the process.

The driver takes some things for others without a word: bytearray and memoryview for bytes, and where keys
need not be text, an enum for its value and a date for its text. So keys other than text are written only by
our walk, and wherever bytes were written it is made sure that they were no such views. (Objects of the
driver itself, `Ext` and `Fragment`, are not looked for.)
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, Final

import ormsgpack
from ormsgpack import Ext, packb, unpackb

from tiercache import Undecodable, Unserializable
from tiercache_plugins.serializers.msgpack.forms import Form
from tiercache_plugins.serializers.msgpack.marks import (
    EXT,
    FROZENSET,
    MARKED,
    MARKS,
    REGISTERED,
    SET,
    TUPLE,
    Restorer,
)
from tiercache_plugins.serializers.msgpack.rewrite import Rewriter
from tiercache_plugins.serializers.msgpack.scalars import READERS, WRITERS

_STRICT: Final = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_ANY_KEY: Final = ormsgpack.OPT_NON_STR_KEYS
_CONTAINERS: Final = frozenset({dict, frozenset, list, set, tuple})
_WITHOUT_PARTS: Final = frozenset({type(None), bool, bytes, float, int, str})
_SIMPLE: Final = _CONTAINERS | _WITHOUT_PARTS
_VIEWS: Final = frozenset({bytearray, memoryview})


class MsgpackSerializer:
    """Values as MessagePack. *forms* are the registered types."""

    def __init__(self, forms: Sequence[Form] = ()) -> None:
        self._forms = {form.cls: form for form in forms}
        marks = {tag: Ext(tag, b"") for tag in MARKS}
        writers: dict[type, Callable[[Any], Any]] = {
            kind: _scalar_writer(tag, write) for kind, (tag, write) in WRITERS.items()
        }
        for kind, tag in ((tuple, TUPLE), (set, SET), (frozenset, FROZENSET)):
            writers[kind] = _group_writer(marks[tag])
        for form in forms:
            writers[form.cls] = _form_writer(marks[REGISTERED], form)
        self._default = _default(writers)
        self._rewriter = Rewriter(marks, self._forms)
        self._restorer = Restorer({form.name: form for form in forms})
        self._read = _hook(dict(READERS))
        self._read_marks = _hook({**READERS, **{tag: mark.read for tag, mark in MARKS.items()}})

    def dumps(self, value: Any) -> bytes:
        """Return *value* as MessagePack. Raises Unserializable, naming the part that can't come back."""
        try:
            data = packb(value, self._default, _STRICT)
        except TypeError:
            return self._rewritten(value)
        # The formats bin 8, 16 and 32; they may also be bytes of something else.
        written = b"\xc4" in data or b"\xc5" in data or b"\xc6" in data
        if written and type(value) is not bytes and self._has_views(value):
            return self._rewritten(value)
        return data

    def loads(self, data: bytes) -> Any:
        """Return the value of *data*. Raises Undecodable, and nothing else, for what `dumps` did not make."""
        try:
            if EXT not in data or MARKED not in data:
                return unpackb(data, ext_hook=self._read, option=_ANY_KEY)
            return self._restorer.restore(unpackb(data, ext_hook=self._read_marks, option=_ANY_KEY))
        except Undecodable:
            raise
        except Exception as error:
            raise Undecodable(f"no MessagePack of this serializer: {error}") from error

    def _rewritten(self, value: Any) -> bytes:
        rewritten = self._rewriter.rewrite(value)
        try:
            return packb(rewritten, None, _STRICT | _ANY_KEY)
        except TypeError as error:
            # All that is left for the driver to refuse: registered types take three of its levels each.
            raise Unserializable(f"value: nested deeper than the driver takes ({error})") from error

    def _has_views(self, value: Any) -> bool:
        # In C, and level by level: a walk in Python would take longer than the packing.
        level = [value]
        while level:
            kinds = set(map(type, level))
            if not _VIEWS.isdisjoint(kinds):
                return True
            if _WITHOUT_PARTS.issuperset(kinds):
                break
            if _SIMPLE.issuperset(kinds):
                level = gc.get_referents(*level)
                continue
            # Of anything else the collector would also tell the class, and what that refers to.
            below = gc.get_referents(*[part for part in level if type(part) in _CONTAINERS])
            below += [self._forms[type(part)].take_apart(part) for part in level if type(part) in self._forms]
            level = below
        return False


def _default(writers: dict[type, Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def default(value: Any) -> Any:
        # A KeyError, as any error here, ends the packing; the rewriter then says which part it was.
        return writers[type(value)](value)

    return default


def _scalar_writer(tag: int, write: Callable[[Any], bytes]) -> Callable[[Any], Any]:
    return lambda value: Ext(tag, write(value))


def _group_writer(mark: Ext) -> Callable[[Any], Any]:
    return lambda value: [mark, *value]


def _form_writer(mark: Ext, form: Form) -> Callable[[Any], Any]:
    return lambda value: [mark, form.name, form.take_apart(value)]


def _hook(readers: dict[int, Callable[[bytes], Any]]) -> Callable[[int, bytes], Any]:
    return lambda tag, data: readers[tag](data)
