"""What the pages show is what happens.

Each page has a directory of its own, in which its blocks take place from top to bottom. A comment right above
a block says how: `file: NAME` keeps it for a command further down, `plugin: NAME` installs it as well,
`needs: MODULE` runs it only where that is installed, `within: cache` runs it inside `async with` on the
page's configuration, `fragment` adds it to that configuration, `wrong` must have problems, `pyproject` is
only read. Without a comment Python is a program to run, and TOML is a whole document. In console blocks, what
follows a command is what it prints; "…" stands for anything. Commands that install, or take long, are only
looked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tiercache import Cache, ConfigError
from tiercache.cli import main
from tiercache.config.plan import plan

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"(?:^<!-- (?P<how>[^\n]*?) -->\n+)?^(?P<fence>```+)(?P<language>\w*)\n(?P<body>.*?)^(?P=fence)$",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
LANGUAGES = {"python", "toml", "console", "text", "json"}
LONG = {"scripts/run", "scripts/test", "scripts/check", "scripts/bench", "scripts/reference"}
ELSEWHERE = {"pip", "git", "cd", "redis-cli", "export"}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass
class Page:
    """The directory of a page, and what its blocks have made of it."""

    directory: Path
    document: dict[str, Any] | None = None
    unused: set[str] = field(default_factory=set)

    def base(self) -> dict[str, Any]:
        if self.document is None:
            self.document = tomllib.loads((ROOT / "tiercache.toml").read_text())
        return self.document

    def keep(self, name: str, body: str) -> None:
        (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / name).write_text(body)
        if name.endswith(".py"):
            self.unused.add(name)

    def install(self, name: str, body: str) -> None:
        """Keep a plugin, and let its entry point be found as that of an installed distribution."""
        self.keep(name, body)
        self.unused.discard(name)
        stem = name.removesuffix(".py")
        about = self.directory / f"{stem}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {stem}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[tiercache]\n{stem} = {stem}\n")
        importlib.invalidate_caches()

    def toml(self, how: str, body: str) -> None:
        table = tomllib.loads(body)
        if how == "pyproject":
            return
        if how.startswith("file: "):
            self.keep(how.removeprefix("file: "), body)
        if how == "fragment":
            found = plan(merged(self.base(), table))
            self.document = merged(self.base(), table)
        elif how.startswith("wrong: "):
            self.keep(how.removeprefix("wrong: "), body)
            with pytest.raises(ConfigError):
                plan(table)
            return
        else:
            self.document = table
            found = plan(table)
        unused = [problem for problem in found.warnings if "never used" not in problem.message]
        assert not unused

    def python(self, how: str, body: str) -> None:
        kind, _, name = how.partition(": ")
        if kind == "needs":
            # A library that somebody comes from, and that is not everywhere.
            code = compile(body, "<block>", "exec")
            if importlib.util.find_spec(name) is not None:
                exec(code, {"__name__": "__main__"})
        elif kind == "file":
            self.keep(name, body)
        elif kind == "plugin":
            self.install(name, body)
        elif kind == "within":
            source = f"async def block(cache):\n{textwrap.indent(body, '    ')}"
            space: dict[str, Any] = {}
            exec(compile(source, "<block>", "exec"), space)

            async def run() -> None:
                async with Cache.open(self.base()) as cache:
                    await space["block"](cache)

            asyncio.run(run())
        else:
            assert not how
            exec(compile(body, "<block>", "exec"), {"__name__": "__main__"})

    def console(self, body: str) -> None:
        assert body.startswith("$ ")
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            line, _, expected = part.partition("\n")
            words = shlex.split(line, comments=True)
            variables = {}
            while "=" in words[0]:
                name, _, value = words.pop(0).partition("=")
                variables[name] = value
            printed = self.command(words, variables)
            if printed is not None:
                assert_alike(printed, expected, line)

    def command(self, words: list[str], variables: dict[str, str]) -> str | None:
        """Run a command and return what it prints; None where it is only looked for."""
        name = words[0]
        if name in LONG:
            assert os.access(ROOT / name, os.X_OK)
            return None
        if name in ELSEWHERE:
            return None
        if name == "cat":
            return (self.directory / words[1]).read_text()
        if words[:3] == ["python", "-m", "pytest"]:
            self.unused -= set(words)
            return self.pytest(words[3:], variables)
        if name == "python":
            self.unused.discard(words[1])
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                runpy.run_path(words[1], run_name="__main__")
            return out.getvalue()
        assert name == "tiercache", f"nobody knows the command {name}"
        return CliRunner().invoke(main, words[1:], env=variables, catch_exceptions=False).output

    def pytest(self, arguments: list[str], variables: dict[str, str]) -> str:
        """Run pytest away from this one; return its last line."""
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            env=os.environ
            | {"PYTHONPATH": str(self.directory), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
            | variables,
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout.splitlines()[-1] + "\n"


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for key, value in above.items():
        there = out.get(key)
        out[key] = merged(there, value) if isinstance(value, dict) and isinstance(there, dict) else value
    return out


def assert_alike(printed: str, expected: str, command: str) -> None:
    shown, wanted = squeezed(printed), squeezed(expected)
    assert re.fullmatch(re.escape(wanted).replace("…", ".*"), shown, re.DOTALL), f"$ {command}\n{shown}"


def squeezed(text: str) -> str:
    """Return *text* with runs of spaces as one: columns are as wide as what is installed here."""
    return "\n".join(re.sub(" +", " ", line.rstrip()) for line in text.rstrip().splitlines())


@pytest.fixture
def page(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("TIERCACHE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    before = set(sys.modules)
    yield Page(tmp_path)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("source", PAGES, ids=named)
def test_what_a_page_shows_is_what_happens(source, page, request, monkeypatch):
    if "REDIS_URL" in source.read_text():
        monkeypatch.setenv("REDIS_URL", request.getfixturevalue("valkey_server").url)
    for match in BLOCK.finditer(source.read_text()):
        how, language, body = match["how"] or "", match["language"], match["body"]
        assert language in LANGUAGES, f"a block without a known language: {body[:60]!r}"
        if language == "toml":
            page.toml(how, body)
        elif language == "python":
            page.python(how, body)
        elif language == "console":
            page.console(body)
        elif how.startswith("file: "):
            page.keep(how.removeprefix("file: "), body)
    imported = {name for name in page.unused if name.removesuffix(".py") in sys.modules}
    assert not page.unused - imported, "shown, and never run"


@pytest.mark.parametrize(
    "wrong",
    [
        "```console\n$ tiercache keys\nuser:1\n```\n",
        "```python\nassert False\n```\n",
        "<!-- within: cache -->\n```python\nassert await cache.exists('a')\n```\n",
        "```toml\n[tier.memory]\ntype = 'memory'\n```\n",
        "<!-- fragment -->\n```toml\n[tier.memory]\nmax_entrys = 1\n```\n",
        "<!-- file: never_run.py -->\n```python\npass\n```\n",
        "```\nof no language\n```\n",
    ],
)
def test_a_page_that_is_wrong_is_noticed(wrong, page, tmp_path, request, monkeypatch):
    (tmp_path / "tiercache.toml").write_text('[route.all]\ntiers = ["memory"]\n')
    source = tmp_path / "page.md"
    source.write_text(wrong)
    with pytest.raises((AssertionError, ConfigError)):
        test_what_a_page_shows_is_what_happens(source, page, request, monkeypatch)


@pytest.mark.parametrize("source", PAGES, ids=named)
def test_links_lead_somewhere(source):
    for target in LINK.findall(BLOCK.sub("", source.read_text())):
        path, _, anchor = target.partition("#")
        assert "://" not in target, f"{target}: pages are read without a network"
        file = (source.parent / path).resolve() if path else source
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("source", PAGES, ids=named)
def test_commands_and_options_that_are_named_exist(source):
    known = {name: CliRunner().invoke(main, [name, "--help"]).output for name in main.list_commands(None)}
    for command in re.findall(r"(?:`|\$ |^)tiercache ([^\n`]*)", source.read_text()):
        words = command.partition(" > ")[0].split()
        if not words or words[0].startswith("-"):
            continue
        assert words[0] in known, command
        for option in words[1:]:
            if option.startswith("--"):
                assert option in known[words[0]], command
    for script in re.findall(r"(?:`|\$ |^)scripts/(\w+)", source.read_text()):
        assert (ROOT / "scripts" / script).exists(), script


def test_the_tree_in_the_readme_is_that_of_the_repository():
    tree = re.search(
        r"^## What is where\n+```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    above = ROOT
    for line in tree[1].splitlines():
        names = [name for name in line.partition("   ")[0].split() if name.endswith(("/", ".toml"))]
        if not line.startswith(" "):
            above = ROOT / names[0]
        else:
            names = re.findall(r"(\w+)/", line)
        for name in names:
            assert (above / name).exists() or (ROOT / name).exists(), name


def test_every_page_is_reached_from_the_index():
    linked = {
        (ROOT / "docs" / target.partition("#")[0]).resolve()
        for target in LINK.findall((ROOT / "docs/index.md").read_text())
    }
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - linked <= {ROOT / "docs/index.md"}


@pytest.mark.parametrize("example", sorted((ROOT / "docs/examples").glob("*.py")), ids=named)
def test_examples_run(example, page, monkeypatch, capsys):
    if example.name == "stdlib_index.py":
        pytest.skip("the main job has tests of its own")
    monkeypatch.setattr(sys, "argv", [str(example)])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out
