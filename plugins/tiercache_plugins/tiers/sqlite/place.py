"""Where the database lies: who may touch it, who holds its lock, where a broken one goes."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tiercache import TierError, TierRefused

_HOPELESS: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
)
"""What waiting will not mend."""
COMPANIONS: Final = ("-wal", "-shm", "-lock")
_MARK: Final = b"tiercache 2\n"
"""What the lock file holds: whose the database is, and its schema."""


class Place:
    """A database file and what lies beside it.

    One lock file is held around every transaction that writes and every checkpoint, by all processes:
    SQLite before 3.51.3 can lose a write-ahead log that one connection restarts while another checkpoints.
    It also queues writers without the sleeps of SQLite's own busy handler.
    """

    __slots__ = ("_fd", "path", "patience", "shut", "text")

    def __init__(self, path: Path, patience: float) -> None:
        self.path = path
        self.text = os.fspath(path)
        self.patience = patience
        """Seconds to wait for the lock."""
        self.shut = False
        """Set from another thread to end a wait for the lock early."""
        self._fd = -1

    def prepare(self) -> bool:
        """Make directories, the lock file and an empty database where they are missing, for the owner alone.

        Return whether the lock file said before that the database is ours, of this schema. Raises
        TierRefused where somebody else could reach or replace the files.
        """
        try:
            return self._prepare()
        except OSError as error:
            if error.errno in _HOPELESS:
                raise TierRefused(
                    f"{self.text}: {error.strerror}; a path in a directory that may be written to is accepted"
                ) from error
            raise

    def _prepare(self) -> bool:
        self._check_directory()
        for companion in ("", *COMPANIONS):
            self._check_file(Path(self.text + companion))
        self.shut = False
        if self._fd < 0:
            self._fd = os.open(
                self.text + "-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        ours = os.pread(self._fd, len(_MARK), 0) == _MARK
        # SQLite gives its companions the mode of the database. With O_EXCL this never opens one that a
        # connection of this process has open: closing it would drop that connection's locks.
        with suppress(FileExistsError):
            os.close(
                os.open(self.text, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            )
        return ours

    def claim(self) -> None:
        """Write into the lock file that the database is ours."""
        os.pwrite(self._fd, _MARK, 0)

    def identity(self) -> tuple[int, int] | None:
        """Return what tells the file from another of the same name; None where there is none."""
        try:
            found = os.stat(self.text)  # noqa: PTH116 - on the way of every batch
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock. Raises TierError where it can't be had in time."""
        if self._fd < 0:
            raise TierError(f"{self.text}: not open")
        deadline = time.monotonic() + self.patience
        pause = 0.0005
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self.shut or time.monotonic() > deadline:
                    raise TierError(
                        f"{self.text}: another process held the lock for {self.patience:g} s"
                    ) from None
                time.sleep(pause)
                pause = min(pause * 2, 0.016)
            else:
                break
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def release(self) -> None:
        """Close the lock file. After a fork the parent's lock is not touched by it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def put_aside(self, stamp: int) -> Path:
        """Rename the database to `NAME.corrupt-STAMP`, in place of an earlier one; return that path.

        The log goes first: a new database that finds the old one's log would replay it.
        """
        for old in self.path.parent.glob(f"{self.path.name}.corrupt-*"):
            if stat.S_ISREG(old.lstat().st_mode):
                old.unlink(missing_ok=True)
        aside = f"{self.text}.corrupt-{stamp}"
        for companion in ("-wal", "-shm", ""):
            try:
                os.rename(self.text + companion, aside + companion)  # noqa: PTH104 - text all along
            except FileNotFoundError:
                continue
        return Path(aside)

    def _check_directory(self) -> None:
        directory = self.path.parent
        missing = [step for step in (directory, *directory.parents) if not step.exists()]
        for step in reversed(missing):
            step.mkdir(mode=0o700, exist_ok=True)
        found = directory.stat()
        if found.st_uid not in {os.geteuid(), 0}:
            raise TierRefused(
                f"{directory}: the directory belongs to user {found.st_uid}, who could replace the cache; "
                "a directory of the user who runs this is accepted"
            )
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            raise TierRefused(
                f"{directory}: everybody may write to the directory and replace the cache; "
                "a directory that only its owner may write to is accepted"
            )

    def _check_file(self, path: Path) -> None:
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):
            what = (
                "a symbolic link"
                if stat.S_ISLNK(found.st_mode)
                else "a directory"
                if stat.S_ISDIR(found.st_mode)
                else "no regular file"
            )
            raise TierRefused(f"{path}: it is {what}; the path of a file of its own is accepted")
        if found.st_uid != os.geteuid():
            raise TierRefused(f"{path}: the file belongs to user {found.st_uid}; one's own is accepted")
        if found.st_mode & 0o077:
            path.chmod(0o600)
