"""The examples of the integrations print what their integrations promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
PRINTED = {
    "templates": """\
        priced 1
        Hello Ada.
        &lt;2 things&gt;
        Hello Bob.
        &lt;2 things&gt;
        priced 1
        Hello Ada.
        &lt;3 things&gt;
        rendered welcome
        Dear Ada
        Dear Ada
    """,
    "assets": """\
        served as /style.4357cbbe4edae435.css
        304 for a client that has it: True
        before a release: b'p { color: green }'
        after it: b'p { color: blue }'
        304 now: False
        refused: '/../secret' is no path of an asset
    """,
    "configuration": """\
        found: {'uploads': 5}
        changed: {'uploads': 9}
        all: {'colour': 'green', 'limits': {'uploads': 9}}
        dropped: none
    """,
    "database_functions": """\
        asked for Lem
        ['Solaris']
        ['Solaris']
        asked for Lem
        ['Fiasco', 'Solaris']
        queries: 2
    """,
}


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_prints_what_was_promised(name):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.split() == PRINTED[name].split()
