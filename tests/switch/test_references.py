"""Originals of DE 90, of any age and from any sender."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from messages.exchange import de7, original_data
from messages.message import Message
from tests.simulation.agreement import differences
from tests.simulation.world import World
from tests.switch.desk import VISA, in_world, purchase, told
from tests.switch.outage import heard
from tests.switch.test_message_set import Till

AGES = [30, 182, 184, 200, 300, 364]  # days


async def later(world: World, days: int) -> None:
    """The clock of everybody goes on by so many days."""
    await trio.sleep(5.0)
    world.clock._start += timedelta(days=days)


@pytest.mark.parametrize("days", AGES)
def test_a_refund_finds_its_payment_after_days(days: int) -> None:
    async def script(world: World) -> None:
        till = Till(world)
        paid = await till.done(till.shop.purchase(VISA, 2_500, "EUR", till.now()))
        await later(world, days)
        back = await till.done(till.shop.refund(VISA, 700, till.now(), paid))
        assert back.response_code == "00"
        await trio.sleep(5.0)
        assert differences(world) == []

    in_world(script)


@pytest.mark.parametrize("days", AGES)
def test_a_reversal_finds_its_payment_after_days(days: int) -> None:
    async def script(world: World) -> None:
        till = Till(world)
        paid = await till.done(till.shop.purchase(VISA, 2_500, "EUR", till.now()))
        await later(world, days)
        undone = await till.done(till.shop.reversal(paid, till.now()))
        assert undone.response_code == "00"
        await trio.sleep(5.0)
        assert differences(world) == []

    in_world(script)


@pytest.mark.parametrize("days", AGES)
def test_a_chargeback_finds_its_payment_after_days(days: int) -> None:
    async def script(world: World) -> None:
        till = Till(world)
        paid = await till.done(till.shop.purchase(VISA, 2_500, "EUR", till.now()))
        await later(world, days)
        server = world.issuers["alpha"]
        message = server.chargeback(server.issuer.entries.entries()[0].key, 1_000)
        assert await server.answer_of(message) == "00"
        await trio.sleep(5.0)
        assert paid.posted_minor == 1_500
        assert differences(world) == []

    in_world(script)


def test_an_unknown_original_of_last_year_is_declined_with_its_own_date() -> None:
    """The tombstone keeps the year that the reversal means."""

    async def script(world: World) -> None:
        at = world.clock.now() - timedelta(days=300)
        reference = original_data("0200", "000001", de7(at), "10001")
        answer = await told(world, purchase("000002", mti="0420", de90=reference), "pos")
        assert answer is not None and answer.elements[39] == "25"
        [stone] = [i for i in world.journal._intents.values() if i.kind == "tombstone"]
        assert stone.transmitted_at == at.replace(microsecond=0)

    in_world(script)


@pytest.mark.parametrize("with_terminal", [True, False])
def test_where_de_90_has_no_institution_that_of_the_reversal_counts(with_terminal: bool) -> None:
    async def script(world: World) -> None:
        request = purchase(de32="00010001")
        reference = original_data("0200", request.elements[11], request.elements[7], "")
        other = purchase("000002", mti="0400", de32="10002", de90=reference)
        own = purchase("000003", mti="0400", de32="10001", de90=reference, de41="TERM0001" if with_terminal else "")
        codes = [answer.elements[39] for m in (request, other, own) if (answer := await told(world, m, "pos"))]
        assert codes == ["00", "25", "00"]
        await trio.sleep(5.0)
        assert world.issuers["alpha"].issuer.entries.entries()[0].posted_minor == 0

    in_world(script)


def test_a_capture_whose_de_90_has_no_institution_is_that_of_its_own() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        held = await till.held(5_000)
        capture = till.shop.capture(held, 2_000, till.now()).message
        given = held.message.elements
        capture.elements[90] = original_data("0100", given[11], given[7], "")
        answer = await told(world, Message("0220", capture.elements), "pos")
        assert answer is not None and answer.elements[39] == "00"

    in_world(script)


@pytest.mark.parametrize(
    ("parts", "functions"),
    [
        ([(5_000, True)], ["201"]),
        ([(2_000, True)], ["202"]),
        ([(2_000, False), (3_000, True)], ["202", "202"]),
        ([(5_000, False)], ["201"]),
    ],
)
def test_a_stored_capture_says_whether_its_amount_is_that_of_the_hold(
    parts: list[tuple[int, bool]], functions: list[str]
) -> None:
    """DE 24 of later versions, which carry it under 1024; an issuer of 1987 does not get it."""

    async def script(world: World) -> None:
        till = Till(world)
        held = await till.held(5_000)
        messages = heard(world, "alpha")
        for amount, final in parts:
            await till.done(till.shop.capture(held, amount, till.now(), final=final))
        await trio.sleep(5.0)
        drafts = [draft for outcome in world.journal._outcomes.values() for draft in outcome.advices]
        assert [draft.elements[1024] for draft in drafts] == functions
        assert [m.mti for m in messages] == ["0220"] * len(parts) and all(1024 not in m.elements for m in messages)
        assert differences(world) == []

    in_world(script)
