"""The official `stripe` package and plain HTTP against a running gateway: payments from creation to refund."""

from __future__ import annotations

import pytest
import stripe

from messages.codec import Codec
from messages.dialect import load_dialect
from messages.exchange import original_data
from messages.message import Message
from tests.gateway.conftest import Gateway
from tests.gateway.fake_switch import FakeSwitch

PAY = {"amount": 1099, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}


def test_automatic_capture_is_one_purchase(gateway: Gateway, switch: FakeSwitch) -> None:
    intent = gateway.stripe().v1.payment_intents.create(
        {**PAY, "description": "Book", "metadata": {"order": "6735"}, "expand": ["latest_charge"]}
    )
    assert (intent.status, intent.amount_received, intent.metadata["order"]) == ("succeeded", 1099, "6735")
    charge = intent.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert (charge.captured, charge.paid, charge.amount_captured, charge.description) == (True, True, 1099, "Book")
    assert charge.payment_method_details.card.last4 == "4242"
    assert switch.mtis() == ["0200"]
    sent = switch.only("0200").elements
    assert (sent[2], sent[3], sent[4], sent[49]) == ("9900000000000042", "000000", "000000001099", "978")
    assert (sent[14], sent[18], sent[22], sent[32]) == ("3012", "5814", "812", "400001")
    assert sent[42].strip() == "DEMOSHOP"
    assert sent[43] == "Cafe Deja-vu" + " " * 13 + "Koln" + " " * 9 + "DE"
    assert len(sent[37]) == 12 and sent[37].endswith(sent[11])


def test_authorize_then_capture(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create({**PAY, "capture_method": "manual"})
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("requires_capture", 1099, 0)
    intent = client.v1.payment_intents.capture(intent.id)
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("succeeded", 0, 1099)
    assert switch.mtis() == ["0100", "0220"]
    first, second = switch.only("0100").elements, switch.only("0220").elements
    assert second[90] == original_data("0100", first[11], first[7], "400001")
    assert (second[4], second[60], second[38], second[37]) == ("000000001099", "F", "A1B2C3", first[37])
    assert second[11] != first[11]


def test_partial_captures_leave_the_rest_open_until_the_final_one(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create({**PAY, "capture_method": "manual"})
    part = client.v1.payment_intents.capture(intent.id, {"amount_to_capture": 500, "final_capture": False})
    assert (part.status, part.amount_capturable, part.amount_received) == ("requires_capture", 599, 500)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.capture(intent.id, {"amount_to_capture": 600})
    assert (refused.value.param, refused.value.code) == ("amount_to_capture", "amount_too_large")
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_intents.cancel(intent.id)
    done = client.v1.payment_intents.capture(intent.id, {"amount_to_capture": 99})
    assert (done.status, done.amount_capturable, done.amount_received) == ("succeeded", 0, 599)
    assert [message.elements[60] for message in switch.received if message.mti == "0220"] == ["P", "F"]


def test_create_then_update_then_confirm(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create(
        {
            "amount": 500,
            "currency": "usd",
            "automatic_payment_methods": {"enabled": True},
            "metadata": {"a": "1", "b": "2"},
        }
    )
    assert intent.status == "requires_payment_method"
    assert intent.automatic_payment_methods.enabled is True
    intent = client.v1.payment_intents.update(intent.id, {"amount": 700, "metadata": {"a": "", "c": "3"}})
    assert (intent.amount, intent.metadata.to_dict()) == (700, {"b": "2", "c": "3"})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.confirm(intent.id)
    assert refused.value.code == "payment_intent_unexpected_state"
    intent = client.v1.payment_intents.confirm(
        intent.id,
        {
            "payment_method_data": {"type": "card", "card": {"token": "tok_visa"}, "billing_details": {"name": "Ada"}},
            "return_url": "https://shop.example/return",
            "expand": ["latest_charge.payment_intent", "payment_method"],
        },
    )
    assert intent.status == "succeeded"
    assert intent.latest_charge.billing_details.name == "Ada"
    assert intent.latest_charge.payment_intent.id == intent.id
    assert intent.payment_method.card.brand == "visa"
    assert switch.only("0200").elements[4] == "000000000700"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.update(intent.id, {"amount": 1})
    assert refused.value.code == "payment_intent_unexpected_state"


def test_decline_is_a_card_error_and_the_intent_can_be_tried_again(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    switch.rule = lambda _: "51"
    with pytest.raises(stripe.CardError) as declined:
        client.v1.payment_intents.create(PAY)
    error = declined.value
    assert (error.http_status, error.code, error.error.decline_code) == (402, "card_declined", "insufficient_funds")
    assert error.error.payment_intent.status == "requires_payment_method"
    assert error.error.payment_method.card.last4 == "4242"
    intent = client.v1.payment_intents.retrieve(error.error.payment_intent.id)
    assert intent.last_payment_error.decline_code == "insufficient_funds"
    assert intent.payment_method is None
    failed = client.v1.charges.retrieve(intent.latest_charge)
    assert (failed.status, failed.paid, failed.failure_code) == ("failed", False, "card_declined")
    assert failed.outcome.type == "issuer_declined"
    switch.rule = lambda _: "00"
    again = client.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    assert (again.status, again.last_payment_error) == ("succeeded", None)
    assert again.latest_charge != failed.id


def test_cancel_reverses_a_hold(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create({**PAY, "capture_method": "manual"})
    intent = client.v1.payment_intents.cancel(intent.id, {"cancellation_reason": "abandoned"})
    assert (intent.status, intent.cancellation_reason, intent.amount_capturable) == ("canceled", "abandoned", 0)
    assert intent.canceled_at is not None
    first, second = switch.only("0100").elements, switch.only("0400").elements
    assert second[90] == original_data("0100", first[11], first[7], "400001")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.capture(intent.id)
    assert refused.value.code == "payment_intent_unexpected_state"


def test_cancel_before_confirmation_sends_nothing(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create({"amount": 500, "currency": "usd", "payment_method": "pm_card_visa"})
    assert intent.status == "requires_confirmation"
    assert client.v1.payment_intents.cancel(intent.id).status == "canceled"
    assert switch.mtis() == []


@pytest.mark.parametrize(("action", "code"), [("capture", "25"), ("cancel", "12")])
def test_a_refused_capture_or_cancellation_leaves_the_hold(
    gateway: Gateway, switch: FakeSwitch, action: str, code: str
) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create({**PAY, "capture_method": "manual"})
    switch.rule = lambda _: code
    with pytest.raises(stripe.InvalidRequestError) as refused:
        getattr(client.v1.payment_intents, action)(intent.id)
    assert code in str(refused.value)
    now = client.v1.payment_intents.retrieve(intent.id)
    assert (now.status, now.amount_capturable, now.canceled_at) == ("requires_capture", 1099, None)


def test_refunds_in_parts_and_never_more_than_captured(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create(PAY)
    refund = client.v1.refunds.create(
        {"payment_intent": intent.id, "amount": 400, "reason": "requested_by_customer", "expand": ["charge"]}
    )
    assert (refund.status, refund.amount, refund.charge.amount_refunded) == ("succeeded", 400, 400)
    assert refund.charge.refunded is False
    sent = [message.elements for message in switch.received if message.mti == "0200"]
    assert sent[1][3] == "200000"
    assert sent[1][90] == original_data("0200", sent[0][11], sent[0][7], "400001")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"payment_intent": intent.id, "amount": 700})
    assert (refused.value.param, refused.value.code) == ("amount", "amount_too_large")
    rest = client.v1.refunds.create({"charge": intent.latest_charge})
    assert rest.amount == 699
    assert client.v1.charges.retrieve(intent.latest_charge).refunded is True
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": intent.latest_charge})
    assert refused.value.code == "charge_already_refunded"
    assert [item.id for item in client.v1.refunds.list({"charge": intent.latest_charge})] == [rest.id, refund.id]
    assert client.v1.refunds.retrieve(refund.id).reason == "requested_by_customer"


def test_a_refused_refund_fails_and_can_be_made_again(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create(PAY)
    switch.rule = lambda _: "05"
    refund = client.v1.refunds.create({"payment_intent": intent.id})
    assert (refund.status, refund.failure_reason) == ("failed", "declined")
    switch.rule = lambda _: "00"
    assert client.v1.refunds.create({"payment_intent": intent.id}).amount == 1099


def test_an_authorized_payment_cannot_be_refunded(gateway: Gateway) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create({**PAY, "capture_method": "manual"})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"payment_intent": intent.id})
    assert refused.value.code == "charge_not_refundable"


def test_lists_are_paged_newest_first(gateway: Gateway) -> None:
    client = gateway.stripe()
    made = [client.v1.payment_intents.create({"amount": 100 + n, "currency": "usd"}).id for n in range(5)]
    newest = made[::-1]
    first = client.v1.payment_intents.list({"limit": 2})
    assert ([item.id for item in first], first.has_more, first.url) == (newest[:2], True, "/v1/payment_intents")
    assert [item.id for item in first.auto_paging_iter()] == newest
    after = client.v1.payment_intents.list({"limit": 3, "starting_after": newest[1]})
    assert ([item.id for item in after], after.has_more) == (newest[2:], False)
    before = client.v1.payment_intents.list({"limit": 2, "ending_before": newest[3]})
    assert ([item.id for item in before], before.has_more) == (newest[1:3], True)
    created = client.v1.payment_intents.retrieve(made[0]).created
    assert len(client.v1.payment_intents.list({"created": {"gte": created}}).data) == 5
    assert client.v1.payment_intents.list({"created": {"lt": created}}).data == []
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.list({"starting_after": "pi_nothing"})
    assert refused.value.param == "starting_after"


def test_lists_expand_and_filter(gateway: Gateway) -> None:
    client = gateway.stripe()
    paid = client.v1.payment_intents.create(PAY)
    client.v1.payment_intents.create(PAY)
    [charge] = client.v1.charges.list({"payment_intent": paid.id, "expand": ["data.payment_intent"]}).data
    assert charge.payment_intent.id == paid.id
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.charges.list({"expand": ["data.amount"]})
    assert refused.value.param == "expand"


def test_json_bodies(gateway: Gateway, switch: FakeSwitch) -> None:
    answer = gateway.request(
        "POST", "/v1/payment_intents", json={**PAY, "metadata": {"count": 3}, "expand": ["latest_charge"]}
    )
    assert answer.status_code == 200
    assert answer.json()["metadata"] == {"count": "3"}
    assert answer.json()["latest_charge"]["paid"] is True
    for body in (b"{", b"[]", b'{"a":' * 2000):
        answer = gateway.request(
            "POST", "/v1/payment_intents", content=body, headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert switch.mtis() == ["0200"]


def test_accounts_do_not_see_each_other(gateway: Gateway) -> None:
    import asyncio

    import asyncpg

    from gateway import keys

    intent = gateway.stripe().v1.payment_intents.create(PAY)

    async def other() -> str:
        connection = await asyncpg.connect(gateway.dsn)
        try:
            await keys.ensure_account(connection, "OTHER", "Other")
            return (await keys.create_key(connection, "OTHER")).key
        finally:
            await connection.close()

    stranger = gateway.stripe(asyncio.run(other()))
    assert stranger.v1.payment_intents.list().data == []
    for call in (
        lambda: stranger.v1.payment_intents.retrieve(intent.id),
        lambda: stranger.v1.payment_intents.cancel(intent.id),
        lambda: stranger.v1.charges.retrieve(intent.latest_charge),
        lambda: stranger.v1.refunds.create({"charge": intent.latest_charge}),
        lambda: stranger.v1.refunds.create({"payment_intent": intent.id}),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            call()
        assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


class Forgetful(dict[tuple[str, ...], str]):
    """Answers that a switch does not keep: it has refused the MAC and booked nothing."""

    def __setitem__(self, key: tuple[str, ...], value: str) -> None:
        """Keep nothing."""


class Unproved:
    """The MAC of a link whose tests are elsewhere: none is made, and all are right."""

    async def sealed(self, message: Message) -> bytes:
        return Codec(load_dialect("iso87-ascii")).encode(message)

    async def problem(self, message: Message, frame: bytes) -> str:
        return ""


@pytest.mark.parametrize("mac", [True, False], ids=["MAC", "no MAC"])
def test_a_capture_whose_mac_the_switch_refuses_is_sent_again(
    idle_gateway: Gateway, switch: FakeSwitch, mac: bool
) -> None:
    """While a new key is in force at one end only. Without a MAC on the link 63 is an answer like any other."""
    idle_gateway.mac = Unproved() if mac else None
    idle_gateway.start()
    idle_gateway.wait_ready()
    client = idle_gateway.stripe()
    intent = client.v1.payment_intents.create({**PAY, "capture_method": "manual"})
    switch.answers = Forgetful()
    switch.rule = lambda message: "63" if len([mti for mti in switch.mtis() if mti[:3] == "022"]) < 3 else "00"
    if mac:
        assert client.v1.payment_intents.capture(intent.id).status == "succeeded"
        assert switch.mtis() == ["0100", "0220", "0221", "0221"]
    else:
        with pytest.raises(stripe.StripeError):
            client.v1.payment_intents.capture(intent.id)
        assert switch.mtis() == ["0100", "0220"]
