"""Somebody else's distribution, installed for real beside the built wheel, and used by TOML alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SHELF = HERE / "tiercache_shelf"

SITE = "import tiercache; print(tiercache.__path__[0] + '/..')"

PIPELINE = """
[cache]
namespace = "library"

[tier.memory]
type = "memory"
max_entries = 20
policy = "dice"

[tier.shelf]
type = "shelf"
directory = "books"
serializer = "bencode"
compressor = "gzip"

[policy.dice]
type = "dice"
seed = 7

[compressor.gzip]
type = "gzip"
threshold = 100

[route.all]
tiers = ["memory", "shelf"]
ttl = "1h"
"""

WRITES = """
import asyncio, json
from tiercache import Cache, TiercacheError

async def main():
    async with Cache.open() as cache:
        for number in range(50):
            await cache.set(f"page:{number}", {"number": number, "text": "abc" * 100}, tags=["pages"])
        await cache.set("none", None, ttl="never")
        try:
            await cache.set("refused", (1, 2))
        except TiercacheError as error:
            refused = str(error)
        print(json.dumps({
            "refused": refused,
            "added": [await cache.add("one", 1), await cache.add("one", 2)],
            "count": [await cache.increment("count"), await cache.increment("count", 4)],
            "touched": [await cache.touch("count", ttl=9), await cache.touch("nobody", ttl=9)],
            "keys": len([key async for key in cache.keys("page:*")]),
            "stats": cache.stats().as_dict(),
        }))

asyncio.run(main())
"""

READS = """
import asyncio, json, sys
from tiercache import Cache

async def main():
    async with Cache.open() as cache:
        pages = await cache.get_many([f"page:{number}" for number in range(50)])
        found = {
            "pages": [page["number"] for page in pages.values()],
            "none": await cache.get("none", "absent"),
            "count": await cache.get("count"),
            "ttl": [await cache.ttl(key) for key in ("page:1", "count", "one")],
            "stats": cache.stats().as_dict(),
        }
        await cache.clear()
        found["left"] = [key async for key in cache.keys()]
        print(json.dumps(found))

asyncio.run(main())
"""


class Place:
    """A clean environment with both distributions, and nothing of this checkout on its path."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.wheels = directory / "wheels"
        self.environment = directory / "venv"
        bin_ = "Scripts" if os.name == "nt" else "bin"
        self.bin = self.environment / bin_
        # Only what a shell would have: no path of the checkout, no setting of this run.
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "TIERCACHE", "PYTEST", "VIRTUAL_ENV", "COV"))
        }

    def make(self) -> Place:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        self.call(*pip, "wheel", "--no-deps", "--wheel-dir", str(self.wheels), str(ROOT), str(SHELF))
        self.call(sys.executable, "-m", "venv", "--without-pip", str(self.environment))
        built = [str(wheel) for wheel in self.wheels.glob("*.whl")]
        python = str(self.bin / "python")
        self.call(
            *pip, "--python", python, "install", "--no-compile", *built, "pytest>=8", "hypothesis>=6.100"
        )
        return self

    def call(self, *command: str, status: int = 0, cwd: Path | None = None, patience: float = 180) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd or self.directory, env=self.environ,
            timeout=patience, check=False,
        )  # fmt: skip
        said = f"{done.stdout}{done.stderr}"
        assert done.returncode == status, f"{command[:6]} ended with {done.returncode}:\n{said}"
        return said if status else done.stdout

    def python(self, code: str, cwd: Path) -> dict:
        return json.loads(self.call(str(self.bin / "python"), "-c", code, cwd=cwd))

    def tiercache(self, *arguments: str, cwd: Path, status: int = 0) -> str:
        return self.call(str(self.bin / "tiercache"), *arguments, cwd=cwd, status=status)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("third-party")).make()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "tiercache.toml").write_text(PIPELINE)
    return tmp_path


def test_the_wheel_holds_both_packages_and_nothing_else(place):
    (wheel,) = place.wheels.glob("tiercache_kernel-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "tiercache",
        "tiercache_plugins",
    }
    assert {"tiercache/py.typed", "tiercache_plugins/py.typed"} <= set(names)
    shipped = {
        path.relative_to(root).as_posix()
        for root in (ROOT / "core", ROOT / "plugins")
        for path in root.rglob("*.py")
    }
    assert shipped <= set(names)


def test_its_stages_are_used_by_toml(place, project):
    wrote = place.python(WRITES, project)
    assert "tuple" in wrote["refused"]
    assert wrote["added"] == [True, False]
    assert wrote["count"] == [1, 5]
    assert wrote["touched"] == [True, False]
    assert wrote["keys"] == 50
    assert wrote["stats"]["tiers"]["memory"]["own"]["entries"] <= 20
    assert wrote["stats"]["tiers"]["memory"]["own"]["evicted"] >= 30
    assert wrote["stats"]["tiers"]["shelf"]["errors"] == 0
    assert wrote["stats"]["tiers"]["shelf"]["own"]["written"] >= 52

    books = sorted((project / "books").glob("*.entry"))
    assert len(books) == 53
    assert sum(b"bencodegzip" in book.read_bytes() for book in books) == 50

    read = place.python(READS, project)
    assert read["pages"] == list(range(50))
    assert read["none"] is None
    assert read["count"] == 5
    day, touched, one = read["ttl"]
    assert 3500 < day <= 3600
    assert 0 < touched <= 9
    assert 3500 < one <= 3600
    assert read["stats"]["tiers"]["shelf"]["hits"] >= 52
    assert read["left"] == []
    assert not list((project / "books").glob("*.entry"))


def test_the_command_line_knows_its_stages(place, project):
    assert place.tiercache("check", cwd=project)
    listed = place.tiercache("plugins", "--json", cwd=project)
    for name in ("shelf", "dice", "bencode", "gzip", "tiercache-shelf"):
        assert name in listed
    schema = place.tiercache("schema", cwd=project)
    assert "Where the files are, from the directory of the configuration." in schema


def test_a_mistake_in_its_options_is_told_with_its_place(place, project):
    (project / "tiercache.toml").write_text(
        PIPELINE.replace("directory =", "directry =").replace("seed = 7", 'seed = "x"')
    )
    said = place.tiercache("check", cwd=project, status=2)
    assert "tiercache.toml:12:1" in said
    assert 'did you mean "directory"' in said
    assert "policy.dice.seed" in said


def test_its_stages_pass_the_suites_of_the_kernel(place, tmp_path):
    copied = tmp_path / "shelf"
    shutil.copytree(SHELF, copied)
    shutil.rmtree(copied / "src")
    said = place.call(
        str(place.bin / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(copied),
        str(copied / "tests"), cwd=copied,
    )  # fmt: skip
    assert "failed" not in said
    assert int(said.rsplit(" passed", 1)[0].rsplit(maxsplit=1)[-1]) > 50


def test_a_broken_plugin_that_nobody_uses_stops_nothing(place, project):
    site = Path(place.call(str(place.bin / "python"), "-c", SITE).strip())
    assert site.is_relative_to(place.environment)
    info = site / "tiercache_broken-1.0.dist-info"
    info.mkdir()
    try:
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiercache-broken\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[tiercache]\nbroken = tiercache_broken_and_not_there\n")
        assert place.tiercache("check", cwd=project)
        assert "broken" in place.tiercache("plugins", cwd=project)
    finally:
        shutil.rmtree(info)
