"""The same calls for threads."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import noting
from gated import document, opened, tier
from tiercache import Cache, CacheClosed, InvalidKey, LoadCancelled, LoadCycle, LoadError, SyncCache
from tiercache.engine import house
from tiercache.sync.turn import Turn
from tiercache.testing import FakeClock

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


def doc(tmp_path=None, **route):
    tiers = {"memory": {"type": "memory"}}
    if tmp_path is not None:
        tiers["disk"] = {"type": "sqlite", "path": str(tmp_path / "cache.db")}
    return {"tier": tiers, "route": {"all": {"tiers": list(tiers), "ttl": "1h", **route}}}


@contextmanager
def attached(document, **options):
    """A cache on a loop of another thread, as in an async application that has threads too."""
    made: queue.SimpleQueue = queue.SimpleQueue()

    cache = opened(document, **options)

    async def live():
        over = asyncio.Event()
        async with cache:
            loop = asyncio.get_running_loop()
            made.put((loop, lambda: loop.call_soon_threadsafe(over.set)))
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(live(),), daemon=True)
    thread.start()
    loop, stop = made.get(timeout=10)
    try:
        yield cache, loop
    finally:
        stop()
        thread.join(10)
        assert not thread.is_alive()


def on(loop, coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)


def together(count, act):
    """Call `act(number)` in *count* threads that start at once; return what they returned or raised."""
    gate = threading.Barrier(count)

    def one(number):
        gate.wait(10)
        try:
            return act(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_every_call_of_a_cache_is_there_with_the_same_signature():
    # Signals belong to the thread of the loop.
    own = {"open", "open_sync", "start", "sync", "is_open", "reload_on_hangup"}
    for name, member in inspect.getmembers(Cache):
        if name.startswith("_") or name in own or not callable(member):
            continue
        twin = getattr(SyncCache, name, None)
        assert twin is not None, f"SyncCache lacks {name}"
        assert str(inspect.signature(twin).replace(return_annotation=inspect.Signature.empty)) == str(
            inspect.signature(member).replace(return_annotation=inspect.Signature.empty)
        ), name
        assert not inspect.iscoroutinefunction(twin)


def test_threads_read_and_write_what_the_loop_does(tmp_path):
    with attached(doc(tmp_path)) as (cache, loop):
        face = cache.sync
        face.set("a", 1, tags=["t"])
        assert on(loop, cache.get("a")) == 1
        on(loop, cache.set("b", {"x": 2}))
        assert face.get("b") == {"x": 2}
        assert face.get("absent", "miss") == "miss"
        assert face.get_many(["b", "absent", "a"]) == {"b": {"x": 2}, "a": 1}
        assert list(face.get_many(["b", "a"])) == ["b", "a"]
        assert face.exists("a")
        assert not face.exists("absent")
        assert face.ttl("a") == pytest.approx(3600, abs=5)
        assert face.touch("a", ttl=60)
        assert face.ttl("a") == pytest.approx(60, abs=5)
        assert face.add("a", 2) is False
        assert face.increment("n", 5) == 5
        face.set_many({"c": 3, "d": 4})
        assert sorted(face.keys()) == ["a", "b", "c", "d", "n"]
        assert list(face.keys("c*")) == ["c"]
        assert face.delete("c")
        assert not face.delete("c")
        assert face.delete_many(["d", "a", "x"]) == 2
        assert face.tiers_of("a") == ("memory", "disk")
        assert face.stats().tiers["memory"].hits > 0
        face.clear()
        assert list(face.keys()) == []
        assert face.get_or_set_many(["p", "q"], lambda keys: {key: key * 2 for key in keys}) == {
            "p": "pp", "q": "qq",
        }  # fmt: skip
        assert face.refresh("p", lambda: "new") == "new"
        assert on(loop, cache.get("p")) == "new"
        face.set("s", 1, stale="1h")
        assert face.expire("s")


def test_keys_come_in_pages_and_may_be_left_in_the_middle():
    with Cache.open_sync(doc()) as cache:
        cache.set_many({f"k{at}": at for at in range(600)})
        assert len(set(cache.keys())) == 600
        walk = cache.keys()
        next(walk)
        del walk
        assert cache.get("k1") == 1


def test_errors_are_those_of_the_cache():
    with Cache.open_sync(doc()) as cache:
        for act in (lambda: cache.get(""), lambda: cache.set("", 1), lambda: cache.get_or_set("", int)):
            with pytest.raises(InvalidKey):
                act()
        with pytest.raises(ValueError, match="no route"):
            cache.get("k", route="nowhere")
        with pytest.raises(ZeroDivisionError):
            cache.get_or_set("k", lambda: 1 // 0)
        with pytest.raises(TimeoutError, match="mine"):
            cache.get_or_set("k", lambda: (_ for _ in ()).throw(TimeoutError("mine")))
        with pytest.raises((LoadError, RuntimeError)):
            cache.get_or_set("k", lambda: next(iter(())))
        assert cache.get_or_set("k", lambda: 1 // 0, fallback=7) == 7


def test_a_near_hit_needs_no_loop():
    with attached(doc()) as (cache, loop):
        cache.sync.set("k", 1)
        held, free = threading.Event(), threading.Event()
        loop.call_soon_threadsafe(lambda: (held.set(), free.wait(10)))
        assert held.wait(10)
        try:
            began = time.perf_counter()
            assert cache.sync.get("k") == 1
            assert cache.sync.peek("k") == 1
            assert cache.sync.get_many(["k"]) == {"k": 1}
            assert cache.sync.get_or_set("k", lambda: 2) == 1
            assert time.perf_counter() - began < 5
        finally:
            free.set()


def test_on_the_loops_own_thread_only_what_would_block_is_refused():
    async def scenario():
        async with opened(doc()) as cache:
            await cache.set("k", 1)
            face = cache.sync
            assert face.get("k") == 1
            assert face.peek("absent", "miss") == "miss"
            assert face.get_or_set("k", lambda: 2) == 1
            for act in (
                lambda: face.get("absent"), lambda: face.set("k", 2), lambda: face.delete("k"),
                lambda: face.get_or_set("absent", lambda: 2), lambda: list(face.keys()), face.close,
            ):  # fmt: skip
                with pytest.raises(RuntimeError, match="block the event loop"):
                    act()
            assert await cache.get("k") == 1
            assert await asyncio.to_thread(face.get, "absent", "miss") == "miss"

    asyncio.run(scenario())


def test_a_loop_that_does_not_run_is_an_error_and_not_a_wait():
    with asyncio.Runner() as runner:
        cache = opened(doc())
        runner.run(cache.start())
        with pytest.raises(RuntimeError, match="not running"):
            cache.sync.get("absent")
        runner.run(cache.close())
    with pytest.raises(CacheClosed):
        cache.sync.get("absent")


def test_what_was_never_started_or_is_closed_says_so():
    cache = opened(doc())
    with pytest.raises(CacheClosed):
        cache.sync.set("k", 1)
    own = Cache.open_sync(doc())
    own.close()
    own.close()
    with pytest.raises(CacheClosed):
        own.get("k")
    with pytest.raises(CacheClosed), own:
        pass


def test_closing_frees_who_waits(monkeypatch):
    monkeypatch.setattr(house, "CLOSE_WITHIN", 0.2)
    own = Cache.open_sync(doc())
    entered = threading.Event()

    async def never():
        entered.set()
        await asyncio.sleep(3600)

    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(own.get_or_set, "k", never)
        assert entered.wait(10)
        own.close()
        with pytest.raises((CacheClosed, LoadCancelled)):
            waiting.result(10)


def test_two_hundred_threads_load_one_cold_key_once():
    with Cache.open_sync(doc()) as cache:
        calls = []

        def load():
            calls.append(threading.get_ident())
            time.sleep(0.1)
            return object()

        results = together(200, lambda _: cache.get_or_set("cold", load))
        assert len(calls) == 1
        assert len({id(result) for result in results}) == 1
        assert type(results[0]) is object


def test_a_failing_load_fails_all_who_wait_and_is_called_once_for_them():
    with Cache.open_sync(doc()) as cache:
        entered, gate = threading.Event(), threading.Event()
        calls = []

        def load():
            calls.append(1)
            entered.set()
            gate.wait(10)
            raise KeyError("source")

        with ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(cache.get_or_set, "k", load) for _ in range(20)]
            assert entered.wait(10)
            time.sleep(0.1)
            gate.set()
            errors = [each.exception(10) for each in waiting]
        assert {type(error) for error in errors} == {KeyError}
        assert len(calls) == 1


def test_a_sync_loader_runs_in_its_callers_thread_and_leaves_the_loop_free():
    local = threading.local()
    variable = contextvars.ContextVar("variable", default="outside")
    with attached(doc()) as (cache, loop):
        local.connection = "mine"
        variable.set("inside")

        def load():
            # The loop answers meanwhile, so this does not run on it.
            assert on(loop, cache.get("absent", "free")) == "free"
            return local.connection, variable.get()

        assert cache.sync.get_or_set("k", load) == ("mine", "inside")


def test_a_coroutine_function_and_what_returns_a_coroutine_are_awaited():
    async def load():
        await asyncio.sleep(0)
        return threading.current_thread().name

    with Cache.open_sync(doc()) as cache:
        assert cache.get_or_set("a", load) == "tiercache-loop"
        assert cache.get_or_set("b", lambda: load()) == "tiercache-loop"


def test_a_loader_may_ask_what_it_loads():
    with Cache.open_sync(doc(stale="1h")) as cache:
        cache.set("k", 1)
        cache.expire("k")
        assert cache.get_or_set("k", lambda context: (context.key, context.stale)) == ("k", 1)


def test_async_callers_and_threads_share_a_flight():
    with attached(doc()) as (cache, loop):
        entered, gate = threading.Event(), threading.Event()

        def load():
            entered.set()
            assert gate.wait(10)
            return "once"

        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(cache.sync.get_or_set, "k", load)
            assert entered.wait(10)
            second = asyncio.run_coroutine_threadsafe(cache.get_or_set("k", lambda: "twice"), loop)
            time.sleep(0.05)
            gate.set()
            assert first.result(10) == second.result(10) == "once"


def test_asking_for_the_key_that_is_being_loaded_is_a_cycle():
    with Cache.open_sync(doc()) as cache:
        with pytest.raises(LoadCycle, match="'a' → 'b' → 'a'"):
            cache.get_or_set("a", lambda: cache.get_or_set("b", lambda: cache.get_or_set("a", int)))
        assert cache.get_or_set("a", lambda: cache.get_or_set("b", lambda: 2)) == 2


def test_what_changed_during_a_threads_load_is_not_overwritten_by_it():
    with Cache.open_sync(doc()) as cache:
        entered, gate = threading.Event(), threading.Event()

        def load():
            entered.set()
            assert gate.wait(10)
            return "old"

        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(cache.get_or_set, "k", load)
            assert entered.wait(10)
            cache.delete("k")
            gate.set()
            assert loading.result(10) == "old"
        assert cache.get("k", "miss") == "miss"


def interrupting(act):
    """Run *act* in the main thread while a timer sends it SIGINT; return what it raised."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            act()
    finally:
        signal.signal(signal.SIGINT, previous)


def interrupt_soon():
    threading.Timer(0.1, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)).start()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this platform sends no signal to a thread")
def test_an_interrupt_while_waiting_leaves_the_load_to_the_others():
    with Cache.open_sync(doc()) as cache:
        entered, gate = threading.Event(), threading.Event()

        def load():
            entered.set()
            assert gate.wait(10)
            return "value"

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(cache.get_or_set, "k", load)
            assert entered.wait(10)
            other = pool.submit(cache.get_or_set, "k", load)
            interrupt_soon()
            interrupting(lambda: cache.get_or_set("k", load))
            gate.set()
            assert first.result(10) == other.result(10) == "value"
        assert cache.get("k") == "value"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this platform sends no signal to a thread")
def test_an_interrupt_of_the_loader_itself_lets_it_run_again_for_the_others():
    with Cache.open_sync(doc()) as cache:
        calls = []
        entered = threading.Event()

        def load():
            calls.append(threading.current_thread().name)
            entered.set()
            if len(calls) == 1:
                interrupt_soon()
                for _ in range(1000):
                    time.sleep(0.01)
            return "value"

        def join():
            assert entered.wait(10)
            return cache.get_or_set("k", lambda: "not this")

        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(join)
            interrupting(lambda: cache.get_or_set("k", load))
            assert other.result(10) == "value"
        assert calls == ["MainThread", "tiercache-loader"]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this platform sends no signal to a thread")
def test_an_interrupted_loader_that_nobody_waits_for_is_not_called_again():
    with Cache.open_sync(doc()) as cache:
        calls = []

        def load():
            calls.append(1)
            interrupt_soon()
            for _ in range(1000):
                time.sleep(0.01)

        interrupting(lambda: cache.get_or_set("k", load))
        time.sleep(0.1)
        assert calls == [1]
        assert cache.get_or_set("k", lambda: "next") == "next"


def test_a_refresh_that_is_due_runs_beside_the_caller():
    clock = FakeClock()
    with Cache.open_sync(doc(refresh_ahead=0.5), clock=clock) as cache:
        cache.get_or_set("k", lambda: "old", ttl=100)
        clock.advance(60)
        done = threading.Event()

        def load():
            done.set()
            return threading.current_thread().name

        assert cache.get_or_set("k", load, ttl=100) == "old"
        assert done.wait(10)
        deadline = time.monotonic() + 10
        while cache.get("k") == "old" and time.monotonic() < deadline:
            time.sleep(0.005)
        assert cache.get("k") in {"tiercache-loader", threading.current_thread().name}


def test_a_loader_whose_caller_is_gone_runs_in_a_thread_of_its_own():
    async def scenario():
        turn = Turn(lambda: threading.current_thread().name, asyncio.get_running_loop())
        done = Future()
        done.set_result("answered")
        assert turn.take(done) == "answered"
        async with asyncio.timeout(5):
            assert await turn.load() == "tiercache-loader"

    asyncio.run(scenario())


def test_many_threads_never_read_what_was_not_written():
    with Cache.open_sync(doc()) as cache:

        def act(number):
            seen = set()
            for turn in range(60):
                key = f"k{turn % 7}"
                if (turn + number) % 5 == 0:
                    cache.set(key, (key, number))
                elif (turn + number) % 11 == 0:
                    cache.delete(key)
                else:
                    value = cache.get_or_set(key, lambda key=key: (key, "loaded"))
                    seen.add(value[0] == key)
            return seen

        assert set().union(*together(16, act)) == {True}


def test_a_cache_of_its_own_leaves_no_thread_when_closed(tmp_path):
    before = set(threading.enumerate())
    with Cache.open_sync(doc(tmp_path)) as cache:
        cache.set("k", 1)
        assert cache.get("k") == 1
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()


def test_what_refuses_to_start_is_raised_by_open_sync(tmp_path):
    (tmp_path / "cache.db").write_text("no database, and never was one; long enough to be looked at" * 20)
    with pytest.raises(Exception, match="cache.db"):
        Cache.open_sync(doc(tmp_path))


def program(code, *arguments):
    """Run *code* in an interpreter of its own; return what it wrote, and how long it took to end."""
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code, *arguments],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("busy", [False, True], ids=["at rest", "while a load is under way"])
def test_the_interpreter_ends_at_once_with_a_cache_that_nobody_closed(tmp_path, busy):
    code = f"""
import atexit, sys, threading, time
from tiercache import Cache
ended = []
cache = Cache.open_sync({doc(tmp_path)!r})
cache.set("k", 1)
assert cache.get("k") == 1
if {busy}:
    entered = threading.Event()
    async def slow():
        import asyncio
        entered.set()
        await asyncio.sleep(3600)
    threading.Thread(target=cache.get_or_set, args=("slow", slow), daemon=True).start()
    assert entered.wait(10)
print(time.time())
"""
    done = program(code)
    assert time.time() - float(done.stdout) < 1
    assert done.stderr == ""


FORKED = """
import os, sys, threading
from tiercache import Cache
cache = Cache.open_sync({doc!r})
cache.set("before", 1)
stop = threading.Event()
def busy():
    while not stop.is_set():
        cache.get("absent")
threads = [threading.Thread(target=busy, daemon=True) for _ in range(2)]
[thread.start() for thread in threads]
children = []
for number in range(3):
    child = os.fork()
    if not child:
        try:
            assert cache.get("before") == {seen!r}, "before"
            cache.set(f"child{{number}}", number)
            assert cache.get(f"child{{number}}") == number
            assert cache.get_or_set("loaded", lambda: 5) == 5
            cache.close()
            os._exit(0)
        except BaseException as error:
            print(type(error), error, file=sys.stderr)
            os._exit(1)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
stop.set()
assert codes == [0, 0, 0], codes
assert cache.get("before") == 1
cache.set("after", 2)
assert cache.get("after") == 2
cache.close()
"""


@forks
@pytest.mark.parametrize("far", [True, False], ids=["with a disk tier", "near only"])
def test_the_child_of_a_fork_opens_its_own(tmp_path, far):
    code = FORKED.format(doc=doc(tmp_path if far else None), seen=1 if far else None)
    assert "Error" not in program(code).stderr


@forks
def test_the_child_of_a_fork_may_use_a_redis_that_the_parent_goes_on_using(valkey_server):
    document = {
        "cache": {"namespace": f"fork{os.getpid()}"},
        "tier": {"memory": {"type": "memory"}, "far": {"type": "redis", "url": valkey_server.url}},
        "route": {"all": {"tiers": ["memory", "far"], "ttl": "1h"}},
    }
    assert "Error" not in program(FORKED.format(doc=document, seen=1)).stderr


@forks
def test_a_cache_of_the_parents_loop_is_refused_in_the_child():
    code = f"""
import asyncio, os
from tiercache import Cache, CacheClosed
async def main():
    async with Cache.open({doc()!r}) as cache:
        await cache.set("k", 1)
        face = cache.sync
        @cache.cached(key="k")
        def decorated(): return 2
        def forked():
            child = os.fork()
            if child:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            refused = 0
            for act in (lambda: face.get("k"), lambda: face.set("k", 2), decorated):
                try:
                    act()
                except CacheClosed:
                    refused += 1
            os._exit(0 if refused == 3 else 1)
        assert await asyncio.to_thread(forked) == 0
        assert await cache.get("k") == 1
asyncio.run(main())
"""
    program(code)


@forks
def test_a_cache_of_the_parents_loop_is_refused_in_the_child_by_its_own_calls_too(tmp_path):
    code = f"""
import asyncio, os
from tiercache import Cache, CacheClosed
async def main():
    async with Cache.open({doc(tmp_path)!r}) as cache:
        await cache.set("k", 1)
        def forked():
            child = os.fork()
            if child:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            refused = 0
            def asked(act):
                asyncio.run(act())
            acts = [
                lambda: cache.get("k"), lambda: cache.set("k", 2), lambda: cache.get_or_set("k", int),
                lambda: cache.delete("k"), lambda: cache.clear(), cache.start,
            ]
            for act in acts:
                try:
                    asked(act)
                except CacheClosed as error:
                    refused += "forked" in str(error)
            asked(cache.close)
            os._exit(0 if refused == len(acts) else 1)
        assert await asyncio.to_thread(forked) == 0
        assert await cache.get("k") == 1
        await cache.set("k", 3)
        assert await cache.get("k") == 3
asyncio.run(main())
"""
    program(code)


def test_a_far_tier_that_fails_is_a_miss_for_threads_too():
    with attached(document(), clock=FakeClock()) as (cache, _):
        tier(cache, "shelf").error = tier(cache, "cellar").error = OSError("away")
        assert cache.sync.get("k", "miss") == "miss"
        assert cache.sync.get_or_set("k", lambda: 1) == 1


def test_patterns_that_watch_are_told_of_each_read_once_and_on_the_loop():
    watched = doc(patterns=["noted"])
    watched["pattern"] = {"noted": {"type": "noted"}}
    with attached(watched, plugins=("noting",)) as (cache, _):
        cache.sync.set("k", 1)
        noting.LOG.clear()
        assert cache.sync.get("k") == 1
        assert cache.sync.get("absent") is None
        assert cache.sync.get_or_set("k", lambda: 2) == 1
        seen = [entry for entry in noting.LOG if entry[1] == "seen"]
        assert seen == [
            ("noted", "seen", "k", True), ("noted", "seen", "absent", False), ("noted", "seen", "k", True),
        ]  # fmt: skip
