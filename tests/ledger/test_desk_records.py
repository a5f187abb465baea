"""Non-financial records written and read back: negative lists, business days and their totals, in both journals."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import trio

from console.database_roles import LEDGER
from ledger.journal import (
    CARD_BLOCKED,
    CARD_UNBLOCKED,
    DECLINED_ELSEWHERE,
    Decision,
    Intent,
    Journal,
    Kind,
    Totals,
    state,
)
from ledger.memory import MemoryJournal
from ledger.writer import open_journal
from tests.conftest import Database
from tests.ledger.conftest import Run
from tests.ledger.samples import NOW, intent, outcome

CARD, OTHER = b"a" * 16, b"b" * 16
DAY = datetime(2026, 3, 1, tzinfo=UTC)


async def decided(journal: Journal, one: Intent, **changes: Any) -> int:
    """Record an intent and its outcome; the intent's number."""
    begun = await journal.begin(one)
    number = begun.stored.intent_id
    original = begun.original
    if original is not None:
        changes = {"original_id": original.stored.intent_id, "original_seq": original.next_seq} | changes
    await journal.decide(outcome(number, **changes))
    return number


def listed(reason: str, fingerprint: bytes = CARD, issuer: str = "alpha") -> tuple[Intent, dict[str, Any]]:
    made = intent(kind=Kind.FILE_UPDATE, mti="0302", link=issuer, issuer=issuer, fingerprint=fingerprint)
    return made, {"reason": reason}


def cut(day: datetime, link: str = "pos") -> Intent:
    return intent(kind=Kind.CUT_OVER, mti="0800", link=link, issuer="", transmitted_at=day, amount_minor=0)


def test_what_is_stated_and_approved_in_part_comes_back(run: Run) -> None:
    async def test(journal: Journal) -> None:
        stated = intent(
            cashback_minor=2_000, local_time="0301130000", stated=state({38: "A1B2C3", 39: "00"}), kind=Kind.PURCHASE
        )
        number = await decided(journal, stated, response_code="10", amount_minor=6_000)
        original = await journal.original(number)
        assert original is not None and original.outcome is not None
        assert original.stored.intent == stated
        assert (original.outcome.amount_minor, original.approved_minor) == (6_000, 6_000)

    run(test)


def test_the_last_entry_of_a_negative_list_counts(run: Run) -> None:
    async def test(journal: Journal) -> None:
        assert not await journal.blocked(CARD, "alpha")
        made, why = listed(CARD_BLOCKED)
        await decided(journal, made, **why)
        assert await journal.blocked(CARD, "alpha")
        assert not await journal.blocked(OTHER, "alpha")
        assert not await journal.blocked(CARD, "beta")
        made, why = listed(CARD_BLOCKED, OTHER)
        await decided(journal, made, decision=Decision.DECLINED, response_code="12", **why)
        assert not await journal.blocked(OTHER, "alpha"), "a refused entry lists nobody"
        made, why = listed(CARD_UNBLOCKED)
        await decided(journal, made, **why)
        assert not await journal.blocked(CARD, "alpha")

    run(test)


def test_a_business_day_goes_from_its_cut_over_to_the_next(run: Run) -> None:
    async def test(journal: Journal) -> None:
        await decided(journal, intent(kind=Kind.PURCHASE, amount_minor=100))
        await decided(journal, cut(DAY))
        await decided(journal, intent(kind=Kind.PURCHASE, amount_minor=200))
        await decided(journal, cut(DAY + timedelta(days=1)))
        await decided(journal, intent(kind=Kind.PURCHASE, amount_minor=400))

        async def debits(day: datetime, link: str = "pos") -> int:
            return (await journal.totals(link, day)).get("EUR", Totals()).debits_minor

        assert await debits(DAY - timedelta(days=1)) == 100
        assert await debits(DAY) == 200
        assert await debits(DAY + timedelta(days=1)) == 400
        assert await debits(DAY + timedelta(days=5)) == 400, "no later day was opened"
        assert await debits(DAY, "alpha") == 700, "an issuer has business days of its own"
        assert await debits(DAY, "gateway") == 0

    run(test)


def test_a_day_that_is_opened_twice_is_one_day(run: Run) -> None:
    """A host that starts again cuts over once more into the day that it is in, or back into the day before."""

    async def test(journal: Journal) -> None:
        for amount, day in ((100, 0), (200, 0), (400, 1), (800, 0), (1_600, 1), (3_200, 1)):
            await decided(journal, cut(DAY + timedelta(days=day)))
            await decided(journal, intent(kind=Kind.PURCHASE, amount_minor=amount))
        found = [(await journal.totals("pos", DAY + timedelta(days=n))).get("EUR") for n in (-1, 0, 1, 9)]
        assert found[0] is None
        assert [(t.debits, t.debits_minor) for t in found[1:] if t] == [(3, 1_100), (3, 5_200), (3, 5_200)]

    run(test)


def test_totals_count_money_and_its_reversals_by_side(run: Run) -> None:
    async def test(journal: Journal) -> None:
        hold = intent(amount_minor=5_000)
        await decided(journal, hold)
        await decided(journal, intent(kind=Kind.CAPTURE, mti="0220", original_key=hold.key, amount_minor=1_500))
        paid = intent(kind=Kind.PURCHASE, amount_minor=700)
        await decided(journal, paid)
        await decided(journal, intent(kind=Kind.REVERSAL, mti="0400", original_key=paid.key, amount_minor=0))
        await decided(journal, intent(kind=Kind.REFUND, amount_minor=300))
        await decided(journal, intent(kind=Kind.PURCHASE, amount_minor=900), response_code="10", amount_minor=400)
        await decided(journal, intent(kind=Kind.PURCHASE), decision=Decision.DECLINED, response_code="51")
        await decided(journal, intent(kind=Kind.PURCHASE), decision=Decision.REVERSED, response_code="91")
        await decided(journal, intent(kind=Kind.PURCHASE, mti="0220"), reason=DECLINED_ELSEWHERE, amount_minor=0)
        expected = Totals(
            debits=3, debits_minor=1_500 + 700 + 400, debit_reversals=1, debit_reversals_minor=700,
            credits=1, credits_minor=300,
        )  # fmt: skip
        assert await journal.totals("pos", DAY) == {"EUR": expected}
        assert await journal.totals("alpha", DAY) == {"EUR": expected}
        assert expected.net_minor == 1_600

    run(test)


def test_both_journals_come_to_the_same_totals(database: Database) -> None:
    """A hundred seeded messages, the same for both; the totals of all acquirers add up to those of their link."""

    async def day(journal: Journal, seed: int) -> list[dict[str, Totals]]:
        rng = random.Random(seed)
        keys: list[tuple[str, Kind]] = []
        for number in range(100):
            kind = rng.choice([Kind.PURCHASE, Kind.REFUND, Kind.AUTHORIZATION, Kind.REVERSAL, Kind.CUT_OVER])
            link, currency = rng.choice(["pos", "till"]), rng.choice(["EUR", "USD"])
            acquirer = rng.choice(["", "1", "22", "00022", "333"])
            amount, approved = rng.randrange(1, 10_000), rng.random() < 0.8
            key = f"{link}|0200|20260301120000|{seed:02d}{number:04d}|1"
            if kind is Kind.CUT_OVER:
                if rng.random() < 0.1:
                    await decided(journal, cut(DAY + timedelta(days=number), link))
                continue
            of = rng.choice(keys)[0] if kind is Kind.REVERSAL and keys else None
            if kind is Kind.REVERSAL and of is None:
                continue
            made = intent(
                key=key, kind=kind, link=link, currency=currency, amount_minor=amount, original_key=of,
                acquirer_id=acquirer,
            )  # fmt: skip
            less = rng.randrange(1, amount + 1) if rng.random() < 0.2 and kind is not Kind.REVERSAL else None
            end = Decision.APPROVED if approved else Decision.DECLINED
            await decided(journal, made, decision=end, amount_minor=less if approved else None)
            if kind in (Kind.PURCHASE, Kind.REFUND) and approved:
                keys.append((key, kind))
        days = [DAY + timedelta(days=n) for n in (-1, 0, 20, 60, 120)]
        found = []
        for link in ("pos", "till", "alpha"):
            for at in days:
                parts = [await journal.totals(link, at, acquirer) for acquirer in ("", "1", "022", "333", "4444")]
                whole: dict[str, Totals] = {}
                for part in parts:
                    for currency, sums in part.items():
                        whole[currency] = whole.get(currency, Totals()).plus(sums)
                assert await journal.totals(link, at) == whole
                found += parts
        assert sum(bool(part) for part in found) > 20
        return found

    async def main() -> None:
        memory = await day(MemoryJournal(), 7)
        assert any(memory)
        async with open_journal(database.dsn(LEDGER)) as journal:
            assert await day(journal, 7) == memory

    trio.run(main)


def test_intents_of_the_desk_are_found_when_they_are_overdue(run: Run) -> None:
    async def test(journal: Journal) -> None:
        made = intent(kind=Kind.RECONCILIATION, mti="0500", issuer="", stated=state({15: "0301"}))
        number = (await journal.begin(made)).stored.intent_id
        overdue = await journal.undecided(NOW + timedelta(seconds=60), 10)
        assert [stored.intent_id for stored in overdue] == [number]
        assert overdue[0].intent == made

    run(test)


def test_the_sender_of_a_key_is_found(run: Run) -> None:
    async def test(journal: Journal) -> None:
        await journal.begin(intent(key="pos|0200|x|1|10001", acquirer_id="", terminal="10001"))
        assert await journal.sender_of("pos|0200|x|1|10001") == ("", "10001")
        assert await journal.sender_of("pos|0200|x|1|#10001") is None

    run(test)


def test_the_present_business_day_is_that_of_the_last_approved_cut_over(run: Run) -> None:
    async def test(journal: Journal) -> None:
        first = datetime(2026, 3, 1, tzinfo=UTC)
        assert await journal.business_day("pos") is None
        await decided(journal, cut(first))
        await decided(journal, cut(first + timedelta(days=3)), decision=Decision.DECLINED, response_code="12")
        await decided(journal, cut(first + timedelta(days=5), "other"))
        assert await journal.business_day("pos") == first

    run(test)
