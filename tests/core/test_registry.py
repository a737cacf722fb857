from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Literal

import pytest

from fake_stages import Disk, Memory, Stages
from tiercache import CompressorConfig, NearTierConfig, PluginError, TierConfig, hookimpl
from tiercache.config.registry import Registry


class Named:
    """A distribution, as far as entry points look at it."""

    version = "1.0"

    def __init__(self, name: str) -> None:
        self.name = name


class Point(EntryPoint):
    """An entry point that gives what the test says."""

    def __init__(self, name: str, plugin: object, distribution: str) -> None:
        super().__init__(name, f"{name}_module", "tiercache")
        vars(self).update(dist=Named(distribution), plugin=plugin)

    def load(self) -> object:
        if isinstance(self.plugin, Exception):
            raise self.plugin
        return self.plugin


def providing(*classes: object) -> object:
    class Plugin:
        @hookimpl
        def tiercache_tiers(self):
            return classes

    return Plugin()


def test_types_come_from_hooks_with_the_plugin_that_provides_them() -> None:
    registry = Registry.load(points=[Point("stages", Stages(), "shop")])
    assert registry.types("tier") == ("memory", "redis", "sqlite")
    assert registry.get("tier", "memory") is Memory
    assert registry.get("tier", "nosuch") is None
    assert registry.get("policy", "memory") is None
    assert registry.provider("tier", "sqlite") == "stages"
    assert registry.distributions["stages"] == "shop 1.0"
    with pytest.raises(KeyError):
        registry.provider("bus", "sqlite")


def test_two_plugins_of_one_name_are_an_error_that_names_both_distributions() -> None:
    with pytest.raises(PluginError, match=r'called "x": one of shop 1\.0, one of store 1\.0'):
        Registry.load(points=[Point("x", Stages(), "shop"), Point("x", Stages(), "store")])


def test_a_broken_plugin_is_kept_aside_and_stops_nobody() -> None:
    registry = Registry.load(
        points=[
            Point("bad", ImportError("no such driver"), "shop"),
            Point("worse", SystemError("?"), "shop"),
            Point("stages", Stages(), "store"),
        ]
    )
    assert set(registry.broken) == {"bad", "worse"}
    assert "memory" in registry.types("tier")


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (providing(int), "a subclass of NearTierConfig or FarTierConfig is accepted"),
        (providing("memory"), "a subclass of"),
        (providing(type("Loose", (TierConfig,), {})), "a subclass of"),
        (providing(type("Untyped", (NearTierConfig,), {})), "Untyped has no type"),
        (providing(Memory, type("Twin", (Memory,), {})), 'the type "memory" twice'),
        (providing(None), "a subclass of"),
    ],
)
def test_a_plugin_that_returns_something_else_is_broken(plugin: object, reason: str) -> None:
    registry = Registry.of({"odd": plugin, "stages": Stages()})
    assert reason in str(registry.broken["odd"])
    assert registry.types("tier") == ("memory", "redis", "sqlite")


def test_a_hook_that_does_not_exist_makes_a_plugin_broken() -> None:
    class Misspelt:
        @hookimpl
        def tiercache_tires(self):
            return []

    assert "tiercache_tires" in str(Registry.of({"odd": Misspelt()}).broken["odd"])


def test_no_compressor_may_be_called_none() -> None:
    class Nothing(CompressorConfig):
        type: Literal["none"] = "none"

    class Plugin:
        @hookimpl
        def tiercache_compressors(self):
            return [Nothing]

    assert 'the type "none", which means no compressor' in str(Registry.of({"odd": Plugin()}).broken["odd"])


def test_a_type_that_two_plugins_provide_is_an_error_where_it_is_asked_for() -> None:
    registry = Registry.of({"a": providing(Memory), "b": providing(Memory, Disk)})
    assert registry.get("tier", "sqlite") is Disk
    with pytest.raises(PluginError, match='tier type "memory" is provided by the plugins "a" and "b"'):
        registry.get("tier", "memory")
    assert [[offer.plugin for offer in offers] for offers in registry.conflicts()] == [["a", "b"]]
    assert registry.without(["b"]).get("tier", "memory") is Memory


def test_a_disabled_plugin_is_not_imported() -> None:
    registry = Registry.load(["bad"], [Point("bad", AssertionError("imported"), "shop")])
    assert not registry.broken
    assert registry.disabled == {"bad"}
    assert registry.plugins == ("bad",)


def test_leaving_out_a_plugin_later_is_the_same_as_never_loading_it() -> None:
    points = [Point("stages", Stages(), "shop"), Point("bad", ImportError("x"), "shop")]
    assert Registry.load(points=points).without(["stages", "bad", "nosuch"]) == Registry.load(
        ["stages", "bad"], points
    )


def test_loading_imports_no_driver() -> None:
    code = """
        import sys
        from tiercache.config.registry import Registry
        registry = Registry.load()
        drivers = ["redis", "aiosqlite", "zstandard", "ormsgpack", "opentelemetry.sdk"]
        print([name for name in drivers if name in sys.modules], dict(registry.broken), len(registry.offers))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path.cwd(),
    )
    drivers, _, rest = ran.stdout.partition("] ")
    assert drivers == "["
    assert rest.startswith("{} ")
    assert int(rest.split()[-1]) >= 16
