"""MessagePack that brings back what was put in, or refuses it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from tiercache import CheckContext, Context, Serializer, SerializerConfig, hookimpl
from tiercache_plugins.serializers.msgpack.forms import check_name, form_of


class MsgpackConfig(SerializerConfig):
    """MessagePack with extensions: every value comes back equal and of the same type, or is refused.

    Taken are None, bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset, datetime,
    date, time, timedelta, Decimal, UUID, and the types that are named.
    """

    type: Literal["msgpack"] = "msgpack"
    types: tuple[str, ...] = Field(
        (),
        description=(
            'Enums, dataclasses and pydantic models that are taken too, each as "package.module:Class".'
        ),
    )

    reads_undeclared: ClassVar[bool] = True

    @field_validator("types")
    @classmethod
    def _well_named(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            check_name(name)
        if len(set(names)) < len(names):
            raise ValueError("a type is named twice")
        return names

    def check(self, context: CheckContext) -> Iterable[tuple[str, str]]:
        """Yield what is wrong with each of `types`: they are imported to find out."""
        del context
        for name in self.types:
            try:
                form_of(name)
            except ValueError as error:
                yield "types", str(error)

    def build(self, context: Context) -> Serializer:
        """Return the serializer. Raises ValueError for a type that can't be imported or taken."""
        del context
        # Not above: the driver is imported only where a stage needs it.
        from tiercache_plugins.serializers.msgpack.serializer import MsgpackSerializer

        return MsgpackSerializer([form_of(name) for name in self.types])


@hookimpl
def tiercache_serializers() -> Iterable[type[SerializerConfig]]:
    """Return the serializer type of this module."""
    return [MsgpackConfig]
