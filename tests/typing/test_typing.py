"""Type checkers see decorated functions as they were, and mistakes as mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
API = Path(__file__).with_name("api.py")


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_reads_the_public_names_as_they_are_meant():
    if find_spec("mypy") is None:
        pytest.skip("mypy is not installed here")
    # An expected mistake that is none is an error too: --strict warns of ignores that nothing needs.
    run(sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml", str(API))


def test_pyright_reads_the_public_names_as_they_are_meant(tmp_path):
    if find_spec("pyright") is None:
        pytest.skip("pyright is not installed here")
    settings = tmp_path / "pyrightconfig.json"
    settings.write_text(
        json.dumps({
            "include": [str(API)],
            "extraPaths": [str(ROOT / "core"), str(ROOT / "plugins")],
            "strict": ["**"],
            "enableTypeIgnoreComments": False,
            "reportUnnecessaryTypeIgnoreComment": "error",
        })
    )  # fmt: skip
    run(sys.executable, "-m", "pyright", "--project", str(settings), "--pythonpath", sys.executable)
