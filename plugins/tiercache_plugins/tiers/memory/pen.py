"""Who writes to a memory tier: one thread at a time, and never twice at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident
from typing import Final

LOOK: Final = 0.01
"""Seconds after which a thread that waits looks by itself whether the pen is free."""


class Pen:
    """Held by the one thread that writes.

    A finalizer may run in the middle of a write, in the thread that holds the pen, and write itself: that
    has to wait until the books are whole again, so it is put off and done by the holder afterwards.

    It is a list of one element, which is taken by `del` and given back by `append`. Both are one step of the
    interpreter, and no signal is handled between the first and the `try` that follows it, so an interrupt
    can't leave the pen lost. Taking and giving back cost 50 ns; an RLock in a `with` costs 130, a tenth of
    an insertion that evicts. For that, the most frequent write has `take` and `give` written out.
    """

    __slots__ = ("free", "holder", "later")

    def __init__(self) -> None:
        self.free: list[None] = [None]
        """Empty while somebody writes."""
        self.holder = 0
        """The thread that writes, as `get_ident` has it; 0: none."""
        self.later: list[Callable[[], object]] = []
        """What is to be done once the pen is free: writes put off, and threads to be woken."""

    def take(self, operation: Callable[[], object] | None = None) -> bool:
        """Take the pen, and return True; wait for it where another thread has it.

        Return False where this thread has it already; then *operation* will be done once it is free. A `try`
        that ends in `give` must follow at once.
        """
        me = get_ident()
        try:
            del self.free[0]
        except IndexError:
            return self.wait(operation)
        self.holder = me
        return True

    def wait(self, operation: Callable[[], object] | None) -> bool:
        """What `take` does where the pen is not free."""
        me = get_ident()
        while self.holder != me:
            gate = threading.Lock()
            gate.acquire()
            # First this, then a look: whoever gives the pen back does it the other way round.
            self.later.append(gate.release)
            try:
                del self.free[0]
            except IndexError:
                gate.acquire(timeout=LOOK)
                continue
            self.holder = me
            return True
        if operation is not None:
            self.later.append(operation)
        return False

    def give(self) -> None:
        """Give the pen back, then do what was put off."""
        self.holder = 0
        self.free.append(None)
        if self.later:
            self.catch_up()

    def catch_up(self) -> None:
        """Do what was put off."""
        waiting, self.later = self.later, []
        for act in waiting:
            act()
