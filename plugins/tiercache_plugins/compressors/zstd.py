"""Zstandard: the one to take where nothing speaks against it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tiercache import Compressor, CompressorConfig, Context, Size, Undecodable, hookimpl

if TYPE_CHECKING:
    import zstandard


class ZstdCompressor:
    """Frames with content size and checksum."""

    def __init__(self, level: int, threshold: int) -> None:
        # Here, not above: the driver is imported only where a stage needs it.
        import zstandard

        self.threshold = threshold
        """Bytes below which the kernel does not try."""
        self._contexts = _Contexts(zstandard, level)
        self._content_size = zstandard.frame_content_size
        self._error = zstandard.ZstdError

    def compress(self, data: bytes) -> bytes:
        """Return *data* compressed."""
        return self._contexts.compress(data)

    def decompress(self, data: bytes, limit: int) -> bytes:
        """Return what was compressed. Raises Undecodable for damage, for anything behind the end, and for
        more than *limit* bytes, which the header tells before anything is expanded.
        """
        try:
            size = self._content_size(data)
            if 0 <= size <= limit:
                return self._contexts.decompress(data, allow_extra_data=False)
        except self._error as error:
            raise Undecodable(f"damaged: {error}") from error
        if size < 0:
            raise Undecodable("it does not tell its size, as this compressor always does")
        raise Undecodable(f"{size} bytes where {limit} were announced")


class _Contexts(threading.local):
    """Compression objects of one thread: making them costs more than using them, and sharing them crashes."""

    def __init__(self, driver: Any, level: int) -> None:
        compressor: zstandard.ZstdCompressor = driver.ZstdCompressor(level=level, write_checksum=True)
        decompressor: zstandard.ZstdDecompressor = driver.ZstdDecompressor()
        self.compress = compressor.compress
        self.decompress = decompressor.decompress


class ZstdConfig(CompressorConfig):
    """Zstandard by the package zstandard."""

    type: Literal["zstd"] = "zstd"
    level: int = Field(3, ge=-50, le=22, description="22 is the smallest; less than 1 is ever faster.")
    threshold: Size = Field(1024, description="Values smaller than this are stored as they are.")

    def build(self, context: Context) -> Compressor:
        """Return the compressor."""
        del context
        return ZstdCompressor(self.level, self.threshold)


@hookimpl
def tiercache_compressors() -> Iterable[type[CompressorConfig]]:
    """Return the compressor type of this module."""
    return [ZstdConfig]
