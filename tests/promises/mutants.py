"""Breaks a copy of the package on purpose: without the line that a promise hangs on, its test must fail.

    .venv/bin/python tests/promises/mutants.py [WORD …]

tries those whose test or file has one of the words in its name, or all, and prints what became of each.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("core/tiercache", "plugins/tiercache_plugins")
FOLDER = "tests/promises"
SECONDS = 150.0
"""After which a test that hangs has failed, too."""


@dataclass(frozen=True)
class Edit:
    """In *file*, *old* gives way to *new*."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A package that *test* must not pass with. Where two lines guard a promise, both are taken away."""

    test: str
    edits: tuple[Edit, ...]

    @property
    def name(self) -> str:
        """Return what tells it from others in a report."""
        return f"{self.test.partition('::')[2]}-{Path(self.edits[0].file).stem}"


@contextmanager
def copied(edits: tuple[Edit, ...] = ()) -> Iterator[Path]:
    """Copy the package, with *edits*, and return where it is."""
    with tempfile.TemporaryDirectory(prefix="tc-mutant-") as directory:
        for source in SOURCES:
            shutil.copytree(ROOT / source, Path(directory, source))
        for edit in edits:
            path = Path(directory, edit.file)
            path.write_text(edited(path.read_text(), edit))
            for stale in path.parent.glob(f"__pycache__/{path.stem}.*"):
                stale.unlink()
        yield Path(directory)


def edited(text: str, edit: Edit) -> str:
    """Return *text* with *edit*. Raises ValueError unless what it replaces stands there exactly once."""
    count = text.count(edit.old)
    if count != 1:
        raise ValueError(f"{edit.file}: {edit.old!r} stands there {count} times, not once")
    return text.replace(edit.old, edit.new)


def tried(test: str, edits: tuple[Edit, ...] = ()) -> tuple[int, str]:
    """Run *test* on the package with *edits*; return pytest's exit code and what it said."""
    with copied(edits) as directory:
        paths = os.pathsep.join(str(Path(directory, source).parent) for source in SOURCES)
        # A session of its own, so that what a test has started ends with it, however it hangs.
        process = subprocess.Popen(
            [
                sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow",
                "--tb=line", f"{FOLDER}/{test}",
            ],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env=os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return 1, f"hung for {SECONDS:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, said


def main(words: list[str]) -> int:
    """Try the mutants that *words* name; return how many survived."""
    from promises.mutations import MUTANTS

    chosen = [each for each in MUTANTS if not words or any(word in each.name + each.test for word in words)]
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, (code, said) in zip(
            chosen, pool.map(lambda each: tried(each.test, each.edits), chosen), strict=True
        ):
            survivors += code != 1
            print(f"{'killed' if code == 1 else f'SURVIVED ({code})'}  {mutant.name}", flush=True)
            if code != 1:
                print(said[-1500:], file=sys.stderr)
    print(f"{len(chosen) - survivors} of {len(chosen)} were noticed")
    return survivors


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.exit(main(sys.argv[1:]) > 0)
