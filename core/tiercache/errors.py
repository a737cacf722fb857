"""Everything that tiercache raises.

TiercacheError
├── ConfigError             the configuration has problems; `.problems` lists them all
├── PluginError             an installed plugin is broken, or two claim the same name
├── InvalidKey              not a key: also a ValueError
├── CodecError              a value and its bytes do not meet
│   ├── Unserializable      the value can't be stored without loss: also a TypeError
│   └── Undecodable         the bytes are not what they claim to be; never leaves the kernel
├── TierError               a far tier failed: a miss, or a skipped write
│   └── TierRefused         it will never work as configured; raised at start
├── TierUnavailable         the tier that alone may answer can't; nothing was guessed
├── Unsupported             the tier that alone may answer has no such ability
├── LoadError               a loader did not bring a value, for a reason of its own making
│   ├── LoadCycle           a load asked for a key that waits for that very load
│   ├── LoadCancelled       the load was cancelled, but none of its callers was
│   └── LoadTimeout         the load takes longer than its callers wait: also a TimeoutError
├── LockError               a lock can't be had
│   └── LockTimeout         it was not free in time: also a TimeoutError
└── CacheClosed             the cache is not open
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class TiercacheError(Exception):
    """Base of all errors of tiercache."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration."""

    where: str
    """`file:line:column`, or the name of what set the value, such as `environment TIERCACHE_…`."""
    path: str
    """Dotted key path, such as `tier.memory.max_entries`; empty where the whole document is meant."""
    message: str
    """What is wrong, and what would be accepted."""
    excerpt: str = ""
    """The line of the file with a marker under the place; empty where there is no file."""

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.where, self.path, self.message) if part)
        return f"{head}\n{self.excerpt}" if self.excerpt else head


class ConfigError(TiercacheError):
    """A configuration that can't be used. All its problems are told at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        """Every problem found, in the order of the document."""
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PluginError(TiercacheError):
    """A plugin can't be used: it is broken, or its name or type is taken."""


class InvalidKey(TiercacheError, ValueError):
    """A key must be a str of 1 to 1,024 UTF-8 bytes without control characters."""


class CodecError(TiercacheError):
    """A value and its bytes do not meet."""


class Unserializable(CodecError, TypeError):
    """The value can't be stored so that it comes back equal and of the same type."""


class Undecodable(CodecError):
    """Bytes from outside are not what they claim to be. Serializers and compressors raise it; the kernel
    turns it into a miss, a counter and a deletion.
    """


class TierError(TiercacheError):
    """A far tier could not do what was asked: the kernel turns it into a miss or a skipped write."""


class TierRefused(TierError):
    """A far tier answers that it never will: wrong password, missing right, no cache file. At start."""


class TierUnavailable(TiercacheError):
    """The one tier that may answer this can't be reached; the answer was not guessed."""


class Unsupported(TiercacheError):
    """The one tier that may answer this has no such ability."""


class LoadError(TiercacheError):
    """A loader ended without a value."""


class LoadCycle(LoadError):
    """A load asked for its own key, or for one whose load waits for it: waiting would never end."""


class LoadCancelled(LoadError):
    """The load was cancelled from inside, while its callers were not."""


class LoadTimeout(LoadError, TimeoutError):
    """The load takes longer than its callers wait, and no stale copy stands in. It goes on."""


class LockError(TiercacheError):
    """A lock can't be had, such as by the task that holds it already: it would wait for itself."""


class LockTimeout(LockError, TimeoutError):
    """A lock was not free within the time that its caller would wait."""


class CacheClosed(TiercacheError, RuntimeError):
    """The cache has not been started, or is closed."""
