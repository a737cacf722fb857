"""What all serializer and compressor plugins have in common."""

import subprocess
import sys
from importlib import import_module

import pytest

from tiercache import CompressorConfig, SerializerConfig

KINDS = {
    "serializers": (SerializerConfig, ("msgpack", "json", "raw", "pickle")),
    "compressors": (CompressorConfig, ("zstd", "zlib")),
}
PLUGINS = [(kind, base, name) for kind, (base, names) in KINDS.items() for name in names]


@pytest.mark.parametrize(("kind", "base", "name"), PLUGINS)
def test_each_module_gives_its_one_type_to_the_hook_of_its_kind(kind, base, name):
    module = import_module(f"tiercache_plugins.{kind}.{name}")
    [config] = getattr(module, f"tiercache_{kind}")()
    assert issubclass(config, base)
    assert config.type_name() == name
    for option, field in config.model_fields.items():
        assert option == "type" or field.description


def test_only_safe_serializers_are_read_where_none_is_declared():
    read = {
        name
        for name in KINDS["serializers"][1]
        if import_module(f"tiercache_plugins.serializers.{name}").tiercache_serializers()[0].reads_undeclared
    }
    assert read == {"msgpack", "json", "raw"}


def test_no_driver_is_imported_before_a_stage_is_built():
    program = (
        "import sys\n"
        + "".join(f"import tiercache_plugins.{kind}.{name}\n" for kind, _, name in PLUGINS)
        + "print([name for name in ('ormsgpack', 'zstandard') if name in sys.modules])\n"
        "tiercache_plugins.serializers.msgpack.MsgpackConfig().build(None)\n"
        "tiercache_plugins.compressors.zstd.ZstdConfig().build(None)\n"
        "print([name for name in ('ormsgpack', 'zstandard') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['ormsgpack', 'zstandard']"]
