"""docs/summary.md has a row for every line of the summary, and every name and test in it exists."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/summary.md").read_text(encoding="utf-8")
ASKED = Path(__file__).with_name("summary.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| asked for")
]
NAME = re.compile(r"`(tiercache[\w.]*:[\w.]+)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def sections(text):
    """Return the bullets of *text* by section, as "section: bullet"; code is no text."""
    found, heads = [], ["", ""]
    for line in re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL).splitlines():
        if line.startswith("## "):
            heads = [line[3:], ""]
        elif line.startswith("### "):
            heads[1] = re.sub(r"^\d+\. ", "", line[4:])
        elif bullet := re.match(r"(?:- |\d+\. )(?:\*\*(.+?)\*\*|(.+))", line):
            found.append((": ".join(head for head in heads if head), bullet[1] or bullet[2]))
    return found


def rows_by_section():
    found, head = [], ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            head = line[3:]
        elif line.startswith("| ") and not line.startswith("| asked for"):
            found.append((head, line.strip("|").split("|")[0].strip()))
    return found


@cache
def functions_of(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_every_line_of_the_summary_has_its_row_and_every_row_its_line():
    assert rows_by_section() == sections(ASKED)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_names_and_tests_of_a_row_exist(row):
    asked, does, shown = row
    names, tests = NAME.findall(does), TEST.findall(shown)
    assert names, f"{asked}: nothing does it"
    assert tests, f"{asked}: nothing shows it"
    for name in names:
        module, _, path = name.partition(":")
        # A pydantic field is no attribute of its class; no row names one.
        attrgetter(path)(importlib.import_module(module))
    for path, test in tests:
        assert test in functions_of(path), f"{path} has no {test}"
