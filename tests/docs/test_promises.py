"""The page of promises names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "docs" / "promises.md").read_text()
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)


def test_every_test_that_holds_a_promise_is_there():
    assert len(NAMED) > 50
    missing = []
    for path, name in NAMED:
        file = TESTS / path
        names = {
            node.name
            for node in ast.walk(ast.parse(file.read_text() if file.exists() else ""))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        if name not in names:
            missing.append(f"{path}::{name}")
    assert missing == []


def test_every_promise_names_a_test():
    rows = [
        line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise |")
    ]
    assert len(rows) > 40
    assert [row for row in rows if "::test_" not in row.rsplit("|", 2)[1]] == []
