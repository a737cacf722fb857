"""The example shop, served by two uvicorn workers: what its customers see while things change."""

from __future__ import annotations

import sys

import httpx
import pytest

from http_cache.shop import Report, measured, shop
from servers import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the sockets of workers are handed down")


def assert_right(report: Report) -> None:
    assert (report.leaks, report.stale) == ([], [])
    assert len(report.workers) == 2
    assert report.hits > report.reads / 4, f"hardly anything was cached: {report}"


def test_two_customers_of_two_workers_see_their_own_and_nothing_old_over_sqlite_alone(tmp_path):
    assert_right(measured("disk", 3000, tmp_path))


def test_two_customers_of_two_workers_see_their_own_and_nothing_old_over_valkey(tmp_path, valkey_server):
    assert_right(measured("redis", 2000, tmp_path, valkey_server.url))


@pytest.mark.slow
@pytest.mark.parametrize("over", ["disk", "redis"])
def test_a_hundred_thousand_requests_show_nobody_what_is_not_his(over, tmp_path, valkey_server):
    assert_right(measured(over, 100_000, tmp_path, valkey_server.url, seed=2))


@pytest.mark.slow
def test_a_client_finds_the_shop_as_its_page_tells_it(tmp_path):
    path = str(tmp_path / "responses.db")
    with shop("disk.toml", tmp_path, TIERCACHE_TIER__DISK__PATH=path) as address:
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            wait_until(lambda: answers(client), "the shop")
            ada, bob = {"Authorization": "Bearer ada"}, {"Authorization": "Bearer bob"}
            assert client.get("/me", headers=ada).json()["name"] == "ada"
            assert client.get("/me", headers=bob).json()["name"] == "bob"
            again = client.get("/me", headers=ada)
            assert again.json()["name"] == "ada"
            assert again.headers["cache-control"] == "private"
            assert client.get("/me").status_code == 401
            assert client.put("/items/1").json() == {"id": 1, "version": 1}
            assert client.get("/items/1").json() == {"id": 1, "version": 1}
            held = client.get("/items/1").headers["etag"]
            assert client.get("/items/1", headers={"If-None-Match": held}).status_code == 304
            assert client.get("/items").json() == {"item 1": 1}


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/worker").status_code == 200
    except httpx.TransportError:
        return False
