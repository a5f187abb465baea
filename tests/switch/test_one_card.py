"""A message that names two cards is refused, in any form, and reaches nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest

from messages.exchange import original_data
from messages.message import Message
from messages.mti import repeat_mti
from tests.simulation.world import World
from tests.switch.desk import MASTERCARD, NOW, VISA, in_world, purchase, surrogate, told
from tests.switch.outage import heard
from tests.switch.test_issuer_requests import changed, ruled
from tests.switch.test_message_set import Till

TRACK = f"{MASTERCARD.pan}=30122011234567890"
CARRIED = {
    "track 2": {35: TRACK},
    "track 1": {45: f"B{MASTERCARD.pan}^DOE/JANE^3012201"},
    "track 3": {36: f"01{MASTERCARD.pan}=724724"},
    "chip track": {55: f"5711{MASTERCARD.pan}D30122011234567890"},
    "chip number": {55: f"5A08{MASTERCARD.pan}"},
    "expiry": {35: f"{VISA.pan}=31012011234567890"},
}


@pytest.mark.parametrize("what", CARRIED)
def test_a_request_with_two_cards_leaves_for_nobody(what: str) -> None:
    async def script(world: World) -> None:
        alpha, beta = heard(world, "alpha"), heard(world, "beta")
        request = purchase()
        request.elements.update(CARRIED[what])
        answer = await told(world, request, "pos")
        assert answer is not None and answer.elements[39] == "30"
        assert answer.elements[44].startswith("DE ")
        assert alpha == beta == [] and world.journal._intents == {}
        assert world.counted("declines", "more_than_one_card") == 1

    in_world(script)


@pytest.mark.parametrize("form", ["authorization", "increment", "advice", "capture", "reversal", "refund", "inquiry"])
@pytest.mark.parametrize("repeat", [False, True])
def test_no_form_of_a_message_may_name_two_cards(form: str, repeat: bool) -> None:
    async def script(world: World) -> None:
        till = Till(world)
        held, paid = await till.held(), await till.paid()
        made = {
            "authorization": lambda: till.shop.authorization(VISA, 2_500, "EUR", till.now()),
            "increment": lambda: till.shop.increment(held, VISA, 100, till.now()),
            "advice": lambda: till.shop.advice(VISA, 2_500, "EUR", till.now()),
            "capture": lambda: till.shop.capture(held, 100, till.now()),
            "reversal": lambda: till.shop.reversal(paid, till.now()),
            "refund": lambda: till.shop.refund(VISA, 100, till.now(), paid),
            "inquiry": lambda: till.shop.inquiry(VISA, "EUR", till.now()),
        }
        message = made[form]().message
        message.elements.setdefault(2, VISA.pan)
        message.elements[35] = TRACK
        before = len(world.journal._intents)
        mti = repeat_mti(message.mti) if repeat else message.mti
        answer = await told(world, Message(mti, message.elements), "pos")
        assert answer is not None and answer.elements[39] == "30"
        assert len(world.journal._intents) == before

    in_world(script)


def test_what_an_issuer_starts_names_one_card() -> None:
    async def script(world: World) -> None:
        message = world.issuers["alpha"].list_card(VISA.pan, "add")
        assert await ruled(world, changed(message, de35=TRACK)) == ("30", "more_than_one_card")

    in_world(script)


def test_a_track_beside_a_surrogate_leaves_for_nobody() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        answer = await told(world, purchase(de2=surrogate(world), de35=f"{VISA.pan}=30122011234567890"))
        assert answer is not None and answer.elements[39] == "30"
        assert messages == []
        assert (await told(world, purchase("000002", at=NOW + timedelta(seconds=1), de2=surrogate(world)))) is not None
        assert len(messages) == 1

    in_world(script)


def test_one_card_in_every_place_is_taken() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        track = f"{VISA.pan}=30122011234567890"
        chip = f"5711{VISA.pan}D301220112345678905A08{VISA.pan}5F2403301231"
        answer = await told(world, purchase(de35=track, de45=f"B{VISA.pan}^DOE/JANE^3012201", de55=chip), "pos")
        assert answer is not None and answer.elements[39] == "00"
        assert (messages[0].elements[35], messages[0].elements[55]) == (track, chip)

    in_world(script)


@pytest.mark.parametrize(
    ("mti", "code"), [("0200", "000000"), ("0200", "310000"), ("0100", "310000"), ("0100", "330000")]
)
def test_a_payment_is_routed_by_its_own_card_whatever_payment_it_names(mti: str, code: str) -> None:
    """DE 90 says what a refund or an increment changes. The card of a purchase, an inquiry or a verification must not
    leave for the issuer of a payment that it names."""

    async def script(world: World) -> None:
        first = purchase("000001", de2=MASTERCARD.pan)
        paid = await told(world, first, "pos")
        assert paid is not None and paid.elements[39] == "00"
        alpha, beta = heard(world, "alpha"), heard(world, "beta")
        named = original_data("0200", "000001", first.elements[7], "10001")
        amount = "" if code != "000000" else "000000000700"
        answer = await told(world, purchase("000002", mti=mti, de3=code, de4=amount, de90=named), "pos")
        assert answer is not None and answer.elements[39] == "00"
        assert len(alpha) == 1 and beta == []
        assert world.journal._outcomes[2].original_id is None

    in_world(script)
