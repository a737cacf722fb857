"""What commands print: JSON for programs, tables for people."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from tiercache.errors import Problem


def print_json(value: Any) -> None:
    """Print *value* as JSON, readable by people too."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def counted(number: int, noun: str) -> str:
    """Return *number* with *noun*, in the plural where it is not one."""
    return f"{number} {noun}{'s' * (number != 1)}"


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print *rows* under *headers*: with lines on a terminal, else in plain columns that can be cut apart."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*headers, header_style="bold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    widths = [max(len(cell) for cell in column) for column in zip(headers, *rows, strict=True)]
    for row in (headers, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def as_json(problem: Problem) -> dict[str, Any]:
    """Return *problem* for JSON; with file, line and column where it is in a file."""
    out: dict[str, Any] = {"where": problem.where}
    if match := re.fullmatch(r"(.+):(\d+):(\d+)", problem.where):
        out |= {"file": match[1], "line": int(match[2]), "column": int(match[3])}
    return {**out, "path": problem.path, "message": problem.message, "excerpt": problem.excerpt}
