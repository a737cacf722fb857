# ruff: noqa: INP001 - a script beside the pages that it writes
"""Write the generated parts of the reference anew, or say with --check which of them are out of date.

A page marks such a part by `<!-- generated: TOPIC -->` and `<!-- end -->`; what stands between is made from
the configuration classes, the docstrings and the commands, of the plugins that ship.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal

import click
from pydantic import BaseModel, BeforeValidator, SecretStr

import tiercache
from tiercache import errors, frame, hookspecs
from tiercache.cli import main as command_line
from tiercache.config.registry import HOOKS, Registry
from tiercache.config.schema import builtin
from tiercache.config.tables import CacheTable, PluginsTable, RouteTable, TelemetryTable, options
from tiercache.contracts import Kind, StageRef
from tiercache.units import format_seconds, format_size, seconds, size

PAGES: Final = Path(__file__).parent
_PART: Final = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
_TABLES: Final[dict[str, type[BaseModel]]] = {
    "cache": CacheTable,
    "plugins": PluginsTable,
    "telemetry": TelemetryTable,
    "route": RouteTable,
}
_CALLS: Final = ("open", "start", "close")


def rendered(text: str) -> str:
    """Return the page *text* with its generated parts as they should be. Raises KeyError for a topic that
    nobody makes.
    """

    def part(match: re.Match[str]) -> str:
        topic, _, subject = match[2].partition(" ")
        return f"{match[1]}\n{_TOPICS[topic](subject).strip()}\n\n{match[3]}"

    return _PART.sub(part, text)


def outdated() -> list[Path]:
    """Return the pages that are not as they should be."""
    return [
        page
        for page in sorted(PAGES.glob("*.md"))
        if rendered(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")
    ]


# Options


def _table(name: str) -> str:
    return _rows(_TABLES[name])


def _kind(name: str) -> str:
    kind = typing.cast("Kind", name)
    registry = builtin(Registry.load())
    parts = []
    for offer in registry.offers:
        if offer.kind == kind:
            doc = inspect.cleandoc(offer.config.__doc__ or "")
            table = _rows(offer.config) if set(options(offer.config)) - {"type"} else "It has no options."
            parts.append(f"## {offer.type}\n\n{_flowing(doc)}\n\n{table}")
    return "\n\n".join(parts) or "None ships with this release."


def _rows(model: type[BaseModel]) -> str:
    lines = ["| option | takes | default | meaning |", "|---|---|---|---|"]
    for name, field in options(model).items():
        if name == "type":
            continue
        takes = _takes(field.annotation, field.metadata)
        default = "must be given" if field.is_required() else _default(field.default, takes)
        cells = (f"`{name}`", takes, default, field.description or "")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _takes(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *marks = typing.get_args(annotation)
        return _takes(inner, marks)
    for mark in metadata:
        if isinstance(mark, StageRef):
            return f"name of a {mark.kind}"
        if isinstance(mark, BeforeValidator) and mark.func in {seconds, size}:
            return ("duration" if mark.func is seconds else "size") + _bounds(metadata, mark.func is size)
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        return " or ".join(_takes(each) for each in arguments if each is not types.NoneType)
    if typing.get_origin(annotation) is Literal:
        return " or ".join(f'`"{each}"`' if isinstance(each, str) else f"`{each}`" for each in arguments)
    if typing.get_origin(annotation) is dict:
        return f"table, each {_takes(arguments[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"table ({', '.join(f'`{name}`' for name in annotation.model_fields)})"
    if typing.get_origin(annotation) is tuple:
        return f"list of {_takes(arguments[0])}s" if arguments[0] is not str else "list of texts"
    named = {
        bool: "true or false", float: "number", int: "whole number", Path: "path", SecretStr: "secret text",
        str: "text",
    }  # fmt: skip
    return named[annotation] + _bounds(metadata)


def _bounds(metadata: Iterable[Any], sized: bool = False) -> str:
    above = next((mark.gt for mark in metadata if getattr(mark, "gt", None) is not None), None)
    below = next((mark.lt for mark in metadata if getattr(mark, "lt", None) is not None), None)
    if below is not None:
        return f", {'above' if above is not None else 'from'} {above or 0} and below {below}"
    low = next((mark.ge for mark in metadata if getattr(mark, "ge", None) is not None), None)
    high = next((mark.le for mark in metadata if getattr(mark, "le", None) is not None), None)
    shown: Callable[[Any], str] = format_size if sized else str
    if low is not None and high is not None:
        return f", {shown(low)} to {shown(high)}"
    if low is not None:
        return f", at least {shown(low)}"
    return f", at most {shown(high)}" if high is not None else ""


def _default(value: Any, takes: str) -> str:
    if value is None:
        return "none"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if takes.startswith("duration"):
        return f'`"{format_seconds(value)}"`'
    if takes.startswith("size"):
        return f'`"{format_size(value)}"`'
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{list(value) if isinstance(value, tuple) else value}`"


# Python


def _methods(_: str) -> str:
    parts = []
    for name, member in inspect.getmembers(tiercache.Cache):
        if name.startswith("_") or not callable(member):
            continue
        awaited = inspect.iscoroutinefunction(member)
        prefix = "await " if awaited else "async for … in " if inspect.isasyncgenfunction(member) else ""
        owner = "Cache" if name == "open" else "cache"
        rank = _CALLS.index(name) if name in _CALLS else len(_CALLS)
        text = (
            f"### {name}\n\n```text\n{_signature(f'{prefix}{owner}.{name}', member)}\n```\n\n{_prose(member)}"
        )
        parts.append((rank, name, text))
    return "\n\n".join(text for _, _, text in sorted(parts))


def _signature(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    given = [str(each.replace(annotation=each.empty)) for each in signature.parameters.values()]
    given = [each for each in given if each != "self"]
    if keyword := [
        index
        for index, each in enumerate(p for p in signature.parameters.values() if p.name != "self")
        if each.kind is each.KEYWORD_ONLY
    ]:
        given.insert(keyword[0], "*")
    line = f"{name}({', '.join(given)})"
    return "\n".join(textwrap.wrap(line, 100, subsequent_indent="    ", break_long_words=False))


def _prose(thing: Any) -> str:
    text = _flowing(inspect.cleandoc(thing.__doc__ or ""))
    # In docstrings *key* is a parameter; on a page it is code, as other names are.
    return re.sub(r"(?<![\w*`/])\*([a-z_]+)\*(?![\w*])", r"`\1`", text)


def _contracts(names: str) -> str:
    parts = []
    for name in names.split():
        contract = getattr(tiercache, name)
        parts.append(f"### {name}\n\n{_prose(contract)}")
        if rows := _field_rows(contract):
            parts.append(rows)
        for method, function in vars(contract).items():
            if inspect.isfunction(function) and not method.startswith("_"):
                prefix = "async " if inspect.iscoroutinefunction(function) else ""
                parts.append(f"`{prefix}{_signature(method, function)}`: {_prose(function)}")
    return "\n\n".join(parts)


def _fields(names: str) -> str:
    kinds = [getattr(tiercache, name) for name in names.split()]
    return "\n\n".join(f"### {kind.__name__}\n\n{_prose(kind)}\n\n{_field_rows(kind)}" for kind in kinds)


def _field_rows(owner: type) -> str:
    """Return a table of the attributes of *owner*, with the strings that stand below them in its source; ""
    where it has none.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(tree, ast.ClassDef)
    body = [*tree.body]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            body += node.body
    lines = []
    for node, below in zip(body, [*body[1:], None], strict=True):
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            target = node.targets[0]
        if target is None:
            continue
        told = ""
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            told = " ".join(str(below.value.value).split())
        lines.append(f"| `{ast.unparse(target).removeprefix('self.')}` | {told} |")
    return "\n".join(["| field | meaning |", "|---|---|", *lines]) if lines else ""


def _hooks(_: str) -> str:
    lines = ["| hook | returns |", "|---|---|"]
    for kind, name in HOOKS.items():
        doc = inspect.cleandoc(getattr(hookspecs, name).__doc__ or "")
        bases = "`NearTierConfig` or `FarTierConfig`" if kind == "tier" else f"`{kind.capitalize()}Config`"
        lines.append(f"| `{name}` | {doc.removeprefix('Return ').rstrip('.')}: subclasses of {bases} |")
    return "\n".join(lines)


def _errors(_: str) -> str:
    tree = (errors.__doc__ or "").partition("\n\n")[2].strip()
    return f"```text\n{tree}\n```"


def _frame(_: str) -> str:
    layout, _, rest = (frame.__doc__ or "").partition("\n\n")[2].partition("\n\n")
    return f"```text\n{textwrap.dedent(layout)}\n```\n\n{_flowing(rest)}"


# Commands


def _commands(_: str) -> str:
    parts = []
    with click.Context(command_line, info_name="tiercache") as above:
        for name in command_line.list_commands(above):
            command = command_line.get_command(above, name)
            assert command is not None
            usage = " ".join(["tiercache", name, *_arguments(command)])
            lines = ["| option | meaning |", "|---|---|", *map(_option, _options(command))]
            text = _flowing(inspect.cleandoc(command.help or ""))
            parts.append(f"## {name}\n\n```text\n{usage}\n```\n\n{text}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _arguments(command: click.Command) -> list[str]:
    """Return what a command takes beside options, as its usage shows it."""
    shown = []
    for each in command.params:
        if isinstance(each, click.Argument):
            name = (each.name or "").upper() + ("..." if each.nargs == -1 else "")
            shown.append(name if each.required else f"[{name}]")
    return shown


def _options(command: click.Command) -> list[click.Option]:
    return [each for each in command.params if isinstance(each, click.Option)]


def _option(option: click.Option) -> str:
    takes = "" if option.is_flag else f" {option.metavar or 'NUMBER'}"
    return f"| `{', '.join(option.opts)}{takes}` | {option.help} |"


def _flowing(text: str) -> str:
    """Return prose with each paragraph on one line; what is indented stays as it is."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(each if each.startswith(" ") else " ".join(each.split()) for each in paragraphs)


_TOPICS: Final[dict[str, Callable[[str], str]]] = {
    "table": _table,
    "kind": _kind,
    "methods": _methods,
    "contracts": _contracts,
    "fields": _fields,
    "hooks": _hooks,
    "errors": _errors,
    "frame": _frame,
    "commands": _commands,
}


def main() -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Generate the tables of docs/reference.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a page is out of date"
    )
    check: bool = parser.parse_args().check
    pages = outdated()
    for page in pages:
        if check:
            sys.stderr.write(f"{page.name} is out of date: scripts/reference writes it anew\n")
        else:
            page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
            sys.stdout.write(f"wrote {page.name}\n")
    return 1 if check and pages else 0


if __name__ == "__main__":
    sys.exit(main())
