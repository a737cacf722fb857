import pytest

from tiercache.testing.codecs import CompressorSuite
from tiercache_plugins.compressors.zlib import ZlibConfig
from tiercache_plugins.compressors.zstd import ZstdConfig


class TestZstd(CompressorSuite):
    @pytest.fixture(params=[-5, 3, 19])
    def compressor(self, request):
        return ZstdConfig(level=request.param).build(None)


class TestZlib(CompressorSuite):
    @pytest.fixture(params=[1, 9])
    def compressor(self, request):
        return ZlibConfig(level=request.param).build(None)
