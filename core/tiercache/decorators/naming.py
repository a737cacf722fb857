"""From the arguments of a call to its key and tags."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from tiercache.decorators.arguments import ACCEPTED, text
from tiercache.decorators.template import Template
from tiercache.errors import InvalidKey
from tiercache.keys import LONGEST, check_key

KEPT: Final = 200
"""Characters of a key that is too long which stay readable in front of its hash."""

Slots = tuple[Any, ...]
"""The values of all parameters, in the order of the signature, defaults filled in."""


class Naming:
    """How the calls of one function are told apart.

    By default the key is `module.qualname@version(arguments)`. A *key* that is text is a template; one that
    is callable gets the arguments of the call.
    """

    __slots__ = ("_head", "_key", "_keyed", "_names", "_tags", "_title", "_version", "memoised")

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Mapping[str, inspect.Parameter],
        *,
        key: str | Callable[..., str] | None,
        tags: Iterable[str] | Callable[..., Iterable[str]],
        ignore: Sequence[str],
        version: int | str,
    ) -> None:
        self._title = f"{function.__module__}.{function.__qualname__}"
        self._names = tuple(parameters)
        known = {name: parameter.annotation for name, parameter in parameters.items()}
        self._version = str(version)
        self._head = f"{self._title}@{self._version}("
        self._key: Template | Callable[..., str] | None
        self._key = Template(key, known) if isinstance(key, str) else key
        self._keyed = tuple(at for at, name in enumerate(parameters) if name not in ignore)
        self._tags: Callable[..., Iterable[str]] | tuple[Template, ...]
        if isinstance(tags, str):
            raise TypeError(f"tags must be a collection of str; for one tag write ({tags!r},)")
        self._tags = tags if callable(tags) else tuple(Template(tag, known) for tag in tags)
        self.memoised: tuple[str, ...] | None = None
        """The parameters that alone decide the key, where the same values always give the same key."""
        if isinstance(self._key, Template):
            self.memoised = tuple(name for name in self._names if name in self._key.names)
        elif self._key is None:
            self.memoised = tuple(self._names[at] for at in self._keyed)
        # A version that is given must change every key, whoever wrote it.
        self._check_version()

    def _check_version(self) -> None:
        try:
            check_key(self._version)
        except InvalidKey as error:
            raise ValueError(f"{self._title}: version must be an int or a short text: {error}") from None

    def key(self, slots: Slots, arguments: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]) -> str:
        """Return the key of a call; *arguments* gives them as a callable wants them.

        Raises TypeError for an argument that can't be told from others, InvalidKey for an empty key.
        """
        if self._key is None:
            return fitting(f"{self._head}{','.join([self._told(at, slots[at]) for at in self._keyed])})")
        if isinstance(self._key, Template):
            made = self._key(dict(zip(self._names, slots, strict=True)))
        else:
            args, kwargs = arguments()
            made = self._key(*args, **kwargs)
            if not isinstance(made, str):
                raise InvalidKey(
                    f"{self._title}: the key function returned {type(made).__name__}; str is accepted"
                )
        if self._version != "1" and made:
            made = f"{made}@{self._version}"
        return fitting(made)

    def tags(
        self, slots: Slots, arguments: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]
    ) -> tuple[str, ...]:
        """Return the tags of a call."""
        if not self._tags:
            return ()
        if isinstance(self._tags, tuple):
            named = dict(zip(self._names, slots, strict=True))
            return tuple(fitting(template(named)) for template in self._tags)
        args, kwargs = arguments()
        return tuple(self._tags(*args, **kwargs))

    def _told(self, at: int, value: Any) -> str:
        try:
            return text(value)
        except TypeError as error:
            name = self._names[at]
            raise TypeError(
                f"{self._title}: the argument {name!r} holds a {error}, which makes no key; accepted are "
                f'{ACCEPTED}. Leave it out with ignore=("{name}",), or give key= what tells calls apart'
            ) from None


def fitting(key: str) -> str:
    """Return *key*; where it is too long or has control characters, its beginning and a hash of all of it."""
    try:
        check_key(key)
    except InvalidKey:
        if not key:
            raise
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        kept = "".join([char if char.isprintable() else "?" for char in key[:KEPT]])
        assert len(kept.encode()) + 33 <= LONGEST
        return f"{kept}#{digest}"
    return key
