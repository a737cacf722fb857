"""The options of the Redis tier: what is accepted, what contradicts, and that nothing tells a secret."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from tiercache.testing.tiers import Surroundings
from tiercache_plugins.tiers.redis import RedisConfig, tiercache_tiers
from tiercache_plugins.tiers.redis.address import parse, parse_node

SECRET = "s3cret-w0rd"


def problems(tmp_path: Any, **options: Any) -> dict[str, str]:
    return dict(RedisConfig(**options).check(Surroundings(tmp_path)))


def test_the_hook_offers_the_type_redis() -> None:
    assert [config.type_name() for config in tiercache_tiers()] == ["redis"]


def test_importing_the_options_imports_no_driver() -> None:
    code = (
        "import sys, tiercache_plugins.tiers.redis; sys.exit(bool({'redis', 'hiredis'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", ("localhost", None, 0, False, "")),
        ("redis://h", ("h", None, 0, False, "")),
        ("redis://h:7/3", ("h", 7, 3, False, "")),
        ("rediss://[::1]:7", ("::1", 7, 0, True, "")),
        ("unix:///run/s", ("", None, 0, False, "/run/s")),
        ("unix://u:p@/run/a%20b?db=4", ("", None, 4, False, "/run/a b")),
    ],
)
def test_a_url_says_where_the_server_is(url: str, expected: tuple[Any, ...]) -> None:
    address = parse(url)
    assert (address.host, address.port, address.db, address.tls, address.path) == expected


@given(st.text(min_size=1), st.text(min_size=1))
def test_user_and_password_may_hold_any_character(user: str, password: str) -> None:
    from urllib.parse import quote

    try:
        url = f"redis://{quote(user, safe='')}:{quote(password, safe='')}@h/1"
    except UnicodeEncodeError:
        return
    address = parse(url)
    assert (address.username, address.password, address.host, address.db) == (user, password, "h", 1)
    assert repr(address) == repr(parse("redis://h/1"))


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:6379", "http://h", "redis+sentinel://h", "redis://h:port", "redis://h:99999", "redis://h/x",
        "redis://h/1/2", "redis://h?socket_timeout=5", "redis://h#1", "unix://", "unix:///s?db=x", "unix:///s?x=1",
        "redis://[::1", "redis://h/²",
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    told = url.replace("://", f"://user:{SECRET}@", 1) if "://" in url else url + SECRET
    with pytest.raises(ValidationError) as caught:
        RedisConfig(url=told)
    assert SECRET not in str(caught.value)
    assert "redis://host:6379/0" in str(caught.value)


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    for read in (parse, parse_node):
        try:
            read(text)
        except ValueError:
            continue


@pytest.mark.parametrize("node", ["", ":1", "h:x", "h:99999", "u@h:1", "h/1", "/h", "a b:1/"])
def test_what_is_no_node_is_refused(node: str) -> None:
    with pytest.raises(ValidationError, match="host:port"):
        RedisConfig(mode="cluster", nodes=(node,))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"nodes": ("a:1", "b")}, (("a", 1), ("b", 6379))),
        ({"nodes": ("[::1]:5",)}, (("::1", 5),)),
        ({"url": "redis://h"}, (("h", 6379),)),
        ({"url": "redis://h:9/1"}, (("h", 9),)),
        ({"url": "redis://h", "mode": "sentinel"}, (("h", 26379),)),
        ({"nodes": ("a", "b:2"), "mode": "sentinel"}, (("a", 26379), ("b", 2))),
    ],
)
def test_nodes_replace_host_and_port_of_the_url(options: dict[str, Any], expected: object) -> None:
    assert RedisConfig(**options).servers() == expected


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"nodes": ("a:1",)}, "nodes"),
        ({"mode": "cluster", "url": "unix:///s"}, "url"),
        ({"mode": "cluster", "url": "redis://h/2"}, "url"),
        ({"mode": "sentinel"}, "service"),
        ({"service": "main"}, "service"),
        ({"mode": "cluster", "sentinel_username": "u"}, "sentinel_username"),
        ({"sentinel_password": SECRET}, "sentinel_password"),
        ({"url": f"redis://:{SECRET}@h", "password": SECRET}, "password"),
        ({"url": f"redis://u:{SECRET}@h", "username": "v"}, "username"),
        ({"username": "u"}, "username"),
        ({"tls_ca": "ca.pem"}, "tls_ca"),
        ({"tls_check_hostname": False}, "tls_check_hostname"),
        ({"url": "rediss://h", "tls_key": "key.pem"}, "tls_key"),
    ],
)
def test_contradictions_are_told_by_the_option(tmp_path: Any, options: dict[str, Any], option: str) -> None:
    found = problems(tmp_path, **options)
    assert list(found) == [option]
    assert SECRET not in found[option]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "unix:///s?db=3", "password": SECRET},
        {"mode": "cluster", "nodes": ("a:1", "b:2")},
        {"mode": "cluster", "url": f"rediss://u:{SECRET}@h:1", "tls_ca": "ca.pem"},
        {"mode": "sentinel", "service": "main", "nodes": ("a:1",), "sentinel_password": SECRET},
        {"url": "rediss://h", "username": "u", "password": SECRET, "tls_cert": "c.pem", "tls_key": "k.pem"},
    ],
)
def test_what_fits_together_passes(tmp_path: Any, options: dict[str, Any]) -> None:
    assert problems(tmp_path, **options) == {}


def test_no_representation_tells_a_secret(tmp_path: Any) -> None:
    config = RedisConfig(
        mode="sentinel",
        service="main",
        url=SecretStr(f"redis://:{SECRET}@h"),
        sentinel_password=SecretStr(SECRET),
    )
    tier = config.build(Surroundings(tmp_path))
    for shown in (repr(config), str(config), config.model_dump_json(), repr(tier), repr(config.address)):
        assert SECRET not in shown


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("connections", 0),
        ("protocol", 4),
        ("timeout", "0ms"),
        ("mode", "auto"),
        ("client_name", "a b"),
        ("db", 1),
    ],
)
def test_values_out_of_range_are_refused(option: str, value: object) -> None:
    with pytest.raises(ValidationError, match=option):
        RedisConfig.model_validate({option: value})
