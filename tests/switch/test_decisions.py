"""Races that the journal settles: changes of one original from several workers, and outcomes that lose."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from ledger.journal import Decided, Decision, Intent, Kind, Original, Outcome, Verdict
from ledger.lifecycle import standing
from messages.message import Message
from simulators.acquirer import Card
from simulators.acquirer.book import Request, State
from switch.config import switch_config
from switch.decisions import tombstone
from tests.simulation.agreement import differences
from tests.simulation.world import TABLE, World
from tests.switch.desk import NOW, in_world, purchase, surrogate, told
from tests.switch.test_fraud import intent
from tests.switch.test_message_set import Till


def test_captures_at_the_same_moment_never_exceed_the_hold() -> None:
    async def script(world: World) -> None:
        await world.start_worker(1)
        await trio.sleep(1.0)
        world.journal_delay_s = (0.0, 0.2)
        client, now = world.clients["gateway"], world.clock.now
        shop = client.acquirer
        held = await client.perform(shop.authorization(Card(surrogate(world)), 1000, "EUR", now()))
        captures = [shop.capture(held, 400, now(), final=False) for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for capture in captures:
                nursery.start_soon(perform_aside, world, capture)
        approved = [capture for capture in captures if capture.state is State.APPROVED]
        assert len(approved) == 2
        original = await world.journal.original(1)
        assert original is not None and standing(original).captured_minor == 800
        await trio.sleep(5.0)
        assert differences(world) == []

    in_world(script)


def test_refunds_at_the_same_moment_never_exceed_the_payment() -> None:
    """Both are approved by the issuer; the one that comes too late to the journal is undone there."""

    async def script(world: World) -> None:
        await world.start_worker(1)
        await trio.sleep(1.0)
        world.journal_delay_s = (0.0, 0.1)
        client, now = world.clients["gateway"], world.clock.now
        shop, card = client.acquirer, Card(surrogate(world))
        paid = await client.perform(shop.purchase(card, 1000, "EUR", now()))
        refunds = [shop.refund(card, 700, now(), paid) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for refund in refunds:
                nursery.start_soon(perform_aside, world, refund)
        assert sum(refund.state is State.APPROVED for refund in refunds) == 1
        await trio.sleep(10.0)
        assert differences(world) == []
        assert world.counted("advices_sent", "alpha", "0420") >= 1

    in_world(script)


async def perform_aside(world: World, request: Request) -> None:
    """Send on a connection of its own, so that any worker may serve it."""
    answer = await told(world, request.message)
    if answer is not None:
        world.clients["gateway"].acquirer.receive(answer, world.clock.now())


def test_what_was_approved_for_a_payment_that_never_holds_still_is_undone_at_the_issuer() -> None:
    async def script(world: World) -> None:
        client, now = world.clients["gateway"], world.clock.now
        card = Card(surrogate(world))
        paid = await client.perform(client.acquirer.purchase(card, 1000, "EUR", now()))
        decide = world.journal.decide

        async def busy(outcome: Outcome) -> Decided:
            return Decided(Verdict.STALE, outcome) if outcome.original_id is not None else await decide(outcome)

        world.journal.decide = busy  # type: ignore[method-assign]
        refund = await client.perform(client.acquirer.refund(card, 700, now(), paid))
        assert refund.response_code == "91"
        await trio.sleep(5.0)
        assert world.counted("advices_sent", "alpha", "0420") == 1
        assert differences(world) == []

    in_world(script)


def test_a_lost_decision_follows_the_winner() -> None:
    async def script(world: World) -> None:
        first, second = world.workers[0][0], await world.start_worker(1)
        begun = await world.journal.begin(intent(key="gateway|0200|20260314092653|000001|1", issuer="alpha"))
        reversed_ = await first.decisions.reverse(begun.stored, "issuer_timeout")
        late = await second.decisions.answered(begun.stored, None, {38: "123456", 39: "00"}, "")
        assert late == reversed_
        assert second.meters.value("outcomes_lost", Kind.PURCHASE) == 1
        assert world.journal.postings() == []

    in_world(script)


def test_a_hold_grows_by_all_of_an_increment_or_not_at_all() -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        client, now = world.clients["gateway"], world.clock.now
        held = await client.perform(client.acquirer.authorization(Card(surrogate(world)), 5_000, "EUR", now()))
        card = world.journal._intents[1].fingerprint
        asked = intent(
            key="gateway|0100|20260314092653|000009|1", link="gateway", mti="0100", issuer="alpha", kind=Kind.INCREMENT,
            amount_minor=2_000, original_key=held.key, fingerprint=card, created_at=now(), deadline_at=now(),
        )  # fmt: skip
        begun = await world.journal.begin(asked)
        told = {4: "000000001000", 38: "123456", 39: "10"}
        outcome = await worker.decisions.answered(begun.stored, begun.original, told, "", in_part=True)
        assert (outcome.decision, outcome.response_code) == (Decision.REVERSED, "91")
        assert held.held_minor == 5_000

    in_world(script)


@pytest.mark.parametrize("timed_out", [False, True])
def test_what_stand_in_may_not_book_is_undone_where_the_issuer_may_have_it(timed_out: bool) -> None:
    """The original has changed while the issuer was silent: a refund of what is refunded already."""

    async def script(world: World) -> None:
        worker = world.workers[0][0]
        asked = intent(key="gateway|0200|20260314092653|000001|1", issuer="alpha", kind=Kind.REFUND)
        begun = await world.journal.begin(asked)
        told = {38: "S00001", 39: "00"}
        outcome = await worker.decisions.stood_in(begun.stored, None, told, "approved", timed_out=timed_out)
        ended = (Decision.REVERSED, ["0420"]) if timed_out else (Decision.DECLINED, [])
        assert (outcome.decision, [advice.mti for advice in outcome.advices]) == ended
        assert outcome.reason == "original_unknown"
        assert world.journal.postings() == []

    in_world(script)


def test_what_an_issuer_says_with_a_decline_is_stored_for_repeats() -> None:
    """The chip that asked needs the issuer's DE 55 for a no, too."""

    async def script(world: World) -> None:
        worker = world.workers[0][0]
        begun = await world.journal.begin(intent(key="gateway|0200|20260314092653|000001|1", issuer="alpha"))
        told = {38: "", 39: "51", 54: "0002978C000000000100", 55: "910A0102030405060708"}
        outcome = await worker.decisions.answered(begun.stored, None, told, "")
        assert (outcome.decision, outcome.response_code) == (Decision.DECLINED, "51")
        assert outcome.answer == {54: told[54], 55: told[55]}

    in_world(script)


# DE 39 that approves otherwise: with identification, VIP, update track 3. Source: ISO 8583:1987 annex A.8.
@pytest.mark.parametrize("code", ["08", "11", "16"])
def test_an_approval_that_nobody_here_can_book_is_undone_at_the_issuer(code: str) -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        begun = await world.journal.begin(intent(key="gateway|0200|20260314092653|000001|1", issuer="alpha"))
        outcome = await worker.decisions.answered(begun.stored, None, {38: "123456", 39: code}, "")
        assert (outcome.decision, outcome.response_code) == (Decision.REVERSED, "91")
        assert [advice.mti for advice in outcome.advices] == ["0420"]

    in_world(script)


# Approvals in part: kind, requested amount, DE 4 of the answer (None for none).
@pytest.mark.parametrize(
    ("kind", "told_minor"),
    [
        (Kind.PURCHASE, "000000005001"),  # more than was asked for
        (Kind.PURCHASE, "000000000000"),
        (Kind.PURCHASE, "00000000ABCD"),
    ],
)
def test_an_approval_in_part_that_is_none_is_undone_at_the_issuer(kind: Kind, told_minor: str) -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        asked = intent(
            key="gateway|0200|20260314092653|000001|1", issuer="alpha", mti="0200", amount_minor=5_000, kind=kind
        )
        begun = await world.journal.begin(asked)
        told = {4: told_minor, 38: "123456", 39: "10"}
        outcome = await worker.decisions.answered(begun.stored, None, told, "", in_part=True)
        assert (outcome.decision, outcome.response_code) == (Decision.REVERSED, "91")
        assert [advice.mti for advice in outcome.advices] == ["0420"]
        assert world.journal.postings() == []

    in_world(script)


def test_an_approval_of_another_kind_is_undone_at_the_issuer() -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        begun = await world.journal.begin(intent(key="gateway|0200|20260314092653|000001|1", issuer="alpha"))
        outcome = await worker.decisions.answered(begun.stored, None, {39: "10", 54: "x"}, "")
        assert (outcome.decision, outcome.response_code) == (Decision.REVERSED, "91")
        assert [advice.mti for advice in outcome.advices] == ["0420"]

    in_world(script)


def test_where_less_than_the_cash_was_approved_all_of_it_is_cash() -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        asked = intent(
            key="gateway|0200|20260314092653|000001|1", issuer="alpha", amount_minor=5_000, cashback_minor=2_000
        )
        begun = await world.journal.begin(asked)
        told = {4: "000000001500", 38: "123456", 39: "10"}
        outcome = await worker.decisions.answered(begun.stored, None, told, "", in_part=True)
        assert (outcome.decision, outcome.amount_minor) == (Decision.APPROVED, 1_500)
        assert {abs(line.amount_minor) for line in outcome.postings} == {1_500}
        assert not any(line.account == "platform:revenue" for line in outcome.postings), "there is no fee on cash"

    in_world(script)


def test_a_verification_code_for_money_is_no_answer_that_anybody_hears() -> None:
    """85 reads as an approval at acquirers, and nothing would be booked for it."""

    async def script(world: World) -> None:
        worker = world.workers[0][0]
        begun = await world.journal.begin(intent(key="gateway|0200|20260314092653|000001|1", issuer="alpha"))
        outcome = await worker.decisions.answered(begun.stored, None, {39: "85"}, "")
        assert (outcome.decision, outcome.response_code) == (Decision.REVERSED, "91")
        assert [advice.mti for advice in outcome.advices] == ["0420"]

    in_world(script)


def test_an_advice_without_a_route_is_not_booked_by_its_repeat_or_by_recovery_either() -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        begun = await world.journal.begin(intent(key="gateway|0220|20260314092653|000001|1", mti="0220", issuer=""))
        outcome = await worker.decisions.change(begun.stored, None)
        assert (outcome.decision, outcome.response_code, outcome.advices) == (Decision.DECLINED, "15", ())
        assert world.journal.postings() == []

    in_world(script)


def test_a_reversal_on_one_worker_beats_the_answer_on_another() -> None:
    async def script(world: World) -> None:
        request = purchase(de2=surrogate(world))
        await told(world, request)
        stored = (await world.journal.original(1)).stored  # type: ignore[union-attr]
        reversal = intent(
            key="gateway|0400|20260314092654|000002|10001",
            kind=Kind.REVERSAL,
            original_key=stored.intent.key,
            mti="0400",
            link="gateway",
            acquirer_id="10001",
        )
        begun = await world.journal.begin(reversal)
        outcome = await world.workers[0][0].decisions.change(begun.stored, begun.original)
        again = await world.workers[0][0].decisions.change(begun.stored, begun.original)
        assert outcome == again
        assert (outcome.decision, outcome.response_code) == (Decision.APPROVED, "00")
        repeat = await told(world, Message("0201", request.elements))
        assert repeat is not None and repeat.elements[39] == "00"  # the answer to the purchase stays

    in_world(script)


def test_a_tombstone_has_the_key_of_its_original() -> None:
    reversal = intent(
        kind=Kind.REVERSAL, original_key="pos|0200|20260314092653|000001|10001", acquirer_id="10001", terminal="T1"
    )
    stone = tombstone(reversal)
    assert (stone.acquirer_id, stone.terminal) == ("10001", "T1")
    assert (stone.key, stone.kind, stone.link, stone.mti, stone.stan) == (
        "pos|0200|20260314092653|000001|10001", Kind.TOMBSTONE, "pos", "0200", "000001",
    )  # fmt: skip
    assert stone.transmitted_at == NOW


def slow(world: World) -> Intent:
    """A purchase that nobody recovers for a minute."""
    late = world.clock.now() + timedelta(seconds=60)
    return intent(key="gateway|0200|20260314092653|000001|1", issuer="alpha", deadline_at=late)


def test_however_many_repeats_wait_for_an_outcome_one_of_them_asks_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An intent that another worker serves; when that one hangs up, the next one asks."""

    async def script(world: World) -> None:
        here, elsewhere = world.workers[0][0], await world.start_worker(1)
        begun = await world.journal.begin(slow(world))
        original, asked, found = world.journal.original, 0, []

        async def counted(intent_id: int) -> Original | None:
            nonlocal asked
            asked += 1
            return await original(intent_id)

        monkeypatch.setattr(world.journal, "original", counted)

        async def repeat(scope: trio.CancelScope) -> None:
            with scope:
                found.append(await here.decisions.awaited(begun.stored, trio.current_time() + 60))

        async with trio.open_nursery() as nursery:
            first = trio.CancelScope()
            nursery.start_soon(repeat, first)
            for _ in range(200):
                nursery.start_soon(repeat, trio.CancelScope())
            await trio.sleep(5.0)
            assert 5 <= asked <= 12
            first.cancel()
            await trio.sleep(5.0)
            assert 15 <= asked <= 24
            outcome = await elsewhere.decisions.reverse(begun.stored, "issuer_timeout")
            await trio.sleep(0.6)
            assert found == [outcome] * 200
        assert not here.decisions._waiters

    in_world(script)


def test_repeats_wake_at_once_where_this_worker_decides() -> None:
    async def script(world: World) -> None:
        here = world.workers[0][0]
        begun = await world.journal.begin(slow(world))
        woken_at: list[float] = []

        async def repeat() -> None:
            await here.decisions.awaited(begun.stored, trio.current_time() + 60)
            woken_at.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(repeat)
            await trio.sleep(7.03)
            await here.decisions.reverse(begun.stored, "issuer_timeout")
            decided_at = trio.current_time()
        assert woken_at == [decided_at] * 50

    in_world(script)


def test_a_completion_of_the_same_amount_has_the_amount_of_the_hold() -> None:
    """DE 24 = 201 of 1993, which comes as the carried element 1024."""
    pos = {**TABLE["acquirer"][0], "dialect": "iso93-ascii"}
    config = switch_config({**TABLE, "acquirer": [pos, *TABLE["acquirer"][1:]]})

    async def script(world: World) -> None:
        till = Till(world)
        held = await till.held(5_000)
        for amount, function, code in ((4_000, "201", "13"), (4_000, "202", "00"), (4_000, "201", "12")):
            message = till.shop.capture(held, amount, till.now()).message
            answer = await told(world, Message(message.mti, {**message.elements, 1024: function}), "pos")
            assert answer is not None and answer.elements[39] == code
        held = await till.held(5_000)
        message = till.shop.capture(held, 5_000, till.now()).message
        assert message.elements[1024] == "201"
        answer = await told(world, message, "pos")
        assert answer is not None and answer.elements[39] == "00"

    in_world(script, config=config)
