"""What commonly goes wrong is named in one line, by `doctor`, `check` or `explain`."""

import json
import sqlite3

import pytest
from click.testing import CliRunner

from servers import Server, free_port
from tiercache.cli import main

MEMORY = '[tier.memory]\ntype = "memory"\n'


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(document, *arguments):
        (tmp_path / "tiercache.toml").write_text(document)
        result = CliRunner().invoke(main, arguments or ["doctor"])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


@pytest.fixture(scope="module")
def server():
    with Server("valkey") as found:
        yield found


def redis(url, options=""):
    tier = f'[tier.redis]\ntype = "redis"\nurl = "{url}"\n{options}\n'
    return f'{tier}[route.all]\ntiers = ["redis"]\nttl = "1h"\n'


def line(result, *words):
    """Return the one line that has all *words*."""
    found = [text for text in result.output.splitlines() if all(word in text for word in words)]
    assert len(found) == 1, result.output
    return found[0]


def test_a_healthy_set_up_has_no_problem(run, server):
    document = MEMORY + redis(f"redis://{server.host}:{server.port}/0").replace(
        '["redis"]', '["memory", "redis"]'
    )
    result = run(document)
    assert result.exit_code == 0, result.output
    for subject in ("ping", "version", "rights", "clock", "round trip", "serializer"):
        assert f": {subject}:" in result.output, result.output
    told = json.loads(run(document, "doctor", "--json").stdout)
    assert told["ok"] is True


def test_a_file_is_looked_at(run):
    document = '[tier.disk]\ntype = "sqlite"\npath = "cache.db"\n[route.all]\ntiers = ["disk"]\nttl = "1h"\n'
    result = run(document)
    assert result.exit_code == 0, result.output
    for subject in ("version", "journal", "permissions", "room"):
        assert f"tier disk: {subject}:" in result.output


# The field's most common mistakes.


def test_1_the_bus_is_switched_off(run, server):
    near = MEMORY + redis(f"redis://{server.host}:{server.port}/0").replace(
        '["redis"]', '["memory", "redis"]'
    )
    found = line(run('[cache]\nbus = "none"\n' + near), "warning", "other processes change")
    assert 'bus = "auto" is usual' in found


def test_2_near_copies_live_longer_than_far_ones(run, server):
    near = MEMORY + redis(f"redis://{server.host}:{server.port}/0", options='max_ttl = "1m"')
    found = run(near.replace('["redis"]', '["memory", "redis"]'))
    assert "copies stay in" in line(found, "warning", "max_ttl")


def test_3_nobody_answers(run):
    result = run(redis(f"redis://127.0.0.1:{free_port()}/0"))
    assert result.exit_code == 1
    assert "can't be reached" in line(result, "PROBLEM", "tier redis")


def test_4_the_password_is_wrong_and_not_told(run):
    with Server("valkey", password="right") as closed:
        result = run(redis(f"redis://:hunter2@{closed.host}:{closed.port}/0"))
    assert result.exit_code == 1
    line(result, "PROBLEM", "tier redis", "open")
    assert "hunter2" not in result.output


def test_5_a_right_is_missing(run):
    with Server("valkey") as strict:
        strict.ask("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-scan")
        result = run(redis(f"redis://app:secret@{strict.host}:{strict.port}/0"))
    assert result.exit_code == 1
    assert "+scan" in line(result, "PROBLEM", "rights")


def test_6_a_full_server_refuses_writes(run):
    with Server("valkey", ["--maxmemory", "100mb", "--maxmemory-policy", "noeviction"]) as full:
        result = run(redis(f"redis://{full.host}:{full.port}/0"))
    assert result.exit_code == 1
    assert "volatile-lru is usual" in line(result, "PROBLEM", "maxmemory")


def test_7_the_file_is_another_applications(run, tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE theirs (a)")
    other.close()
    result = run(
        '[tier.disk]\ntype = "sqlite"\npath = "other.db"\n[route.all]\ntiers = ["disk"]\nttl = "1h"\n'
    )
    assert result.exit_code == 1
    assert "other.db" in line(result, "PROBLEM", "tier disk")


def test_8_pickle_has_no_key(run):
    document = (
        '[tier.disk]\ntype = "sqlite"\npath = "c.db"\nserializer = "pickle"\n[route.all]\ntiers = ["disk"]\n'
    )
    result = run(document)
    assert result.exit_code == 2
    assert "pickle" in line(result, "tier.disk.serializer")


def test_9_an_earlier_route_takes_the_keys(run):
    document = MEMORY + (
        '[route.first]\ntiers = ["memory"]\nkeys = ["user:*"]\n'
        '[route.second]\ntiers = ["memory"]\nkeys = ["user:*"]\ndefault = true\n'
    )
    assert 'route "first" takes the same keys' in line(run(document), "never gets here")
    assert "route: first, because" in run(document, "explain", "user:1").output


def test_10_a_stage_is_declared_and_never_used(run):
    document = MEMORY + '[tier.disk]\ntype = "sqlite"\npath = "c.db"\n[route.all]\ntiers = ["memory"]\n'
    assert "never used" in line(run(document), "warning", "tier.disk")


def test_11_a_value_type_that_the_serializer_can_not_carry_is_named(run):
    document = (
        '[tier.disk]\ntype = "sqlite"\npath = "c.db"\nserializer = "json"\n[route.all]\ntiers = ["disk"]\n'
    )
    assert "bytes" in line(run(document), "serializer", "can't carry")


def grouped(mode, group, options=""):
    nodes = ", ".join(f'"{address}"' for address in group.addresses)
    tier = f'[tier.redis]\ntype = "redis"\nmode = "{mode}"\nnodes = [{nodes}]\n{options}\n'
    return f'{MEMORY}{tier}[route.all]\ntiers = ["memory", "redis"]\nttl = "1h"\n'


def test_a_cluster_is_looked_at(run, valkey_cluster):
    result = run(grouped("cluster", valkey_cluster))
    assert result.exit_code == 0, result.output
    for subject in ("ping", "version", "rights", "clock"):
        line(result, "ok", f"tier redis: {subject}: 3 primaries; of ")
    assert "another instance saw a change" in line(result, "bus of redis: round trip")
    # None of them has a limit, and each is named.
    for address in valkey_cluster.addresses:
        line(result, "warning", "tier redis: maxmemory:", address)
    assert "tier redis: maxmemory: 3" not in result.output


def test_a_primary_that_is_not_as_the_others_is_named(run, valkey_cluster):
    odd = valkey_cluster.nodes[1]
    odd.ask("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "noeviction")
    try:
        result = run(grouped("cluster", valkey_cluster))
    finally:
        odd.ask("CONFIG", "SET", "maxmemory", "0")
    assert result.exit_code == 1
    assert odd.address in line(result, "PROBLEM", "maxmemory-policy is noeviction")


def test_what_a_sentinel_watches_is_looked_at(run, sentinel):
    result = run(grouped("sentinel", sentinel, f'service = "{sentinel.service}"'))
    assert result.exit_code == 0, result.output
    for subject in ("ping", "version", "rights", "clock"):
        line(result, "ok", f"tier redis: {subject}:")
    assert "another instance saw a change" in line(result, "bus of redis: round trip")
    assert "replica" not in result.output


def test_a_service_that_no_sentinel_knows_is_named(run, sentinel):
    result = run(grouped("sentinel", sentinel, 'service = "other"'))
    assert result.exit_code == 1
    assert "other" in line(result, "PROBLEM", "tier redis: open:")
