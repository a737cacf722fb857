"""The reference says what is there: no more, no less."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import tiercache
from tiercache import TiercacheError
from tiercache.config.registry import HOOKS, Registry
from tiercache.config.schema import builtin
from tiercache.config.tables import CacheTable, PluginsTable, RouteTable, TelemetryTable, options
from tiercache.contracts import KINDS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
GENERATE = REFERENCE / "generate.py"
PAGES = dict(
    zip(KINDS, ("tiers", "serializers", "compressors", "policies", "patterns", "buses"), strict=True)
)
TABLES = {"cache": CacheTable, "plugins": PluginsTable, "telemetry": TelemetryTable, "route": RouteTable}


def text(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


def section(name: str, heading: str) -> str:
    return re.split(r"^## ", text(name).partition(f"\n## {heading}\n")[2], flags=re.MULTILINE)[0]


def test_generated_parts_are_current():
    result = subprocess.run(
        [sys.executable, GENERATE, "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_an_old_page_is_noticed_and_written_anew(tmp_path):
    page = tmp_path / "policies.md"
    copy = tmp_path / "generate.py"
    copy.write_text(GENERATE.read_text())
    page.write_text(text("policies").replace("Evicts", "Keeps"))
    for arguments, code in (["--check"], 1), ([], 0), (["--check"], 0):
        assert (
            subprocess.run([sys.executable, copy, *arguments], capture_output=True, check=False).returncode
            == code
        )
    assert page.read_text() == text("policies")


@pytest.mark.parametrize(
    "offer", builtin(Registry.load()).offers, ids=lambda offer: f"{offer.kind}-{offer.type}"
)
def test_every_type_is_documented_with_its_options(offer):
    told = section(PAGES[offer.kind], offer.type)
    assert told
    for name in set(options(offer.config)) - {"type"}:
        assert f"| `{name}` |" in told


@pytest.mark.parametrize("table", TABLES)
def test_every_option_of_the_tables_is_documented(table):
    for name in options(TABLES[table]):
        assert f"| `{name}` |" in section("toml", table)


def test_every_hook_is_documented():
    for hook in HOOKS.values():
        assert f"| `{hook}` |" in text("contracts")


def test_every_method_of_the_cache_is_documented():
    for name, member in inspect.getmembers(tiercache.Cache):
        if not name.startswith("_") and callable(member):
            assert f"### {name}\n" in text("python")


def test_every_error_is_documented():
    for name in tiercache.__all__:
        thing = getattr(tiercache, name)
        if inspect.isclass(thing) and issubclass(thing, TiercacheError):
            assert re.search(rf"\b{name}\b", text("errors"))


def test_the_public_names_of_plugins_are_documented():
    protocols = [
        name for name in tiercache.__all__ if getattr(getattr(tiercache, name), "_is_protocol", False)
    ]
    for name in set(protocols) - {
        "AsyncCached",
        "CheckContext",
        "Context",
        "Decorator",
        "Finder",
        "SyncCached",
    }:
        assert f"### {name}\n" in text("contracts"), name


def test_the_plugins_that_ship_are_installed():
    shipped = {
        point.name for point in entry_points(group="tiercache") if point.dist.name == "tiercache-kernel"
    }
    assert {offer.plugin for offer in builtin(Registry.load()).offers} == shipped


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/how-to/add-redis.md"])
def test_the_rights_that_pages_ask_for_are_those_that_are_tested(page):
    tests = (ROOT / "tests/plugins/test_redis.py").read_text()
    tested = re.search(r'^ACL = \(\n +"on (.+)"\n +"(.+)"', tests, re.MULTILINE)
    assert (tested[1] + tested[2]).replace("app:", "shop:") in (ROOT / page).read_text()


def test_pictures_are_there_and_small_and_each_is_shown():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    shown = {
        (page.parent / target).resolve()
        for page in pages
        for target in re.findall(r"\]\(([^)\s]+\.(?:png|svg))\)", page.read_text())
    }
    assert [str(path) for path in shown if not path.is_file()] == []
    pictures = {path.resolve() for path in (ROOT / "docs/images").iterdir()}
    assert pictures <= shown
    assert {path.name: path.stat().st_size for path in pictures if path.stat().st_size > 200_000} == {}
