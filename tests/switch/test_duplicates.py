"""Identity of requests: a key that comes again with any other content is refused, and the first one stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from messages.message import Message
from messages.mti import repeat_mti
from simulators.acquirer.book import Request
from tests.simulation.agreement import differences
from tests.simulation.world import World
from tests.switch.desk import MASTERCARD, VISA, in_world, told
from tests.switch.test_message_set import TODAY, Till

PARTIAL = {60: "P"}
# A message, and the part of it that differs when its key comes again.
OTHERS: dict[str, tuple[str, dict[int, str]]] = {
    "amount": ("purchase", {4: "000000002501"}),
    "currency": ("purchase", {49: "840"}),
    "card": ("purchase", {2: MASTERCARD.pan}),
    "merchant": ("purchase", {42: "OTHERSHOP".ljust(15)}),
    "cash in place of goods": ("purchase", {3: "010000"}),
    "a refund in place of a purchase": ("purchase", {3: "200000"}),
    "an inquiry in place of a purchase": ("purchase", {3: "310000"}),
    "final in place of partial": ("capture", {60: "F"}),
    "the amount of a capture": ("capture", {4: "000000002001"}),
    "the merchant of a capture": ("capture", {42: "OTHERSHOP".ljust(15)}),
    "a reversal in part in place of all": ("reversal", {95: "000000005000" + "0" * 12 + "C00000000" * 2}),
    "approved in place of declined": ("advice", {39: "00"}),
    "the totals": ("totals", {88: "0000000000000001"}),
    "the text": ("text", {48: "printer is on fire"}),
}


async def _first(world: World, what: str) -> Message:
    """A message that was answered, by its kind."""
    till = Till(world)
    shop = till.shop
    made: dict[str, Callable[[], Request]] = {
        "purchase": lambda: shop.purchase(VISA, 2_500, "EUR", till.now()),
        "advice": lambda: shop.advice(VISA, 2_500, "EUR", till.now()),
        "totals": lambda: shop.reconciliation("EUR", till.now(), day=TODAY),
        "text": lambda: shop.administrative("printer is out of paper", till.now()),
    }
    if what == "capture":
        return (await till.done(shop.capture(await till.held(5_000), 2_000, till.now(), final=False))).message
    if what == "reversal":
        return (await till.done(shop.reversal(await till.held(5_000), till.now()))).message
    request = made[what]()
    if what == "advice":
        request.message.elements[39] = "05"
    answer = await told(world, request.message, "pos")
    assert answer is not None and answer.elements[39] == "00"
    return request.message


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("repeat", [False, True], ids=["as it was", "as a repeat"])
def test_a_key_that_comes_again_for_something_else_is_refused_and_the_first_stands(other: str, repeat: bool) -> None:
    async def script(world: World) -> None:
        what, changed = OTHERS[other]
        first = await _first(world, what)
        before = len(world.journal._intents), len(world.journal._outcomes), world.journal.postings()
        mti = repeat_mti(first.mti) if repeat else first.mti
        answer = await told(world, Message(mti, {**first.elements, **changed}), "pos")
        assert answer is not None and answer.elements[39] == "94"
        again = await told(world, Message(repeat_mti(first.mti), first.elements), "pos")
        assert again is not None and again.elements[39] == "00"
        assert before == (len(world.journal._intents), len(world.journal._outcomes), world.journal.postings())

    in_world(script)


def test_a_key_that_comes_again_for_another_original_is_refused() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        first, second = await till.held(5_000), await till.held(5_000)
        capture = await till.done(till.shop.capture(first, 2_000, till.now(), final=False))
        other = {**capture.message.elements, 90: till.shop.capture(second, 2_000, till.now()).message.elements[90]}
        answer = await told(world, Message("0221", other), "pos")
        assert answer is not None and answer.elements[39] == "94"
        assert second.held_minor == 5_000 and len(world.journal._outcomes) == 3

    in_world(script)


def test_a_repeat_that_leaves_out_what_its_type_does_not_need_is_the_same_request() -> None:
    async def script(world: World) -> None:
        first = await _first(world, "capture")
        less = {number: value for number, value in first.elements.items() if number not in (2, 3, 14, 42)}
        answer = await told(world, Message("0221", less), "pos")
        assert answer is not None and answer.elements[39] == "00"
        assert len(world.journal._outcomes) == 2
        assert differences(world) == []

    in_world(script)
