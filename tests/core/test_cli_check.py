from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tiercache import InvalidKey
from tiercache.cli import main
from tiercache.cli.init import template

ROOT = Path(__file__).parents[2]
BROKEN = """\
[tier.memory]
type = "memory"
max_entrys = 5
[tier.x]
type = "memry"
[route.a]
tiers = ["memory"]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("TIERCACHE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_a_right_configuration_is_ok() -> None:
    ran = run("check", str(ROOT / "tiercache.toml"))
    assert (ran.exit_code, ran.output) == (0, "ok: 4 routes over 2 tiers, 0 warnings\n")


def test_every_problem_is_printed_where_it_is(folder: Path) -> None:
    (folder / "tiercache.toml").write_text(BROKEN)
    ran = run("check")
    assert ran.exit_code == 2
    assert (
        'tiercache.toml:3:1: tier.memory.max_entrys: unknown option; did you mean "max_entries"?'
        in ran.stdout
    )
    assert " 3 | max_entrys = 5\n   | ^^^^^^^^^^\n" in ran.stdout
    assert "tiercache.toml:5:1: tier.x.type: " in ran.stdout
    assert ran.stderr == "2 problems\n"


def test_problems_as_json_carry_line_and_column(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "my.toml").write_text(BROKEN)
    monkeypatch.setenv("TIERCACHE_TYPO", "1")
    ran = run("check", "my.toml", "--json")
    assert ran.exit_code == 2
    found = json.loads(ran.stdout)
    assert not found["ok"]
    assert [problem["where"] for problem in found["problems"]] == [
        "my.toml:3:1", "my.toml:5:1", "environment TIERCACHE_TYPO",
    ]  # fmt: skip
    assert {"file": "my.toml", "line": 3, "column": 1}.items() <= found["problems"][0].items()


def test_a_warning_is_told_and_is_no_failure(folder: Path) -> None:
    (folder / "a.toml").write_text('[tier.x]\ntype = "memory"\n[route.a]\ntiers = ["memory"]\n')
    ran = run("check", "a.toml")
    assert ran.exit_code == 0
    assert ran.stdout.startswith("a.toml:1:7: warning: tier.x: is declared and never used\n 1 | [tier.x]\n")
    assert json.loads(run("check", "a.toml", "--json").stdout)["warnings"][0]["path"] == "tier.x"


@pytest.mark.parametrize("arguments", [("check",), ("check", "nosuch.toml"), ("check", ".")])
def test_a_configuration_that_is_not_there_is_a_problem(arguments: Sequence[str]) -> None:
    ran = run(*arguments)
    assert ran.exit_code == 2
    assert ran.stdout


def test_no_secret_is_printed(folder: Path) -> None:
    (folder / "tiercache.toml").write_text(
        '[tier.r]\ntype = "redis"\nurl = "redis://:hunter2@h"\npasswrd = "hunter3"\n'
        '[route.a]\ntiers = ["r"]\n'
    )
    ran = run("check")
    assert ran.exit_code == 2
    assert "passwrd" in ran.output
    assert "hunter" not in ran.output


def test_plugins_lists_every_type_with_its_options() -> None:
    ran = run("plugins")
    assert ran.exit_code == 0
    head, *rows = ran.stdout.splitlines()
    assert head.split() == ["kind", "type", "plugin", "distribution", "options"]
    (memory,) = [row for row in rows if row.split()[:3] == ["tier", "memory", "memory"]]
    assert "tiercache-kernel" in memory
    assert "max_entries, max_bytes, policy" in memory


def test_plugins_as_json_describes_options() -> None:
    found = json.loads(run("plugins", "--json").stdout)
    assert (found["broken"], found["conflicts"]) == ({}, [])
    (zstd,) = [one for one in found["types"] if one["type"] == "zstd"]
    assert zstd["kind"] == "compressor"
    assert zstd["distribution"].startswith("tiercache-kernel ")
    assert {"level", "threshold"} == {option["name"] for option in zstd["options"]}
    assert all(option["description"] for option in zstd["options"])


def test_plugins_tells_of_broken_ones_and_of_conflicts(monkeypatch: pytest.MonkeyPatch) -> None:
    from fake_stages import Stages
    from tiercache.config.registry import Registry

    class Broken:
        pass

    twice = Registry.of({"a": Stages(), "b": Stages()})
    made = Registry(twice.offers, {"bad": ImportError("no such driver")})
    monkeypatch.setattr(Registry, "load", classmethod(lambda cls: made))
    ran = run("plugins")
    assert ran.exit_code == 0
    assert 'the plugin "bad" can\'t be loaded: ImportError: no such driver' in ran.stdout
    assert 'tier type "memory" is provided by the plugins "a" and "b"' in ran.stdout
    found = json.loads(run("plugins", "--json").stdout)
    assert found["broken"] == {"bad": "ImportError: no such driver"}
    assert {"kind": "tier", "type": "memory", "plugins": ["a", "b"]} in found["conflicts"]
    assert run("schema").exit_code == 2


def test_schema_is_json_that_names_the_types() -> None:
    ran = run("schema", "--builtin")
    assert ran.exit_code == 0
    assert "tier.memory" in json.loads(ran.stdout)["definitions"]


def test_init_writes_a_configuration_that_is_ok(folder: Path) -> None:
    assert run("init").exit_code == 0
    assert (folder / "tiercache.toml").read_text() == template()
    assert run("check").output == "ok: 4 routes over 2 tiers, 0 warnings\n"


def test_init_overwrites_only_by_force(folder: Path) -> None:
    file = folder / "my.toml"
    file.write_text("mine")
    ran = run("init", "my.toml")
    assert (ran.exit_code, ran.stderr) == (1, "my.toml exists; --force overwrites it\n")
    assert file.read_text() == "mine"
    assert json.loads(run("init", "my.toml", "--json").stdout)["ok"] is False
    assert run("init", "my.toml", "--force").exit_code == 0
    assert file.read_text() == template()
    assert run("init", "no/such/dir.toml").exit_code == 1


def test_what_init_writes_is_the_shipped_pipeline() -> None:
    shipped = (ROOT / "tiercache.toml").read_text(encoding="utf-8")
    assert template().splitlines()[2:] == shipped.splitlines()[1:]


def test_help_lists_each_command_with_the_first_line_of_its_own_help() -> None:
    ran = run("--help")
    assert ran.exit_code == 0
    with click.Context(main) as ctx:
        for name in main.list_commands(ctx):
            assert f"  {name} " in ran.stdout
            assert main.get_command(ctx, name) is not None
            assert run(name, "--help").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chekc",), 'there is no command "chekc"; did you mean "check"?'),
        (("xyzzy",), "schema"),
        (("check", "--jsn"), "--jsn"),
        (("check", "a", "b"), "unexpected extra argument"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: Sequence[str], message: str) -> None:
    ran = run(*arguments)
    assert ran.exit_code == 2
    assert message in ran.stderr


def test_an_operation_that_fails_exits_with_1_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def failing() -> None:
        raise InvalidKey("a key must be a str")

    monkeypatch.setattr(type(main), "get_command", lambda *_: failing)
    ran = run("check")
    assert (ran.exit_code, ran.stderr) == (1, "InvalidKey: a key must be a str\n")


def test_help_imports_nothing_that_it_does_not_need() -> None:
    code = (
        "import sys\nfrom tiercache.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "unneeded = ('pydantic_settings', 'rich', 'redis', 'aiosqlite', 'zstandard')\n"
        "print([name for name in unneeded if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]"
