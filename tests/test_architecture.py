"""What holds the house together: who may import whom, what is public, what is loaded when."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator, MutableMapping, MutableSequence, MutableSet
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import tiercache
import tiercache_plugins

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "tiercache"
PLUGINS = ROOT / "plugins" / "tiercache_plugins"
SOURCES = sorted([*CORE.rglob("*.py"), *PLUGINS.rglob("*.py")])
OPEN_TO_PLUGINS = {
    "tiercache", "tiercache.frame", "tiercache.units", "tiercache.errors", "tiercache.entry",
    "tiercache.keys", "tiercache.clock", "tiercache.testing",
}  # fmt: skip
# The connection to a file is of Python's own library.
SQLITE = "tiercache_plugins.tiers.sqlite.link"
DRIVERS = ("redis", SQLITE, "zstandard", "ormsgpack", "opentelemetry.sdk")
LONGEST = 350
CHANGEABLE = (MutableMapping, MutableSequence, MutableSet, ContextVar)

LONG_MODULES = {
    "core/tiercache/testing/tiers/suite.py": "a suite to inherit from is one class, wanted whole",
}

# Module-level state that can change. Everything else would be shared by two caches of one process.
STATEFUL = {
    "tiercache.clock._TICKERS": "tickers to stop in the child of a fork, held weakly",
    "tiercache.cache.forks._STARTED": "likewise, caches that belong to the parent of a fork",
    "tiercache.sync._FACES": "likewise, faces whose threads a fork leaves behind",
    "tiercache.keys.glob": "compiled patterns, a pure function of their text",
    "tiercache.engine.waits._PLACE": "which load the current task is part of; a context variable",
    "tiercache.engine.telemetry._TELLING": "caches to read at a collection, held weakly: a provider has each "
    "instrument once, and the first cache's must speak for all",
    "tiercache.engine.telemetry.tracing.ORIGINS": "whose calls a batch carries; a context variable",
}
# Tables of constants that are dicts because what reads them wants a dict.
CONSTANT_TABLES = {
    "tiercache.cli._COMMANDS",
    "tiercache.config.schema._KINDS",
    "tiercache.config.secrecy._MODELS",
    "tiercache.decorators.template._SAMPLES",
    "tiercache.units.BYTES",
    "tiercache.units.SECONDS",
    "tiercache_plugins.serializers.msgpack.rewrite._GROUPS",
}


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each module that *path* imports, anywhere in it, with the names taken from it."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{short(path)}:{node.lineno} imports relatively"
            yield str(node.module), tuple(alias.name for alias in node.names)


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def modules() -> Iterator[Any]:
    for package in (tiercache, tiercache_plugins):
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def python(code: str) -> str:
    """Run *code* in an interpreter of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_after(code: str, *names: str) -> set[str]:
    return set(python(f"{code}\nimport sys\nprint(*(set({names!r}) & set(sys.modules)))").split())


# Imports


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=short)
def test_core_imports_no_plugin(path):
    assert [module for module, _ in imports(path) if within(module, "tiercache_plugins")] == []


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=short)
def test_plugins_import_public_names_alone(path):
    for module, names in imports(path):
        if not within(module, "tiercache"):
            continue
        assert module in OPEN_TO_PLUGINS, f"{module} is not public"
        assert names, f"import {module} whole; name what is taken from it"
        public = (
            set(tiercache.__all__) if module == "tiercache" else set(dir(importlib.import_module(module)))
        )
        assert {name for name in names if name.startswith("_")} == set()
        assert set(names) <= public, f"{module} does not offer {set(names) - public}"


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=short)
def test_inside_core_imports_go_down(path):
    """The ground floor carries the engine, the engine the configuration, and that the cache."""
    above = {
        "engine": (
            "tiercache.config",
            "tiercache.cache",
            "tiercache.cli",
            "tiercache.dashboard",
            "tiercache.testing",
        ),
        "config": ("tiercache.cache", "tiercache.cli", "tiercache.dashboard", "tiercache.testing"),
        "cache": ("tiercache.cli", "tiercache.dashboard", "tiercache.testing"),
        "sync": ("tiercache.cli", "tiercache.dashboard", "tiercache.testing"),
        "decorators.py": ("tiercache.cli", "tiercache.dashboard", "tiercache.testing"),
        "testing": ("tiercache.cli", "tiercache.dashboard"),
        "dashboard": ("tiercache.cli", "tiercache.config", "tiercache.testing"),
        "cli": (),
    }
    floor = path.relative_to(CORE).parts[0]
    forbidden = above.get(floor, ("tiercache.engine", *above["engine"]))
    if path == CORE / "__init__.py":
        forbidden = ("tiercache.config", "tiercache.cli", "tiercache.dashboard", "tiercache.testing")
    assert [module for module, _ in imports(path) if within(module, *forbidden)] == []


# The public face


def test_every_public_name_is_there_once_and_in_order():
    assert len(set(tiercache.__all__)) == len(tiercache.__all__)
    # As ruff sorts: constants, then classes, then the rest.
    groups = [(not name.isupper(), not name[0].isupper(), name) for name in tiercache.__all__]
    assert groups == sorted(groups)
    assert [name for name in tiercache.__all__ if not hasattr(tiercache, name)] == []


def test_every_public_name_says_what_it_is():
    for name in tiercache.__all__:
        value = getattr(tiercache, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__doc__ or "").strip(), f"{name} has no docstring"
            assert not (value.__doc__ or "").startswith(f"{name}("), f"{name} has none of its own"
        else:
            assert _documented(name), f"{name} has no docstring below it"


def _documented(name: str) -> bool:
    """Whether a string stands under the assignment of *name*, wherever the ground floor makes it."""
    for path in [*CORE.glob("*.py"), *(CORE / "contracts").glob("*.py")]:
        body = parsed(path).body
        for node, after in pairwise(body):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    return name == "NEVER"


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_everything_public_has_a_docstring(path):
    tree = parsed(path)
    if not path.read_text().strip():
        return
    assert ast.get_docstring(tree), f"{short(path)} has none"
    if within(
        ".".join(path.relative_to(ROOT / "core").parts) if path.is_relative_to(CORE) else "",
        "tiercache.testing",
    ):
        return  # The names of tests are sentences already.
    assert list(_undocumented(tree)) == []


def _undocumented(node: ast.AST) -> Iterator[str]:
    for child in getattr(node, "body", ()):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if child.name.startswith("_"):
                continue
            if not ast.get_docstring(child) and not _overloaded(child):
                yield f"{child.name}, line {child.lineno}"
            if isinstance(child, ast.ClassDef):
                yield from _undocumented(child)


def _overloaded(node: ast.AST) -> bool:
    return any("overload" in ast.unparse(decorator) for decorator in getattr(node, "decorator_list", ()))


# State and size


def test_no_module_holds_state_that_can_change():
    found = set()
    for module in modules():
        if within(module.__name__, "tiercache.testing"):
            continue
        for name in made_in(Path(module.__file__)) - {"__all__"}:
            value = getattr(module, name, None)
            if isinstance(value, CHANGEABLE) or hasattr(value, "cache_clear"):
                found.add(f"{module.__name__}.{name}")
    # Whoever adds one says why in the list above; whoever takes one away takes it off the list.
    assert found - CONSTANT_TABLES - set(STATEFUL) == set()
    assert {name for name in CONSTANT_TABLES | set(STATEFUL) if _gone(name)} == set()


def made_in(path: Path) -> set[str]:
    """Return the names that the module itself makes, not those that it imports."""
    made = set()
    for node in parsed(path).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            made.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            made |= {
                found.id for target in targets for found in ast.walk(target) if isinstance(found, ast.Name)
            }
    return made


def _gone(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    return find_spec(module) is not None and not hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_nothing_rebinds_a_global(path):
    assert [node.names for node in ast.walk(parsed(path)) if isinstance(node, ast.Global)] == []


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_no_class_attribute_is_shared_and_mutable(path):
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.ClassDef):
            continue
        for statement in node.body:
            value = getattr(statement, "value", None)
            # An annotated default is a field's, which pydantic copies.
            if isinstance(statement, ast.Assign) or "ClassVar" in ast.unparse(statement):
                assert not isinstance(value, (ast.Dict, ast.List, ast.Set)), f"{node.name}:{statement.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_modules_are_short_enough_to_be_read(path):
    length = len(path.read_text().splitlines())
    assert length <= LONGEST or short(path) in LONG_MODULES, f"{length} lines; make it a folder of its name"


# What is loaded when


def test_importing_tiercache_loads_no_driver_and_nothing_cold():
    cold = ("pydantic_settings", "rich", "click", "tiercache.config", "tiercache.cli", "tiercache.dashboard",
            "tiercache_plugins")  # fmt: skip
    assert loaded_after("import tiercache", *cold, *DRIVERS) == set()


def test_loading_the_registry_loads_no_driver():
    code = "from tiercache.config.registry import Registry\nassert not Registry.load().broken"
    assert loaded_after(code, *DRIVERS) == set()


@pytest.mark.parametrize(
    ("tiers", "expected"),
    [
        ({"memory": {"type": "memory"}}, set()),
        ({"memory": {"type": "memory"}, "disk": {"type": "sqlite", "serializer": "raw"}}, {SQLITE}),
        ({"disk": {"type": "sqlite"}}, {SQLITE, "ormsgpack"}),
        (
            {"disk": {"type": "sqlite", "serializer": "json", "compressor": "zstd"}},
            {SQLITE, "zstandard"},
        ),
        ({"far": {"type": "redis", "url": "redis://127.0.0.1:9", "serializer": "raw"}}, {"redis"}),
    ],
    ids=["memory", "memory and disk", "disk", "disk with zstd", "redis"],
)
def test_starting_a_cache_loads_the_drivers_that_its_routes_use(tmp_path, tiers, expected):
    if "disk" in tiers:
        tiers = {**tiers, "disk": {**tiers["disk"], "path": str(tmp_path / "cache.db")}}
    code = f"""
import asyncio, logging, tiercache
logging.disable()
async def main():
    async with tiercache.Cache.open({{"tier": {tiers}, "route": {{"all": {{"tiers": {list(tiers)}}}}}}}):
        pass
asyncio.run(main())
"""
    found = loaded_after(code, *DRIVERS)
    # redis-py imports the SDK by itself, where that is installed.
    assert found - ({"opentelemetry.sdk"} if "far" in tiers else set()) == expected


def test_a_stage_that_no_route_uses_loads_nothing():
    code = """
import tiercache
tiers = {"memory": {"type": "memory"}, "far": {"type": "redis"}, "disk": {"type": "sqlite"}}
tiercache.Cache.open({"tier": tiers, "route": {"all": {"tiers": ["memory"]}}})
"""
    assert loaded_after(code, *DRIVERS) == set()


# Words that must not be in here


def checked_out() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        names = [short(path) for path in SOURCES]
    else:
        names = done.stdout.decode().split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


def test_nothing_names_a_registry_or_a_place_of_one_machine():
    hosts = ("py" + "pi.org", "python" + "hosted.org", "registry." + "npmjs", "anaconda" + ".org")
    places = ("/ho" + "me/", "/ro" + "ot/", "/wo" + "rk/", "/Us" + "ers/")
    pattern = re.compile(rb"(?<![\w.])(" + b"|".join(re.escape(word.encode()) for word in places) + rb")\w")
    registry = re.compile(b"|".join(re.escape(word.encode()) for word in hosts))
    found = []
    for path in checked_out():
        content = path.read_bytes()
        if b"\0" in content[:8192]:
            continue
        for number, line in enumerate(content.splitlines(), 1):
            if pattern.search(line) or registry.search(line):
                found.append(f"{short(path)}:{number}: {line[:100]!r}")
    assert found == []


def test_errors_derive_from_one():
    errors = [
        value for name in tiercache.__all__
        if inspect.isclass(value := getattr(tiercache, name)) and issubclass(value, BaseException)
    ]  # fmt: skip
    assert errors
    assert [error for error in errors if not issubclass(error, tiercache.TiercacheError)] == []


def test_slots_leave_no_dictionary_on_what_there_are_many_of():
    for kind in (tiercache.Entry, tiercache.Terms, tiercache.Clock):
        assert not hasattr(kind, "__dict__") or "__dict__" not in kind.__dict__, kind
    assert isinstance(tiercache.MISSING, enum.Enum)
