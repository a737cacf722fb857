"""Whatever is done to sessions in whatever order: what they are is what a dictionary would say."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule, run_state_machine_as_test

from tiercache import Cache
from tiercache.testing import FakeClock
from tiercache_plugins.integrations import SessionCache

AGE = 3600
GRACE = 60
ROUTE = {"tiers": ["memory"], "copy": True}
USERS = st.integers(0, 1)
DATA = st.dictionaries(st.sampled_from("xy"), st.integers(0, 9), max_size=2)


@dataclass
class Kept:
    data: dict
    user: str | None
    started: float


def machine(run, sessions: SessionCache, clock: FakeClock) -> type[RuleBasedStateMachine]:
    """Return the machine. All its examples share one cache, as opening takes longer than they do."""
    numbers = itertools.count()

    class Sessions(RuleBasedStateMachine):
        ids = Bundle("ids")

        def __init__(self) -> None:
            super().__init__()
            self.name = f"example{next(numbers)}"
            self.kept: dict[str, Kept] = {}
            self.moved: dict[str, tuple[str, float]] = {}
            self.known: set[str] = set()

        def user(self, number: int) -> str:
            return f"{self.name}:{number}"

        def behind(self, session_id: str) -> list[str]:
            """Return *session_id*, and the ids that it leads to by now."""
            found = [session_id]
            while (moved := self.moved.get(found[-1])) is not None and clock() < moved[1]:
                found.append(moved[0])
            return found

        def alive(self, session_id: str) -> Kept | None:
            kept = self.kept.get(session_id)
            return kept if kept is not None and clock() < kept.started + AGE else None

        def began(self, session_id: str, data: dict, user: str | None) -> str:
            self.moved.pop(session_id, None)
            self.known.add(session_id)
            self.kept[session_id] = Kept(data, user, clock())
            return session_id

        @rule(target=ids, data=DATA, user=USERS | st.none(), within=st.booleans())
        def create(self, data: dict, user: int | None, within: bool) -> str:
            whose = None if user is None else self.user(user)
            if within and whose is not None:
                data, given = {**data, "user_id": whose}, None
            else:
                given = whose
            return self.began(run(sessions.create_session(data, user=given)), data, whose)

        @rule(session_id=ids, data=DATA)
        def begin_anew(self, session_id: str, data: dict) -> None:
            run(sessions.set_session(session_id, data))
            self.began(session_id, data, None)

        @rule(session_id=ids)
        def read(self, session_id: str) -> None:
            self.check(session_id)

        def check(self, session_id: str) -> None:
            kept = self.alive(self.behind(session_id)[-1])
            assert run(sessions.get_session(session_id)) == (None if kept is None else kept.data)
            opened = run(sessions.open_session(session_id))
            assert (opened is None) is (kept is None)
            if kept is not None:
                assert (opened.data, opened.started) == (kept.data, kept.started)

        @rule(session_id=ids, data=DATA, user=USERS | st.none())
        def change(self, session_id: str, data: dict, user: int | None) -> None:
            if user is not None:
                data = {**data, "user_id": self.user(user)}
            kept = self.alive(self.behind(session_id)[-1])
            changed = run(sessions.update_session(session_id, data))
            if kept is None:
                assert changed is None
                return
            kept.data = {**kept.data, **data}
            kept.user = kept.data.get("user_id") or kept.user
            assert changed == kept.data

        @rule(target=ids, session_id=ids, grace=st.booleans())
        def rotate(self, session_id: str, grace: bool) -> str:
            way = self.behind(session_id)
            last = way[-1] if not grace else session_id
            kept = self.alive(last)
            new = run(sessions.rotate_session(session_id, grace=GRACE if grace else None))
            if kept is None:
                assert new is None
                return session_id
            assert new not in self.known
            self.known.add(new)
            self.kept[new] = Kept(kept.data, kept.data.get("user_id") or kept.user, kept.started)
            del self.kept[last]
            if grace:
                self.moved[last] = new, clock() + GRACE
            return new

        @rule(session_id=ids, call=st.sampled_from(["delete_session", "end_session"]))
        def end(self, session_id: str, call: str) -> None:
            way = self.behind(session_id)
            assert run(getattr(sessions, call)(session_id)) is (self.alive(way[-1]) is not None)
            for each in way:
                self.kept.pop(each, None)
                self.moved.pop(each, None)

        @rule(user=USERS)
        def log_out_everywhere(self, user: int) -> None:
            run(sessions.logout_everywhere(self.user(user)))
            self.kept = {key: kept for key, kept in self.kept.items() if kept.user != self.user(user)}

        @rule(seconds=st.sampled_from([1, 1, 1, GRACE - 1, GRACE, AGE // 2]))
        def wait(self, seconds: int) -> None:
            clock.advance(seconds)

        def teardown(self) -> None:
            for session_id in self.known:
                self.check(session_id)

    return Sessions


def test_sessions_are_what_a_dictionary_says() -> None:
    clock = FakeClock()
    with asyncio.Runner() as runner:
        wanted = {"tier": {"memory": {"type": "memory"}}, "route": {"session": ROUTE}}
        cache = runner.run(Cache.open(wanted, clock=clock).start())
        sessions = SessionCache(cache, max_age=AGE, clock=clock)
        run_state_machine_as_test(
            machine(runner.run, sessions, clock),
            settings=settings(
                max_examples=25,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        runner.run(cache.close())
