"""`invalidate` and `diff`."""

import io
import json

import pytest
from click.testing import CliRunner

from tiercache.cli import main

DOCUMENT = """
[tier.memory]
type = "memory"
[tier.disk]
type = "sqlite"
path = "cache.db"
[route.pages]
tiers = ["memory", "disk"]
keys = ["page:*"]
ttl = "1h"
[route.rest]
tiers = ["memory", "disk"]
default = true
ttl = "1h"
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiercache.toml").write_text(DOCUMENT)

    def call(*arguments, stdin=None):
        result = CliRunner().invoke(main, arguments, input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


def test_invalidate_asks_first(run):
    run("set", "a", "1", "--tag", "t")
    assert run("invalidate", "--tag", "t", stdin="n\n").exit_code == 1
    assert run("get", "a").exit_code == 0
    assert run("invalidate", "--tag", "t", stdin="y\n").exit_code == 0
    assert run("get", "a").exit_code == 1


def test_invalidate_drops_by_prefix_and_by_glob(run):
    for key in ("user:1", "user:2", "x"):
        run("set", key, "1")
    assert json.loads(run("invalidate", "--prefix", "user:", "--yes", "--json").stdout)["dropped"] is None
    assert run("get", "user:1").exit_code == 1
    assert run("invalidate", "--match", "?", "--yes").stdout == "1 dropped\n"


@pytest.mark.parametrize("arguments", [[], ["--match", "a*", "--tag", "t"], ["--prefix", ""]])
def test_invalidate_refuses_what_makes_no_sense(run, arguments):
    result = run("invalidate", "--yes", *arguments)
    assert result.exit_code == 2
    assert result.stderr.strip()


def changed(run, tmp_path, *replacements, arguments=()):
    new = DOCUMENT
    for old, text in replacements:
        assert old in new
        new = new.replace(old, text, 1)
    (tmp_path / "new.toml").write_text(new)
    return run("diff", "tiercache.toml", "new.toml", *arguments)


def test_diff_of_the_same_is_nothing(run, tmp_path):
    result = changed(run, tmp_path)
    assert (result.exit_code, result.stdout) == (0, "0 changes, 0 leave something that can't be reached\n")


def test_diff_tells_what_becomes_unreachable(run, tmp_path):
    result = changed(run, tmp_path, ('path = "cache.db"', 'path = "other.db"'))
    assert result.exit_code == 1
    assert (
        "tier.disk.path: cache.db → other.db (what is stored there can't be reached any more)"
        in result.stdout
    )
    assert "\n1 change, 1 leaves something that can't be reached\n" in result.stdout
    result = changed(run, tmp_path, ("[tier.memory]", '[cache]\nnamespace = "new"\n[tier.memory]'))
    assert "can't be reached any more" in result.stdout
    result = changed(run, tmp_path, ('["memory", "disk"]\nkeys', '["memory"]\nkeys'))
    assert 'route.pages.tiers: memory, disk → memory (what this route stored in "disk"' in result.stdout


def test_diff_tells_what_changes_harmlessly(run, tmp_path):
    told = changed(run, tmp_path, ('keys = ["page:*"]\nttl = "1h"', 'keys = ["page:*"]\nttl = "2h"'),
                   arguments=["--json"])  # fmt: skip
    found = json.loads(told.stdout)
    assert found["unreachable"] == 0
    (change,) = found["changes"]
    assert (change["path"], change["old"], change["new"], change["live"]) == (
        "route.pages.ttl",
        3600,
        7200,
        True,
    )


def test_diff_never_tells_a_secret(run, tmp_path, monkeypatch):
    old = '[tier.redis]\ntype = "redis"\nurl = "redis://:hunter2@a:1/0"\n[route.all]\ntiers = ["redis"]\n'
    (tmp_path / "tiercache.toml").write_text(old)
    (tmp_path / "new.toml").write_text(old.replace("hunter2", "hunter3"))
    result = run("diff", "tiercache.toml", "new.toml")
    assert "tier.redis.url" in result.stdout
    assert "hunter" not in result.stdout


def test_stats_are_watched_line_by_line_where_there_is_no_terminal(run):
    run("set", "a", "1")
    told = run("stats", "--watch", "--count", "3", "--every", "0.01").stdout.splitlines()
    assert len(told) == 3
    assert all("disk: closed 1 " in line for line in told)
    looks = run("stats", "--watch", "--count", "2", "--every", "0.01", "--json").stdout.splitlines()
    assert [json.loads(look)["tiers"]["disk"]["own"]["entries"] for look in looks] == [1, 1]


def test_the_table_of_a_terminal_has_a_row_a_tier(run):
    import asyncio

    from rich.console import Console

    from tiercache import Cache
    from tiercache.cli.stats import _table

    async def table():
        async with Cache.open("tiercache.toml") as cache:
            await cache.set("a", 1)
            taken = cache.stats()
            return _table(taken, taken)

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(asyncio.run(table()))
    text = console.export_text()
    assert "memory" in text
    assert "disk" in text
