"""Stamps order what happens; the coarse clock is never late for long, and never stuck."""

import gc
import os
import sys
import threading
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache import Clock
from tiercache.clock import Ticker
from tiercache.testing import FakeClock

INF = float("inf")


class Owner:
    now = 0.0


def until(condition, within=5.0):
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.integers(0, 2**52)), max_size=50))
def test_a_later_stamp_is_greater_whatever_the_clock_does_and_whatever_was_seen(steps):
    source = FakeClock()
    clock = Clock(source)
    last = clock.stamp()
    for step in steps:
        if isinstance(step, float):
            source.advance(step)
        else:
            clock.observe(step)
        stamp = clock.stamp()
        assert stamp > last
        last = stamp


@pytest.fixture
def restless():
    """Threads that take turns all the time."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_stamps_from_many_threads_are_all_different(restless):
    # A clock that stands still: each stamp is one more than the last.
    clock = Clock(FakeClock())
    stamps = [[] for _ in range(4)]
    together = threading.Barrier(4)

    def take(mine):
        together.wait(30)
        for at in range(30_000):
            mine.append(clock.stamp())
            clock.observe(mine[-1] + at % 3)

    threads = [threading.Thread(target=take, args=(mine,)) for mine in stamps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({stamp for mine in stamps for stamp in mine}) == 120_000
    assert all(mine == sorted(mine) for mine in stamps)


def test_a_stamp_that_was_seen_raises_the_clock():
    clock = Clock(FakeClock())
    ahead = clock.micros() + 3_600_000_000
    clock.observe(ahead)
    assert clock.stamp() == ahead + 1


def test_a_stamp_from_a_far_future_is_passed_over():
    clock = Clock(FakeClock())
    clock.observe(2**62)
    assert clock.stamp() < clock.micros() + 1_000_000


@given(
    st.lists(
        st.tuples(
            st.one_of(st.floats(0, 0.002), st.floats(0, 1e6)),
            st.one_of(st.just(1.0), st.just(60.0), st.floats(0, 2), st.floats(0, 1e9), st.just(INF)),
        ),
        max_size=30,
    )
)
def test_a_life_ends_when_it_should_or_a_thousandth_earlier(steps):
    source = FakeClock()
    clock = Clock(source)
    for passed, ttl in steps:
        source.advance(passed)
        exact = source() + ttl
        end = clock.end(ttl)
        if ttl < 1 or ttl == INF:
            assert end == exact
        else:
            assert exact - 0.001 - 1e-6 <= end <= exact


def test_lives_that_end_within_a_millisecond_share_their_end():
    source = FakeClock()
    clock = Clock(source)
    first = clock.end(60.0)
    source.advance(0.0005)
    assert clock.end(60.0) is first
    assert clock.end(60.1) is not first
    source.advance(0.002)
    assert clock.end(60.0) > first
    assert clock.end(INF) is clock.end(INF)
    assert clock.end(0.5) == source() + 0.5
    source.advance(0.0005)
    assert clock.end(0.5) == source() + 0.5


def test_the_coarse_clock_follows_the_real_one_and_parks():
    owner = Owner()
    clock = Clock()
    ticker = Ticker(owner, clock)
    assert owner.now == INF
    ticker.wake()
    assert owner.now <= clock.monotonic()
    before = owner.now
    until(lambda: owner.now > before)
    until(lambda: owner.now == INF)
    ticker.wake()
    assert owner.now < INF
    ticker.stop()
    assert owner.now == INF
    ticker.wake()
    assert owner.now == INF


def test_while_shut_no_hit_passes_and_nothing_reopens_it():
    owner = Owner()
    ticker = Ticker(owner, Clock())
    ticker.wake()
    ticker.shut()
    for _ in range(20):
        assert owner.now == INF
        ticker.wake()
        time.sleep(0.001)
    ticker.open()
    ticker.wake()
    assert owner.now < INF
    ticker.stop()


def test_the_thread_ends_with_its_owner():
    owner = Owner()
    ticker = Ticker(owner, Clock())
    ticker.wake()
    thread = ticker._thread
    gone = weakref.ref(ticker)
    del owner, ticker
    gc.collect()
    until(lambda: not thread.is_alive())
    assert gone() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_starts_parked_and_can_wake():
    owner = Owner()
    ticker = Ticker(owner, Clock())
    ticker.wake()
    child = os.fork()
    if child == 0:
        parked = owner.now == INF
        ticker.wake()
        before = owner.now
        time.sleep(0.1)
        os._exit(0 if parked and before < owner.now else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    ticker.stop()
