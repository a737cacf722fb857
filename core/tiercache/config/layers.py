"""One place that values come from, and what each of its values is called in a message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from tiercache.config.locate import KeyPath, Places
from tiercache.config.wording import accepted, closest, guess
from tiercache.contracts import KINDS
from tiercache.errors import Problem

PREFIX: Final = "TIERCACHE_"
"""What the name of each of our environment variables begins with."""
CONFIG: Final = "TIERCACHE_CONFIG"
"""The variable that names the configuration file."""
SECRETS_DIR: Final = "TIERCACHE_SECRETS_DIR"
"""The variable that names the directory of secret files."""
DEFAULT_SECRETS_DIR: Final = Path("/run/secrets")
"""Where secret files are looked for unless the variable names another place."""
PLAIN_TABLES: Final = ("cache", "plugins", "telemetry")
"""Tables that hold options themselves; all others hold tables by name."""
TABLES: Final = (*PLAIN_TABLES, *KINDS, "route")
"""All tables of a document."""

_TESTS: Final = "TIERCACHE_TEST_"
# Kubernetes gives every container variables for the services beside it: a service called "tiercache" or
# "tiercache-redis" would otherwise stop each application in its namespace.
_SERVICE_LINK: Final = re.compile(
    r"TIERCACHE_([A-Z0-9]+_)*(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9]+)*|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


class Layer(PydanticBaseSettingsSource):
    """The values of one source, as nested dictionaries."""

    textual: ClassVar[bool] = False
    """Whether every value is text, also where the option is no string."""
    secret: ClassVar[bool] = False
    """Whether no value may be shown."""

    def __init__(self, values: dict[str, Any], settings: type[BaseSettings]) -> None:
        super().__init__(settings)
        self.values = values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of one table."""
        del field
        return self.values.get(field_name), field_name, True

    def __call__(self) -> dict[str, Any]:
        """Return all values."""
        return self.values

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def where(self, path: KeyPath) -> str:
        """Return what a message calls the source of *path*."""
        raise NotImplementedError


class Arguments(Layer):
    """Keyword arguments of `Cache.open`."""

    def where(self, path: KeyPath) -> str:
        """Return the argument."""
        return f"argument {dotted(path)}"


class MappingSource(Layer):
    """A mapping that was given in a file's place."""

    def where(self, path: KeyPath) -> str:
        """Return that it was the mapping."""
        del path
        return "mapping"


class NamedValues(Layer):
    """Values that each have a name of their own: variables or files."""

    textual = True
    noun: ClassVar[str]

    def __init__(
        self, values: dict[str, Any], names: Mapping[KeyPath, str], settings: type[BaseSettings]
    ) -> None:
        super().__init__(values, settings)
        self.names = names

    def where(self, path: KeyPath) -> str:
        """Return the variable or file that set *path*, or the first of those that set something under it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.names:
                return f"{self.noun} {self.names[path[:length]]}"
        below = (name for at, name in self.names.items() if at[: len(path)] == path)
        return f"{self.noun} {next(below, '')}".rstrip()


class Environment(NamedValues):
    """Environment variables."""

    noun = "environment"


class SecretFiles(NamedValues):
    """A directory with one file an option."""

    noun = "secret file"
    secret = True


class TomlFile(Layer):
    """The configuration file."""

    def __init__(
        self,
        values: dict[str, Any],
        name: str,
        places: Places,
        prefix: tuple[str, ...],
        settings: type[BaseSettings],
    ) -> None:
        super().__init__(values, settings)
        self.name = name
        self.places = places
        self.prefix = prefix

    def where(self, path: KeyPath) -> str:
        """Return file, line and column of the nearest written part of *path*."""
        line, column = self.position(path)
        return f"{self.name}:{line}:{column}"

    def position(self, path: KeyPath) -> tuple[int, int]:
        """Return line and column of the nearest written part of *path*; the beginning where there is none."""
        found = self.places.nearest((*self.prefix, *path))
        return self.places.position(found[1].start) if found else (1, 1)


def dotted(path: KeyPath) -> str:
    """Return *path* as people write it: `tier.memory.max_entries`."""
    return ".".join(_written(part) for part in path)


def _written(part: str | int) -> str:
    text = str(part)
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else f'"{text}"'


def read_environment(environ: Mapping[str, str], settings: type[BaseSettings]) -> tuple[Layer, list[Problem]]:
    """Return the layer of our variables in *environ*, and a problem for each that means nothing."""
    named = {
        name: value
        for name, value in environ.items()
        if name.upper().startswith(PREFIX)
        and name.upper() not in {CONFIG, SECRETS_DIR}
        and not name.upper().startswith(_TESTS)
        and not _SERVICE_LINK.fullmatch(name.upper())
    }
    values, names, problems = _nest(named, "environment", str.upper)
    return Environment(values, names, settings), problems


def read_secrets(environ: Mapping[str, str], settings: type[BaseSettings]) -> tuple[Layer, list[Problem]]:
    """Return the layer of the secret files, and a problem for each that can't be read or means nothing.

    Trailing line ends are dropped: editors and `echo` put them there.
    """
    given = environ.get(SECRETS_DIR)
    directory = Path(given).expanduser() if given else DEFAULT_SECRETS_DIR
    if not directory.is_dir():
        problems = []
        if given is not None:
            message = f'"{given}" is no directory; one with a file for each secret is accepted'
            problems.append(Problem(f"environment {SECRETS_DIR}", "", message))
        return SecretFiles({}, {}, settings), problems
    named: dict[str, str] = {}
    unread: list[Problem] = []
    try:
        files = sorted(path for path in directory.iterdir() if path.name.upper().startswith(PREFIX))
    except OSError as error:
        return SecretFiles({}, {}, settings), [
            Problem(f"secret directory {directory}", "", f"can't be listed: {error.strerror}")
        ]
    for path in files:
        try:
            named[path.name] = path.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            unread.append(Problem(f"secret file {path.name}", "", f"can't be read: {error.strerror}"))
        except UnicodeDecodeError:
            unread.append(Problem(f"secret file {path.name}", "", "is not UTF-8; text is accepted"))
    values, names, problems = _nest(named, "secret file", str.lower)
    return SecretFiles(values, names, settings), [*unread, *problems]


def _nest(
    named: Mapping[str, str], noun: str, case: Any
) -> tuple[dict[str, Any], dict[KeyPath, str], list[Problem]]:
    values: dict[str, Any] = {}
    names: dict[KeyPath, str] = {}
    problems: list[Problem] = []
    for name, value in sorted(named.items()):
        path = tuple(name[len(PREFIX) :].lower().split("__"))
        message = _misnamed(path, case)
        if message is None and path in names:
            message = f"says the same as {names[path]}; one of the two is accepted"
        elif message is None and any(
            path[: len(other)] == other or other[: len(path)] == path for other in names
        ):
            message = "sets a table and something in it at once; one of the two is accepted"
        if message is not None:
            problems.append(Problem(f"{noun} {name}", "", message))
            continue
        table = values
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = value
        names[path] = name
    return values, names, problems


def _misnamed(path: tuple[str, ...], case: Any) -> str | None:
    """Return what is wrong with a name that stands for *path*; None where it may name an option."""
    head = path[0]
    form = case(f"{PREFIX}{head}__OPTION" if head in PLAIN_TABLES else f"{PREFIX}{head}__NAME__OPTION")
    if head in TABLES:
        needed = 2 if head in PLAIN_TABLES else 3
        if len(path) < needed or not all(path):
            return f"names no option; {form} is accepted"
        return None
    if len(path) == 1:
        table = next((name for name in TABLES if head.startswith(f"{name}_")), None)
        if table is not None:
            form = f"{PREFIX}{table}__OPTION" if table in PLAIN_TABLES else f"{PREFIX}{table}__NAME__OPTION"
            return f"unknown variable; two underscores part table, name and option: {case(form)}"
        known = [CONFIG, SECRETS_DIR]
        named = [case(name) for name in (*known, f"{PREFIX}TABLE__NAME__OPTION")]
        # All names begin alike, so that a mere resemblance means nothing.
        hint = closest(f"{PREFIX}{head}".upper(), known, likeness=0.85) or f"; {accepted(named)}"
        return f"unknown variable{hint}"
    return f'unknown variable: there is no table "{head}"{guess(head, TABLES)}'
