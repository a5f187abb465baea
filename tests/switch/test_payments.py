"""Each row of the protocol's table, on a whole switch in memory: the acquirer's answer and the books."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
import trio

from hsm.commands import Dispatch, GenerateMac, HsmRefused, HsmUnavailable, Screen
from ledger.journal import Decision, Kind, network_stan
from messages.exchange import original_data
from messages.message import Message
from simulators.acquirer import Card
from simulators.acquirer.book import State
from simulators.faults import FaultRule
from simulators.issuer.actions import Send
from tests.simulation.agreement import differences
from tests.simulation.world import World
from tests.switch.desk import MASTERCARD, NOW, POOR, VISA, in_world, purchase, surrogate, told
from tests.switch.outage import configured, heard


def decisions(world: World) -> list[tuple[Kind, Decision, str]]:
    """Every outcome in the order of its intent."""
    outcomes = world.journal._outcomes
    return [(world.journal._intents[n].kind, outcomes[n].decision, outcomes[n].response_code) for n in sorted(outcomes)]


def sent(world: World, link: str, mti: str) -> int:
    return world.counted("advices_sent", link, mti)


def test_a_shop_day_ends_in_equal_books() -> None:
    async def script(world: World) -> None:
        client, now = world.clients["pos"], world.clock.now
        shop = client.acquirer
        paid = await client.perform(shop.purchase(Card(VISA.pan, pin="1234"), 2500, "EUR", now()))
        held = await client.perform(shop.authorization(MASTERCARD, 4000, "EUR", now()))
        await client.perform(shop.capture(held, 1500, now(), final=False))
        await client.perform(shop.capture(held, 1000, now()))
        back = await client.perform(shop.refund(VISA, 700, now(), paid))
        void = await client.perform(shop.authorization(VISA, 900, "EUR", now()))
        await client.perform(shop.reversal(void, now()))
        poor = await client.perform(shop.purchase(POOR, 100, "EUR", now()))
        wrong = await client.perform(shop.purchase(Card(VISA.pan, pin="9999"), 100, "EUR", now()))
        await trio.sleep(5.0)
        assert [r.response_code for r in (paid, held, back, void, poor, wrong)] == ["00", "00", "00", "00", "51", "55"]
        assert (held.held_minor, held.posted_minor) == (0, 2500)
        assert differences(world) == []

    in_world(script)


def test_a_surrogate_becomes_the_card_and_the_trace_id_travels() -> None:
    async def script(world: World) -> None:
        answer = await told(world, purchase(de2=surrogate(world), de63="abcdef0123456789"))
        assert answer is not None
        assert (answer.elements[39], answer.elements[63]) == ("00", "abcdef0123456789")
        entry = world.issuers["alpha"].issuer.entries.entries()[0]
        assert (entry.posted_minor, entry.trace_id) == (2500, "abcdef0123456789")

    in_world(script)


def test_an_answer_carries_back_what_the_standard_echoes() -> None:
    async def script(world: World) -> None:
        till = world.clients["pos"].acquirer
        held = await world.clients["pos"].perform(till.authorization(VISA, 4000, "EUR", world.clock.now()))
        capture = till.capture(held, 1500, world.clock.now()).message
        capture.elements[33] = "20002"
        totals = till.reconciliation("EUR", world.clock.now(), day="0314").message
        for message in (capture, totals):
            answer = await told(world, message, "pos")
            assert answer is not None
            echoed = {number: message.elements.get(number) for number in ECHOED}
            assert {number: answer.elements.get(number) for number in ECHOED} == echoed

    in_world(script)


# Source: ISO 8583:1987 table 4, "mandatory echo".
ECHOED = (2, 3, 4, 7, 11, 12, 13, 15, 32, 33, 37, 41, 42, 49, 90)


def test_what_is_stored_holds_no_card_number() -> None:
    async def script(world: World) -> None:
        client, now = world.clients["pos"], world.clock.now
        held = await client.perform(client.acquirer.authorization(VISA, 4000, "EUR", now()))
        await client.perform(client.acquirer.capture(held, 4000, now()))
        journal = world.journal
        stored = repr((journal._intents, journal._outcomes, journal._advices))
        assert VISA.pan not in stored
        assert "424242******4242" in stored

    in_world(script)


def test_a_repeat_gets_the_stored_answer() -> None:
    async def script(world: World) -> None:
        request = purchase(de2=surrogate(world), de63="t1")
        first = await told(world, request)
        again = await told(world, Message("0201", request.elements))
        other_worker = await world.start_worker(1)
        world.crash_worker(0)
        await trio.sleep(0.5)
        third = await told(world, request)
        assert first == again == third
        assert first is not None and first.elements[39] == "00"
        assert other_worker.meters.value("repeats", "gateway") == 1
        assert len(world.issuers["alpha"].issuer.entries) == 1

    in_world(script)


def test_a_repeat_waits_for_the_outcome_in_this_worker_and_in_another() -> None:
    async def script(world: World) -> None:
        await world.start_worker(1)
        await trio.sleep(1.0)
        request = purchase(de2=surrogate(world))
        answers: list[Message | None] = []

        async def ask() -> None:
            answers.append(await told(world, request))

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(ask)
        assert [a.elements[39] for a in answers if a is not None] == ["00"] * 6
        assert len({a.elements[38] for a in answers if a is not None}) == 1
        assert len(world.issuers["alpha"].issuer.entries) == 1

    in_world(script, faults={"alpha": (FaultRule(kind="delay", delay_s=2.0),)})


def test_a_repeat_at_another_worker_is_answered_as_soon_as_the_first_one_has_its_outcome() -> None:
    async def script(world: World) -> None:
        worker = await world.start_worker(1)
        request = purchase(de2=surrogate(world))
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(told, world, request)
            await trio.sleep(0.5)
            while not worker.meters.value("repeats", "gateway"):  # each connection goes to one worker or the other
                nursery.start_soon(told, world, Message("0201", request.elements))
                await trio.sleep(0.1)
        assert trio.current_time() - begun < 2.8, "the deadline and the grace are 5 s"
        assert decisions(world) == [(Kind.PURCHASE, Decision.APPROVED, "00")]

    in_world(script, faults={"alpha": (FaultRule(kind="delay", delay_s=2.0),)})


def test_the_same_key_for_something_else_is_refused() -> None:
    async def script(world: World) -> None:
        first = await told(world, purchase(de2=surrogate(world)))
        other = await told(world, purchase(de2=surrogate(world), de4="000000002501"))
        assert first is not None and first.elements[39] == "00"
        assert other is not None and other.elements[39] == "94"

    in_world(script)


def test_a_repeat_with_other_cash_is_another_request() -> None:
    async def script(world: World) -> None:
        client = world.clients["pos"]
        first = client.acquirer.purchase(VISA, 5_000, "EUR", world.clock.now(), cashback_minor=2_000).message
        assert (await told(world, first, "pos")).elements[39] == "00"  # type: ignore[union-attr]
        without = {**first.elements, 3: "000000"}
        del without[54]
        assert (await told(world, Message("0201", without), "pos")).elements[39] == "94"  # type: ignore[union-attr]
        assert decisions(world) == [(Kind.PURCHASE, Decision.APPROVED, "00")]

    in_world(script)


def test_an_acquirer_that_is_suspended_hears_91_and_nothing_is_booked() -> None:
    async def script(world: World) -> None:
        port = world.workers[0][0].ports["pos"].connections
        port.suspend()
        client = world.clients["pos"]
        refused = await client.perform(client.acquirer.purchase(VISA, 1_000, "EUR", world.clock.now()))
        assert (refused.response_code, decisions(world)) == ("91", [])
        port.resume()
        taken = await client.perform(client.acquirer.purchase(VISA, 1_000, "EUR", world.clock.now()))
        assert taken.response_code == "00"

    in_world(script)


def test_who_says_neither_institution_nor_terminal_cannot_be_told_from_others() -> None:
    async def script(world: World) -> None:
        answer = await told(world, purchase(de2=surrogate(world), de32="", de41=""))
        assert answer is not None and answer.elements[39] == "30"
        assert decisions(world) == []

    in_world(script)


def test_a_silent_issuer_gets_a_reversal_until_it_acknowledges() -> None:
    async def script(world: World) -> None:
        answer = await told(world, purchase(de2=surrogate(world)))
        assert answer is not None and answer.elements[39] == "91"
        await trio.sleep(30.0)
        assert decisions(world) == [(Kind.PURCHASE, Decision.REVERSED, "91")]
        assert (sent(world, "alpha", "0420"), sent(world, "alpha", "0421")) == (1, 2)
        assert await world.journal.advices("alpha", 0, 10) == []
        entry = world.issuers["alpha"].issuer.entries.entries()[0]
        assert entry.reversed and entry.posted_minor == 0

    silent = (FaultRule(kind="silence", count=1), FaultRule(kind="silence", mti=("0420",), count=2))
    in_world(script, faults={"alpha": silent})


def test_a_late_approval_is_reversed_once() -> None:
    async def script(world: World) -> None:
        answer = await told(world, purchase(de2=surrogate(world)))
        assert answer is not None and answer.elements[39] == "91"
        await trio.sleep(10.0)
        assert world.counted("late_answers", "alpha", "00") == 1
        assert sent(world, "alpha", "0420") == 1
        assert differences_of_issuer(world) == (0, 0)

    in_world(script, faults={"alpha": (FaultRule(kind="late", delay_s=5.0),)})


def differences_of_issuer(world: World) -> tuple[int, int]:
    entry = world.issuers["alpha"].issuer.entries.entries()[0]
    return entry.held_minor, entry.posted_minor


def test_an_issuer_that_is_down_is_91_at_once_without_a_reversal() -> None:
    async def script(world: World) -> None:
        world.network.refusing.add("alpha:1")
        world.network.cut("alpha:1")
        await trio.sleep(0.5)
        at = trio.current_time()
        answer = await told(world, purchase(de2=surrogate(world)))
        assert answer is not None and answer.elements[39] == "91"
        assert trio.current_time() - at < 0.5
        assert decisions(world) == [(Kind.PURCHASE, Decision.DECLINED, "91")]
        assert await world.journal.advices("alpha", 0, 10) == []
        world.network.refusing.clear()
        await trio.sleep(15.0)
        back = await told(world, purchase("000002", de2=surrogate(world)))
        assert back is not None and back.elements[39] == "00"

    in_world(script)


def test_a_request_that_is_ready_too_late_is_not_sent_and_needs_no_reversal() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        dispatch = world.hsm.dispatch

        async def slow(command: Dispatch) -> Any:
            await trio.sleep(3.5)
            return await dispatch(command)

        world.hsm.dispatch = slow  # type: ignore[method-assign]
        answer = await told(world, purchase(de2=surrogate(world)))
        assert answer is not None and answer.elements[39] == "91"
        (outcome,) = world.journal._outcomes.values()
        assert (outcome.decision, outcome.reason) == (Decision.DECLINED, "late_before_sending")
        await trio.sleep(10.0)
        assert messages == []

    in_world(script)


def test_a_connection_lost_in_flight_is_a_reversal() -> None:
    async def script(world: World) -> None:
        answer = await told(world, purchase(de2=surrogate(world)))
        assert answer is not None and answer.elements[39] == "91"
        await trio.sleep(10.0)
        assert decisions(world) == [(Kind.PURCHASE, Decision.REVERSED, "91")]
        assert differences_of_issuer(world) == (0, 0)

    in_world(script, faults={"alpha": (FaultRule(kind="disconnect-before", count=1),)})


def test_what_a_dead_worker_left_is_reversed_by_another() -> None:
    async def script(world: World) -> None:
        request = purchase(de2=surrogate(world))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(told, world, request)
            await trio.sleep(1.0)
            world.crash_worker(0)
        await world.start_worker(1)
        await trio.sleep(20.0)
        assert decisions(world) == [(Kind.PURCHASE, Decision.REVERSED, "91")]
        assert world.counted("recovered", "purchase") == 1
        assert differences_of_issuer(world) == (0, 0)
        again = await told(world, Message("0201", request.elements))
        assert again is not None and again.elements[39] == "91"

    in_world(script, faults={"alpha": (FaultRule(kind="delay", delay_s=2.5, count=1),)})


def test_a_journal_that_is_away_is_96_at_once_and_work_goes_on_by_itself() -> None:
    async def script(world: World) -> None:
        world.journal.available = False
        request = purchase(de2=surrogate(world))
        answer = await told(world, request)
        assert answer is not None and answer.elements[39] == "96"
        world.journal.available = True
        repeat = await told(world, Message("0201", request.elements))
        assert repeat is not None and repeat.elements[39] == "96"  # the answer stays
        other = await told(world, purchase("000002", de2=surrogate(world)))
        assert other is not None and other.elements[39] == "00"

    in_world(script)


def test_a_repeat_is_not_told_no_while_nobody_can_know() -> None:
    """The original may be approved: silence while the journal is away or the worker is full, then the truth."""

    async def script(world: World) -> None:
        request = purchase(de2=surrogate(world))
        repeat = Message("0201", request.elements)
        first = await told(world, request)
        world.journal.available = False
        assert await told(world, repeat) is None
        world.journal.available = True
        worker = world.workers[0][0]
        worker.pipeline.in_flight += 2000
        assert await told(world, repeat) is None
        worker.pipeline.in_flight -= 2000
        assert await told(world, repeat) == first

    in_world(script)


def test_an_approval_that_the_journal_did_not_take_is_not_answered() -> None:
    async def script(world: World) -> None:
        request = purchase(de2=surrogate(world))
        answers: list[Message | None] = []

        async def ask() -> None:
            answers.append(await told(world, request))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1.0)
            world.journal.available = False
            await trio.sleep(8.0)
            world.journal.available = True
        assert answers == [None]
        assert world.counted("unanswered", "journal") == 1
        again = await told(world, Message("0201", request.elements))
        assert again is not None and again.elements[39] == "91"
        assert decisions(world) == [(Kind.PURCHASE, Decision.REVERSED, "91")]

    in_world(script, faults={"alpha": (FaultRule(kind="delay", delay_s=2.0, count=1),)})


def test_an_hsm_that_is_away_is_96_and_the_repeat_cannot_do_better() -> None:
    async def script(world: World) -> None:
        request = purchase(de2=surrogate(world))
        world.hsm.available = False
        answer = await told(world, request)
        assert answer is not None and answer.elements[39] == "96"
        world.hsm.available = True
        repeat = await told(world, Message("0201", request.elements))
        assert repeat is not None and repeat.elements[39] == "96"
        assert (await told(world, purchase("000002", de2=surrogate(world)))).elements[39] == "00"  # type: ignore[union-attr]

    in_world(script)


@contextmanager
def hsm_out(world: World, how: str) -> Iterator[None]:
    """The hsm away, or overloaded: as many commands wait as it takes, but MACs of answers are made."""
    screen = world.hsm.screen

    async def refused(request: Screen) -> object:
        raise HsmRefused("overloaded", "too many commands wait")

    if how == "away":
        world.hsm.available = False
    else:
        world.hsm.screen = refused  # type: ignore[method-assign,assignment]
    yield
    world.hsm.available = True
    world.hsm.screen = screen  # type: ignore[method-assign]


async def said(world: World, message: Message) -> list[str]:
    """DE 39 of an answer on a link with MACs; a decline may have no MAC."""
    client = world.clients["pos"]
    return [client.acquirer.codec.decode(frame).elements[39] for frame in await world.send_aside(client, message)]


@pytest.mark.parametrize("how", ["away", "overloaded"])
def test_a_repeat_is_not_told_no_while_the_hsm_cannot_be_asked(how: str) -> None:
    """The books have the truth about a payment; without its MAC verified, nobody gets an approval."""

    async def script(world: World) -> None:
        request = purchase(de2=surrogate(world))
        with_mac = purchase("000002")
        first = await told(world, request), await told(world, with_mac, "pos")
        assert [answer.elements[39] for answer in first if answer] == ["00", "00"]
        with hsm_out(world, how):
            assert await told(world, Message("0201", request.elements)) == first[0]
            assert await told(world, Message("0201", with_mac.elements), "pos") is None
            assert await said(world, purchase("000003")) == ["96"]
        again = await told(world, Message("0201", with_mac.elements), "pos")
        assert again is not None and again.elements[39] == "00"
        assert decisions(world)[2] == (Kind.PURCHASE, Decision.DECLINED, "96")

    in_world(script)


@pytest.mark.parametrize("how", ["away", "overloaded"])
def test_a_repeated_capture_is_not_told_no_while_the_hsm_cannot_be_asked(how: str) -> None:
    """An acquirer that gets 96 captures again with a new STAN, and a part of a hold would be booked twice."""

    async def script(world: World) -> None:
        client, now = world.clients["pos"], world.clock.now
        held = await client.perform(client.acquirer.authorization(VISA, 1000, "EUR", now()))
        capture = client.acquirer.capture(held, 400, now(), final=False).message
        first = await told(world, capture, "pos")
        assert first is not None and first.elements[39] == "00"
        with hsm_out(world, how):
            assert await told(world, Message("0221", capture.elements), "pos") is None
            assert world.counted("unanswered", "hsm_unavailable") == 1
        again = await told(world, Message("0221", capture.elements), "pos")
        assert again is not None and again.elements[39] == "00"
        assert len(decisions(world)) == 2

    in_world(script)


def test_what_lacks_an_element_leaves_no_trace_while_the_hsm_is_away() -> None:
    async def script(world: World) -> None:
        with hsm_out(world, "away"):
            assert await said(world, purchase(de42="")) == ["96"]
        assert decisions(world) == []

    in_world(script)


def test_a_reversal_before_the_outcome_wins() -> None:
    async def script(world: World) -> None:
        request = purchase(de2=surrogate(world))
        elements = request.elements
        reference = original_data("0200", elements[11], elements[7], elements[32])
        answers: dict[str, str] = {}

        async def ask(name: str, message: Message) -> None:
            answer = await told(world, message)
            answers[name] = answer.elements[39] if answer else "none"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "purchase", request)
            await trio.sleep(1.0)
            nursery.start_soon(ask, "reversal", purchase("000002", mti="0400", de2=elements[2], de90=reference))
        await trio.sleep(10.0)
        assert answers == {"purchase": "91", "reversal": "00"}
        assert sent(world, "alpha", "0420") == 1
        assert differences_of_issuer(world) == (0, 0)
        assert world.counted("outcomes_lost", "purchase") == 1

    in_world(script, faults={"alpha": (FaultRule(kind="delay", delay_s=2.0, count=1),)})


def test_a_reversal_of_what_never_came_declines_it_when_it_comes() -> None:
    async def script(world: World) -> None:
        request = purchase(de2=surrogate(world))
        elements = request.elements
        reference = original_data("0200", elements[11], elements[7], elements[32])
        reversal = purchase("000002", mti="0420", de2=elements[2], de90=reference)
        first = await told(world, reversal)
        late = await told(world, request)
        again = await told(world, Message("0421", reversal.elements))
        assert [a.elements[39] for a in (first, late, again) if a is not None] == ["25", "12", "25"]
        assert len(world.issuers["alpha"].issuer.entries) == 0

    in_world(script)


def test_where_there_is_no_institution_the_terminal_says_whose_original_it_is() -> None:
    async def script(world: World) -> None:
        request = purchase(de32="")
        reference = original_data("0200", request.elements[11], request.elements[7], "")
        other = purchase("000002", mti="0400", de32="", de41="TERM0002", de90=reference)
        own = purchase("000003", mti="0400", de32="", de90=reference)
        codes = [answer.elements[39] for m in (request, other, own) if (answer := await told(world, m, "pos"))]
        assert codes == ["00", "25", "00"]
        await trio.sleep(5.0)
        assert differences_of_issuer(world) == (0, 0)

    in_world(script)


def test_a_chargeback_reaches_the_acquirer_once() -> None:
    async def script(world: World) -> None:
        client, now = world.clients["pos"], world.clock.now
        paid = await client.perform(client.acquirer.purchase(VISA, 2500, "EUR", now()))
        server = world.issuers["alpha"]
        server.chargeback(server.issuer.entries.entries()[0].key, 1000)
        await trio.sleep(10.0)
        assert paid.posted_minor == 1500
        assert server.issuer.open_chargebacks() == []
        assert differences(world) == []

    in_world(script)


def test_over_refunds_and_unreferenced_refunds_never_reach_the_issuer() -> None:
    async def script(world: World) -> None:
        client, now = world.clients["pos"], world.clock.now
        shop = client.acquirer
        paid = await client.perform(shop.purchase(VISA, 2500, "EUR", now()))
        over = await client.perform(shop.refund(VISA, 2501, now(), paid))
        other = await client.perform(shop.refund(MASTERCARD, 100, now(), paid))
        blank = await client.perform(shop.refund(VISA, 100, now(), None, "EUR"))
        assert [r.response_code for r in (over, other, blank)] == ["13", "12", "25"]
        assert len(world.issuers["alpha"].issuer.entries) == 1
        assert len(world.issuers["beta"].issuer.entries) == 0

    in_world(script)


def test_fraud_rules_decline_after_the_intent() -> None:
    async def script(world: World) -> None:
        client = world.clients["pos"]
        big = await client.perform(client.acquirer.purchase(VISA, 1_000_001, "EUR", world.clock.now()))
        assert (big.state, big.response_code) == (State.DECLINED, "59")
        assert decisions(world) == [(Kind.PURCHASE, Decision.DECLINED, "59")]
        assert world.counted("declines", "fraud_amount-limit") == 1

    in_world(script)


def test_where_the_merchant_is_tells_whether_the_card_is_abroad() -> None:
    async def script(world: World) -> None:
        for stan, country, code in (("000001", "US", "00"), ("000002", "FR", "59")):
            place = "DEMO SHOP".ljust(38) + country
            answer = await told(world, purchase(stan, de2=surrogate(world), de43=place))
            assert answer is not None and answer.elements[39] == code, country

    abroad = {"name": "abroad", "abroad": True, "action": "decline"}
    in_world(script, config=configured(fraud=[abroad]))


def test_fraud_rules_let_the_money_go_back() -> None:
    """A card that buys too often is no reason to keep what it paid for goods that came back."""

    async def script(world: World) -> None:
        client, now = world.clients["pos"], world.clock.now
        paid = await client.perform(client.acquirer.purchase(VISA, 1_000, "EUR", now()))
        assert (await client.perform(client.acquirer.purchase(VISA, 1_000, "EUR", now()))).response_code == "59"
        assert (await client.perform(client.acquirer.refund(VISA, 1_000, now(), paid))).response_code == "00"
        assert differences(world) == []

    once = {"name": "once", "count_1h_over": 1, "action": "decline"}
    in_world(script, config=configured(fraud=[once]))


def test_an_approval_never_leaves_without_its_mac() -> None:
    """A decline may: nobody gains by making it up."""

    async def script(world: World) -> None:
        mac = world.hsm.mac

        async def away(request: GenerateMac) -> object:
            if request.key == "zak-pos":
                raise HsmUnavailable("the hsm is away")
            return await mac(request)

        world.hsm.mac = away  # type: ignore[method-assign,assignment]
        request, poor = purchase(), purchase("000002", de2=POOR.pan)
        assert await said(world, request) == []
        assert await said(world, poor) == ["51"]
        assert decisions(world)[0] == (Kind.PURCHASE, Decision.APPROVED, "00")
        assert world.counted("unanswered", "mac") == 1
        world.hsm.mac = mac  # type: ignore[method-assign]
        again = await told(world, Message("0201", request.elements), "pos")
        assert again is not None and again.elements[39] == "00"

    in_world(script)


def test_what_an_acquirer_says_reaches_the_issuer_as_it_came() -> None:
    chip = "9F2608AABBCCDDEEFF00119F36020042"
    said = {
        12: "112653", 13: "0314", 14: "3012", 18: "5999", 22: "051", 23: "001", 25: "00", 33: "20002",
        37: "407309000001", 43: "DEMO SHOP".ljust(38) + "DE", 48: "any text", 54: "0042978D000000000001", 55: chip,
    }  # fmt: skip

    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        changes = {f"de{number}": value for number, value in said.items()}
        answer = await told(world, purchase(**changes), "pos")
        assert answer is not None and answer.elements[39] == "00"
        (asked,) = messages
        assert {number: asked.elements.get(number) for number in said} == said
        track = f"{VISA.pan}=30121011234567890000"
        await told(world, purchase("000002", de35=track, de2="", de14=""), "pos")
        assert (messages[1].elements[35], messages[1].elements[2]) == (track, VISA.pan)

    in_world(script)


def answering(world: World, name: str, **changes: str) -> None:
    """Have an issuer say something else in every answer; an empty value leaves the element out."""
    issuer: Any = world.issuers[name].issuer
    receive = issuer.receive

    def changed(message: Message, now: datetime) -> list[Any]:
        actions = receive(message, now)
        for action in actions:
            if isinstance(action, Send) and message.mti in ("0100", "0200"):
                action.message.elements.update({int(n[2:]): value for n, value in changes.items() if value})
                for number in (int(n[2:]) for n, value in changes.items() if not value):
                    action.message.elements.pop(number, None)
        return actions

    issuer.receive = changed


@pytest.mark.parametrize("code", ["00", "51"])
def test_what_an_issuer_tells_chip_and_cardholder_comes_back_and_stays_the_same_in_repeats(code: str) -> None:
    chip, amounts = "910A01020304050607080010", "0002978C000000009999"

    async def script(world: World) -> None:
        answering(world, "alpha", de39=code, de54=amounts, de55=chip)
        request = purchase()
        first = await told(world, request, "pos")
        again = await told(world, Message("0201", request.elements), "pos")
        for answer in (first, again):
            assert answer is not None
            assert [answer.elements.get(number) for number in (39, 54, 55)] == [code, amounts, chip]

    in_world(script)


def test_an_answer_without_a_response_code_is_none_and_what_it_approved_is_undone() -> None:
    async def script(world: World) -> None:
        answering(world, "alpha", de39="")
        answer = await told(world, purchase(), "pos")
        assert answer is not None and answer.elements[39] == "91"
        await trio.sleep(10.0)
        assert decisions(world) == [(Kind.PURCHASE, Decision.REVERSED, "91")]
        assert differences_of_issuer(world) == (0, 0)

    in_world(script)


def test_the_issuer_sees_our_numbers() -> None:
    async def script(world: World) -> None:
        await told(world, purchase("777777", de2=surrogate(world)))
        entry = world.issuers["alpha"].issuer.entries.entries()[0]
        assert entry.stan == network_stan(1)
        assert entry.de7 == f"{world.journal._intents[1].created_at:%m%d%H%M%S}"
        assert entry.acquirer_id == "10001"

    in_world(script)


def test_above_the_limit_is_91_at_once() -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        worker.pipeline.in_flight += 2000
        answer = await told(world, purchase(de2=surrogate(world), at=NOW))
        assert answer is not None and answer.elements[39] == "91"
        assert world.journal._intents == {}
        worker.pipeline.in_flight -= 2000

    in_world(script)
