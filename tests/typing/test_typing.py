"""Type checkers see decorated functions as they were, and mistakes as mistakes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
READ = [Path(__file__).with_name(name) for name in ("api.py", "advanced.py")]


def test_mypy_reads_the_public_names_as_they_are_meant():
    if find_spec("mypy") is None:
        pytest.skip("mypy is not installed here")
    # An expected mistake that is none is an error too: --strict warns of ignores that nothing needs.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml", *map(str, READ)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(READ)} source files" in done.stdout


def test_pyright_reads_the_public_names_as_they_are_meant(tmp_path):
    if find_spec("pyright") is None:
        pytest.skip("pyright is not installed here")
    # It takes no path outside of the directory of its settings.
    for path in READ:
        shutil.copy(path, tmp_path)
    settings = {
        "include": [path.name for path in READ],
        "extraPaths": [str(ROOT / "core"), str(ROOT / "plugins")],
        "strict": ["**"],
        "enableTypeIgnoreComments": False,
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    told = json.loads(done.stdout)
    assert [
        (each["range"]["start"]["line"] + 1, each["message"]) for each in told["generalDiagnostics"]
    ] == []
    assert told["summary"]["filesAnalyzed"] == len(READ)
