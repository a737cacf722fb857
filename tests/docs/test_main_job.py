"""The main job, as `scripts/run` runs it, on the pipeline that ships."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
JOB = ROOT / "docs" / "examples" / "stdlib_index.py"


def job(path, *options):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TIERCACHE_")}
    environ["TIERCACHE_TIER__DISK__PATH"] = str(path)
    done = subprocess.run(
        [sys.executable, JOB, "--requests", "900", *options],
        capture_output=True, text=True, env=environ, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def row(printed, name):
    (line,) = (line for line in printed.splitlines() if line.strip().startswith(name) and "━" not in line)
    return [float(cell) for cell in re.findall(r"[\d.]+(?:e[+-]?\d+)?", line.replace(",", ""))]


def test_a_second_run_is_served_from_the_disk_of_the_first_and_then_through_redis(tmp_path, valkey_server):
    path = tmp_path / "cache.sqlite3"
    first = job(path)
    requests, _, _, _, _, disk, loads, _ = row(first, "first pass")
    assert (requests, disk) == (900, 0)
    assert loads > 100
    assert row(first, "second pass")[4:7] == [900, 0, 0]
    second = job(path)
    assert row(second, "first pass")[5:7] == [loads, 0]
    assert "everything was still on disk" in second
    through = job(path, "--redis", valkey_server.url)
    assert row(through, "first pass")[5:8] == [loads, 0, 0]
    again = job(tmp_path / "another.sqlite3", "--redis", valkey_server.url)
    assert row(again, "first pass")[5:8] == [0, loads, 0]


def test_what_is_wrong_is_told_and_ends_with_two(tmp_path):
    done = subprocess.run(
        [sys.executable, JOB, "--redis", "http://nowhere"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "tier.redis.url" in done.stdout
    assert "Traceback" not in done.stderr
