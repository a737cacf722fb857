"""What is peculiar to the Redis tier: rights, passwords, other people's keys, the wire."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from servers import Certificates, Cluster, Sentinel, Server
from tiercache import TierError, TierRefused
from tiercache.frame import restamped, stamp_of
from tiercache.testing.tiers import Surroundings, record_of
from tiercache.testing.tiers.frames import raised
from tiercache_plugins.tiers.redis import RedisConfig

SECRET = "s3cret-w0rd"
USER = "us3r-name"
# What field experience found to be enough, for keys that begin with "app:".
ACL = (
    "on resetkeys ~app:* resetchannels &app:* "
    "-@all +@read +@write +@connection +@scripting +@pubsub -@dangerous"
)


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path, name="shared", namespace="app")


def run(config: RedisConfig, surroundings: Surroundings, act: Callable[[Any], Awaitable[Any]]) -> Any:
    """Open a tier, let *act* use it, close it."""

    async def life() -> Any:
        tier = config.build(surroundings)
        try:
            await tier.open()
            return await act(tier)
        finally:
            await tier.close()

    result = asyncio.run(life())
    gc.collect()
    return result


async def nothing(_: Any) -> None:
    pass


@pytest.fixture
def prefix() -> str:
    return f"app:{random.getrandbits(40):x}:"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server whose default user has a password, and a user with the fewest rights."""
    with Server("valkey", password=SECRET) as server:
        server.ask("ACL", "SETUSER", USER, f">{SECRET}", *ACL.split())
        yield server


# Rights and passwords


@pytest.mark.parametrize("mode", ["standalone", "cluster"])
def test_few_rights_are_enough(
    guarded: Server, valkey_cluster: Cluster, surroundings: Surroundings, prefix: str, mode: str
) -> None:
    async def act(tier: Any) -> None:
        records = [record_of(f"{prefix}{n}") for n in range(20)]
        assert await tier.write(records) == [1] * 20
        assert await tier.read([record.key for record in records]) == [record.frame for record in records]
        assert await raised(tier, record_of(f"{prefix}n", 3), 3) == 3
        assert await tier.swap(record_of(f"{prefix}s"), None)
        assert len([key async for chunk in tier.scan(prefix) for key in chunk]) == 22
        assert await tier.delete([records[0].key]) == [True]
        await tier.wipe(prefix)
        assert await tier.read([records[1].key]) == [None]

    address = guarded.address
    if mode == "cluster":
        address = valkey_cluster.nodes[0].address
        for node in valkey_cluster.nodes:
            node.ask("ACL", "SETUSER", USER, f">{SECRET}", *ACL.split(), "+cluster|slots")
    url = f"redis://{USER}:{SECRET}@{address}"
    run(RedisConfig.model_validate({"url": url, "mode": mode, "timeout": 5}), surroundings, act)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "credentials", [f"{USER}:wrong-{SECRET}", f"nobody:{SECRET}", f":{SECRET}-wrong", ""], ids=range(4)
)
def test_a_wrong_password_is_refused_at_open(
    guarded: Server, surroundings: Surroundings, credentials: str, protocol: int
) -> None:
    url = f"redis://{credentials}@{guarded.address}" if credentials else f"redis://{guarded.address}"
    with pytest.raises(TierRefused, match='tier "shared"') as caught:
        run(RedisConfig.model_validate({"url": url, "protocol": protocol}), surroundings, nothing)
    assert not leaks(caught.value)


def test_a_password_where_none_is_wanted_is_refused_at_open(
    valkey_server: Server, redis62_server: Server, surroundings: Surroundings
) -> None:
    for server in (valkey_server, redis62_server):
        with pytest.raises(TierRefused) as caught:
            run(RedisConfig(url=server.url, username=USER, password=SECRET), surroundings, nothing)
        assert not leaks(caught.value)


@pytest.mark.parametrize("rights", ["-@scripting", "-mget", "resetkeys ~other:*"])
def test_a_missing_right_is_refused_at_open(guarded: Server, surroundings: Surroundings, rights: str) -> None:
    guarded.ask("ACL", "SETUSER", f"{USER}2", "reset", f">{SECRET}", *ACL.split(), *rights.split())
    config = RedisConfig(url=f"redis://{guarded.address}", username=f"{USER}2", password=SECRET)
    with pytest.raises(TierRefused, match="NoPermissionError") as caught:
        run(config, surroundings, nothing)
    assert not leaks(caught.value)


def test_a_password_that_becomes_wrong_later_is_a_tier_error(
    surroundings: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def act(tier: Any) -> list[TierError]:
        server.ask("CONFIG", "SET", "requirepass", f"changed-{SECRET}")
        server.password = f"changed-{SECRET}"
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0.01)
        errors = []
        for call in (tier.read(["app:a"]), tier.write([record_of("app:a")]), tier.delete(["app:a"])):
            with pytest.raises(TierError) as caught:
                await call
            errors.append(caught.value)
        return errors

    with Server("valkey", password=SECRET) as server:
        for error in run(RedisConfig(url=server.url), surroundings, act):
            assert not leaks(error)
    assert SECRET not in caplog.text


def test_sentinels_may_have_a_password_of_their_own(surroundings: Surroundings) -> None:
    with Sentinel(password=SECRET) as group:
        config = RedisConfig(
            mode="sentinel", nodes=group.addresses, service=group.service, sentinel_password=SecretStr(SECRET)
        )
        run(config, surroundings, nothing)
        wrong = config.model_copy(update={"sentinel_password": None})
        with pytest.raises(TierError) as caught:
            run(wrong, surroundings, nothing)
        assert not leaks(caught.value)


def test_a_service_that_no_sentinel_knows_is_a_tier_error(
    sentinel: Sentinel, surroundings: Surroundings
) -> None:
    config = RedisConfig(
        mode="sentinel", nodes=sentinel.addresses, service="other", password=SecretStr(SECRET)
    )
    with pytest.raises(TierError, match="No master found for 'other'") as caught:
        run(config, surroundings, nothing)
    assert not leaks(caught.value)


def test_a_certificate_that_nobody_known_signed_is_refused_at_open(
    tls_server: Server, certificates: Certificates, surroundings: Surroundings
) -> None:
    with pytest.raises(TierRefused, match="CERTIFICATE_VERIFY_FAILED"):
        run(RedisConfig(url=tls_server.url), surroundings, nothing)
    with pytest.raises(TierRefused, match='tls_ca: there is no file "missing.pem"'):
        run(RedisConfig(url=tls_server.url, tls_ca=Path("missing.pem")), surroundings, nothing)


def test_the_files_of_tls_are_looked_for_from_the_directory_of_the_configuration(
    tls_server: Server, certificates: Certificates
) -> None:
    config = RedisConfig(
        url=tls_server.url,
        tls_ca=Path("ca.pem"),
        tls_cert=Path("cert.pem"),
        tls_key=Path("key.pem"),
        timeout=5,
    )
    run(config, Surroundings(certificates.directory, namespace="app"), nothing)


def test_the_wrong_mode_is_refused_at_open(
    valkey_server: Server, valkey_cluster: Cluster, surroundings: Surroundings
) -> None:
    with pytest.raises(TierRefused, match='set mode = "standalone"'):
        run(RedisConfig(url=valkey_server.url, mode="cluster"), surroundings, nothing)
    with pytest.raises(TierRefused, match='set mode = "cluster"'):
        run(RedisConfig(url=valkey_cluster.url), surroundings, nothing)


def test_a_server_that_is_away_is_found_once_it_comes(surroundings: Surroundings) -> None:
    async def life() -> None:
        tier = RedisConfig(url=server.url).build(surroundings)
        with pytest.raises(TierError) as caught:
            await tier.open()
        assert not isinstance(caught.value, TierRefused)
        with pytest.raises(TierError):
            await tier.read(["app:a"])
        server.start()
        assert await tier.read(["app:a"]) == [None]
        await tier.open()
        await tier.close()

    server = Server("valkey")
    try:
        asyncio.run(life())
    finally:
        server.stop()


def leaks(error: BaseException | None) -> list[str]:
    """Return the texts of *error* and what it is chained to that tell a secret."""
    found = []
    while error is not None:
        found += [text for text in (str(error), repr(error)) if SECRET in text or USER in text]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


# Keys and scripts


def test_what_others_put_there_is_no_frame(
    valkey_server: Server, surroundings: Surroundings, prefix: str
) -> None:
    def put() -> None:
        valkey_server.ask("DEL", f"{prefix}list", f"{prefix}short", f"{prefix}text")
        valkey_server.ask("RPUSH", f"{prefix}list", "a")
        valkey_server.ask("SET", f"{prefix}short", "abc")
        valkey_server.ask("SET", f"{prefix}text", "a text that is no frame but longer than the header of one")

    async def act(tier: Any) -> None:
        keys = [f"{prefix}list", f"{prefix}short"]
        put()
        assert (await tier.read(keys))[0] is None
        assert await tier.write([record_of(key, conditional=True) for key in keys]) == [1, 1]
        put()
        for key in (*keys, f"{prefix}text"):
            with pytest.raises(TypeError):
                await tier.increment(record_of(key, 1), 1)
        for key in keys:
            assert await tier.swap(record_of(key), None) is True
        put()
        assert await tier.delete(keys) == [True, True]

    run(RedisConfig(url=valkey_server.url), surroundings, act)


def test_a_key_that_is_no_text_is_counted_and_left_out_but_wiped(
    valkey_server: Server, valkey_cluster: Cluster, surroundings: Surroundings, prefix: str
) -> None:
    key = prefix.encode() + b"\xff"
    servers = iter([valkey_server, *(node for node in valkey_cluster.nodes if _serves(node, key))])

    async def act(tier: Any) -> None:
        server = next(servers)
        server.ask("SET", key, "x")
        assert [chunk async for chunk in tier.scan(prefix)] == []
        assert tier.stats()["foreign_keys"] == 1
        await tier.wipe(prefix)
        assert server.ask("EXISTS", key) == 0

    run(RedisConfig(url=valkey_server.url), surroundings, act)
    run(RedisConfig(url=valkey_cluster.url, mode="cluster", timeout=5), surroundings, act)


def test_scripts_that_the_server_forgot_are_sent_again(
    valkey_server: Server, valkey_cluster: Cluster, surroundings: Surroundings, prefix: str
) -> None:
    async def act(tier: Any) -> None:
        for node in (valkey_server, *valkey_cluster.nodes):
            node.ask("SCRIPT", "FLUSH")
        records = [record_of(f"{prefix}{n}") for n in range(30)]
        assert await tier.write(records) == [1] * 30
        assert tier.stats()["scripts_sent"] == 1
        assert await tier.write(records) == [2] * 30
        assert tier.stats()["scripts_sent"] == 1

    run(RedisConfig(url=valkey_server.url), surroundings, act)
    run(RedisConfig(url=valkey_cluster.url, mode="cluster", timeout=5), surroundings, act)


def test_the_highest_stamp_can_be_overwritten_too(
    valkey_server: Server, surroundings: Surroundings, prefix: str
) -> None:
    record, top = record_of(f"{prefix}a", b"new"), 2**64 - 1

    async def act(tier: Any) -> None:
        for below in (top, 2**32 - 1):
            old = record_of(record.key)
            await tier.delete([record.key])
            assert await tier.write([old._replace(frame=restamped(old.frame, below), stamp=below)]) == [below]
            expected = min(below + 1, top)
            assert await tier.write([record]) == [expected]
            assert await tier.read([record.key]) == [restamped(record.frame, expected)]

    run(RedisConfig(url=valkey_server.url), surroundings, act)


def test_every_one_of_many_writers_gets_a_stamp_of_its_own(
    valkey_server: Server, surroundings: Surroundings, prefix: str
) -> None:
    record = record_of(f"{prefix}a", stamp=7)

    async def act(tier: Any) -> None:
        stamps = await asyncio.gather(*(tier.write([record]) for _ in range(200)))
        assert sorted(stamp for (stamp,) in stamps) == list(range(7, 207))
        (frame,) = await tier.read([record.key])
        assert stamp_of(frame) == 206

    run(RedisConfig(url=valkey_server.url, connections=8, timeout=5), surroundings, act)


def test_a_tombstone_lets_a_counter_begin_anew_and_above_it(
    valkey_server: Server, surroundings: Surroundings, prefix: str
) -> None:
    key = f"{prefix}n"

    async def act(tier: Any) -> None:
        await tier.write([record_of(key, b"", stamp=100, flags=1)])
        assert await raised(tier, record_of(key, 5, stamp=3), 5) == 5
        (frame,) = await tier.read([key])
        assert stamp_of(frame) == 101
        assert frame[8:] == record_of(key, 5, stamp=3).frame[8:]

    run(RedisConfig(url=valkey_server.url), surroundings, act)


def test_a_delta_beyond_64_bits_is_an_overflow(valkey_server: Server, surroundings: Surroundings) -> None:
    async def act(tier: Any) -> None:
        with pytest.raises(OverflowError):
            await tier.increment(record_of("app:n", 2**63), 2**63)

    run(RedisConfig(url=valkey_server.url), surroundings, act)


def test_a_full_server_is_a_tier_error_that_still_reads(surroundings: Surroundings) -> None:
    record = record_of("app:a")

    async def act(tier: Any) -> None:
        await tier.write([record])
        server.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(TierError, match="OutOfMemoryError"):
            await tier.write([record])
        assert await tier.read([record.key]) == [record.frame]
        assert await tier.delete([record.key]) == [True]

    with Server("valkey", ("--maxmemory-policy", "noeviction")) as server:
        run(RedisConfig(url=server.url), surroundings, act)


def test_a_replica_reads_and_refuses_writes_as_a_tier_error(
    sentinel: Sentinel, surroundings: Surroundings
) -> None:
    async def act(tier: Any) -> None:
        assert await tier.read(["app:a"]) == [None]
        with pytest.raises(TierError):
            await tier.write([record_of("app:a")])

    run(RedisConfig(url=sentinel.replica.url), surroundings, act)


def test_frames_larger_than_a_command_may_be_go_in_several(
    valkey_server: Server, surroundings: Surroundings, prefix: str
) -> None:
    records = [record_of(f"{prefix}{n}", bytes(600_000), stamp=n + 1) for n in range(5)]

    async def act(tier: Any) -> None:
        assert await tier.write(records) == [1, 2, 3, 4, 5]
        assert await tier.read([record.key for record in records]) == [record.frame for record in records]
        await tier.wipe(prefix)

    run(RedisConfig(url=valkey_server.url, timeout=5), surroundings, act)


# The wire


def test_many_callers_share_few_connections(
    valkey_server: Server, surroundings: Surroundings, prefix: str
) -> None:
    def clients() -> int:
        return len(str(valkey_server.ask("CLIENT", "LIST")).splitlines())

    before = clients()
    record = record_of(f"{prefix}a")

    async def act(tier: Any) -> int:
        await tier.write([record])
        answers = await asyncio.gather(*(tier.read([record.key]) for _ in range(200)))
        assert answers == [[record.frame]] * 200
        return clients()

    assert run(RedisConfig(url=valkey_server.url, connections=3, timeout=5), surroundings, act) <= before + 3
    assert clients() == before


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("mode", ["standalone", "cluster"])
def test_an_answer_never_reaches_another_question(
    valkey_server: Server,
    valkey_cluster: Cluster,
    surroundings: Surroundings,
    prefix: str,
    mode: str,
    protocol: int,
) -> None:
    records = [record_of(f"{prefix}{n}", b"%d" % n) for n in range(40)]
    dice = random.Random(protocol)

    async def asker(tier: Any, rounds: int) -> int:
        cancelled = 0
        for _ in range(rounds):
            some = dice.sample(records, dice.randrange(1, 6))
            task = asyncio.ensure_future(tier.read([record.key for record in some]))
            for _ in range(dice.randrange(12)):
                await asyncio.sleep(0)
            if dice.random() < 0.5:
                task.cancel()
            try:
                assert await task == [record.frame for record in some]
            except asyncio.CancelledError:
                cancelled += 1
        return cancelled

    async def act(tier: Any) -> int:
        await tier.write(records)
        return sum(await asyncio.gather(*(asker(tier, 40) for _ in range(5))))

    url = valkey_cluster.url if mode == "cluster" else valkey_server.url
    config = RedisConfig.model_validate({"url": url, "mode": mode, "protocol": protocol, "timeout": 5})
    assert run(config, surroundings, act) > 0


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("tls", [False, True])
def test_a_hung_server_costs_one_timeout_and_closing_waits_for_nobody(
    surroundings: Surroundings,
    certificates: Certificates,
    request: pytest.FixtureRequest,
    protocol: int,
    tls: bool,
) -> None:
    if tls:
        # Skips the test where no server with TLS is installed.
        request.getfixturevalue("tls_server")
    # Long enough for a handshake on a machine that does other things as well.
    options: dict[str, Any] = {"protocol": protocol, "timeout": 1.0}
    if tls:
        options |= {"tls_ca": certificates.ca, "tls_cert": certificates.cert, "tls_key": certificates.key}

    async def life() -> None:
        tier = RedisConfig.model_validate({"url": server.url, **options}).build(surroundings)
        await tier.open()
        await asyncio.gather(*(tier.read(["app:a"]) for _ in range(4)))
        server.freeze()
        for call in (tier.read(["app:a"]), tier.write([record_of("app:a")]), tier.delete(["app:a"])):
            started = time.monotonic()
            with pytest.raises(TierError, match="TimeoutError"):
                await call
            assert time.monotonic() - started < 1.9
        under_way = [asyncio.ensure_future(tier.read(["app:a"])) for _ in range(5)]
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await tier.close()
        assert time.monotonic() - started < 1.9
        ended = await asyncio.gather(*under_way, return_exceptions=True)
        assert all(isinstance(error, TierError) for error in ended)
        assert time.monotonic() - started < 1.9
        with pytest.raises(TierError, match="closed"):
            await tier.read(["app:a"])

    with Server("debian" if tls else "valkey", tls=certificates if tls else None) as server:
        asyncio.run(life())
        gc.collect()


@pytest.mark.parametrize("mode", ["standalone", "cluster"])
def test_closing_with_calls_under_way_leaves_nothing_open(
    valkey_server: Server, valkey_cluster: Cluster, surroundings: Surroundings, mode: str
) -> None:
    async def life(turns: int) -> None:
        url = valkey_cluster.url if mode == "cluster" else valkey_server.url
        tier = RedisConfig.model_validate({"url": url, "mode": mode, "timeout": 5}).build(surroundings)
        calls = [asyncio.ensure_future(tier.read([f"app:{n}" for n in range(30)])) for _ in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await tier.close()
        for ended in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(ended, (list, TierError))
        await asyncio.sleep(0)

    for turns in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55):
        asyncio.run(life(turns))
        gc.collect()


@pytest.mark.parametrize("protocol", [2, 3])
def test_connections_cut_by_a_restart_are_not_used_again(surroundings: Surroundings, protocol: int) -> None:
    async def act(tier: Any) -> None:
        await asyncio.gather(*(tier.read(["app:a"]) for _ in range(5)))
        await asyncio.to_thread(server.restart)
        # Not asked again where it fails, so this shows that the dead connections were seen.
        assert await tier.write([record_of("app:a")]) == [1]
        await asyncio.to_thread(server.restart)
        assert await tier.read(["app:a"]) == [None]
        assert await raised(tier, record_of("app:n", 4), 4) == 4

    with Server("valkey") as server:
        run(RedisConfig.model_validate({"url": server.url, "protocol": protocol}), surroundings, act)


def test_a_server_killed_again_and_again_gives_misses_and_tier_errors_alone(
    surroundings: Surroundings,
) -> None:
    async def worker(tier: Any, name: int, ended: asyncio.Event) -> tuple[int, int]:
        good = bad = 0
        for n in range(1, 1_000_000):
            if ended.is_set():
                break
            record = record_of(f"app:{name}", b"%d" % n, stamp=n)
            try:
                (stamp,) = await tier.write([record])
                assert stamp == n
                (frame,) = await tier.read([record.key])
                assert frame in (None, record.frame)
                good += 1
            except TierError:
                bad += 1
                await asyncio.sleep(0.002)
        return good, bad

    async def act(tier: Any) -> None:
        ended = asyncio.Event()
        workers = [asyncio.ensure_future(worker(tier, name, ended)) for name in range(4)]
        for pause in (0.05, 0.1, 0.15, 0.2):
            await asyncio.sleep(pause)
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(0.02)
            await asyncio.to_thread(server.start)
        await asyncio.sleep(0.1)
        ended.set()
        counts = await asyncio.gather(*workers)
        assert all(good > 10 and bad > 0 for good, bad in counts)
        record = record_of("app:last")
        assert await tier.write([record]) == [1]
        assert await tier.read([record.key]) == [record.frame]

    with Server("valkey") as server:
        run(RedisConfig(url=server.url), surroundings, act)


def test_a_slot_that_moves_is_followed(valkey_cluster: Cluster, surroundings: Surroundings) -> None:
    nodes = valkey_cluster.nodes
    names = [str(node.ask("CLUSTER", "MYID")) for node in nodes]
    key = "app:{moving}:a"
    slot = int(nodes[0].ask("CLUSTER", "KEYSLOT", key))
    home = next(i for i, node in enumerate(nodes) if _holds(node, slot))
    away = (home + 1) % len(nodes)

    def move(target: int) -> None:
        # A node keeps a slot that it holds keys of, such as another test may have left there.
        for node in nodes:
            for left in node.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
                node.ask("UNLINK", left)
        for i in (target, *(i for i in range(len(nodes)) if i != target)):
            nodes[i].ask("CLUSTER", "SETSLOT", slot, "NODE", names[target])

    async def soon(tier: Any, keys: list[str]) -> Any:
        came: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        assert tier.read_soon(keys, came.set_result)
        return await came

    async def act(tier: Any) -> None:
        others = [record_of(f"app:moving:{n}") for n in range(20)]
        record = record_of(key)
        asked = [key, *(one.key for one in others)]
        assert await tier.write([record, *others]) == [1] * 21
        assert await soon(tier, asked) == [record.frame, *(one.frame for one in others)]
        assert await tier.delete([key]) == [True]
        move(away)
        assert await soon(tier, asked) is None, "it follows nobody, and says so"
        assert await tier.write([record, *others]) == [1, *([2] * 20)]
        assert await tier.read([key]) == [record.frame]
        assert await soon(tier, [key]) == [record.frame], "the map was corrected"
        assert _holds(nodes[away], slot)
        assert await tier.delete([key]) == [True]

    try:
        run(RedisConfig(url=valkey_cluster.url, mode="cluster", timeout=5), surroundings, act)
    finally:
        move(home)


def _serves(node: Server, key: bytes) -> bool:
    return _holds(node, int(node.ask("CLUSTER", "KEYSLOT", key)))


def _holds(node: Server, slot: int) -> bool:
    own = next(line for line in str(node.ask("CLUSTER", "NODES")).splitlines() if "myself" in line)
    ranges = [part.split("-") for part in own.split()[8:] if "[" not in part]
    return any(int(part[0]) <= slot <= int(part[-1]) for part in ranges)


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_serves_it_again_after_its_return(surroundings: Surroundings) -> None:
    keys = [f"app:{n}" for n in range(30)]

    async def act(tier: Any) -> None:
        records = [record_of(key) for key in keys]
        await tier.write(records)
        await asyncio.to_thread(cluster.nodes[1].kill)
        started = time.monotonic()
        with pytest.raises(TierError):
            await tier.read(keys)
        assert time.monotonic() - started < 1.5
        await asyncio.to_thread(cluster.nodes[1].start)
        frames = await _patiently(lambda: tier.read(keys))
        held = [record.frame for record, frame in zip(records, frames, strict=True) if frame is not None]
        assert 0 < len(held) < len(keys)
        assert [frame for frame in frames if frame is not None] == held
        await _patiently(lambda: tier.write(records))
        assert None not in await tier.read(keys)

    with Cluster() as cluster:
        run(RedisConfig(nodes=cluster.addresses, mode="cluster"), surroundings, act)


@pytest.mark.slow
def test_the_primary_that_sentinel_promotes_is_found(surroundings: Surroundings) -> None:
    record = record_of("app:a")

    async def act(tier: Any) -> None:
        await tier.write([record])
        await asyncio.to_thread(_replicated, group, record.key)
        await asyncio.to_thread(group.primary.kill)
        assert await _patiently(lambda: tier.write([record_of("app:b")])) == [1]
        assert await tier.read([record.key]) == [record.frame]

    with Sentinel() as group:
        config = RedisConfig(mode="sentinel", nodes=group.addresses, service=group.service)
        run(config, surroundings, act)


def _replicated(group: Sentinel, key: str) -> None:
    while not group.replica.ask("EXISTS", key):
        time.sleep(0.01)


async def _patiently(call: Callable[[], Awaitable[Any]]) -> Any:
    """Return what *call* gives once it does not end in TierError any more, in 15 s at most."""
    end = time.monotonic() + 15
    while True:
        try:
            return await call()
        except TierError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.05)
