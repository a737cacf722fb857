from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tiercache import ConfigError, Problem
from tiercache.config.settings import Settings, read

DOCUMENT = """\
[cache]
namespace = "shop"

[tier.memory]
type = "memory"
max_entries = 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    inner = tmp_path / "app" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    yield inner


def write(path: Path, text: str = DOCUMENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refused(*args: Any, environ: dict[str, str] | None = None) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        read(*args, environ=environ or {})
    return list(caught.value.problems)


def where(settings: Settings, *path: str | int) -> str:
    return settings.layer(path)[0].where(path)


def test_layers_win_in_their_order_and_merge_table_by_table(folder: Path) -> None:
    file = write(folder / "tiercache.toml", DOCUMENT + 'max_bytes = "1KiB"\npolicy = "lru"\n')
    secrets = folder / "secrets"
    write(secrets / "tiercache_tier__memory__max_entries", "6\n")
    write(secrets / "tiercache_tier__memory__policy", "lfu")
    write(secrets / "other", "x")
    environ = {"TIERCACHE_TIER__MEMORY__MAX_ENTRIES": "7", "TIERCACHE_SECRETS_DIR": str(secrets)}
    settings = read(file, {"tier": {"memory": {"max_ttl": 8}}}, environ=environ)
    assert not settings.problems
    assert settings.document.tier == {
        "memory": {"type": "memory", "max_entries": "7", "max_bytes": "1KiB", "policy": "lfu", "max_ttl": 8}
    }
    assert where(settings, "tier", "memory", "type") == f"{file}:5:1"
    assert where(settings, "tier", "memory") == f"{file}:4:7"
    assert (
        where(settings, "tier", "memory", "max_entries") == "environment TIERCACHE_TIER__MEMORY__MAX_ENTRIES"
    )
    assert where(settings, "tier", "memory", "policy") == "secret file tiercache_tier__memory__policy"
    assert where(settings, "tier", "memory", "max_ttl") == "argument tier.memory.max_ttl"
    assert where(settings, "tier", "memory", "missing") == f"{file}:4:7"
    assert where(settings, "route") == f"{file}:1:1"


def test_a_list_from_a_higher_layer_replaces_the_whole_list(folder: Path) -> None:
    file = write(folder / "tiercache.toml", '[route.a]\ntiers = ["x", "y"]\n')
    environ = {"TIERCACHE_ROUTE__A__TIERS": "z"}
    settings = read(file, environ=environ)
    assert settings.document.route == {"a": {"tiers": "z"}}
    assert where(settings, "route", "a", "tiers", 1) == "environment TIERCACHE_ROUTE__A__TIERS"
    settings = read(file, {"route": {"a": {"tiers": ("q",)}}}, environ=environ)
    assert settings.document.route == {"a": {"tiers": ["q"]}}
    assert where(settings, "route", "a", "tiers", 0) == "argument route.a.tiers.0"


def test_text_from_the_environment_stays_text(folder: Path) -> None:
    environ = {"TIERCACHE_TIER__REDIS__PASSWORD": "12345", "tiercache_tier__redis__retry": "true"}
    assert read({}, environ=environ).document.tier == {"redis": {"password": "12345", "retry": "true"}}


def test_a_mapping_takes_the_files_place_and_is_not_kept(folder: Path) -> None:
    write(folder / "tiercache.toml", "this = is not read")
    source: dict[str, Any] = {"tier": {"memory": {"type": "memory"}}}
    settings = read(source, environ={"TIERCACHE_CONFIG": "nor/this"})
    settings.document.tier["memory"]["type"] = "changed"
    assert source == {"tier": {"memory": {"type": "memory"}}}
    assert settings.directory == folder
    assert where(settings, "tier", "memory", "type") == "mapping"


def test_keys_of_a_mapping_must_be_text() -> None:
    (problem,) = read({"tier": {5: {}}}, environ={}).problems
    assert (problem.where, problem.path) == ("mapping", "tier")
    assert "the key 5 is no str" in problem.message


def test_the_nearest_file_upward_is_found(folder: Path) -> None:
    write(folder.parent.parent / "tiercache.toml", '[cache]\nnamespace = "far"')
    assert read(environ={}).document.cache == {"namespace": "far"}
    project = write(
        folder.parent / "pyproject.toml", '[project]\nname = "x"\n\n[tool.tiercache.cache]\nnamespace = "p"'
    )
    settings = read(environ={})
    assert settings.document.cache == {"namespace": "p"}
    assert settings.directory == folder.parent
    assert where(settings, "cache", "namespace") == f"{project}:5:1"
    write(folder / "pyproject.toml", '[project]\nname = "x"\n')
    assert read(environ={}).document.cache == {"namespace": "p"}
    write(folder / "tiercache.toml", '[cache]\nnamespace = "here"')
    settings = read(environ={})
    assert settings.document.cache == {"namespace": "here"}
    assert where(settings, "cache", "namespace") == "tiercache.toml:2:1"
    assert not settings.warnings


def test_a_table_in_pyproject_that_a_file_beside_it_hides_is_not_silent(folder: Path) -> None:
    write(folder / "tiercache.toml")
    write(folder / "pyproject.toml", "[tool.tiercache.cache]\nnamespace = 'x'\n")
    (warning,) = read(environ={}).warnings
    assert warning.where == "pyproject.toml:1:1"
    assert "[tool.tiercache] is not read" in warning.message


def test_the_variable_names_a_file_elsewhere(folder: Path, tmp_path: Path) -> None:
    write(folder / "tiercache.toml", '[cache]\nnamespace = "here"')
    other = write(tmp_path / "other.toml", '[cache]\nnamespace = "there"')
    settings = read(environ={"TIERCACHE_CONFIG": str(other)})
    assert settings.document.cache == {"namespace": "there"}
    assert settings.directory == tmp_path
    given = write(folder / "given.toml", '[cache]\nnamespace = "given"')
    assert read(given, environ={"TIERCACHE_CONFIG": str(other)}).document.cache == {"namespace": "given"}


def test_no_file_anywhere_says_what_to_do(folder: Path) -> None:
    (problem,) = refused()
    assert problem.where == str(folder / "tiercache.toml")
    assert "`tiercache init` writes one" in problem.message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nosuch.toml", "there is no such file"),
        (".", "is a directory"),
        (Path("nosuch.toml"), "no such file"),
    ],
)
def test_a_file_that_is_not_there_is_an_error(folder: Path, source: object, message: str) -> None:
    (problem,) = refused(source)
    assert problem.where == str(source)
    assert message in problem.message


@pytest.mark.parametrize("name", ["", "nosuch.toml", "."])
def test_a_variable_that_names_no_file_is_an_error(folder: Path, name: str) -> None:
    write(folder / "tiercache.toml")
    (problem,) = refused(environ={"TIERCACHE_CONFIG": name})
    assert problem.where == "environment TIERCACHE_CONFIG"
    assert f'there is no file "{name}"' in problem.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error(folder: Path) -> None:
    write(folder / "tiercache.toml").chmod(0)
    (problem,) = refused()
    assert "can't be read: Permission denied" in problem.message


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (b"[tier.memory]\ntype = memory\n", "2:8", "invalid value"),
        (b"[cache]\r\n\r\nx\r\n", "3:2", "expected '='"),
        (b'a = "x', "1:7", "unterminated string"),
        (b"[a]\n[a]\n", "2:3", "cannot declare"),
        (b"\xef\xbb\xbfa = 1", "1:1", "byte order mark"),
        ('[a]\n"é" = "'.encode() + b"\xff", "2:8", "is not UTF-8"),
        (b"a = " + b"[" * 100_000, "1:1", "nested too deeply"),
    ],
)
def test_what_is_not_toml_is_located(folder: Path, text: bytes, place: str, message: str) -> None:
    (folder / "tiercache.toml").write_bytes(text)
    (problem,) = refused()
    assert problem.where == f"tiercache.toml:{place}"
    assert message in problem.message


def test_an_excerpt_of_broken_toml_shows_no_value(folder: Path) -> None:
    write(folder / "tiercache.toml", '[tier.redis]\npassword = "hunter2\n')
    (problem,) = refused()
    assert problem.excerpt.startswith(" 2 | password = …\n")
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(
    ("text", "message"), [("", "has no table [tool.tiercache]"), ("tool.tiercache = 1", "is no table")]
)
def test_a_project_file_that_was_named_must_have_our_table(folder: Path, text: str, message: str) -> None:
    (problem,) = refused(write(folder / "pyproject.toml", text))
    assert message in problem.message


def test_somebody_elses_broken_project_file_is_passed_over(folder: Path) -> None:
    write(folder.parent / "tiercache.toml")
    project = write(folder / "pyproject.toml", "[project\n")
    assert read(environ={}).directory == folder.parent
    project.write_text("[tool.tiercache\n")
    (problem,) = refused()
    assert problem.where == "pyproject.toml:1:16"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("TIERCACHE_CONFGI", 'did you mean "TIERCACHE_CONFIG"?'),
        ("TIERCACHE_SECRET_DIR", 'did you mean "TIERCACHE_SECRETS_DIR"?'),
        ("TIERCACHE_REDIS_URL", "TIERCACHE_TABLE__NAME__OPTION are accepted"),
        (
            "TIERCACHE_TIER_REDIS_URL",
            "two underscores part table, name and option: TIERCACHE_TIER__NAME__OPTION",
        ),
        ("TIERCACHE_CACHE_NAMESPACE", "TIERCACHE_CACHE__OPTION"),
        ("TIERCACHE_TEIR__REDIS__URL", 'there is no table "teir"; did you mean "tier"?'),
        ("TIERCACHE_XYZZY__REDIS__URL", "cache, plugins, telemetry, tier"),
        ("TIERCACHE_TIER", "names no option; TIERCACHE_TIER__NAME__OPTION is accepted"),
        ("TIERCACHE_TIER__REDIS", "names no option"),
        ("TIERCACHE_TIER____URL", "names no option"),
        ("TIERCACHE_CACHE", "names no option; TIERCACHE_CACHE__OPTION is accepted"),
        ("TIERCACHE_", "unknown variable"),
    ],
)
def test_a_variable_that_means_nothing_is_told(name: str, message: str) -> None:
    (problem,) = read({}, environ={name: "value", "PATH": "/bin"}).problems
    assert problem.where == f"environment {name}"
    assert message in problem.message


@pytest.mark.parametrize(
    "name",
    [
        "TIERCACHE_TEST_URL",
        "TIERCACHE_PORT",
        "TIERCACHE_PORT_6379_TCP_ADDR",
        "TIERCACHE_SERVICE_HOST",
        "TIERCACHE_REDIS_SERVICE_PORT_CLIENT",
        "TIERCACHE_REDIS_PORT_6379_TCP",
    ],
)
def test_variables_of_tests_and_of_service_discovery_are_not_ours(name: str) -> None:
    assert not read({}, environ={name: "tcp://10.0.0.1:6379"}).problems


def test_variables_that_contradict_each_other_are_told() -> None:
    environ = {"TIERCACHE_CACHE__BUS": "none", "tiercache_cache__bus": "auto"}
    (problem,) = read({}, environ=environ).problems
    assert "says the same as" in problem.message
    environ = {"TIERCACHE_TIER__R__LOGIN": "{}", "TIERCACHE_TIER__R__LOGIN__USER": "me"}
    (problem,) = read({}, environ=environ).problems
    assert "a table and something in it" in problem.message


def test_secret_files_that_mean_nothing_or_cannot_be_read_are_told(tmp_path: Path) -> None:
    write(tmp_path / "tiercache_teir__redis__password", "hunter2")
    (tmp_path / "tiercache_tier__redis__password").write_bytes(b"hunter\xff")
    (tmp_path / "tiercache_tier__redis__key").mkdir()
    problems = read({}, environ={"TIERCACHE_SECRETS_DIR": str(tmp_path)}).problems
    assert {problem.where for problem in problems} == {
        "secret file tiercache_teir__redis__password",
        "secret file tiercache_tier__redis__password",
        "secret file tiercache_tier__redis__key",
    }
    assert "hunter" not in str(problems)


@pytest.mark.parametrize("name", ["", "nosuch"])
def test_a_secrets_directory_that_is_not_there_is_told(name: str) -> None:
    (problem,) = read({}, environ={"TIERCACHE_SECRETS_DIR": name}).problems
    assert problem.where == "environment TIERCACHE_SECRETS_DIR"


def test_a_document_never_shows_its_values() -> None:
    settings = read({"tier": {"redis": {"password": "hunter2"}}}, environ={})
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.document)
