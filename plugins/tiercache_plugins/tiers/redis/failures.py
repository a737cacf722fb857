"""The driver's errors as the kernel's: which are a miss for now, and which will never pass."""

from __future__ import annotations

import re
import ssl
from typing import Final

from redis import exceptions

from tiercache import TierError, TierRefused
from tiercache_plugins.tiers.redis.line import redirects

_SHOWN: Final = 200
# What a server quotes of a command may be a value, and a value may be a secret. What the driver quotes of its
# connections is long, and in its older releases holds the password.
_QUOTED: Final = re.compile(r"(,? with args| : <redis).*", re.DOTALL)
_TEMPORARY: Final = (
    exceptions.BusyLoadingError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.MaxConnectionsError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.TryAgainError,
)
_FOR_GOOD: Final = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    ssl.SSLCertVerificationError,
)


class Failures:
    """Converts errors of the tier *name*, leaving out whatever *secrets* names."""

    def __init__(self, name: str, secrets: tuple[str | None, ...]) -> None:
        self._where = f'tier "{name}"'
        found = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, found))) if found else None

    def error(self, cause: BaseException) -> TierError:
        """Return *cause* as what the kernel takes for a miss or a skipped write."""
        return TierError(self._text(cause))

    def evidence(self, cause: BaseException) -> BaseException | None:
        """Return *cause* for a traceback, or None where it would tell a secret."""
        secrets = self._secrets
        told = secrets is not None and any(secrets.search(str(error)) for error in _chain(cause))
        return None if told else cause

    def refusal(self, cause: BaseException) -> TierRefused | None:
        """Return the refusal that *cause* amounts to; None where it may pass by itself."""
        for error in _chain(cause):
            if isinstance(error, _FOR_GOOD):
                return TierRefused(self._text(error))
            if isinstance(error, _TEMPORARY):
                return None
            if redirects(error):
                return TierRefused(f'{self._where}: the server is a node of a cluster; set mode = "cluster"')
            if isinstance(error, exceptions.ResponseError):
                return TierRefused(self._text(error))
            if isinstance(error, exceptions.RedisClusterException) and "not enabled" in str(error):
                return TierRefused(
                    f'{self._where}: the server is no node of a cluster; set mode = "standalone"'
                )
        return None

    def _text(self, cause: BaseException) -> str:
        text = _QUOTED.sub("", str(cause))
        if self._secrets is not None:
            text = self._secrets.sub("***", text)
        text = text[:_SHOWN]
        return (
            f"{self._where}: {type(cause).__name__}: {text}"
            if text
            else f"{self._where}: {type(cause).__name__}"
        )


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
