"""What each promise hangs on: the lines without which its test fails."""

from __future__ import annotations

from promises.mutants import Edit, Mutant

CORE = "core/tiercache/"
ENGINE = "core/tiercache/engine/"
PLUGINS = "plugins/tiercache_plugins/"


def without(test: str, file: str, old: str, new: str, *more: tuple[str, str, str]) -> Mutant:
    """Return the mutant that *test*, `MODULE::test_name`, must notice."""
    module, _, name = test.partition("::")
    return Mutant(f"test_{module}.py::test_{name}", tuple(Edit(*edit) for edit in ((file, old, new), *more)))


READ_PATH = (
    without(
        "read_path::a_promoted_copy_lives_no_longer_than_what_it_was_copied_from",
        ENGINE + "keeping.py",
        "remaining = (found.fresh_until - self._clock.micros()) / 1_000_000",
        "remaining = (found.fresh_until - found.created_at) / 1_000_000",
    ),
    without(
        "read_path::a_copy_between_far_tiers_keeps_the_life_of_the_entry",
        ENGINE + "pipeline.py",
        "            copied = frame\n",
        "            copied = far.codec.encode(probe.address.encode(), found.value, self.clock.stamp(), "
        "self.until(self.life.ttl), self.until(self.life.ttl), found.tags)\n",
    ),
    without(
        "read_path::a_near_tier_of_shorter_life_shortens_its_own_copy_alone",
        ENGINE + "keeping.py",
        "ttl = min(ttl, self.near.max_ttl)",
        "ttl = min(ttl, ttl)",
    ),
    without(
        "read_path::an_older_far_value_never_replaces_a_newer_near_one",
        ENGINE + "flights.py",
        "probe.detached = True",
        "pass",
    ),
    without(
        "read_path::an_older_copy_never_replaces_a_newer_one_in_a_tier_between",
        ENGINE + "pipeline.py",
        "far.record(probe.address, copied, found.stale_until, conditional=True)",
        "far.record(probe.address, copied, found.stale_until, conditional=False)",
    ),
    without(
        "read_path::what_was_read_before_an_entry_was_dropped_is_not_kept_after",
        ENGINE + "flights.py",
        "probe.detached = True",
        "pass",
    ),
    without(
        "read_path::a_value_that_is_being_dropped_is_not_brought_back_by_a_reader_in_between",
        ENGINE + "flights.py",
        "self.detached = self.key in self.route.flights.closing",
        "self.detached = False",
        (
            ENGINE + "house.py",
            "            for key in addresses:\n                self.forget(key)\n        return len(there)",
            "            pass\n        return len(there)",
        ),
    ),
    without(
        "read_path::a_stale_near_copy_does_not_hide_that_another_process_has_refreshed",
        CORE + "cache/loading.py",
        "            load = Load(way, key, loader, life)\n            load.start()",
        "            load = Load(way, key, loader, life)\n            load.start(look=False)",
    ),
    without(
        "read_path::of_two_stale_copies_the_newer_one_is_served_and_not_the_nearer",
        ENGINE + "loads.py",
        "(self._stale is MISSING or stale.created_at > self._stale.created_at)",
        "self._stale is MISSING",
    ),
    without(
        "read_path::a_hit_in_the_last_tier_fills_both_tiers_before_it",
        ENGINE + "pipeline.py",
        "for far in self.fars[: probe.level]:",
        "for far in ():",
    ),
    without(
        "read_path::a_server_that_accepts_connections_and_never_answers_stops_neither_start_nor_reads",
        ENGINE + "guard.py",
        "            self.failed(error)\n            self.breaker.trip()\n        else:",
        "            raise\n        else:",
    ),
)

STAMPEDE = (
    without(
        "stampede::ten_thousand_callers_of_a_cold_key_make_one_load",
        CORE + "cache/loading.py",
        "since = way.markers.newest\n        load = way.flights.loads.get(key)",
        "since = way.markers.newest\n        load = None",
    ),
    without(
        "stampede::any_subset_of_callers_may_be_cancelled_and_the_rest_are_unharmed",
        ENGINE + "loads.py",
        "elif not self._waiters and not self._background:",
        "elif not self._background:",
    ),
    without(
        "stampede::the_last_caller_to_leave_takes_the_load_along",
        ENGINE + "loads.py",
        "elif not self._waiters and not self._background:\n            self._abandon()",
        "elif not self._waiters and not self._background:\n            pass",
    ),
    without(
        "stampede::nobody_joins_a_load_that_is_being_cancelled",
        ENGINE + "loads.py",
        "        self._abandoned = True\n        self._leave()\n",
        "        self._abandoned = True\n",
    ),
    without(
        "stampede::asking_what_is_cached_never_finds_what_is_being_loaded",
        ENGINE + "pipeline.py",
        "if load is not None and load.landed is not MISSING:",
        "if load is not None:",
    ),
    without(
        "stampede::callers_have_the_value_before_the_far_tiers_do",
        ENGINE + "loads.py",
        "        self._ended = True\n        self._resolve(value)\n",
        "        await asyncio.wait(writes)\n        self._ended = True\n        self._resolve(value)\n",
    ),
    without(
        "stampede::an_error_reaches_all_who_wait_and_nobody_after_them",
        ENGINE + "loads.py",
        "            del self.route.flights.loads[self.key]",
        "            pass",
    ),
    without(
        "stampede::no_second_loader_runs_beside_the_first_however_callers_come_and_go",
        ENGINE + "loads.py",
        "        self._waiters.discard(waiter)\n",
        "        self._waiters.discard(waiter)\n        self.route.flights.loads.pop(self.key, None)\n",
    ),
    without(
        "stampede::no_error_of_a_load_is_left_behind_unseen",
        ENGINE + "loads.py",
        "            self._fail(error)\n            return\n",
        "            self._fail(error)\n            raise\n",
    ),
    without(
        "stampede::a_load_runs_in_a_copy_of_its_first_callers_context",
        ENGINE + "loads.py",
        'self._task = loop.create_task(self._run(), context=self._context, name="tiercache-load")',
        'self._task = loop.create_task(self._run(), name="tiercache-load")',
    ),
    without(
        "stampede::a_load_that_asks_for_its_own_key_is_an_error_and_no_deadlock",
        ENGINE + "loads.py",
        "        _LOADING.set((*_LOADING.get(), self._mark()))\n",
        "",
    ),
    without(
        "stampede::keys_that_overlap_in_bulk_loads_are_loaded_once_each",
        CORE + "cache/loading.py",
        "way = self._way(key, route)\n            load = way.flights.loads.get(key)",
        "way = self._way(key, route)\n            load = None",
    ),
)

MUTANTS: tuple[Mutant, ...] = READ_PATH + STAMPEDE
