"""Pickle, for values that nothing else takes: opt-in, and never read before its signature holds.

Whoever can write pickles into a store runs code in each process that reads them. So each is signed with a
key that the store doesn't have, together with its place and its life: key, namespace, stamps, tags.
"""

from __future__ import annotations

import hmac
import pickle
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b, sha256
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from tiercache import Context, Serializer, SerializerConfig, Undecodable, Unserializable, hookimpl

_PROTOCOL: Final = 5
_ID: Final = 8
_MAC: Final = 32
_SHORTEST: Final = 16

_Algorithm = Literal["blake2b", "hmac-sha256"]


def _blake2b(key: bytes, about: bytes, data: bytes) -> bytes:
    mac = blake2b(about, key=key, digest_size=_MAC)
    mac.update(data)
    return mac.digest()


def _hmac_sha256(key: bytes, about: bytes, data: bytes) -> bytes:
    mac = hmac.new(key, about, sha256)
    mac.update(data)
    return mac.digest()


_ALGORITHMS: Final[Mapping[str, Callable[[bytes, bytes, bytes], bytes]]] = MappingProxyType({
    "blake2b": _blake2b,
    "hmac-sha256": _hmac_sha256,
})  # fmt: skip


class _Signer:
    """One key with one algorithm."""

    __slots__ = ("_key", "_sign", "id")

    def __init__(self, secret: SecretStr, algorithm: str) -> None:
        # Whatever its length: blake2b takes at most 64 bytes.
        self._key = blake2b(secret.get_secret_value().encode(), person=b"tiercache-seal").digest()
        self._sign = _ALGORITHMS[algorithm]
        self.id = self._sign(self._key, b"id of ", algorithm.encode())[:_ID]
        """Says which key signed, and nothing else about it."""

    def mac(self, about: bytes, data: bytes) -> bytes:
        """Return the signature of both; the length in front keeps one from passing for the other."""
        return self._sign(self._key, b"%d:%b" % (len(about), about), data)


class PickleSerializer:
    """Pickle behind a seal: id of the key, signature, payload. *keys* begins with the one that signs."""

    __slots__ = ("_signer", "_signers")

    def __init__(self, keys: Iterable[SecretStr], algorithm: str) -> None:
        keys = tuple(keys)
        self._signer = _Signer(keys[0], algorithm)
        # Under each algorithm, so that what was signed before the option changed stays readable.
        signers = [_Signer(key, name) for key in keys for name in _ALGORITHMS]
        self._signers = {signer.id: signer for signer in signers}

    def dumps(self, value: Any) -> bytes:
        """Return *value* as a pickle. Raises Unserializable with pickle's own reason."""
        try:
            return pickle.dumps(value, protocol=_PROTOCOL)
        except Exception as error:
            raise Unserializable(f"value: {type(value).__qualname__} can't be pickled: {error}") from error

    def loads(self, data: bytes) -> Any:
        """Return the value of *data*, which runs whatever it says: `unseal` must have passed it before."""
        try:
            return pickle.loads(data)  # noqa: S301 - the kernel unseals first, and refuses frames without seal
        except Exception as error:
            raise Undecodable(f"a signed pickle that can't be read: {type(error).__name__}") from error

    def seal(self, data: bytes, about: bytes) -> bytes:
        """Return *data* behind the id of the key and the signature over *about* and *data*."""
        return b"".join((self._signer.id, self._signer.mac(about, data), data))

    def unseal(self, data: bytes, about: bytes) -> bytes:
        """Return what was sealed. Raises Undecodable where the signature doesn't hold for *about*."""
        signer = self._signers.get(data[:_ID])
        if signer is None:
            raise Undecodable("signed with a key that is not among the configured ones")
        payload = data[_ID + _MAC :]
        if not hmac.compare_digest(signer.mac(about, payload), data[_ID : _ID + _MAC]):
            raise Undecodable("the signature does not hold: forged, damaged, or moved from elsewhere")
        return payload


class PickleConfig(SerializerConfig):
    """Pickle of any picklable value, signed. Only where nothing else will do: a stolen key is a way to run
    code in every process of the cache.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    type: Literal["pickle"] = "pickle"
    key: SecretStr = Field(
        description="What entries are signed with: at least 16 bytes, best random, never beside the data."
    )
    algorithm: _Algorithm = Field("blake2b", description="How entries are signed.")
    previous_keys: tuple[SecretStr, ...] = Field(
        (), description="Keys that entries may still be signed with, while a new key takes over."
    )

    @field_validator("key")
    @classmethod
    def _long_enough(cls, key: SecretStr) -> SecretStr:
        if (length := len(key.get_secret_value().encode())) < _SHORTEST:
            raise ValueError(f"a signing key has at least {_SHORTEST} bytes; this one has {length}")
        return key

    @field_validator("previous_keys")
    @classmethod
    def _all_long_enough(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            cls._long_enough(key)
        return keys

    @model_validator(mode="after")
    def _no_key_twice(self) -> PickleConfig:
        keys = [key.get_secret_value() for key in (self.key, *self.previous_keys)]
        if len(set(keys)) < len(keys):
            raise ValueError('"previous_keys" holds a key twice, or the current one')
        return self

    def build(self, context: Context) -> Serializer:
        """Return the serializer."""
        del context
        return PickleSerializer((self.key, *self.previous_keys), self.algorithm)


@hookimpl
def tiercache_serializers() -> Iterable[type[SerializerConfig]]:
    """Return the serializer type of this module."""
    return [PickleConfig]
