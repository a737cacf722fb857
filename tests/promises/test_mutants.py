"""Each promise has a test that notices when the line is gone that the promise hangs on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from promises.mutants import ROOT, edited, tried
from promises.mutations import MUTANTS

HERE = Path(__file__).parent
MODULES = sorted(path for path in HERE.glob("test_*.py") if path != Path(__file__))


def promised() -> set[str]:
    """Return the ids of all tests here, without parameters."""
    return {
        f"{path.name}::{node.name}"
        for path in MODULES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_promise_has_a_mutant_and_every_mutant_a_promise():
    assert {mutant.test for mutant in MUTANTS} == promised()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_takes_away_is_there_and_python_is_left(mutant):
    texts = {edit.file: (ROOT / edit.file).read_text() for edit in mutant.edits}
    for edit in mutant.edits:
        texts[edit.file] = edited(texts[edit.file], edit)
    for file, text in texts.items():
        compile(text, file, "exec")


def test_every_promise_says_whose_failure_it_is():
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{path.name}::{node.name}"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_promise_breaks_without_its_line(mutant):
    code, said = tried(mutant.test, mutant.edits)
    assert code == 1, said


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_the_promises_hold_on_a_copy_that_nothing_was_taken_from(module):
    code, said = tried(module.name)
    assert code == 0, said
