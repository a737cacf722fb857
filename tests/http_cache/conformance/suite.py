"""Runs the public suite `http-cache-tests` against the cache, and counts as the suite's own pages do.

    python tests/http_cache/conformance/suite.py            # the figures by category
    python tests/http_cache/conformance/suite.py --id NAME  # one test, with all that was sent
    python tests/http_cache/conformance/suite.py --outgoing # the cache of outgoing calls, behind a proxy

Node has to be there. The suite is taken from the directory that HTTP_CACHE_TESTS names, or is installed by
npm into a temporary one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from servers import free_port, wait_until

PROXY = Path(__file__).with_name("proxy.py")
PACKAGE = "http-cache-tests@0.4.5"
LISTING = """
import tests from '%(root)s/tests/index.mjs'
import surrogate from '%(root)s/tests/surrogate-control.mjs'
const out = []
for (const suite of [...tests, surrogate]) {
  for (const test of suite.tests) {
    if (test.browser_only) continue
    out.push({suite: suite.name, id: test.id, kind: test.kind || 'required', needs: test.depends_on || []})
  }
}
console.log(JSON.stringify(out))
"""


class Missing(Exception):
    """What the suite needs is not here."""


@dataclass(frozen=True)
class Verdict:
    """How one test came out: "pass", "fail", "setup" or "needs", the last where what it builds on failed."""

    id: str
    suite: str
    kind: str
    outcome: str
    why: str


@contextlib.contextmanager
def installed() -> Iterator[Path]:
    """Yield the directory of the suite. Raises Missing."""
    if shutil.which("node") is None:
        raise Missing("node is not on PATH")
    if given := os.environ.get("HTTP_CACHE_TESTS"):
        yield Path(given)
        return
    if shutil.which("npm") is None:
        raise Missing("npm is not on PATH, and HTTP_CACHE_TESTS names no directory of the suite")
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE],
            cwd=directory, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Missing(f"npm could not install the suite: {done.stderr[-300:]}")
        yield Path(directory) / "node_modules" / "http-cache-tests"


@contextlib.contextmanager
def served(root: Path, options: tuple[str, ...] = ()) -> Iterator[int]:
    """Yield the port of the cache, with the suite's origin behind it; *options* are the proxy's."""
    origin, port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as directory:
        environment = os.environ | {
            "npm_config_protocol": "http", "npm_config_port": str(origin),
            "npm_config_pidfile": f"{directory}/pid",
        }  # fmt: skip
        with (Path(directory) / "log").open("w+") as log:
            node = subprocess.Popen(
                ["node", "--no-warnings", "server/server.mjs"],
                cwd=root,
                env=environment,
                stdout=log,
                stderr=log,
            )
            proxy = subprocess.Popen(
                [sys.executable, str(PROXY), f"--port={port}", f"--origin={origin}", *options],
                stdout=log, stderr=log,
            )  # fmt: skip
            try:
                for where in (origin, port):
                    wait_until(lambda where=where: listens(where), f"a server on port {where}")
                yield port
            finally:
                for process in (proxy, node):
                    process.kill()
                    process.wait()
                log.seek(0)
                if "Traceback" in (said := log.read()):
                    print(said[said.index("Traceback") :][:4000], file=sys.stderr)


def listens(port: int) -> bool:
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def run(root: Path, port: int, test: str = "") -> str:
    environment = os.environ | {
        "npm_config_base": f"http://127.0.0.1:{port}",
        "npm_config_id": test,
        "npm_package_config_id": "",
    }
    done = subprocess.run(
        ["node", "--no-warnings", "cli.mjs"],
        cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return done.stdout


def listing(root: Path) -> list[dict[str, Any]]:
    code = LISTING % {"root": root.resolve().as_posix()}
    done = subprocess.run(
        ["node", "--input-type=module", "--no-warnings", "-e", code],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def judged(tests: list[dict[str, Any]], results: dict[str, Any]) -> list[Verdict]:
    """Count as the suite's own pages do: a test whose ground is missing is neither passed nor failed."""
    known = {test["id"]: test for test in tests}

    def outcome(name: str) -> tuple[str, str]:
        if name not in known:
            return "needs", f"{name} is not part of the suite"
        for needed in known[name]["needs"]:
            if outcome(needed)[0] != "pass":
                return "needs", f"builds on {needed}"
        result = results.get(name, ["Missing", "never ran"])
        if result is True:
            return "pass", ""
        return ("setup" if result[0] == "Setup" else "fail"), str(result[1])

    return [Verdict(test["id"], test["suite"], test["kind"], *outcome(test["id"])) for test in tests]


def measured(options: tuple[str, ...] = ()) -> list[Verdict]:
    """Run the suite. Raises Missing."""
    with installed() as root, served(root, options) as port:
        return judged(listing(root), json.loads(run(root, port)))


def table(verdicts: list[Verdict]) -> str:
    """Return the figures by category, as the page shows them."""
    suites = list(dict.fromkeys(verdict.suite for verdict in verdicts))
    lines = ["| category | required | failed | optimal | checks: yes |", "|---|---|---|---|---|"]
    counts = Counter((v.suite, v.kind, v.outcome) for v in verdicts)
    totals = Counter((v.suite, v.kind) for v in verdicts)
    for v in verdicts:
        counts["all", v.kind, v.outcome] += 1
        totals["all", v.kind] += 1
    for suite in (*suites, "all"):

        def share(kind: str, suite: str = suite) -> str:
            total = totals[suite, kind]
            return f"{counts[suite, kind, 'pass']} of {total}" if total else "–"

        lines.append(
            f"| {suite} | {share('required')} | {counts[suite, 'required', 'fail']} | {share('optimal')} | "
            f"{share('check')} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the figures, or what one test did."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--id", default="")
    parser.add_argument("--outgoing", action="store_true", help="the cache of a client instead")
    arguments = parser.parse_args()
    options = ("--outgoing",) if arguments.outgoing else ()
    if arguments.id:
        with installed() as root, served(root, options) as port:
            print(run(root, port, arguments.id))
        return
    verdicts = measured(options)
    print(table(verdicts))
    for verdict in verdicts:
        if verdict.outcome != "pass":
            print(f"{verdict.kind:8} {verdict.outcome:5} {verdict.id}: {verdict.why}")


if __name__ == "__main__":
    main()
