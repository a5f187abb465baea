"""Each form of a message that the switch serves, on a whole switch in memory: its answer, its repeat, the books."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from ledger.journal import Decision, Kind
from ledger.lifecycle import HOLD_LIFETIME, rules_table
from messages.card_numbers import holds
from messages.message import Message
from messages.mti import repeat_mti, response_mti
from messages.reconciliation import COMPARED
from simulators.acquirer import Card
from simulators.acquirer.core import Request
from simulators.faults import FaultRule
from simulators.issuer.accounts import AccountRule
from switch.message_set import FROM_ACQUIRERS, FROM_ISSUERS, SERVED, SERVED_FROM_ISSUERS, Form, form_of, forms_table
from switch.stages.amounts import stated_of
from switch.stages.contradiction import follow_ups_table
from tests.card_number_cases import WITH_CARD_NUMBER
from tests.simulation.agreement import differences
from tests.simulation.world import World
from tests.switch.desk import MASTERCARD, NOW, VISA, in_world, surrogate, told
from tests.switch.outage import heard

TODAY, TOMORROW = f"{NOW:%m%d}", f"{NOW + timedelta(days=1):%m%d}"
Sample = Callable[[World], Awaitable[Request]]


class Till:
    """The acquirer `pos` of a world, with the clock filled in."""

    def __init__(self, world: World) -> None:
        self.client = world.clients["pos"]
        self.shop = self.client.acquirer
        self.now = world.clock.now

    async def held(self, amount_minor: int = 5_000) -> Request:
        return await self.client.perform(self.shop.authorization(VISA, amount_minor, "EUR", self.now()))

    async def paid(self, amount_minor: int = 5_000) -> Request:
        return await self.client.perform(self.shop.purchase(VISA, amount_minor, "EUR", self.now()))

    async def done(self, request: Request) -> Request:
        return await self.client.perform(request)


async def _authorization(world: World) -> Request:
    return await Till(world).held()


async def _increment(world: World) -> Request:
    till = Till(world)
    return await till.done(till.shop.increment(await till.held(), VISA, 2_000, till.now()))


async def _verification(world: World) -> Request:
    till = Till(world)
    request = till.shop.verification(VISA, "EUR", till.now())
    request.message.elements[3] = "330000"
    return await till.done(request)


async def _inquiry(world: World) -> Request:
    till = Till(world)
    return await till.done(till.shop.inquiry(VISA, "EUR", till.now()))


async def _financial_inquiry(world: World) -> Request:
    till = Till(world)
    request = till.shop.inquiry(VISA, "EUR", till.now())
    return await till.done(till.shop.adopt(Message("0200", request.message.elements), "inquiry", till.now()))


async def _hold_advice(world: World) -> Request:
    till = Till(world)
    return await till.done(till.shop.advice(VISA, 3_000, "EUR", till.now(), hold=True))


async def _purchase(world: World) -> Request:
    till = Till(world)
    return await till.done(till.shop.purchase(VISA, 5_000, "EUR", till.now(), cashback_minor=2_000))


async def _refund(world: World) -> Request:
    till = Till(world)
    return await till.done(till.shop.refund(VISA, 1_000, till.now(), await till.paid()))


async def _refund_advice(world: World) -> Request:
    till = Till(world)
    paid = await till.paid()
    made = till.shop.refund(VISA, 1_000, till.now(), paid)
    del till.shop.requests[made.key]  # it is sent as an advice
    message = Message("0220", {**made.message.elements, 39: "00"})
    return await till.done(till.shop.adopt(message, "refund", till.now(), paid))


async def _capture(world: World) -> Request:
    till = Till(world)
    return await till.done(till.shop.capture(await till.held(), 2_000, till.now(), final=False))


async def _purchase_advice(world: World) -> Request:
    till = Till(world)
    return await till.done(till.shop.advice(VISA, 3_000, "EUR", till.now()))


def _reversal(mti: str) -> Sample:
    async def sample(world: World) -> Request:
        till = Till(world)
        return await till.done(till.shop.reversal(await till.held(), till.now(), advice=mti == "0420"))

    return sample


def _reduction(mti: str) -> Sample:
    async def sample(world: World) -> Request:
        till = Till(world)
        return await till.done(till.shop.reduction(await till.held(), 2_000, till.now(), advice=mti == "0420"))

    return sample


def _reconciliation(mti: str) -> Sample:
    async def sample(world: World) -> Request:
        till = Till(world)
        await till.paid()
        return await till.done(till.shop.reconciliation("EUR", till.now(), day=TODAY, advice=mti == "0520"))

    return sample


def _text(mti: str) -> Sample:
    async def sample(world: World) -> Request:
        till = Till(world)
        return await till.done(till.shop.administrative("printer is out of paper", till.now(), advice=mti == "0620"))

    return sample


def _cut_over(mti: str) -> Sample:
    async def sample(world: World) -> Request:
        till = Till(world)
        request = till.shop.cut_over(TODAY, till.now())
        if mti != request.message.mti:
            request = till.shop.adopt(
                Message(mti, till.shop.cut_over(TODAY, till.now()).message.elements), "cut-over", NOW
            )
        return await till.done(request)

    return sample


SAMPLES: dict[tuple[str, Kind, int], Sample] = {
    ("0100", Kind.AUTHORIZATION, 0): _authorization,
    ("0100", Kind.INCREMENT, 1): _increment,
    ("0100", Kind.AUTHORIZATION, 2): _verification,
    ("0100", Kind.INQUIRY, 3): _inquiry,
    ("0120", Kind.AUTHORIZATION, 0): _hold_advice,
    ("0200", Kind.PURCHASE, 0): _purchase,
    ("0200", Kind.REFUND, 1): _refund,
    ("0200", Kind.INQUIRY, 2): _financial_inquiry,
    ("0220", Kind.REFUND, 0): _refund_advice,
    ("0220", Kind.CAPTURE, 1): _capture,
    ("0220", Kind.PURCHASE, 2): _purchase_advice,
    **{(mti, Kind.REDUCTION, 0): _reduction(mti) for mti in ("0400", "0420")},
    **{(mti, Kind.REVERSAL, 1): _reversal(mti) for mti in ("0400", "0420")},
    **{(mti, Kind.RECONCILIATION, 0): _reconciliation(mti) for mti in ("0500", "0520")},
    **{(mti, Kind.ADMINISTRATIVE, 0): _text(mti) for mti in ("0600", "0620")},
    **{(mti, Kind.CUT_OVER, 0): _cut_over(mti) for mti in ("0800", "0820")},
}


def test_every_form_of_the_message_set_has_a_sample() -> None:
    forms = {(mti, form.kind, place) for mti, rows in FROM_ACQUIRERS.items() for place, form in enumerate(rows)}
    assert forms == set(SAMPLES)


@pytest.mark.parametrize("key", SAMPLES, ids=lambda key: f"{key[0]}-{key[1]}-{key[2]}")
def test_a_form_is_approved_once_and_answered_again_from_what_is_stored(key: tuple[str, Kind, int]) -> None:
    mti, kind, place = key

    async def script(world: World) -> None:
        request = await SAMPLES[key](world)
        message = request.message
        assert message.mti == mti
        form = form_of(mti, message.elements, FROM_ACQUIRERS)
        assert form is FROM_ACQUIRERS[mti][place]
        assert request.response_code in ("00", "85"), request.response_code
        await trio.sleep(5.0)
        before = (len(world.journal._intents), len(world.journal._outcomes), world.journal.postings())
        stored = [i for i in world.journal._intents.values() if i.kind is kind and i.mti == mti]
        assert len(stored) == 1
        original = await told(world, message, "pos")
        repeat = await told(world, Message(repeat_mti(mti), message.elements), "pos")
        assert original is not None and repeat is not None
        assert original.mti == repeat.mti == response_mti(mti)
        macs = (64, 128)
        assert _without(original, macs) == _without(repeat, macs)
        assert original.elements[39] == request.response_code
        await trio.sleep(5.0)
        after = (len(world.journal._intents), len(world.journal._outcomes), world.journal.postings())
        assert after == before, "a repeat books nothing"
        assert differences(world) == []

    in_world(script)


def _without(message: Message, numbers: tuple[int, ...]) -> dict[int, str]:
    return {number: value for number, value in message.elements.items() if number not in numbers}


@pytest.mark.parametrize("key", SAMPLES, ids=lambda key: f"{key[0]}-{key[1]}-{key[2]}")
def test_a_stored_answer_outlives_the_worker_that_gave_it(key: tuple[str, Kind, int]) -> None:
    async def script(world: World) -> None:
        request = await SAMPLES[key](world)
        first = await told(world, request.message, "pos")
        world.crash_worker(0)
        await world.start_worker(0)
        await trio.sleep(5.0)
        again = await told(world, request.message, "pos")
        assert first is not None and again is not None
        assert first.elements == again.elements

    in_world(script)


def test_each_mandatory_element_is_asked_for_by_its_number() -> None:
    for mti, forms in FROM_ACQUIRERS.items():
        for form in forms:
            assert {7, 11} <= set(form.mandatory), f"{mti} {form.name}: nothing to pair the answer by"
    for mti, forms in FROM_ISSUERS.items():
        for form in forms:
            assert {7, 11} <= set(form.mandatory), f"{mti} {form.name}"


def test_repeats_are_served_as_what_they_repeat() -> None:
    for served in (SERVED, SERVED_FROM_ISSUERS):
        for mti, original in served.items():
            assert mti == original or mti == repeat_mti(original)


# Partial approvals


def test_a_partial_approval_is_booked_with_what_was_approved_and_the_rest_is_never_there() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        world.issuers["alpha"].issuer.accounts.set(AccountRule(pan=VISA.pan, balance_minor=3_000, partial=True))
        held = await till.held(5_000)
        assert held.response_code == "10"
        assert held.held_minor == 3_000
        over = await till.done(till.shop.capture(held, 3_001, till.now()))
        assert over.response_code == "13"
        await till.done(till.shop.capture(held, 3_000, till.now()))
        await trio.sleep(5.0)
        assert differences(world) == []

    in_world(script)


def test_a_link_that_takes_no_approval_in_part_hears_91_and_the_issuer_takes_it_back() -> None:
    async def script(world: World) -> None:
        world.issuers["alpha"].issuer.accounts.set(AccountRule(pan=VISA.pan, balance_minor=3_000, partial=True))
        client = world.clients["gateway"]
        card = Card(surrogate(world))
        asked = await client.perform(client.acquirer.purchase(card, 5_000, "EUR", world.clock.now()))
        assert asked.response_code == "91"
        await trio.sleep(5.0)
        entry = world.issuers["alpha"].issuer.entries.entries()[0]
        assert entry.reversed and entry.posted_minor == 0
        assert differences(world) == []

    in_world(script)


def test_there_is_no_fee_on_cash() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        await till.done(till.shop.purchase(VISA, 5_000, "EUR", till.now(), cashback_minor=2_000))
        fees = [line.amount_minor for line in world.journal.postings() if line.account == "platform:revenue"]
        assert fees == [-117], "2.9 % of 30.00, and 1 % because the card is from abroad"
        assert differences(world) == []

    in_world(script)


def test_the_cash_of_a_hold_bears_no_fee_when_it_is_captured() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        made = till.shop.purchase(VISA, 5_000, "EUR", till.now(), cashback_minor=2_000)
        del till.shop.requests[made.key]  # it is asked for as a hold
        held = await till.done(till.shop.adopt(Message("0100", made.message.elements), "authorization", till.now()))
        await till.done(till.shop.capture(held, 2_500, till.now(), final=False))
        await till.done(till.shop.capture(held, 2_500, till.now()))
        fees = [line.amount_minor for line in world.journal.postings() if line.account == "platform:revenue"]
        assert fees == [-20, -98], "3.9 % of 5.00, then of 25.00: the cash is paid out once"
        await trio.sleep(5.0)
        assert differences(world) == []

    in_world(script)


# Races and rules between messages


@pytest.mark.parametrize("other", [Card("4000056655665556"), MASTERCARD])
@pytest.mark.parametrize("mti", ["0200", "0220"])
def test_a_refund_goes_back_to_the_card_that_paid_whoever_decides_it(mti: str, other: Card) -> None:
    async def script(world: World) -> None:
        till = Till(world)
        paid = await till.paid(5_000)
        made = till.shop.refund(other, 1_000, till.now(), paid)
        if mti == "0220":
            del till.shop.requests[made.key]  # it is sent as an advice
            made = till.shop.adopt(Message(mti, {**made.message.elements, 39: "00"}), "refund", till.now(), paid)
        assert (await till.done(made)).response_code == "12"
        assert list(world.journal._outcomes.values())[-1].reason == "other_card"
        await trio.sleep(5.0)
        assert await world.journal.advices("alpha", 0, 10) == []
        assert paid.posted_minor == 5_000
        assert differences(world) == []

    in_world(script)


def test_an_increment_grows_the_hold_and_its_reversal_shrinks_it_again() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        held = await till.held(5_000)
        grown = await till.done(till.shop.increment(held, VISA, 2_000, till.now()))
        assert held.held_minor == 7_000
        await till.done(till.shop.reversal(grown, till.now()))
        assert held.held_minor == 5_000
        await trio.sleep(5.0)
        assert differences(world) == []

    in_world(script)


def test_the_issuer_hears_of_what_is_on_hold_now_and_of_what_is_left() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        till = Till(world)
        held = await till.held(5_000)
        await till.done(till.shop.increment(held, VISA, 2_000, till.now()))
        await till.done(till.shop.reduction(held, 3_000, till.now()))
        await trio.sleep(5.0)
        told = messages[-1].elements
        assert (messages[-1].mti, told[4], told[95][:12]) == ("0420", "000000007000", "000000003000")
        assert differences(world) == []

    in_world(script)


def test_a_capture_that_says_little_tells_the_issuer_what_its_hold_said() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        till = Till(world)
        capture = till.shop.capture(await till.held(5_000), 2_000, till.now(), final=False)
        for number in (2, 3, 14):
            capture.message.elements.pop(number, None)
        await till.done(capture)
        await trio.sleep(5.0)
        told = messages[-1].elements
        assert (messages[-1].mti, told[2], told[3], told[60]) == ("0220", VISA.pan, "000000", "P")
        assert differences(world) == []

    in_world(script)


def test_an_increment_that_the_issuer_approves_late_is_reversed_and_the_hold_stays() -> None:
    rule = FaultRule(kind="late", name="late", amount_minor=2_000, delay_s=4.0, count=1)

    async def script(world: World) -> None:
        till = Till(world)
        held = await till.held(5_000)
        late = await till.done(till.shop.increment(held, VISA, 2_000, till.now()))
        assert late.response_code != "00"
        await trio.sleep(20.0)
        assert held.held_minor == 5_000
        assert world.counted("advices_sent", "alpha", "0420") == 1
        assert differences(world) == []

    in_world(script, faults={"alpha": (rule,)})


def test_an_inquiry_is_answered_with_what_the_issuer_says_of_the_account() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        world.issuers["alpha"].issuer.accounts.set(AccountRule(pan=VISA.pan, balance_minor=12_345))
        asked = await till.done(till.shop.inquiry(VISA, "EUR", till.now()))
        assert asked.response is not None and asked.response.elements[54].endswith("978C000000012345")
        again = await told(world, Message("0101", asked.message.elements), "pos")
        assert again is not None and again.elements[54] == asked.response.elements[54]

    in_world(script)


def test_an_inquiry_that_nobody_answers_is_91_and_nothing_is_reversed() -> None:
    rule = FaultRule(kind="silence", name="dead", mti=("0100",), count=1)

    async def script(world: World) -> None:
        till = Till(world)
        inquiry = till.shop.inquiry(VISA, "EUR", till.now())
        answer = await told(world, inquiry.message, "pos")
        assert answer is not None and answer.elements[39] == "91"
        await trio.sleep(10.0)
        assert world.counted("advices_sent", "alpha", "0420") == 0

    in_world(script, faults={"alpha": (rule,)})


@pytest.mark.parametrize("code", ["05", "85"])  # 85 approves a verification only
def test_an_advice_of_a_decline_is_noted_and_moves_no_money(code: str) -> None:
    async def script(world: World) -> None:
        till = Till(world)
        made = till.shop.advice(VISA, 3_000, "EUR", till.now())
        made.message.elements[39] = code
        answer = await told(world, made.message, "pos")
        assert answer is not None and answer.elements[39] == "00"
        await trio.sleep(5.0)
        assert [(entry.held_minor, entry.posted_minor) for entry in world.issuers["alpha"].issuer.book()] == [(0, 0)]
        (outcome,) = world.journal._outcomes.values()
        assert (outcome.decision, outcome.reason) == (Decision.APPROVED, "declined_elsewhere")
        assert world.journal.postings() == []

    in_world(script)


@pytest.mark.parametrize("code", ["08", "10", "11", "16"])
def test_an_advice_of_an_approval_of_another_kind_is_booked(code: str) -> None:
    async def script(world: World) -> None:
        till = Till(world)
        made = till.shop.advice(VISA, 3_000, "EUR", till.now())
        made.message.elements[39] = code
        await till.done(made)
        await trio.sleep(5.0)
        assert made.posted_minor == 3_000
        assert differences(world) == []

    in_world(script)


@pytest.mark.parametrize("hold", [False, True])
def test_there_is_nothing_to_undo_capture_or_pay_back_of_what_was_declined_elsewhere(hold: bool) -> None:
    """Else a reversal of an uncounted payment would be in the totals of the day, and the issuer would get it."""

    async def script(world: World) -> None:
        till = Till(world)
        advice = till.shop.advice(VISA, 3_000, "EUR", till.now(), hold=hold)
        advice.message.elements[39] = "05"
        assert (await told(world, advice.message, "pos")).elements[39] == "00"  # type: ignore[union-attr]
        for message, code in (
            (till.shop.capture(advice, 1_000, till.now()).message, "12"),
            (till.shop.refund(VISA, 1_000, till.now(), advice).message, "12"),
            (till.shop.reversal(advice, till.now()).message, "00"),
        ):
            answer = await told(world, message, "pos")
            assert answer is not None and answer.elements[39] == code, message.mti
        reasons = [outcome.reason for outcome in world.journal._outcomes.values()]
        assert reasons == ["declined_elsewhere", "original_declined", "original_declined", "nothing_to_reverse"]
        await trio.sleep(5.0)
        assert world.counted("advices_sent", "alpha", "0420") == 0
        totals = await world.journal.totals("pos", NOW)
        assert totals == {}

    in_world(script)


# Messages that issuers start


async def _answer(world: World, message: Message) -> str:
    return await world.issuers["alpha"].answer_of(message)


async def _chargeback(world: World) -> str:
    till = Till(world)
    paid = await till.paid(2_500)
    server = world.issuers["alpha"]
    message = server.chargeback(server.issuer.entries.entries()[0].key, 1_000)
    code = await _answer(world, message)
    await trio.sleep(5.0)
    assert paid.posted_minor == 1_500
    return code


async def _file_update(world: World) -> str:
    return await _answer(world, world.issuers["alpha"].list_card(VISA.pan, "add"))


async def _issuers_totals(world: World) -> str:
    await Till(world).paid(2_500)
    return await _answer(world, world.issuers["alpha"].reconcile(TODAY, "EUR"))


async def _issuers_day(world: World) -> str:
    return await _answer(world, world.issuers["alpha"].manage("cut-over", TODAY))


def test_an_issuers_requests_are_served_and_durable() -> None:
    async def script(world: World) -> None:
        assert await _chargeback(world) == "00"
        assert await _file_update(world) == "00"
        assert await _issuers_day(world) == "00"
        assert await _issuers_totals(world) == "00"
        kinds = [intent.kind for intent in world.journal._intents.values() if intent.link == "alpha"]
        assert kinds == [Kind.CHARGEBACK, Kind.FILE_UPDATE, Kind.CUT_OVER, Kind.RECONCILIATION]
        assert all(number in world.journal._outcomes for number in world.journal._intents)
        assert differences(world) == []

    in_world(script)


def test_the_negative_list_is_added_to_asked_and_taken_from() -> None:
    async def script(world: World) -> None:
        server = world.issuers["alpha"]
        assert await _answer(world, server.list_card(VISA.pan, "inquire")) == "25"
        assert await _answer(world, server.list_card(VISA.pan, "add")) == "00"
        assert await _answer(world, server.list_card(VISA.pan, "add")) == "00", "twice is once"
        assert await _answer(world, server.list_card(VISA.pan, "inquire")) == "00"
        fingerprint = next(i.fingerprint for i in world.journal._intents.values() if i.kind is Kind.FILE_UPDATE)
        assert await world.journal.blocked(fingerprint, "alpha")
        assert not await world.journal.blocked(fingerprint, "beta"), "a list is its issuer's own"
        other = server.list_card(VISA.pan, "delete")
        other.elements[91] = "2"  # change: there is nothing to change
        assert await _answer(world, other) == "12"
        assert await world.journal.blocked(fingerprint, "alpha")
        assert await _answer(world, server.list_card(VISA.pan, "delete")) == "00"
        assert not await world.journal.blocked(fingerprint, "alpha")

    in_world(script)


def test_totals_that_differ_are_told_with_ours() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        await till.paid(2_500)
        request = till.shop.reconciliation("EUR", till.now(), day=TODAY)
        right = await told(world, request.message, "pos")
        wrong = till.shop.reconciliation("EUR", till.now(), day=TODAY)
        wrong.message.elements[88] = f"{2_501:016d}"
        answer = await told(world, wrong.message, "pos")
        assert right is not None and answer is not None
        assert (right.elements[39], right.elements[66]) == ("00", "1")
        assert (answer.elements[39], answer.elements[66]) == ("00", "2")
        assert int(answer.elements[88]) == 2_500

    in_world(script)


@pytest.mark.parametrize(("number", "advice"), [*((number, False) for number in COMPARED), (97, True), (88, True)])
def test_each_total_is_compared(number: int, advice: bool) -> None:
    async def script(world: World) -> None:
        till = Till(world)
        await till.done(till.shop.refund(VISA, 1_000, till.now(), await till.paid(2_500)))
        request = till.shop.reconciliation("EUR", till.now(), day=TODAY, advice=advice)
        elements = request.message.elements
        elements.setdefault(number, "0" * (10 if number < 80 else 12))
        elements[number] = elements[number][:-1] + ("2" if elements[number][-1] == "1" else "1")
        answer = await told(world, request.message, "pos")
        assert answer is not None and (answer.elements[39], answer.elements[66]) == ("00", "2")
        assert answer.elements[97][0] == "D", "more was bought than went back"

    in_world(script)


def test_a_net_with_the_wrong_sign_is_out_of_balance_and_an_absent_one_is_not_compared() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        await till.paid(2_500)
        for net, expected in (("D" + f"{2_500:016d}", ("00", "1")), ("C" + f"{2_500:016d}", ("00", "2"))):
            request = till.shop.reconciliation("EUR", till.now(), day=TODAY)
            request.message.elements[97] = net
            answer = await told(world, request.message, "pos")
            assert answer is not None and (answer.elements[39], answer.elements.get(66, "")) == expected
        request = till.shop.reconciliation("EUR", till.now(), day=TODAY)
        del request.message.elements[97]
        answer = await told(world, request.message, "pos")
        assert answer is not None and answer.elements[66] == "1", "it follows from the others"

    in_world(script)


def test_the_books_of_fees_and_transfers_that_nobody_has_here_are_corrected_to_zero() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        request = till.shop.reconciliation("EUR", till.now(), day=TODAY)
        request.message.elements |= {78: "0000000001", 83: "000000000100", 81: "0000000007"}
        answer = await told(world, request.message, "pos")
        assert answer is not None and answer.elements[66] == "2"
        assert (int(answer.elements[78]), int(answer.elements[83]), answer.elements.get(81)) == (0, 0, None)

    in_world(script)


@pytest.mark.parametrize(("done", "undone"), [((76, 88), (77, 89)), ((74, 86), (75, 87))])
def test_what_was_reversed_is_stated_with_its_reversal_or_not_at_all(
    done: tuple[int, int], undone: tuple[int, int]
) -> None:
    async def script(world: World) -> None:
        till = Till(world)
        paid = await till.paid(2_500)
        again = paid if 76 in done else await till.done(till.shop.refund(VISA, 2_500, till.now(), paid))
        await till.done(till.shop.reversal(again, till.now()))

        async def balance(numbers: tuple[int, ...]) -> str:
            request = till.shop.reconciliation("EUR", till.now(), day=TODAY).message
            rest = {} if 76 in done else {76: "0000000001", 88: f"{2_500:016d}"}
            zeros = {number: "0" * len(request.elements[number]) for number in (*range(74, 78), *range(86, 90))}
            stated = {number: f"{1:010d}" if number < 80 else f"{2_500:016d}" for number in numbers}
            elements = {**request.elements, **zeros, **rest, **stated}
            del elements[97]  # the others alone
            answer = await told(world, Message("0500", elements), "pos")
            assert answer is not None
            return answer.elements[66]

        assert await balance((*done, *undone)) == "1"
        assert await balance(()) == "1"
        for missing in (*done, *undone):
            assert await balance(tuple(number for number in (*done, *undone) if number != missing)) == "2", missing

    in_world(script)


def test_totals_are_those_of_the_link_that_asks() -> None:
    async def script(world: World) -> None:
        till, gateway = Till(world), world.clients["gateway"]
        await till.paid(2_500)
        await gateway.perform(gateway.acquirer.purchase(Card(surrogate(world)), 1_000, "EUR", till.now()))
        for link, shop in (("pos", till.shop), ("gateway", gateway.acquirer)):
            answer = await told(world, shop.reconciliation("EUR", till.now(), day=TODAY).message, link)
            assert answer is not None and (answer.elements[39], answer.elements[66]) == ("00", "1"), link

    in_world(script)


def test_totals_are_those_of_the_business_day_that_they_name() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        await till.paid(2_500)
        await till.done(till.shop.cut_over(TOMORROW, till.now()))
        await till.paid(1_000)
        for day, debits in ((TODAY, 2_500), (TOMORROW, 1_000)):
            request = till.shop.reconciliation("EUR", till.now(), day=day)
            assert int(request.message.elements[88]) == debits
            answer = await told(world, request.message, "pos")
            assert answer is not None and (answer.elements[39], answer.elements[66]) == ("00", "1"), day

    in_world(script)


def test_a_text_keeps_no_part_of_a_long_number() -> None:
    form = FROM_ACQUIRERS["0600"][0]
    for before in range(480, 502):
        kept = stated_of(form, {48: "x" * before + " 4111111111111111 "})[48]
        assert "411" not in kept and len(kept) <= 500


@pytest.mark.parametrize("name", WITH_CARD_NUMBER)
def test_a_kept_text_has_no_card_number_in_any_spelling(name: str) -> None:
    text = WITH_CARD_NUMBER[name]
    assert not holds(stated_of(FROM_ACQUIRERS["0600"][0], {48: f"about {text}."})[48])
    (form,) = (form for form in FROM_ISSUERS["0302"] if 101 in form.stated)
    assert not holds(stated_of(form, {101: text})[101])


def test_a_kept_text_keeps_what_is_no_card_number() -> None:
    text = "call +447911123456 about IMEI 356938035643809, order 2026-0001, before 30.11.2026 10:20:30"
    assert stated_of(FROM_ACQUIRERS["0600"][0], {48: text})[48] == text


def test_forms_are_told_apart_by_what_they_have() -> None:
    def found(mti: str, elements: dict[int, str]) -> Kind | str:
        form = form_of(mti, elements, FROM_ACQUIRERS)
        return form.kind if isinstance(form, Form) else form.reason

    assert found("0400", {90: "0" * 42, 95: "0" * 42}) is Kind.REVERSAL, "nothing is left: all of it"
    assert found("0400", {90: "0" * 42, 95: "000000000100" + "0" * 30}) is Kind.REDUCTION
    assert found("0220", {3: "000000"}) is Kind.PURCHASE
    assert found("0220", {90: "0" * 42}) is Kind.CAPTURE
    assert found("0100", {3: "000000", 90: "0" * 42}) is Kind.INCREMENT
    assert found("0200", {3: "990000"}) == "processing_code"
    assert found("0200", {}) == "element_missing"


def test_the_page_shows_the_tables() -> None:
    page = (Path(__file__).parents[2] / "docs" / "messages.md").read_text("utf-8")
    assert forms_table(FROM_ACQUIRERS) in page
    assert forms_table(FROM_ISSUERS) in page
    shown = (Kind.CAPTURE, Kind.INCREMENT, Kind.REFUND, Kind.REVERSAL, Kind.REDUCTION, Kind.CHARGEBACK)
    assert all(rules_table(kind) in page for kind in shown)
    assert follow_ups_table() in page
    assert f"grow for {HOLD_LIFETIME.days} days" in page


async def _cut_over_to(world: World, days: int) -> str:
    till = Till(world)
    day = f"{till.now() + timedelta(days=days):%m%d}"
    answer = await told(world, till.shop.cut_over(day, till.now()).message, "pos")
    assert answer is not None
    return answer.elements[39]


@pytest.mark.parametrize("days", [2, 40, 150])
def test_a_business_day_more_than_a_day_ahead_is_30_and_not_recorded(days: int) -> None:
    async def script(world: World) -> None:
        assert await _cut_over_to(world, days) == "30"
        day = f"{world.clock.now() + timedelta(days=days):%m%d}"
        assert await _answer(world, world.issuers["alpha"].manage("cut-over", day)) == "30"
        assert not world.journal._intents

    in_world(script)


def test_no_business_day_before_the_present_one_begins_again() -> None:
    async def script(world: World) -> None:
        assert [await _cut_over_to(world, days) for days in (-3, 0, -1, 0, 1, 0, -150)] == [
            "00", "00", "12", "00", "00", "12", "12",
        ]  # fmt: skip
        assert await world.journal.business_day("pos") == NOW.replace(hour=0, minute=0, second=0) + timedelta(days=1)
        assert await world.journal.business_day("gateway") is None

    in_world(script)


def test_a_present_day_that_lies_months_ahead_refuses_none() -> None:
    async def script(world: World) -> None:
        assert await _cut_over_to(world, 1) == "00"
        world.clock._start -= timedelta(days=60)
        assert await _cut_over_to(world, 0) == "00"

    in_world(script)
