"""Values to frames and back: today's serializer and compressor on the way out, whatever the header names on
the way in.
"""

from tiercache.engine.codec.decoding import Decoder
from tiercache.engine.codec.encoding import Codec, tombstone

__all__ = ["Codec", "Decoder", "tombstone"]
