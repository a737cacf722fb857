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
        "left, longest = fresh_until - arrival.now,",
        "left, longest = fresh_until - created_at,",
        (ENGINE + "keeping.py", "min(found.fresh_until - arrival.now, longest)", "longest"),
    ),
    without(
        "read_path::a_copy_between_far_tiers_keeps_the_life_of_the_entry",
        ENGINE + "judging.py",
        "        copied = frame\n",
        "        copied = far.codec.encode(probe.address.encode(), found.value, route.clock.stamp(), "
        "route.until(route.life.ttl), route.until(route.life.ttl), found.tags)\n",
    ),
    without(
        "read_path::a_near_tier_of_shorter_life_shortens_its_own_copy_alone",
        ENGINE + "keeping.py",
        "        if ttl > self.near.max_ttl:\n            ttl = self.near.max_ttl\n",
        "",
    ),
    without(
        "read_path::an_older_far_value_never_replaces_a_newer_near_one",
        ENGINE + "flights.py",
        "probe.detached = True",
        "pass",
    ),
    without(
        "read_path::an_older_copy_never_replaces_a_newer_one_in_a_tier_between",
        ENGINE + "judging.py",
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
        "self.detached = closing.held > 0 and key in closing",
        "self.detached = False",
        (
            ENGINE + "house.py",
            "                for key in addresses:\n                    self.forget(key)\n",
            "                pass\n",
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
        ENGINE + "judging.py",
        "for far in route.fars[: probe.level]:",
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
        "        self.detached = True\n        self._leave()\n",
        "",
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
        "        self.place.end()\n        self._resolve(value)\n",
        "        self.place.end()\n        await asyncio.wait(writes)\n        self._resolve(value)\n",
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
        "        self._waiters.pop(waiter, None)\n",
        "        self._waiters.pop(waiter, None)\n        self.route.flights.loads.pop(self.key, None)\n",
    ),
    without(
        "stampede::no_error_of_a_load_is_left_behind_unseen",
        ENGINE + "loads.py",
        "            self._fail(error)\n            return ()\n",
        "            self._fail(error)\n            raise\n",
    ),
    without(
        "stampede::a_load_runs_in_a_copy_of_its_first_callers_context",
        ENGINE + "loads.py",
        'begin(running, "tiercache-load", loop=loop, context=self._context)',
        'begin(running, "tiercache-load", loop=loop)',
    ),
    without(
        "stampede::a_load_that_asks_for_its_own_key_is_an_error_and_no_deadlock",
        ENGINE + "loads.py",
        "                self.place.awaited(waiter)\n",
        "                pass\n",
    ),
    without(
        "stampede::keys_that_overlap_in_bulk_loads_are_loaded_once_each",
        CORE + "cache/loading.py",
        "load = way.flights.loads.get(key)\n                if load is None:\n                    mine",
        "load = None\n                if load is None:\n                    mine",
        (ENGINE + "locks/turns.py", " and key not in route.flights.loads", ""),
    ),
)

STALE = (
    without(
        "stale::serving_a_stale_copy_again_and_again_never_lengthens_its_life",
        ENGINE + "keeping.py",
        "self.put(key, stale.value, stale.created_at, pause, remaining - pause, 0.0, stale.tags)",
        "self.put(key, stale.value, stale.created_at, REARM, 10.0, 0.0, stale.tags)",
    ),
    without(
        "stale::a_stale_copy_that_stands_in_is_neither_stored_far_nor_seen_by_others",
        ENGINE + "loads.py",
        "        self.route.keeping.rearm(self.key, stale)\n",
        "        self.route.loaded(self, stale.value, self.route.clock.stamp())\n",
    ),
    without(
        "stale::what_was_removed_is_not_served_as_a_stale_copy_either",
        ENGINE + "judging.py",
        "                and not route.markers.killed(probe.key, standing.tags, standing.created_at)\n",
        "",
        (
            ENGINE + "loads.py",
            "or self.detached or not self.route.lives(self.key, stale)",
            "or self.detached",
        ),
    ),
    without(
        "stale::what_is_removed_while_its_loader_fails_is_not_served_after_all",
        ENGINE + "loads.py",
        "or self.detached or not self.route.lives(self.key, stale)",
        "or not self.route.lives(self.key, stale)",
    ),
    without(
        "stale::the_tags_of_a_stale_copy_are_those_of_the_entry",
        ENGINE + "keeping.py",
        "remaining - pause, 0.0, stale.tags)",
        "remaining - pause, 0.0, ())",
    ),
    without(
        "stale::invalidating_is_hard_and_expiring_is_soft",
        ENGINE + "authority.py",
        "        route.keeping.lapse(entry)\n",
        "        route.near.remove(key)\n",
        (
            ENGINE + "authority.py",
            "        if far.swap is None:\n            expired = bool(",
            "        if True:\n            expired = bool(",
        ),
    ),
    without(
        "stale::expiring_keeps_the_stale_copy_in_far_tiers_too",
        ENGINE + "authority.py",
        "        if far.swap is None:\n            expired = bool(",
        "        if True:\n            expired = bool(",
    ),
    without(
        "stale::a_failing_source_is_left_alone_for_a_while",
        ENGINE + "loads.py",
        "        self.route.keeping.rearm(self.key, stale)\n",
        "",
    ),
    without(
        "stale::a_fallback_for_a_first_load_that_fails_is_served_and_never_stored",
        CORE + "cache/loading.py",
        "            if fallback is MISSING:\n                raise\n            return fallback\n",
        "            if fallback is MISSING:\n                raise\n"
        "            await self.set(key, fallback)\n            return fallback\n",
    ),
)

TIMEOUTS = (
    without(
        "timeouts::a_soft_timeout_cuts_nobody_off_who_has_nothing_else",
        ENGINE + "loads.py",
        "self._late.append(loop.call_at(self._soft_at, self._stand_in))",
        "self._late.append(loop.call_at(self._soft_at, self._give_up))",
    ),
    without(
        "timeouts::a_far_tier_that_hangs_is_not_waited_for_beyond_the_soft_timeout",
        ENGINE + "loads.py",
        "        self._limit()\n        if look and self.route.fars:\n",
        "        if look and self.route.fars:\n",
    ),
    without(
        "timeouts::what_a_late_load_brings_is_as_old_as_its_beginning",
        ENGINE + "loads.py",
        "self.route.loaded(self, value, began)",
        "self.route.loaded(self, value, self.route.clock.stamp())",
    ),
    without(
        "timeouts::while_a_load_goes_on_in_the_background_nobody_starts_another",
        ENGINE + "loads.py",
        "        self._background = True\n        if not self._stand_in():",
        "        self._background = True\n        self._leave()\n        if not self._stand_in():",
    ),
    without(
        "timeouts::callers_who_leave_a_background_load_neither_end_it_nor_lock_the_key",
        ENGINE + "loads.py",
        "elif not self._waiters and not self._background:",
        "elif not self._waiters:",
    ),
    without(
        "timeouts::closing_waits_for_a_load_in_the_background",
        ENGINE + "house.py",
        "_, late = await asyncio.wait(running, timeout=CLOSE_WITHIN)",
        "_, late = await asyncio.wait(running, timeout=0)",
    ),
    without(
        "timeouts::closing_leaves_no_load_behind_that_was_still_looking_into_a_far_tier",
        ENGINE + "house.py",
        'await self._close("what was being read", partial(quiet, reads))\n',
        "pass\n",
    ),
    without(
        "timeouts::an_error_in_the_background_is_counted_and_no_callers_problem",
        ENGINE + "loads.py",
        "            self._fail(error)\n            return ()\n",
        "            self._fail(error)\n            raise\n",
    ),
)

REFRESH_AHEAD = (
    without(
        "refresh_ahead::of_many_processes_one_refreshes_and_the_others_take_its_result",
        CORE + "cache/loading.py",
        "Load(way, key, loader, life, refreshes=entry.created_at).start()",
        "Load(way, key, loader, life, refreshes=entry.created_at).start(look=False)",
    ),
    without(
        "refresh_ahead::of_a_crowd_of_readers_one_starts_the_refresh_and_none_waits",
        CORE + "cache/loading.py",
        " or key in way.flights.loads:",
        ":",
    ),
    without(
        "refresh_ahead::a_refresh_is_dropped_where_the_key_changed_meanwhile",
        ENGINE + "flights.py",
        "load.detached = True",
        "pass",
    ),
    without(
        "refresh_ahead::a_refresh_that_outlives_the_entry_is_joined_and_ends_in_the_new_value",
        CORE + "cache/loading.py",
        "since = way.markers.newest\n        load = way.flights.loads.get(key)",
        "since = way.markers.newest\n        load = None",
    ),
    without(
        "refresh_ahead::a_refresh_that_fails_leaves_what_is_fresh_and_rests",
        ENGINE + "loads.py",
        "not self.detached and self.route.keeping.postpone(self.key)",
        "not self.detached",
    ),
)

JITTER = (
    without(
        "jitter::jitter_shortens_a_life_once_and_all_tiers_agree",
        ENGINE + "pipeline.py",
        "        end = self.until(life.ttl)\n",
        "        end = self.until(saving.jittered(self, life).ttl)\n",
    ),
    without(
        "jitter::jitter_shortens_a_life_once_and_all_tiers_agree",
        ENGINE + "saving.py",
        "life.ttl * (1 - route.chance()",
        "life.ttl * (1 + route.chance()",
    ),
    without(
        "jitter::a_stale_copy_that_stands_in_rests_for_a_fixed_time",
        ENGINE + "keeping.py",
        "pause = min(REARM, remaining)",
        "pause = min(REARM, remaining) * (1 - __import__('random').random() * self._rules.jitter)",
    ),
)

TAGS = (
    without(
        "tags::an_entry_is_as_old_as_the_beginning_of_its_load",
        ENGINE + "loads.py",
        "self.route.loaded(self, value, began)",
        "self.route.loaded(self, value, self.route.clock.stamp())",
    ),
    without(
        "tags::who_asks_after_an_invalidation_is_not_given_what_began_before_it",
        ENGINE + "invalidation.py",
        "            if load.loading and covered:\n                route.flights.detach(key)\n",
        "            if load.loading and covered:\n                pass\n",
        (
            CORE + "cache/loading.py",
            "if load.outdated(since):\n            return await",
            "if False:\n            return await",
        ),
    ),
    without(
        "tags::an_invalidation_outlasts_the_process_that_asked_for_it",
        ENGINE + "ledger.py",
        "risen = self._markers.mark(found)",
        "risen: dict[str, int] = {}",
    ),
    without(
        "tags::a_shared_tier_that_was_flushed_revives_nothing_on_the_disk_below",
        ENGINE + "invalidation.py",
        "owe(markers, below) for far in self._fars if",
        "owe(markers, below) for far in self._fars[:1] if",
        (ENGINE + "ledger.py", "self._markers.all().items() if", "{}.items() if"),
    ),
    without(
        "tags::a_marker_that_is_told_on_keeps_its_stamp",
        ENGINE + "ledger.py",
        "lacking := {name: at for name, at",
        "lacking := {name: self._clock.stamp() for name, at",
        (
            ENGINE + "ledger.py",
            "owed, below = dict(self._owed), self._below",
            "owed, below = {name: self._clock.stamp() for name in self._owed}, self._below",
        ),
    ),
    without(
        "tags::of_two_clears_the_later_one_counts_whichever_is_heard_of_first",
        ENGINE + "markers.py",
        "            if stamp <= self.whole:\n                continue\n",
        "",
        (ENGINE + "markers.py", "self.whole = max(self.whole, stamp)", "self.whole = stamp"),
    ),
    without(
        "tags::of_equal_stamps_the_invalidation_wins",
        ENGINE + "markers.py",
        "if (stamp := self._tags.get(tag, 0)) >= created_at:",
        "if (stamp := self._tags.get(tag, 0)) > created_at:",
    ),
    without(
        "tags::an_entry_dated_ahead_is_invalidated_by_whoever_has_seen_it",
        ENGINE + "judging.py",
        "                route.clock.observe(standing.stamp)\n",
        "",
    ),
    without(
        "tags::a_tag_costs_one_marker_however_many_keys_carry_it",
        ENGINE + "invalidation.py",
        "        await self.told(durable)\n        if prefix",
        "        await self.told(durable)\n        await self._found('*')\n        if prefix",
    ),
    without(
        "tags::markers_are_bounded_and_what_they_invalidated_stays_dead",
        ENGINE + "markers.py",
        "self._bury(stamps[min(surplus, len(stamps) - 1)])",
        "last = stamps[min(surplus, len(stamps) - 1)]\n"
        "        self._tags = {tag: at for tag, at in self._tags.items() if at > last}",
    ),
    without(
        "tags::markers_are_bounded_and_what_they_invalidated_stays_dead",
        ENGINE + "markers.py",
        "if len(self) > self.most:",
        "if len(self) > 10_000:",
    ),
    without(
        "tags::a_tier_that_was_away_is_told_of_the_invalidation_once_it_is_back",
        ENGINE + "ledger.py",
        "self._timer = done.get_loop().call_later(LOOK_AGAIN, self._look)",
        "self._owed = {}",
    ),
)

VERSIONING = (
    without(
        "versioning::a_load_that_began_before_a_change_is_stored_nowhere",
        ENGINE + "flights.py",
        "load.detached = True",
        "pass",
    ),
    without(
        "versioning::a_load_here_does_not_undo_a_delete_that_another_process_made",
        ENGINE + "saving.py",
        "records = encoded(route, load.key, value, began, life, conditional=True)",
        "records = encoded(route, load.key, value, began, life, conditional=False)",
    ),
    without(
        "versioning::a_load_here_does_not_undo_a_newer_value_that_another_process_set",
        ENGINE + "saving.py",
        "records = encoded(route, load.key, value, began, life, conditional=True)",
        "records = encoded(route, load.key, value, began, life, conditional=False)",
    ),
    without(
        "versioning::a_set_wins_whatever_stamp_it_finds",
        ENGINE + "saving.py",
        "records = encoded(route, key, value, created_at, life, conditional=False)",
        "records = encoded(route, key, value, created_at, life, conditional=True)",
    ),
    without(
        "versioning::writes_and_deletes_of_a_key_arrive_in_the_order_of_the_calls",
        ENGINE + "batching/writes.py",
        "        self._queue.append(op)\n",
        "        self._queue.appendleft(op)\n",
    ),
)

CONDITIONAL_REFRESH = (
    without(
        "conditional_refresh::a_value_that_its_loader_confirms_has_a_new_life_and_keeps_its_tags",
        ENGINE + "loaded.py",
        "tags = asked.tags if self.tags is None else tuple(self.tags)",
        "tags = () if self.tags is None else tuple(self.tags)",
    ),
    without(
        "conditional_refresh::what_was_invalidated_is_not_offered_for_confirmation",
        ENGINE + "judging.py",
        "                and not route.markers.killed(probe.key, standing.tags, standing.created_at)\n",
        "",
        (
            ENGINE + "loads.py",
            "or self.detached or not self.route.lives(self.key, stale)",
            "or self.detached",
        ),
    ),
)

ADAPTIVE = (
    without(
        "adaptive::a_loader_decides_on_ttl_tags_and_whether_to_store",
        ENGINE + "loaded.py",
        "asked.ttl if self.ttl is None else seconds(self.ttl),",
        "asked.ttl,",
    ),
    without(
        "adaptive::a_loader_decides_on_ttl_tags_and_whether_to_store",
        ENGINE + "saving.py",
        "    if not store:\n        return value, []\n",
        "",
    ),
    without(
        "adaptive::what_one_load_asks_for_changes_no_other",
        ENGINE + "saving.py",
        "life = load.life = jittered(route, life)",
        "life = load.life = route.life = jittered(route, life)",
    ),
    without(
        "adaptive::what_a_load_asks_for_holds_where_it_ends_in_the_background",
        ENGINE + "saving.py",
        "        life = brought.life(life)\n",
        "        life = life if load._background else brought.life(life)\n",
    ),
)

NEGATIVE = (
    without(
        "negative::what_is_empty_is_a_hit_in_every_tier",
        CORE + "cache/loading.py",
        "        if value is not MISSING:\n            if way.rules.refresh_ahead",
        "        if value:\n            if way.rules.refresh_ahead",
    ),
    without(
        "negative::what_is_empty_is_a_hit_in_every_tier",
        ENGINE + "loads.py",
        "if found is not MISSING and not self.tired(found):",
        "if found is not MISSING and found.value is not None and not self.tired(found):",
    ),
    without(
        "negative::what_does_not_exist_has_a_life_of_its_own",
        ENGINE + "saving.py",
        "life = Life(route.rules.negative_ttl, 0.0, life.tags)",
        "life = Life(life.ttl, 0.0, life.tags)",
    ),
    without(
        "negative::a_flood_of_absent_keys_drives_out_nothing_that_exists",
        ENGINE + "negatives.py",
        "if len(self._absent) > MOST:",
        "if len(self._absent) > 10**9:",
    ),
    without(
        "negative::errors_are_remembered_for_a_while_where_the_route_asks_for_it",
        ENGINE + "loads.py",
        "                self.route.negatives.remember(self.key, error)\n",
        "                pass\n",
    ),
)

BREAKER = (
    without(
        "breaker::one_failure_leaves_a_tier_in_use_and_a_run_of_them_does_not",
        ENGINE + "breaker.py",
        "FAILURES: Final = 5",
        "FAILURES: Final = 1",
    ),
    without(
        "breaker::a_tier_behind_an_open_breaker_costs_no_call",
        ENGINE + "breaker.py",
        'if self.state == "half-open" or self._monotonic() < self._until:\n            return False\n'
        '        self._become("half-open")',
        'if False:\n            return False\n        self._become("half-open")',
        (
            ENGINE + "guard.py",
            "self._deadlines.strays > 0 or self.breaker.barred()",
            "self._deadlines.strays > 0",
        ),
    ),
    without(
        "breaker::after_a_pause_one_call_is_let_through_and_not_a_crowd",
        ENGINE + "breaker.py",
        'if self.state == "half-open" or self._monotonic() < self._until:\n            return False\n'
        '        self._become("half-open")',
        'if self._monotonic() < self._until:\n            return False\n        self._become("half-open")',
    ),
    without(
        "breaker::nobody_waits_for_a_tier_that_hangs_beyond_its_deadline",
        ENGINE + "guard.py",
        "result = await self._deadlines.within(limit, act, *arguments, given_up=given_up)",
        "result = await act(*arguments)",
    ),
    without(
        "breaker::bytes_that_nobody_can_read_say_nothing_about_whether_the_tier_is_well",
        ENGINE + "judging.py",
        "            counts.corrupt += 1\n            if not probe.detached:",
        "            counts.corrupt += 1\n            far.guard.failed(ValueError())\n"
        "            if not probe.detached:",
    ),
    without(
        "breaker::what_a_tier_could_not_be_told_is_not_read_from_it_until_it_was",
        ENGINE + "recovery.py",
        "return self.whole or address in self._writes or address in self._deletes",
        "return self.whole",
    ),
    without(
        "breaker::a_delete_that_is_made_good_spares_what_another_process_wrote_meanwhile",
        ENGINE + "recovery.py",
        "if _newer(frame, missed):",
        "if False:",
    ),
    without(
        "breaker::of_many_writes_that_a_tier_missed_the_last_of_each_key_is_made_good",
        ENGINE + "recovery.py",
        "        self._drop(record.key)\n"
        "        self.any = True\n"
        "        self._writes[record.key] = _Missed(record.key, record.stamp, record)\n",
        "        self.any = True\n"
        "        self._writes.setdefault(record.key, _Missed(record.key, record.stamp, record))\n",
    ),
    without(
        "breaker::a_write_that_a_tier_refuses_does_not_hold_up_the_others",
        ENGINE + "recovery.py",
        "        else:\n            self._narrow(chosen)\n",
        "        else:\n            pass\n",
    ),
)

DISK = (
    without(
        "disk::a_file_stays_within_its_bound",
        PLUGINS + "tiers/sqlite/room.py",
        "if totals.bytes > self._max_bytes:\n            return True\n",
        "if False:\n            return True\n",
    ),
    without(
        "disk::nothing_in_a_file_is_unpickled_unasked",
        PLUGINS + "serializers/pickle.py",
        "signer = self._signers.get(data[:_ID])",
        "signer = self._signer",
        (
            PLUGINS + "serializers/pickle.py",
            "if not hmac.compare_digest(",
            "if False and not hmac.compare_digest(",
        ),
    ),
    without(
        "disk::many_caches_open_a_new_file_at_once",
        PLUGINS + "tiers/sqlite/place.py",
        "fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        (PLUGINS + "tiers/sqlite/link.py", "timeout=patience,", "timeout=0,"),
    ),
    without(
        "disk::a_damaged_file_is_put_aside_and_the_cache_goes_on",
        PLUGINS + "tiers/sqlite/opening.py",
        "_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})",
        "_CORRUPT: Final = frozenset({-1})",
    ),
    without(
        "disk::a_value_too_large_for_the_file_leaves_no_older_one_behind",
        PLUGINS + "tiers/sqlite/rows.py",
        "                self._leave(standing, totals, saves)\n            return False\n",
        "                pass\n            return False\n",
    ),
    without(
        "disk::a_delete_outlasts_a_restart",
        PLUGINS + "tiers/sqlite/rows.py",
        "            if record.conditional:\n                return 0\n",
        "",
    ),
    without(
        "disk::files_are_for_their_owner_alone",
        PLUGINS + "tiers/sqlite/place.py",
        "step.mkdir(mode=0o700, exist_ok=True)",
        "step.mkdir(exist_ok=True)",
    ),
    without(
        "disk::reading_writes_nothing",
        PLUGINS + "tiers/sqlite/tier.py",
        "if since > _LONG or (since > _SHORT and self._rows.pressing):",
        "if self._rows.waiting:",
    ),
)

DEPLOY = (
    without(
        "deploy::bytes_that_nobody_can_read_are_a_miss_and_a_count_and_go",
        ENGINE + "judging.py",
        "            counts.corrupt += 1\n            if not probe.detached:",
        "            if not probe.detached:",
    ),
    without(
        "deploy::another_serializer_and_compressor_leave_old_entries_readable",
        CORE + "config/build.py",
        "if found is None or (issubclass(",
        "if True or (issubclass(",
    ),
    without(
        "deploy::a_far_hit_is_equal_to_a_near_hit_and_of_the_same_types",
        PLUGINS + "serializers/msgpack/marks.py",
        "return tuple(node) if mark.tag == TUPLE else",
        "return list(node) if mark.tag == TUPLE else",
    ),
    without(
        "deploy::what_can_not_be_brought_back_is_refused_when_it_is_set",
        ENGINE + "saving.py",
        "    records = encoded(route, key, value, created_at, life, conditional=False)\n",
        "    route.keeping.place(key, value, created_at, life.ttl, life.stale, life.tags)\n"
        "    records = encoded(route, key, value, created_at, life, conditional=False)\n",
    ),
    without(
        "deploy::a_frame_that_lies_under_another_key_is_no_answer",
        CORE + "frame.py",
        "crc32(header[8:44], crc32(address))",
        "crc32(header[8:44])",
        (CORE + "frame.py", "crc32(header[8:], crc32(address))", "crc32(header[8:])"),
        (
            ENGINE + "codec/decoding.py",
            "(address.encode(), frame[8:_CHECKSUM],",
            "(frame[8:_CHECKSUM],",
        ),
    ),
    without(
        "deploy::what_promises_to_be_huge_takes_no_memory",
        ENGINE + "codec/decoding.py",
        "if head.size > self._limit:",
        "if head.size > 2**40:",
    ),
)

KEYS_AND_PATTERNS = (
    without(
        "keys_and_patterns::a_pattern_means_the_same_in_every_tier",
        CORE + "keys.py",
        "        else:\n            out.append(re.escape(char))\n",
        "        else:\n            out.append(char)\n",
    ),
    without(
        "keys_and_patterns::a_prefix_ends_where_it_says",
        ENGINE + "markers.py",
        "return _PREFIX + prefix if prefix else EVERYTHING",
        'return _PREFIX + prefix.rstrip(":") if prefix else EVERYTHING',
    ),
    without(
        "keys_and_patterns::one_namespace_never_touches_another",
        ENGINE + "house.py",
        'far.prefix = f"{namespace}:"',
        'far.prefix = f"{namespace}"',
    ),
    without(
        "keys_and_patterns::calls_with_different_arguments_never_share_a_key",
        CORE + "decorators/arguments.py",
        "    if kind in _TOLD:\n        return repr(value)\n",
        "    if kind in _TOLD:\n        return str(value)\n",
    ),
    without(
        "keys_and_patterns::no_reader_can_change_what_others_read_where_each_gets_a_copy",
        ENGINE + "pipeline.py",
        "return copy.deepcopy(value) if self.copies else value",
        "return value",
    ),
    without(
        "keys_and_patterns::a_cache_of_another_event_loop_is_refused_and_does_not_hang",
        CORE + "cache/base.py",
        "            raise RuntimeError(\n",
        "            str(\n",
    ),
    without(
        "keys_and_patterns::what_is_no_key_is_refused_before_it_reaches_a_tier",
        ENGINE + "house.py",
        "            check_key(key)\n",
        "            pass\n",
    ),
)

ENDS = (
    without(
        "kill::a_process_that_is_killed_loses_nothing_that_was_acknowledged",
        ENGINE + "saving.py",
        "        for future in waiting:\n            if stamp := await future:\n"
        "                route.clock.observe(stamp)\n                latest = max(latest, stamp)\n",
        "        await asyncio.sleep(0)\n",
    ),
    without(
        "exit::the_interpreter_ends_by_itself_with_a_cache_that_nobody_closed",
        PLUGINS + "tiers/sqlite/link.py",
        'name="tiercache-sqlite", daemon=True',
        'name="tiercache-sqlite", daemon=False',
    ),
    without(
        "exit::the_interpreter_ends_by_itself_with_a_cache_that_nobody_closed",
        CORE + "sync/own.py",
        'name="tiercache-loop", daemon=True',
        'name="tiercache-loop", daemon=False',
    ),
    without(
        "exit::a_cache_that_was_closed_gives_nothing_to_complain_of",
        ENGINE + "house.py",
        'self._close(f"tier {far.name}", far.idle, far.close)',
        'self._close(f"tier {far.name}", far.idle)',
    ),
)

BACKPLANE = (
    without(
        "backplane::what_one_process_changes_the_others_drop_without_being_configured",
        ENGINE + "hearing.py",
        "                if entry is not None and entry.created_at < stamp:\n",
        "                if False:\n",
    ),
    without(
        "backplane::what_was_missed_while_the_connection_was_away_is_not_served_beyond_the_lease",
        ENGINE + "pipeline.py",
        "self.until(life.ttl + life.stale) if life.stale else end",
        "self.until(life.ttl + life.stale)",
    ),
    without(
        "backplane::what_was_missed_while_the_connection_was_away_is_not_served_beyond_the_lease",
        ENGINE + "coherence.py",
        "self.trust.until = max(self.trust.until, since + self.lease)",
        "self.trust.until = since + 3600",
        (
            PLUGINS + "tiers/redis/news.py",
            "if listener.now() - self._confirmed > listener.lease:",
            "if listener.now() - self._confirmed > 3600:",
        ),
        (
            ENGINE + "coherence.py",
            "self.trust = Trust(self.now, since + self.lease)",
            "self.trust = Trust(self.now, since + 3600)",
        ),
        # Calls that fail tell of it as well.
        (ENGINE + "coherence.py", "        if self.trust.until != NEVER_HEARD:\n", "        if False:\n"),
    ),
    without(
        "backplane::while_nobody_is_heard_a_source_is_asked_once_a_lease_and_not_by_everybody",
        ENGINE + "coherence.py",
        "max(began + self.lease - self.now(), 0.0)",
        "0.0",
    ),
    without(
        "backplane::a_process_does_not_drop_what_it_wrote_itself",
        PLUGINS + "tiers/redis/news.py",
        "        if message.sender == self._sender:\n            if beat:\n",
        "        if message.sender == self._sender and beat:\n            if beat:\n",
        (
            ENGINE + "hearing.py",
            "                if entry is not None and entry.created_at < stamp:\n",
            "                if entry is not None:\n",
        ),
    ),
    without(
        "backplane::a_bus_without_a_tier_to_tell_of_is_refused",
        CORE + "config/buses.py",
        "elif name == chosen and not any(",
        "elif name == chosen and any(",
    ),
    without(
        "backplane::no_value_travels_over_the_bus",
        PLUGINS + "tiers/redis/scripts.py",
        "then tell(key, frame:sub(1, 8)) end",
        "then tell(key, frame) end",
    ),
)

LOCK = (
    without(
        "lock::a_cold_key_is_loaded_once_in_all_processes",
        ENGINE + "locks/turns.py",
        "        if load.lease is not None:\n            return MISSING\n",
        "        return MISSING\n",
    ),
    without(
        "lock::a_loader_that_fails_lets_the_next_process_load_at_once",
        ENGINE + "locks/turns.py",
        "        finally:\n            self.give_back(load.lease)\n",
        "        finally:\n            pass\n",
    ),
    without(
        "lock::a_delete_elsewhere_voids_a_load_whatever_the_clocks_say",
        ENGINE + "locks/turns.py",
        "            record = record._replace(lease=lease.claim.token)\n",
        "            pass\n",
    ),
    without(
        "lock::where_the_lock_can_not_be_had_each_process_loads_for_itself",
        ENGINE + "locks/turns.py",
        "            if turn is None:\n                return MISSING\n",
        "            if turn is None:\n                raise RuntimeError\n",
    ),
)

MUTANTS: tuple[Mutant, ...] = (
    READ_PATH + STAMPEDE + STALE + TIMEOUTS + REFRESH_AHEAD + JITTER + TAGS
    + VERSIONING + CONDITIONAL_REFRESH + ADAPTIVE + NEGATIVE + BREAKER
    + DISK + DEPLOY + KEYS_AND_PATTERNS + ENDS + BACKPLANE + LOCK
)  # fmt: skip
