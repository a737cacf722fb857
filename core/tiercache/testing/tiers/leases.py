"""Locks: who holds what, for how long, and what a record with a lease does."""

from __future__ import annotations

import asyncio
from typing import cast

from tiercache.contracts import VOID, Claim, FarTier, FarTierConfig, Locks, Scans, Wipes
from tiercache.frame import stamp_of
from tiercache.testing.tiers.abilities import collect
from tiercache.testing.tiers.frames import record_of
from tiercache.testing.tiers.ground import HOSTILE, Address, Ground, finish
from tiercache.testing.tiers.surroundings import Surroundings

LONG = 3600.0
MINE, YOURS = b"m" * 16, b"\0y" * 8


class Leases(Ground):
    """Tests of leases."""

    def locks(self, tier: FarTier) -> Locks:
        """Return *tier*; skip the test where it lends nothing."""
        self.having(Locks)
        return cast("Locks", tier)

    def test_a_name_is_lent_to_one_token_at_a_time(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        locks = self.locks(tier)
        mine, yours = (Claim(address("a"), token, LONG) for token in (MINE, YOURS))
        assert next(iter(runner.run(locks.acquire([mine])))) > 0
        assert list(runner.run(locks.acquire([yours]))) == [0]
        assert next(iter(runner.run(locks.acquire([mine])))) > 0, "the first answer may have been lost"
        assert list(runner.run(locks.release([yours]))) == [False], "not its holder"
        assert list(runner.run(locks.prolong([yours]))) == [False], "not its holder"
        assert list(runner.run(locks.acquire([yours]))) == [0]
        assert list(runner.run(locks.release([mine]))) == [True]
        assert list(runner.run(locks.release([mine]))) == [False]
        assert list(runner.run(locks.prolong([mine]))) == [False]
        assert next(iter(runner.run(locks.acquire([yours])))) > 0
        runner.run(locks.release([yours]))

    def test_a_lease_ends_with_its_life_which_its_holder_sets_anew(
        self, tier: FarTier, context: Surroundings, address: Address, runner: asyncio.Runner
    ) -> None:
        locks = self.locks(tier)
        # By a real clock only what is over soon can be waited for, and nothing may hang on being quick.
        short = Claim(address("short"), MINE, LONG, 2**40)
        kept = Claim(address("kept"), MINE, 0.2 if self.fake_clock else LONG, 2**40)
        first, _ = runner.run(locks.acquire([short, kept]))
        assert list(runner.run(locks.prolong([short._replace(life=0.1), kept._replace(life=LONG)]))) == [
            True,
            True,
        ]
        self.wait(context, 0.3)
        assert list(runner.run(locks.prolong([short, kept]))) == [False, True]
        assert list(runner.run(locks.release([short]))) == [False]
        assert list(runner.run(tier.write([record_of(short.name)._replace(lease=MINE)]))) == [-1]
        taken = [claim._replace(token=YOURS, floor=2) for claim in (short, kept)]
        fence, refused = runner.run(locks.acquire(taken))
        assert fence > first
        assert refused == 0
        runner.run(locks.void([short.name, kept.name]))

    def test_anybody_may_void_a_lease(self, tier: FarTier, address: Address, runner: asyncio.Runner) -> None:
        locks = self.locks(tier)
        mine = Claim(address("a"), MINE, LONG)
        runner.run(locks.acquire([mine]))
        assert list(runner.run(locks.void([mine.name, address("nobody")]))) == [True, False]
        assert list(runner.run(locks.prolong([mine]))) == [False]
        assert next(iter(runner.run(locks.acquire([mine._replace(token=YOURS)])))) > 0
        runner.run(locks.void([mine.name]))

    def test_fences_of_a_name_only_rise(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        locks = self.locks(tier)
        mine = Claim(address("a"), MINE, LONG, 2**53 + 1)

        def acquired(claim: Claim) -> int:
            return next(iter(runner.run(locks.acquire([claim]))))

        first = acquired(mine)
        assert first >= 2**53 + 1
        assert acquired(mine._replace(floor=2**60)) == first, "the same lease"
        runner.run(locks.release([mine]))
        second = acquired(mine._replace(floor=5))
        assert second > first
        runner.run(locks.void([mine.name]))
        third = acquired(mine._replace(floor=7))
        assert third > second, "after it was voided"
        assert acquired(Claim(address("other"), MINE, LONG, 9)) >= 9
        runner.run(locks.void([mine.name, address("other")]))
        assert acquired(mine._replace(floor=2**62)) >= 2**62
        runner.run(locks.void([mine.name]))

    def test_names_may_be_anything_and_many_are_lent_at_once(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        locks = self.locks(tier)
        names = [address(name) for name in (*HOSTILE, "a}b", "}", "{a}{b}", *map(str, range(700)))]
        mine = [Claim(name, MINE, LONG, 3) for name in dict.fromkeys(names)]
        yours = [claim._replace(token=YOURS) for claim in mine]
        assert min(runner.run(locks.acquire(mine))) > 0
        assert set(runner.run(locks.acquire(yours))) == {0}
        assert all(runner.run(locks.prolong(mine)))
        assert list(runner.run(locks.release(mine[:5]))) == [True] * 5
        assert [fence > 0 for fence in runner.run(locks.acquire(yours))] == [True] * 5 + [False] * (
            len(mine) - 5
        )
        assert all(runner.run(locks.void([claim.name for claim in mine])))
        for call in (locks.acquire, locks.prolong, locks.release):
            assert list(runner.run(call([]))) == []
        assert list(runner.run(locks.void([]))) == []

    def test_of_many_who_want_a_name_at_once_one_gets_it(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        locks = self.locks(tier)

        async def together() -> list[int]:
            claims = [Claim(address("a"), b"%d" % n, LONG) for n in range(30)]
            answers = await asyncio.gather(*(finish(locks.acquire([claim])) for claim in claims))
            return [answer for (answer,) in answers]

        assert sum(answer > 0 for answer in runner.run(together())) == 1
        runner.run(locks.void([address("a")]))

    def test_a_record_with_a_lease_is_stored_by_its_holder_alone_and_ends_it(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        locks = self.locks(tier)
        for name in ("a", "{tag}x", "{}", "a}b", "}{", "naïve"):
            record = record_of(address(name), b"1", stamp=5, conditional=True)
            claim = Claim(record.key, MINE, LONG)
            assert list(runner.run(tier.write([record._replace(lease=MINE)]))) == [-1], "nobody holds it"
            runner.run(locks.acquire([claim]))
            assert list(runner.run(tier.write([record._replace(lease=YOURS)]))) == [-1], "another holds it"
            assert list(runner.run(tier.read([record.key]))) == [None]
            assert list(runner.run(locks.prolong([claim]))) == [True]
            assert list(runner.run(tier.write([record._replace(lease=MINE)]))) == [5], name
            assert list(runner.run(tier.read([record.key]))) == [record.frame]
            assert list(runner.run(locks.release([claim]))) == [False], "it ended with the record"

    def test_a_record_may_void_a_lease(self, tier: FarTier, address: Address, runner: asyncio.Runner) -> None:
        locks = self.locks(tier)
        for name in ("a", "}{", "{tag}x"):
            claim = Claim(address(name), MINE, LONG)
            runner.run(locks.acquire([claim]))
            record = record_of(claim.name, b"1", stamp=5)._replace(lease=VOID)
            assert list(runner.run(tier.write([record]))) == [5]
            assert list(runner.run(tier.write([record]))) == [6], "with nothing to void"
            late = record_of(claim.name, b"2", stamp=9, conditional=True)
            assert list(runner.run(tier.write([late._replace(lease=MINE)]))) == [-1]
            assert list(runner.run(locks.release([claim]))) == [False]

    def test_a_record_with_a_lease_keeps_the_order_of_stamps_and_of_the_batch(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        locks = self.locks(tier)
        key = address("a")
        claim = Claim(key, MINE, LONG)
        runner.run(locks.acquire([claim]))
        newer = record_of(key, b"newer", stamp=9)
        leased = record_of(key, b"leased", stamp=5, conditional=True)._replace(lease=MINE)
        other = record_of(address("b"), b"other", stamp=7)
        assert list(runner.run(tier.write([newer, leased, other]))) == [9, 0, 7]
        assert list(runner.run(tier.read([key, other.key]))) == [newer.frame, other.frame]
        assert list(runner.run(locks.release([claim]))) == [False], "kept out, it is given back all the same"
        runner.run(tier.delete([key]))
        runner.run(locks.acquire([claim]))
        assert list(runner.run(tier.write([leased, record_of(key, b"newer", stamp=3), leased]))) == [5, 6, -1]
        (frame,) = runner.run(tier.read([key]))
        assert frame is not None
        assert stamp_of(frame) == 6

    def test_leases_stand_apart_from_entries(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        locks = self.locks(tier)
        names = ("a", "user:1", "{}", "u}x")
        claims = [Claim(address(name), MINE, LONG, 3) for name in names]
        elsewhere = Claim(f"{address.namespace}\x01job", MINE, LONG, 3)
        runner.run(locks.acquire([*claims, elsewhere]))
        assert list(runner.run(tier.read([claim.name for claim in claims]))) == [None] * len(names)
        assert set(runner.run(tier.delete([claim.name for claim in claims]))) == {False}
        records = [record_of(address("b")), record_of(address("user:2"))]
        runner.run(tier.write(records))
        if isinstance(tier, Scans):
            assert set(runner.run(collect(tier, address("")))) == {record.key for record in records}
        assert all(runner.run(locks.prolong([*claims, elsewhere])))
        if isinstance(tier, Wipes):
            runner.run(finish(tier.wipe(address("u"))))
            assert list(runner.run(locks.prolong(claims))) == [True, False, True, False]
            runner.run(finish(tier.wipe(address(""))))
            assert list(runner.run(locks.prolong(claims))) == [False] * len(names)
            assert list(runner.run(locks.prolong([elsewhere]))) == [True], "its name begins otherwise"
        runner.run(locks.void([elsewhere.name, *(claim.name for claim in claims)]))
        runner.run(tier.delete([record.key for record in records]))

    def test_leases_outlive_the_tier_that_took_them(
        self,
        config: FarTierConfig,
        tier: FarTier,
        context: Surroundings,
        address: Address,
        runner: asyncio.Runner,
    ) -> None:
        locks = self.locks(tier)
        claim = Claim(address("a"), MINE, LONG, 3)
        runner.run(locks.acquire([claim]))
        other = config.build(context)
        runner.run(other.open())
        if self.persists:
            assert isinstance(other, Locks)
            assert list(runner.run(finish(other.acquire([claim._replace(token=YOURS)])))) == [0]
            assert list(runner.run(finish(other.release([claim])))) == [True]
        runner.run(other.close())
