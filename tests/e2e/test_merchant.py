"""The official `stripe` package against the real processes, from token to dispute; the books agree each time."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any
from uuid import uuid4

import pytest
import stripe

from ledger.book import LedgerLine
from simulators.control import ask
from tests.e2e.merchant import Merchant, Sink, listening, trace_id_of
from tests.e2e.shop import Shop

pytestmark = pytest.mark.xdist_group("e2e")

VISA = "4242424242424242"
MASTERCARD = "5555555555554444"
POOR = "4000000000009995"


def journal_of(shop: Shop, answer: stripe.StripeObject) -> list[tuple[str, str, int]]:
    """(kind, response code, amount) of what one API call has put into the journal."""
    rows = shop.sql(
        """SELECT i.kind, o.response_code, i.amount_minor FROM ledger.intents i
             JOIN ledger.outcomes o ON o.intent_id = i.id WHERE i.trace_id = $1 ORDER BY i.id""",
        trace_id_of(answer),
    )
    return [(row["kind"], row["response_code"], row["amount_minor"]) for row in rows]


def line_of(shop: Shop, answer: stripe.StripeObject) -> LedgerLine:
    """The ledger's line of the payment that an API call has made."""
    rows = shop.sql(
        "SELECT key FROM ledger.intents WHERE trace_id = $1 AND kind IN ('authorization', 'purchase')",
        trace_id_of(answer),
    )
    assert len(rows) == 1
    return next(line for line in shop.book() if line.key == rows[0]["key"])


def network_key_of(shop: Shop, answer: stripe.StripeObject) -> str:
    """The issuer's name of the payment."""
    return line_of(shop, answer).network_key


def standing(shop: Shop, answer: stripe.StripeObject) -> tuple[int, int]:
    """(held, posted) in the ledger of the payment that an API call has made, minor units."""
    line = line_of(shop, answer)
    return line.held_minor, line.posted_minor


@pytest.mark.parametrize("pan", [VISA, MASTERCARD], ids=["ascii issuer", "bcd issuer"])
def test_create_then_confirm(shop: Shop, merchant: Merchant, pan: str) -> None:
    intents = merchant.stripe.v1.payment_intents
    intent = intents.create({"amount": 2_001, "currency": "eur", "metadata": {"order": "6735"}})
    assert intent.status == "requires_payment_method"
    confirmed = intents.confirm(intent.id, {"payment_method": merchant.token(pan, "payment_methods")})
    assert (confirmed.status, confirmed.amount_received) == ("succeeded", 2_001)
    assert journal_of(shop, confirmed) == [("purchase", "00", 2_001)]
    again = intents.retrieve(intent.id, {"expand": ["latest_charge"]})
    assert again.metadata["order"] == "6735"
    assert again.latest_charge.payment_method_details.card.last4 == pan[-4:]  # type: ignore[union-attr]
    assert intents.list({"limit": 1}).data[0].id == intent.id
    shop.agree()


def test_manual_capture_and_a_partial_refund(shop: Shop, merchant: Merchant) -> None:
    held = merchant.pay(MASTERCARD, 10_000, capture_method="manual")
    assert (held.status, held.amount_capturable) == ("requires_capture", 10_000)
    assert standing(shop, held) == (10_000, 0)
    captured = merchant.stripe.v1.payment_intents.capture(held.id, {"amount_to_capture": 8_000})
    assert (captured.status, captured.amount_received) == ("succeeded", 8_000)
    assert standing(shop, held) == (0, 8_000)
    refund = merchant.stripe.v1.refunds.create({"payment_intent": held.id, "amount": 2_500})
    assert (refund.status, refund.amount) == ("succeeded", 2_500)
    assert journal_of(shop, refund) == [("refund", "00", 2_500)]
    with pytest.raises(stripe.InvalidRequestError):
        merchant.stripe.v1.refunds.create({"payment_intent": held.id, "amount": 5_501})
    shop.agree()


def test_cancelling_gives_the_hold_back(shop: Shop, merchant: Merchant) -> None:
    held = merchant.pay(VISA, 3_300, capture_method="manual")
    cancelled = merchant.stripe.v1.payment_intents.cancel(held.id)
    assert cancelled.status == "canceled"
    assert standing(shop, held) == (0, 0)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        merchant.stripe.v1.payment_intents.capture(held.id)
    assert refused.value.code == "payment_intent_unexpected_state"
    shop.agree()


def test_insufficient_funds_is_402_and_books_nothing(shop: Shop, merchant: Merchant) -> None:
    with pytest.raises(stripe.CardError) as declined:
        merchant.pay(POOR, 90_000)
    error = declined.value
    assert (error.http_status, error.code) == (402, "card_declined")
    assert error.error is not None and error.error.decline_code == "insufficient_funds"
    assert error.request_id is not None
    [row] = shop.sql(
        """SELECT o.response_code, (SELECT count(*) FROM ledger.postings p WHERE p.intent_id = i.id) AS lines
             FROM ledger.intents i JOIN ledger.outcomes o ON o.intent_id = i.id WHERE i.trace_id = $1""",
        error.request_id.removeprefix("req_"),
    )
    assert (row["response_code"], row["lines"]) == ("51", 0)
    shop.agree()


def test_an_idempotency_key_makes_one_charge(shop: Shop, merchant: Merchant) -> None:
    body: Any = {"amount": 4_004, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
    options: Any = {"idempotency_key": f"order-{uuid4().hex[:8]}"}
    first = merchant.stripe.v1.payment_intents.create(body, options)
    again = merchant.stripe.v1.payment_intents.create(body, options)
    assert again.id == first.id
    assert again.last_response is not None and again.last_response.headers["Idempotent-Replayed"] == "true"
    assert journal_of(shop, first) == [("purchase", "00", 4_004)]
    assert journal_of(shop, again) == []
    other: Any = {**body, "amount": 4_005}
    with pytest.raises(stripe.IdempotencyError):
        merchant.stripe.v1.payment_intents.create(other, options)
    shop.agree()


def test_card_data_is_refused_with_the_address_where_it_belongs(shop: Shop, merchant: Merchant) -> None:
    card: Any = {"number": VISA, "exp_month": 12, "exp_year": 2031, "cvc": "123"}
    pay: Any = {"amount": 100, "currency": "eur", "payment_method_data": {"type": "card", "card": card}}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        merchant.stripe.v1.payment_intents.create(pay)
    assert (refused.value.http_status, refused.value.code) == (400, "card_data_not_allowed")
    assert f"{merchant.tokenizer}/v1/tokens" in str(refused.value)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        merchant.stripe.v1.tokens.create({"card": card})
    assert f"{merchant.tokenizer}/v1/tokens" in str(refused.value)


def test_a_token_is_used_up_by_one_payment(shop: Shop, merchant: Merchant) -> None:
    token = merchant.token(VISA)
    pay: Any = {
        "amount": 500,
        "currency": "eur",
        "payment_method_data": {"type": "card", "card": {"token": token}},
        "confirm": True,
    }
    assert merchant.stripe.v1.payment_intents.create(pay).status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        merchant.stripe.v1.payment_intents.create(pay)
    assert refused.value.code == "token_already_used"
    shop.agree()


def test_what_the_api_does_not_know_is_said(merchant: Merchant) -> None:
    wrong: Any = {"amount": 100, "currency": "eur", "confrim": True}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        merchant.stripe.v1.payment_intents.create(wrong)
    assert (refused.value.code, refused.value.param) == ("parameter_unknown", "confrim")
    stranger = merchant.client("sk_test_unknown")
    with pytest.raises(stripe.AuthenticationError):
        stranger.v1.payment_intents.list()


def test_events_tell_what_happened_in_order(merchant: Merchant) -> None:
    held = merchant.pay(MASTERCARD, 600, capture_method="manual")
    merchant.stripe.v1.payment_intents.capture(held.id)
    events = [
        event
        for event in merchant.stripe.v1.events.list({"limit": 50}).data
        if getattr(event.data.object, "id", None) == held.id
    ]
    assert [event.type for event in reversed(events)] == [
        "payment_intent.created",
        "payment_intent.amount_capturable_updated",
        "payment_intent.succeeded",
    ]


def test_a_signed_webhook_comes_again_after_a_500(merchant: Merchant) -> None:
    sink = Sink(500, 200)
    with listening(sink) as url:
        endpoint = merchant.stripe.v1.webhook_endpoints.create(
            {"url": url, "enabled_events": ["payment_intent.succeeded"]}
        )
        try:
            intent = merchant.pay(VISA, 700)
            calls = sink.wait_for(2)
        finally:
            merchant.stripe.v1.webhook_endpoints.delete(endpoint.id)
    assert [status for status, _, _ in calls] == [500, 200]
    events = [stripe.Webhook.construct_event(body, header, endpoint.secret) for _, header, body in calls]
    assert {event.id for event in events} == {events[0].id}
    assert events[1].data.object["id"] == intent.id
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(calls[1][2].replace(b"700", b"900"), calls[1][1], endpoint.secret)


def test_a_chargeback_becomes_a_dispute_and_the_books_agree(shop: Shop, merchant: Merchant) -> None:
    sink = Sink()
    with listening(sink) as url:
        endpoint = merchant.stripe.v1.webhook_endpoints.create(
            {"url": url, "enabled_events": ["charge.dispute.created"]}
        )
        try:
            intent = merchant.pay(MASTERCARD, 7_500)
            ask(shop.system.control_socket("beta"), "chargeback", reference=network_key_of(shop, intent))
            [(_, header, body)] = sink.wait_for(1)
        finally:
            merchant.stripe.v1.webhook_endpoints.delete(endpoint.id)
    event = stripe.Webhook.construct_event(body, header, endpoint.secret)
    dispute = event.data.object
    assert (dispute["amount"], dispute["currency"], dispute["payment_intent"]) == (7_500, "eur", intent.id)
    assert merchant.stripe.v1.disputes.retrieve(dispute["id"]).status == "needs_response"
    assert standing(shop, intent) == (0, 0)
    shop.agree()


def test_a_silent_issuer_is_an_error_and_the_hold_is_reversed(shop: Shop, merchant: Merchant) -> None:
    shop.fault("alpha", kind="silence", name="dead to merchants", amount_minor=8_008, count=1)
    with pytest.raises(stripe.CardError) as declined:
        merchant.pay(VISA, 8_008)
    assert declined.value.http_status == 402
    shop.agree(timeout_s=20)


def test_a_gateway_that_dies_in_the_middle_finishes_what_it_began(shop: Shop, merchant: Merchant) -> None:
    shop.fault("beta", kind="delay", name="slow to merchants", amount_minor=9_009, delay_s=0.6, count=1)
    pid = shop.system.pid("gateway")
    key = f"order-{uuid4().hex[:8]}"
    body: Any = {"amount": 9_009, "currency": "eur", "payment_method": "pm_card_mastercard", "confirm": True}
    killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(stripe.APIConnectionError):
        merchant.stripe.v1.payment_intents.create(body, {"idempotency_key": key})
    killer.join()
    shop.system.wait_child("gateway", other_than=pid)
    deadline = time.monotonic() + 20
    while True:
        try:
            intent = merchant.stripe.v1.payment_intents.create(body, {"idempotency_key": key})
            if intent.status == "succeeded":
                break
        except (stripe.APIError, stripe.APIConnectionError, stripe.IdempotencyError) as error:
            assert time.monotonic() < deadline, error
        assert time.monotonic() < deadline
        time.sleep(0.2)
    rows = shop.sql(
        "SELECT count(*) AS n FROM ledger.intents WHERE amount_minor = 9009 AND kind = 'purchase' AND link = 'gateway'"
    )
    assert rows[0]["n"] == 1
    shop.agree(timeout_s=20)
