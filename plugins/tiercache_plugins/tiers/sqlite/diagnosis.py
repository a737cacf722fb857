"""What commonly goes wrong with a file, looked at for `tiercache doctor`."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tiercache import Diagnosis

RACE_FIXED: Final = (3, 51, 3)
"""The first SQLite that can't lose a write-ahead log which is restarted while another checkpoints."""
NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs"})
"""File systems whose locks are not to be relied on."""
MEMORY: Final = frozenset({"tmpfs", "ramfs"})


def diagnose(connection: sqlite3.Connection, path: Path, max_bytes: int) -> list[Diagnosis]:
    """Look at the file at *path*, which *connection* has open."""
    return [
        _version(),
        _journal(connection),
        *_file_system(path),
        *_permissions(path),
        _room(path, max_bytes),
    ]


def _version() -> Diagnosis:
    if sqlite3.sqlite_version_info < RACE_FIXED:
        return Diagnosis(
            "ok", "version",
            f"SQLite {sqlite3.sqlite_version}; before 3.51.3 it can lose a log that two processes end at "
            "once, which the lock file beside the database prevents",
        )  # fmt: skip
    return Diagnosis("ok", "version", f"SQLite {sqlite3.sqlite_version}")


def _journal(connection: sqlite3.Connection) -> Diagnosis:
    (found,) = connection.execute("PRAGMA journal_mode").fetchone()
    mode = found.decode() if isinstance(found, bytes) else str(found)
    if mode != "wal":
        return Diagnosis(
            "problem",
            "journal",
            f"the journal mode is {mode}, not wal: readers and writers wait for each other",
        )
    return Diagnosis("ok", "journal", "write-ahead log")


def _file_system(path: Path) -> Iterator[Diagnosis]:
    kind = file_system(path)
    if kind in NETWORK:
        yield Diagnosis(
            "problem", "file system", f"{kind} is a network's: its locks may fail, and the file be damaged; "
            "a local disk is needed",
        )  # fmt: skip
    elif kind in MEMORY:
        yield Diagnosis(
            "warning", "file system", f"{kind} is memory: the file is lost when the host restarts"
        )
    elif kind:
        yield Diagnosis("ok", "file system", kind)


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the kind of file system that *path* lies on; empty where the system does not tell."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    place = os.path.realpath(path)
    best = ("", "")
    for line in lines:
        _, at, kind, *_ = line.split(" ")
        inside = place == at or place.startswith(at.rstrip("/") + "/")
        if inside and len(at) >= len(best[0]):
            best = (at, kind)
    return best[1]


def _permissions(path: Path) -> Iterator[Diagnosis]:
    about = path.stat()
    if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Diagnosis(
            "warning",
            "permissions",
            f"others may reach the file (mode {about.st_mode & 0o777:03o}); 600 is usual",
        )
    else:
        yield Diagnosis("ok", "permissions", "the owner alone")


def _room(path: Path, max_bytes: int) -> Diagnosis:
    free = shutil.disk_usage(path.parent).free
    still = max(max_bytes - path.stat().st_size, 0)
    if free < still:
        return Diagnosis(
            "warning",
            "room",
            f"{free:,} bytes are free, and the cache may still grow by {still:,} (max_bytes)",
        )
    return Diagnosis("ok", "room", f"{free:,} bytes are free")
