"""The commands that look into a cache, over a real file."""

import json

import pytest
from click.testing import CliRunner

from tiercache.cli import main

DOCUMENT = """
[tier.memory]
type = "memory"

[tier.disk]
type = "sqlite"
path = "cache.sqlite3"

[route.dynamic]
tiers = ["memory", "disk"]
ttl = "1h"

[route.temporary]
tiers = ["memory"]
keys = ["tmp:*"]
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "tiercache.toml").write_text(DOCUMENT)
    monkeypatch.chdir(tmp_path)

    def call(*arguments, stdin=None):
        result = CliRunner().invoke(main, arguments, input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


def test_what_one_command_sets_another_gets(run):
    assert run("set", "user:1", "Ada").exit_code == 0
    result = run("get", "user:1")
    assert (result.exit_code, result.stdout) == (0, "Ada\n")
    assert json.loads(run("get", "user:1", "--json").stdout) == {
        "key": "user:1",
        "found": True,
        "value": "Ada",
    }


def test_a_value_may_be_json_or_come_from_standard_input(run):
    run("set", "a", '{"n": [1, null]}', "--parse", "--ttl", "2h", "--tag", "t")
    assert json.loads(run("get", "a", "--json").stdout)["value"] == {"n": [1, None]}
    run("set", "b", "-", stdin="from a pipe")
    assert run("get", "b").stdout == "from a pipe\n"
    assert run("set", "c", "{", "--parse").exit_code == 2


def test_a_value_that_json_can_not_carry_is_shown_as_python_writes_it(run, tmp_path):
    import asyncio

    from tiercache import Cache

    async def store():
        async with Cache.open(tmp_path / "tiercache.toml") as cache:
            await cache.set("k", (1, b"x"))

    asyncio.run(store())
    assert run("get", "k").stdout == "(1, b'x')\n"
    assert json.loads(run("get", "k", "--json").stdout) == {
        "key": "k",
        "found": True,
        "repr": "(1, b'x')",
        "type": "tuple",
    }


def test_what_is_absent_exits_with_one(run):
    result = run("get", "absent")
    assert (result.exit_code, result.stdout) == (1, "")
    assert json.loads(run("get", "absent", "--json").stdout) == {"key": "absent", "found": False}
    assert run("delete", "absent").exit_code == 1


def test_delete_tells_how_many_were_there(run):
    run("set", "a", "1")
    result = run("delete", "a", "b")
    assert (result.exit_code, result.stdout) == (0, "1 of 2 deleted\n")
    assert run("get", "a").exit_code == 1


def test_keys_lists_what_matches(run):
    for key in ("user:1", "user:2", "other"):
        run("set", key, "x")
    assert sorted(run("keys", "user:*").stdout.split()) == ["user:1", "user:2"]
    assert sorted(json.loads(run("keys", "--json").stdout)["keys"]) == ["other", "user:1", "user:2"]
    assert len(run("keys", "--limit", "2").stdout.split()) == 2


def test_stats_tells_what_the_tiers_hold(run):
    run("set", "a", "1")
    assert json.loads(run("stats", "--json").stdout)["tiers"]["disk"]["own"]["entries"] == 1
    assert "disk (far): entries 1" in run("stats").stdout


def test_a_value_that_ends_with_the_command_is_warned_about(run):
    assert "one process only" in run("set", "tmp:x", "1").stderr
    assert run("set", "x", "1").stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", ""],
        ["get", "k", "--route", "nowhere"], ["set", "k", "v", "--ttl", "soon"], ["keys", "[a"], ["gett", "k"],
        ["get", "k", "--config", "missing.toml"], ["get"], ["keys", "--limit", "0"],
    ],
)  # fmt: skip
def test_wrong_usage_exits_with_two_and_a_sentence(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr
