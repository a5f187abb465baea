"""The journal's contract, held by MemoryJournal and by PostgresJournal."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
import trio

from ledger.errors import RowRefused
from ledger.journal import (
    AdviceDraft,
    Begun,
    Change,
    Decided,
    Decision,
    History,
    Intent,
    Journal,
    Kind,
    Layer,
    Outcome,
    Posting,
    Verdict,
    network_stan,
)
from ledger.lifecycle import Event
from ledger.posting import postings
from tests.ledger.conftest import Run
from tests.ledger.samples import FEES, NOW, hold, intent, outcome


async def begin_all(journal: Journal, intents: list[Intent]) -> list[Begun]:
    begun: dict[int, Begun] = {}

    async def one(n: int) -> None:
        begun[n] = await journal.begin(intents[n])

    async with trio.open_nursery() as nursery:
        for n in range(len(intents)):
            nursery.start_soon(one, n)
    return [begun[n] for n in range(len(intents))]


async def decide_all(journal: Journal, outcomes: list[Outcome]) -> list[Decided]:
    decided: dict[int, Decided] = {}

    async def one(n: int) -> None:
        decided[n] = await journal.decide(outcomes[n])

    async with trio.open_nursery() as nursery:
        for n in range(len(outcomes)):
            nursery.start_soon(one, n)
    return [decided[n] for n in range(len(outcomes))]


def test_an_intent_comes_back_as_it_was(run: Run) -> None:
    async def test(journal: Journal) -> None:
        first = intent(
            fingerprint=b"f" * 16,
            original_reference=("alpha", NOW.replace(microsecond=0), "000099"),
            created_at=NOW + timedelta(milliseconds=7),
        )
        begun = await journal.begin(first)
        assert begun.fresh
        assert (begun.outcome, begun.original, begun.history) == (None, None, History())
        assert begun.stored.intent == first
        again = await journal.begin(msgspec.structs.replace(first, mti="0101", amount_minor=1))
        assert not again.fresh
        assert again.stored == begun.stored
        assert again.history == History()
        original = await journal.original(begun.stored.intent_id)
        assert original is not None
        assert (original.stored, original.outcome, original.changes) == (begun.stored, None, ())
        assert original.next_seq == 1

    run(test)


def test_a_repeat_gets_the_stored_outcome(run: Run) -> None:
    async def test(journal: Journal) -> None:
        first = intent()
        number = (await journal.begin(first)).stored.intent_id
        advice = AdviceDraft("alpha", "0420", {7: "0301120000", 11: "000001"}, "card_1")
        decided = await journal.decide(
            outcome(number, postings=hold(10_000), advices=(advice,), reason="ok", answer={38: "Ä1", 39: "00"})
        )
        assert decided.verdict is Verdict.WON
        again = await journal.begin(first)
        assert again.outcome == decided.outcome
        assert again.outcome is not None
        assert again.outcome.postings == hold(10_000)
        assert again.outcome.advices == (advice,)
        assert again.outcome.answer == {38: "Ä1", 39: "00"}

    run(test)


def test_of_200_concurrent_begins_with_one_key_one_is_fresh(run: Run) -> None:
    async def test(journal: Journal) -> None:
        same = intent()
        begun = await begin_all(journal, [same] * 200)
        assert sum(b.fresh for b in begun) == 1
        assert len({b.stored.intent_id for b in begun}) == 1

    run(test)


def test_the_first_outcome_wins_and_the_others_learn_it(run: Run) -> None:
    async def test(journal: Journal) -> None:
        number = (await journal.begin(intent())).stored.intent_id
        attempts = [
            outcome(number, auth_code=f"{n:06d}", postings=hold(10_000), answer={38: f"{n:06d}"}) for n in range(50)
        ]
        decided = await decide_all(journal, attempts)
        won = [d for d in decided if d.verdict is Verdict.WON]
        assert len(won) == 1
        assert all(d.verdict is Verdict.LOST for d in decided if d is not won[0])
        assert all(d.outcome == won[0].outcome for d in decided)
        original = await journal.original(number)
        assert original is not None
        assert original.outcome == won[0].outcome

    run(test)


def test_only_the_winners_advice_is_stored_and_once_for_each_mti(run: Run) -> None:
    async def test(journal: Journal) -> None:
        number = (await journal.begin(intent())).stored.intent_id
        first = AdviceDraft("alpha", "0420", {11: "1"}, "card_1")
        await journal.decide(outcome(number, advices=(first, AdviceDraft("alpha", "0420", {11: "2"}, "card_1"))))
        await journal.decide(outcome(number, advices=(AdviceDraft("alpha", "0220", {11: "3"}, "card_1"),)))
        assert [a.draft for a in await journal.advices("alpha", 0, 10)] == [first]

    run(test)


def test_a_change_that_did_not_see_the_latest_one_is_stale(run: Run) -> None:
    async def test(journal: Journal) -> None:
        first = intent()
        number = (await journal.begin(first)).stored.intent_id
        await journal.decide(outcome(number, postings=hold(10_000)))
        captures = [intent(kind=Kind.CAPTURE, original_key=first.key, amount_minor=n) for n in (100, 200)]
        begun = await begin_all(journal, captures)
        assert all(b.original is not None and b.original.next_seq == 1 for b in begun)
        attempts = [
            outcome(
                b.stored.intent_id, original_id=number, original_seq=1, postings=hold(-b.stored.intent.amount_minor)
            )
            for b in begun
        ]
        decided = await decide_all(journal, attempts)
        assert sorted(d.verdict for d in decided) == [Verdict.STALE, Verdict.WON]
        stale = attempts[[d.verdict for d in decided].index(Verdict.STALE)]
        assert (await journal.original(stale.intent_id)).outcome is None  # type: ignore[union-attr]
        seen = await journal.original(number)
        assert seen is not None
        assert seen.next_seq == 2
        second = await journal.decide(msgspec.structs.replace(stale, original_seq=seen.next_seq))
        assert second.verdict is Verdict.WON

    run(test)


def test_declines_are_no_changes(run: Run) -> None:
    async def test(journal: Journal) -> None:
        first = intent()
        number = (await journal.begin(first)).stored.intent_id
        await journal.decide(outcome(number, postings=hold(10_000)))
        for _ in range(2):
            capture = await journal.begin(intent(kind=Kind.CAPTURE, original_key=first.key))
            declined = outcome(
                capture.stored.intent_id,
                decision=Decision.DECLINED,
                response_code="13",
                original_id=number,
                original_seq=1,
            )
            assert (await journal.decide(declined)).verdict is Verdict.WON
        assert (await journal.original(number)).changes == ()  # type: ignore[union-attr]

    run(test)


def test_changes_tell_kind_amount_fee_and_whether_the_hold_is_gone(run: Run) -> None:
    async def test(journal: Journal) -> None:
        first = intent()
        number = (await journal.begin(first)).stored.intent_id
        await journal.decide(outcome(number, postings=hold(10_000)))

        async def change(kind: Kind, event: Event, amount: int, final: bool, of: str, of_id: int) -> str:
            message = intent(kind=kind, original_key=of, amount_minor=amount)
            begun = await journal.begin(message)
            assert begun.original is not None
            lines = postings(
                event,
                amount_minor=amount,
                currency="EUR",
                issuer="",
                merchant="",
                fees=FEES,
                original=begun.original,
                final=final,
            )
            decided = await journal.decide(
                outcome(
                    begun.stored.intent_id,
                    postings=lines,
                    original_id=of_id,
                    original_seq=begun.original.next_seq,
                )
            )
            assert decided.verdict is Verdict.WON
            return message.key

        await change(Kind.CAPTURE, Event.CAPTURED, 4_000, False, first.key, number)
        await change(Kind.CAPTURE, Event.CAPTURED, 5_000, True, first.key, number)
        refund = await change(Kind.REFUND, Event.REFUNDED, 3_000, True, first.key, number)
        refund_id = (await journal.begin(intent(key=refund))).stored.intent_id
        original = await journal.original(number)
        assert original is not None
        assert original.changes == (
            Change(Kind.CAPTURE, 4_000, False, 116),
            Change(Kind.CAPTURE, 5_000, True, 145),
            Change(Kind.REFUND, 3_000, True, -87),
        )
        await change(Kind.REVERSAL, Event.REFUND_REVERSED, 3_000, True, refund, refund_id)
        original = await journal.original(number)
        assert original is not None
        assert original.changes[2] == Change(Kind.REFUND, 0, True, 0)
        assert original.next_seq == 4

    run(test)


def test_an_original_is_found_by_its_key(run: Run) -> None:
    async def test(journal: Journal) -> None:
        first = intent()
        begun = await journal.begin(first)
        capture = intent(kind=Kind.CAPTURE, original_key=first.key)
        for fresh in (True, False):
            change = await journal.begin(capture)
            assert change.fresh is fresh
            assert change.original is not None
            assert change.original.stored == begun.stored
        unknown = await journal.begin(intent(kind=Kind.REVERSAL, original_key="nobody"))
        assert unknown.original is None

    run(test)


def test_an_original_is_found_by_what_its_issuer_saw(run: Run) -> None:
    async def test(journal: Journal) -> None:
        at = NOW.replace(microsecond=999_000)
        await journal.begin(intent(created_at=at))
        begun = await journal.begin(intent(created_at=at))
        await journal.begin(intent(created_at=at, issuer="beta"))
        stan = network_stan(begun.stored.intent_id)
        second = NOW.replace(microsecond=0)

        async def find(issuer: str, at_s: int, stan: str) -> int | None:
            reference = (issuer, second + timedelta(seconds=at_s), stan)
            found = await journal.begin(intent(kind=Kind.CHARGEBACK, original_reference=reference, issuer=""))
            return found.original.stored.intent_id if found.original is not None else None

        assert await find("alpha", 0, stan) == begun.stored.intent_id
        assert await find("alpha", 1, stan) is None
        assert await find("alpha", -1, stan) is None
        assert await find("beta", 0, stan) is None
        assert await find("alpha", 0, "999998") is None

    run(test)


def test_history_counts_what_came_before_in_its_windows(run: Run) -> None:
    card = b"\xff" * 16

    async def test(journal: Journal) -> None:
        def at(minutes: float, **changes: object) -> Intent:
            return intent(fingerprint=card, created_at=NOW - timedelta(minutes=minutes), **changes)

        for earlier in (
            at(25 * 60),
            at(23 * 60, amount_minor=1, merchant="OTHER"),
            at(59, amount_minor=20, kind=Kind.PURCHASE),
            at(30, amount_minor=300, currency="USD"),
            at(20, kind=Kind.REFUND),
            at(20, kind=Kind.CAPTURE),
            intent(fingerprint=b"\xfe" * 16),
            intent(fingerprint=b""),
            at(4, amount_minor=10_000),
            at(4, amount_minor=10_000, merchant="OTHER"),
        ):
            await journal.begin(earlier)
        begun = await journal.begin(at(0))
        assert begun.history == History(
            count_1h=4, sum_1h_minor=20_020, count_24h=5, sum_24h_minor=20_021, merchants_24h=2, same_5m=1
        )
        assert (await journal.begin(intent(fingerprint=b""))).history == History()

    run(test)


def test_history_is_exact_for_one_card_at_once(run: Run) -> None:
    async def test(journal: Journal) -> None:
        begun = await begin_all(journal, [intent(fingerprint=b"c" * 16) for _ in range(100)])
        by_id = sorted(begun, key=lambda b: b.stored.intent_id)
        assert [b.history.count_24h for b in by_id] == list(range(100))
        assert [b.history.sum_1h_minor for b in by_id] == [n * 10_000 for n in range(100)]

    run(test)


def test_undecided_are_the_overdue_ones_oldest_first(run: Run) -> None:
    async def test(journal: Journal) -> None:
        early = await journal.begin(intent(deadline_at=NOW))
        done = await journal.begin(intent(deadline_at=NOW))
        later = await journal.begin(intent(deadline_at=NOW + timedelta(seconds=10)))
        last = await journal.begin(intent(deadline_at=NOW + timedelta(seconds=5)))
        await journal.decide(outcome(done.stored.intent_id))
        assert await journal.undecided(NOW, 10) == []
        assert await journal.undecided(NOW + timedelta(seconds=6), 10) == [early.stored, last.stored]
        assert await journal.undecided(NOW + timedelta(seconds=11), 2) == [early.stored, later.stored]

    run(test)


def test_advices_come_in_order_until_acknowledged(run: Run) -> None:
    async def test(journal: Journal) -> None:
        drafts = [AdviceDraft(link, "0420", {11: f"{n}"}, "card_1") for n, link in enumerate("ababa")]
        for draft in drafts:
            begun = await journal.begin(intent())
            await journal.decide(outcome(begun.stored.intent_id, advices=(draft,)))
        stored = await journal.advices("a", 0, 10)
        assert [a.draft for a in stored] == drafts[0::2]
        assert stored[2].trace_id
        assert (await journal.advices("a", stored[0].advice_id, 1)) == [stored[1]]
        await journal.acknowledge(stored[0].advice_id, "00")
        await journal.acknowledge(stored[0].advice_id, "96")
        assert await journal.advices("a", 0, 10) == stored[1:]
        for advice in stored:
            await journal.acknowledge(advice.advice_id, "00")
        assert await journal.advices("a", 0, 10) == []
        begun = await journal.begin(intent())
        await journal.decide(outcome(begun.stored.intent_id, advices=(drafts[0],)))
        assert [a.draft for a in await journal.advices("a", 0, 10)] == [drafts[0]]
        assert len(await journal.advices("b", 0, 10)) == 2

    run(test)


def test_one_holder_has_a_lease(run: Run) -> None:
    async def test(journal: Journal) -> None:
        assert await journal.lease("link alpha", "one", 60)
        assert await journal.lease("link alpha", "one", 60)
        assert not await journal.lease("link alpha", "two", 60)
        assert await journal.lease("link beta", "two", 60)
        assert await journal.lease("link alpha", "one", 0.001)
        await trio.sleep(0.01)
        assert await journal.lease("link alpha", "two", 60)

    run(test)


UNBALANCED = (Posting(Layer.POSTED, "issuer:alpha:receivable", 5, "EUR"),)
UNKNOWN_ACCOUNT = (
    Posting(Layer.POSTED, "no:such:account", 5, "EUR"),
    Posting(Layer.POSTED, "settlement:pending", -5, "EUR"),
)


@pytest.mark.parametrize("lines", [UNBALANCED, UNKNOWN_ACCOUNT])
def test_a_bad_row_fails_alone_in_its_set(run: Run, lines: tuple[Posting, ...]) -> None:
    async def test(journal: Journal) -> None:
        begun = await begin_all(journal, [intent() for _ in range(20)])
        ids = [b.stored.intent_id for b in begun]
        refused = []

        async def one(n: int) -> None:
            try:
                decided = await journal.decide(outcome(ids[n], postings=lines if n == 7 else hold(5)))
                assert decided.verdict is Verdict.WON
            except RowRefused:
                refused.append(n)

        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(one, n)
        assert refused == [7]
        assert (await journal.original(ids[7])).outcome is None  # type: ignore[union-attr]
        assert (await journal.original(ids[8])).outcome is not None  # type: ignore[union-attr]

    run(test)


def test_an_outcome_of_an_unknown_intent_is_refused(run: Run) -> None:
    async def test(journal: Journal) -> None:
        with pytest.raises(RowRefused):
            await journal.decide(outcome(4_711))
        assert await journal.original(4_711) is None

    run(test)
