"""The document: TOML < secret files < environment < arguments, and where each of its values was written."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, cast

from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tiercache.config.layers import (
    CONFIG,
    Arguments,
    Layer,
    MappingSource,
    TomlFile,
    read_environment,
    read_secrets,
)
from tiercache.config.locate import KeyPath, scan
from tiercache.errors import ConfigError, Problem

FILE: Final = "tiercache.toml"
"""The name that is looked for."""
PYPROJECT: Final = "pyproject.toml"
"""Looked at for a table `[tool.tiercache]`."""

_SYNTAX: Final = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


class Document(BaseSettings):
    """What all sources say together, as they say it: tables are checked later, each by whom it concerns."""

    model_config = SettingsConfigDict(extra="allow", frozen=True)

    cache: Any = {}
    plugins: Any = {}
    telemetry: Any = {}
    tier: Any = {}
    serializer: Any = {}
    compressor: Any = {}
    policy: Any = {}
    pattern: Any = {}
    bus: Any = {}
    route: Any = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the layers that this document was made from, highest first.

        The sources that come with the settings library read JSON wherever it is possible, so that a password
        of digits would become a number; and they don't tell what they ignored.
        """
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        # Layers belong to one reading, not to the class, so they arrive as an argument.
        return tuple(cast("InitSettingsSource", init_settings).init_kwargs["layers"])

    @classmethod
    def of(cls, layers: tuple[Layer, ...]) -> Self:
        """Return what *layers* say, highest first."""
        given: dict[str, Any] = {"layers": layers}
        return cls(**given)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        # Values may be secrets, and here nobody knows yet which.
        return [(None, table) for table in self.values()]

    def values(self) -> dict[str, Any]:
        """Return all tables that some layer has, by name, those that nobody knows among them."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}


@dataclass(frozen=True, slots=True)
class Settings:
    """A document, the layers it came from, and what went wrong while they were read."""

    document: Document
    layers: tuple[Layer, ...]
    """Highest first."""
    directory: Path
    """Where relative paths start."""
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def layer(self, path: KeyPath) -> tuple[Layer, KeyPath]:
        """Return the layer that decides *path*, and how much of the path it has.

        Where several layers have a part of a table, the lowest is meant: that is where it is declared.
        """
        candidates = list(self.layers)
        nodes: list[Any] = [layer.values for layer in candidates]
        for depth, key in enumerate(path):
            found: list[tuple[Layer, Any]] = []
            for layer, node in zip(candidates, nodes, strict=True):
                if isinstance(node, Mapping) and key in node:
                    found.append((layer, node[key]))
                    if not isinstance(node[key], Mapping):
                        break
            if not found:
                return candidates[-1], path[:depth]
            if not isinstance(found[0][1], Mapping):
                return found[0][0], path
            candidates = [layer for layer, node in found if isinstance(node, Mapping)]
            nodes = [node for _, node in found if isinstance(node, Mapping)]
        return candidates[-1], path

    def textual(self, path: KeyPath) -> bool:
        """Return whether the value of *path* came as text whatever the option is."""
        return self.layer(path)[0].textual


def read(
    source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read all layers. *source* is a file, a mapping that takes its place, or None to look for a file.

    Raises ConfigError where there is no document to go on with: no file, or one that is not TOML. What else
    is wrong is told in `Settings.problems`, so that it can be told together with what is found later.
    """
    environ = os.environ if environ is None else environ
    problems: list[Problem] = []
    warnings: list[Problem] = []
    environment, wrong = read_environment(environ, Document)
    problems += wrong
    secrets, wrong = read_secrets(environ, Document)
    problems += wrong
    directory = Path.cwd()
    base: Layer | None = None
    if isinstance(source, Mapping):
        base = MappingSource(_plain(source, (), "mapping", problems), Document)
    else:
        found = _find(source, environ, warnings)
        if isinstance(found, Problem):
            problems.insert(0, found)
        else:
            directory = found.parent.resolve()
            loaded = _load(found, source)
            if isinstance(loaded, Problem):
                problems.insert(0, loaded)
            else:
                base = loaded
    arguments = Arguments(_plain(overrides or {}, (), "argument", problems), Document)
    if base is None:
        raise ConfigError(problems)
    layers = (arguments, environment, secrets, base)
    return Settings(Document.of(layers), layers, directory, tuple(problems), tuple(warnings))


def _plain(node: Mapping[Any, Any], path: KeyPath, noun: str, problems: list[Problem]) -> dict[str, Any]:
    """Return *node* as nested dicts of our own, so that nobody's mapping is kept or changed."""
    out: dict[str, Any] = {}
    for key, value in node.items():
        if not isinstance(key, str):
            message = f"the key {key!r} is no str; names of options are accepted"
            problems.append(Problem(noun, ".".join(map(str, path)), message))
        elif isinstance(value, Mapping):
            out[key] = _plain(value, (*path, key), noun, problems)
        else:
            out[key] = list(value) if isinstance(value, (list, tuple)) else value
    return out


def _find(
    source: str | os.PathLike[str] | None, environ: Mapping[str, str], warnings: list[Problem]
) -> Path | Problem:
    if source is not None:
        return Path(source).expanduser()
    if CONFIG in environ:
        named = Path(environ[CONFIG]).expanduser()
        if environ[CONFIG] and named.is_file():
            return named
        return Problem(
            f"environment {CONFIG}",
            "",
            f'there is no file "{environ[CONFIG]}"; the path of a {FILE} is accepted',
        )
    start = Path.cwd()
    for directory in (start, *start.parents):
        file, project = directory / FILE, directory / PYPROJECT
        ours = project.is_file() and _has_table(project)
        if file.is_file():
            if ours:
                message = f"[tool.tiercache] is not read, because {FILE} stands beside it; keep one of them"
                warnings.append(Problem(f"{_shown(project, None)}:1:1", "", message))
            return file
        if ours:
            return project
    return Problem(
        str(start / FILE),
        "",
        f"no {FILE} here or in a directory above, and no [tool.tiercache] in a {PYPROJECT}; "
        f"`tiercache init` writes one, {CONFIG} names one elsewhere",
    )


def _has_table(project: Path) -> bool:
    try:
        text = project.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    try:
        tool = tomllib.loads(text).get("tool", {})
    except (tomllib.TOMLDecodeError, RecursionError):
        # Somebody else's broken file is not our business, unless it seems to speak to us.
        return "tool.tiercache" in text
    return isinstance(tool, dict) and "tiercache" in tool


def _load(path: Path, source: object) -> Layer | Problem:
    name = _shown(path, source)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Problem(name, "", f"there is no such file; `tiercache init {name}` writes one")
    except IsADirectoryError:
        return Problem(name, "", f"is a directory; the path of a {FILE} is accepted")
    except OSError as error:
        return Problem(name, "", f"can't be read: {error.strerror}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        before = data[data.rfind(b"\n", 0, error.start) + 1 : error.start]
        column = len(before.decode("utf-8")) + 1
        return Problem(f"{name}:{line}:{column}", "", "is not UTF-8; TOML is always UTF-8")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _syntax(name, text, str(error))
    except RecursionError:
        return Problem(f"{name}:1:1", "", "is nested too deeply to be read")
    prefix: tuple[str, ...] = ()
    if path.name == PYPROJECT:
        prefix = ("tool", "tiercache")
        values = values.get("tool", {}).get("tiercache")
        if values is None:
            return Problem(
                f"{name}:1:1", "", "has no table [tool.tiercache]; one is needed to be read from here"
            )
        if not isinstance(values, dict):
            return Problem(f"{name}:1:1", "tool.tiercache", "is no table; [tool.tiercache] is accepted")
    return TomlFile(values, name, scan(text), prefix, Document)


def _syntax(name: str, text: str, message: str) -> Problem:
    match = _SYNTAX.search(message)
    text = text.replace("\r\n", "\n")
    lines: Sequence[str] = text.split("\n")
    if match and match[1]:
        line, column = int(match[1]), int(match[2])
    else:
        line = len(lines) - (len(lines) > 1 and not lines[-1])
        column = len(lines[line - 1]) + 1
    words = message[: match.start()] if match else message
    if text.startswith("\ufeff"):
        words = "begins with a byte order mark; UTF-8 without one is accepted"
    # What is not understood might hold a secret, so that only the part before the value is shown.
    before, equals, _ = lines[line - 1].partition("=")
    shown = f"{before}{equals} …" if equals else re.split("[\"']", before)[0]
    pad = re.sub(r"[^\t]", " ", shown[: column - 1])
    excerpt = f" {line} | {shown}\n {' ' * len(str(line))} | {pad}^"
    return Problem(f"{name}:{line}:{column}", "", f"not TOML: {words[:1].lower()}{words[1:]}", excerpt)


def _shown(path: Path, source: object) -> str:
    """Return *path* as the user knows it: as given, or from the working directory if it is in there."""
    if source is not None:
        return os.fspath(cast("str", source))
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)
