"""A disk that is full, and one that fails: the application goes on, and nothing wrong is read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def lived(command: list[str], path: Path, limit: int) -> str:
    done = subprocess.run(
        [*command, sys.executable, "-m", "faults.full", str(path / "cache.db"), str(limit)],
        capture_output=True, text=True, cwd=TESTS, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.startswith("well ")
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are set as POSIX has it")
def test_on_a_full_disk_nothing_wrong_is_read_and_once_there_is_room_all_is_written(tmp_path):
    lived([], tmp_path, 300_000)


def traces() -> bool:
    """Whether system calls can be made to fail here."""
    strace = shutil.which("strace")
    if strace is None:
        return False
    probe = [strace, "-qq", "-e", "trace=none", sys.executable, "-c", ""]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("call", "when"), [("pwrite64", "60+23"), ("fdatasync", "2+3"), ("pread64", "60+23")]
)
def test_where_system_calls_fail_now_and_then_nothing_wrong_is_read(tmp_path, call, when):
    if not traces():
        pytest.skip("strace is not here, or may not trace")
    trace = tmp_path / "trace"
    failing = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={call}"]
    lived([*failing, "-e", f"inject={call}:error=EIO:when={when}"], tmp_path, 0)
    assert "(INJECTED)" in trace.read_text(errors="replace")
