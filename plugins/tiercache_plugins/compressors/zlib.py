"""zlib: slower than zstd, and on every machine."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from tiercache import Compressor, CompressorConfig, Context, Size, Undecodable, hookimpl


class ZlibCompressor:
    """The format of RFC 1950, with its checksum."""

    def __init__(self, level: int, threshold: int) -> None:
        self._level = level
        self.threshold = threshold
        """Bytes below which the kernel does not try."""

    def compress(self, data: bytes) -> bytes:
        """Return *data* compressed."""
        return zlib.compress(data, self._level)

    def decompress(self, data: bytes, limit: int) -> bytes:
        """Return what was compressed. Raises Undecodable for damage, for anything behind the end, and for
        more than *limit* bytes, of which no more than one too many is ever made.
        """
        stream = zlib.decompressobj()
        try:
            # One more than the limit: zlib takes 0 for no limit, and needs room to see its end.
            out = stream.decompress(data, limit + 1)
        except zlib.error as error:
            raise Undecodable(f"damaged: {error}") from error
        if len(out) > limit:
            raise Undecodable(f"more than the {limit} bytes announced")
        if not stream.eof:
            raise Undecodable("cut off before its end")
        if stream.unused_data:
            raise Undecodable(f"{len(stream.unused_data)} bytes behind its end")
        return out


class ZlibConfig(CompressorConfig):
    """zlib from the standard library."""

    type: Literal["zlib"] = "zlib"
    level: int = Field(1, ge=1, le=9, description="1 is the fastest, 9 the smallest.")
    threshold: Size = Field(1024, description="Values smaller than this are stored as they are.")

    def build(self, context: Context) -> Compressor:
        """Return the compressor."""
        del context
        return ZlibCompressor(self.level, self.threshold)


@hookimpl
def tiercache_compressors() -> Iterable[type[CompressorConfig]]:
    """Return the compressor type of this module."""
    return [ZlibConfig]
