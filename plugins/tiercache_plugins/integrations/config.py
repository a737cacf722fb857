"""Flat settings of the integrations."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from tiercache import Duration
from tiercache_plugins.advanced import CacheConfig, CacheType

SESSIONS: Final = "session"
"""The route that sessions travel."""


def _prefix(value: str) -> str:
    if not 1 <= len(value) <= 64 or not value.isascii() or not value.isprintable():
        raise ValueError(f"{value[:80]!r} is no prefix; 1 to 64 printable characters of ASCII are accepted")
    if set(value) & set("#|{}*?["):
        raise ValueError(f'{value!r} is no prefix: none of # | {{ }} * ? [ is accepted in it, "name:" is')
    return value


Prefix = Annotated[str, AfterValidator(_prefix)]
"""What the keys of one integration begin with."""


class CacheIntegrationConfig(BaseSettings):
    """Which integrations there are, how long what they keep is fresh, and what their keys begin with.

    Each can be given by name, or by an environment variable: `CACHE_` and the name in capitals, such as
    `CACHE_SESSION_TTL`. Durations are seconds or text such as "1h".
    """

    model_config = SettingsConfigDict(
        env_prefix="CACHE_", extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True
    )

    cache_config: CacheConfig = Field(
        default_factory=CacheConfig, description="The cache that all integrations share."
    )

    enable_fastapi_middleware: bool = Field(
        True, description="Whether `setup_fastapi_caching` puts the cache before the application."
    )
    enable_database_caching: bool = Field(
        True, description="Whether results of queries are stored; otherwise each call asks the database."
    )
    enable_api_caching: bool = Field(
        True,
        description="Whether responses that say nothing of caching are fresh for `api_cache_ttl`; otherwise "
        "only what responses say themselves counts.",
    )
    enable_session_caching: bool = Field(True, description="Whether there are sessions.")

    session_ttl: Duration = Field(3_600.0, description="How long a session lives that nobody uses.")
    session_max_age: Duration = Field(
        604_800.0, description="How long a session lives at most, however much it is used."
    )
    session_prefix: Prefix = Field("session:", description="What the keys of sessions begin with.")

    api_cache_ttl: Duration = Field(
        300.0, description="How long responses are fresh that say nothing of it and carry no credentials."
    )
    api_cache_prefix: Prefix = Field("api:", description="What the keys of responses begin with.")

    db_cache_ttl: Duration = Field(1_800.0, description="How long results of queries are fresh.")
    db_cache_prefix: Prefix = Field("db:", description="What the keys of results of queries begin with.")

    def __init__(self, **settings: Any) -> None:
        """Take *settings*. Raises pydantic's ValidationError, a ValueError, with all that is wrong."""
        super().__init__(**settings)

    def caching(self) -> CacheConfig:
        """Return the settings of the cache, with the route of the sessions where there are any.

        Their authority is asked at each read, so that one that was revoked is dead in every process. They
        live in Redis, without it on disk, and without both in the memory of this process.
        """
        config = self.cache_config
        if not self.enable_session_caching:
            return config
        tiers = list(config.tiers(CacheType.DYNAMIC))
        route: dict[str, Any] = {
            "tiers": tiers, "ttl": self.session_max_age, "sliding": self.session_ttl, "copy": True,
        }  # fmt: skip
        if tiers != ["memory"]:
            route["coherent"] = True
        given = config.tables.get("route", {})
        routes = {**given, SESSIONS: route | given.get(SESSIONS, {})}
        return config.model_copy(update={"tables": {**config.tables, "route": routes}})
