"""The breaker, by itself, under a clock that stands still."""

from hypothesis import given
from hypothesis import strategies as st

from tiercache.engine.breaker import CALLS, FAILURES, LONGEST_PAUSE, PAUSE, WINDOW, Breaker
from tiercache.testing import FakeClock


def opened(clock, **options):
    breaker = Breaker(clock, chance=lambda: 0.0, **options)
    for _ in range(FAILURES):
        assert breaker.admit()
        breaker.failed()
    return breaker


def test_it_opens_once_half_of_the_last_calls_failed_and_not_before():
    clock = FakeClock()
    breaker = Breaker(clock)
    for number in range(2 * FAILURES):
        assert breaker.state == "closed"
        assert breaker.admit()
        breaker.failed() if number % 2 else breaker.succeeded()
    assert breaker.state == "open"
    assert not breaker.admit()


def test_failures_that_lie_far_apart_never_open_it():
    clock = FakeClock()
    breaker = Breaker(clock)
    for _ in range(100):
        breaker.failed()
        clock.advance(WINDOW)
    assert breaker.state == "closed"


def test_a_tier_that_answered_for_long_is_left_alone_as_soon():
    clock = FakeClock()
    breaker = Breaker(clock)
    for _ in range(10_000):
        breaker.succeeded()
    for _ in range(FAILURES):
        breaker.failed()
    assert breaker.state == "open"


def test_after_the_pause_one_call_is_let_through_and_its_success_closes():
    clock = FakeClock()
    breaker = opened(clock)
    assert breaker.barred()
    clock.advance(PAUSE)
    assert not breaker.barred()
    assert breaker.admit()
    assert breaker.state == "half-open"
    assert not breaker.admit()
    assert breaker.barred()
    breaker.succeeded()
    assert breaker.state == "closed"
    assert breaker.admit()


def test_a_probe_that_fails_doubles_the_pause_up_to_a_bound():
    clock = FakeClock()
    breaker = opened(clock)
    pause = PAUSE
    for _ in range(10):
        clock.advance(pause - 0.001)
        assert not breaker.admit()
        clock.advance(0.001)
        assert breaker.admit()
        breaker.failed()
        pause = min(2 * pause, LONGEST_PAUSE)


def test_a_probe_whose_caller_left_says_nothing():
    clock = FakeClock()
    breaker = opened(clock)
    clock.advance(PAUSE)
    assert breaker.admit()
    breaker.withdrawn()
    assert breaker.state == "open"
    assert breaker.admit()


def test_chance_only_shortens_a_pause():
    clock = FakeClock()
    breaker = Breaker(clock, chance=lambda: 1.0)
    breaker.trip()
    clock.advance(PAUSE * 0.74)
    assert breaker.barred()
    clock.advance(PAUSE * 0.02)
    assert not breaker.barred()


def test_each_change_is_told():
    told = []
    clock = FakeClock()
    breaker = opened(clock, told=told.append)
    clock.advance(PAUSE)
    breaker.admit()
    breaker.failed()
    clock.advance(2 * PAUSE)
    breaker.admit()
    breaker.succeeded()
    assert told == ["open", "half-open", "open", "half-open", "closed"]


@given(st.lists(st.sampled_from(["ask", "good", "bad", "leave", "wait"]), max_size=80))
def test_there_is_never_more_than_one_probe_and_the_way_back_is_always_open(steps):
    clock = FakeClock()
    breaker = Breaker(clock, chance=lambda: 0.5)
    owed = 0
    for step in steps:
        if step == "wait":
            clock.advance(0.4)
        elif step == "ask":
            before = breaker.state
            barred = breaker.barred()
            admitted = breaker.admit()
            assert admitted is not barred
            owed += admitted
            if before != "closed" and admitted:
                assert breaker.state == "half-open"
                assert not breaker.admit()
        elif owed:
            owed -= 1
            {"good": breaker.succeeded, "bad": breaker.failed, "leave": breaker.withdrawn}[step]()
    while owed:
        breaker.failed()
        owed -= 1
    clock.advance(LONGEST_PAUSE)
    assert breaker.admit()
    breaker.succeeded()
    assert breaker.state == "closed"
    assert CALLS >= FAILURES
