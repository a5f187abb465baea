"""Idempotency-Key: the stored answer for the same request, an error for another, a conflict while it runs."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import stripe

from tests.gateway.conftest import Gateway
from tests.gateway.fake_switch import SILENCE, FakeSwitch, eventually

PAY = {"amount": 1099, "currency": "eur", "payment_method": "pm_card_visa", "confirm": "true"}
KEY = {"Idempotency-Key": "order-1"}


def test_the_same_request_gets_the_stored_answer(gateway: Gateway, switch: FakeSwitch) -> None:
    first = gateway.post("/v1/payment_intents", PAY, headers=KEY)
    again = gateway.post("/v1/payment_intents", PAY, headers=KEY)
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.headers["Request-Id"] != again.headers["Request-Id"]
    assert switch.mtis() == ["0200"]


def test_a_decline_is_replayed_as_a_decline(gateway: Gateway, switch: FakeSwitch) -> None:
    switch.rule = lambda _: "51"
    first = gateway.post("/v1/payment_intents", PAY, headers=KEY)
    switch.rule = lambda _: "00"
    again = gateway.post("/v1/payment_intents", PAY, headers=KEY)
    assert (first.status_code, again.status_code, first.content) == (402, 402, again.content)
    assert switch.mtis() == ["0200"]


def test_other_parameters_or_another_address_are_an_error(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create({"amount": 100, "currency": "eur"}, {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError) as refused:
        client.v1.payment_intents.create({"amount": 200, "currency": "eur"}, {"idempotency_key": "k"})
    assert refused.value.http_status == 400
    with pytest.raises(stripe.IdempotencyError):
        client.v1.payment_intents.cancel(intent.id, None, {"idempotency_key": "k"})
    assert len(client.v1.payment_intents.list().data) == 1


def test_form_and_json_of_the_same_parameters_are_told_apart_by_value_only(gateway: Gateway) -> None:
    params = {"description": "x", "currency": "eur", "amount": "100"}
    first = gateway.post("/v1/payment_intents", params, headers=KEY)
    again = gateway.request("POST", "/v1/payment_intents", json=dict(reversed(params.items())), headers=KEY)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.content == again.content


def test_two_at_once_are_a_conflict(gateway: Gateway, switch: FakeSwitch) -> None:
    gateway.stop()
    gateway.start(answer_timeout_s=2.0, claim_s=30.0)
    gateway.wait_ready()
    switch.rule = lambda _: SILENCE
    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(gateway.post("/v1/payment_intents", PAY, headers=KEY)))
    first.start()
    [sent] = eventually(lambda: [message for message in switch.received if message.mti == "0200"])
    conflict = gateway.post("/v1/payment_intents", PAY, headers=KEY)
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "idempotency_key_in_use")
    switch.rule = lambda _: "00"
    first.join(10)
    assert answers[0].json()["status"] == "succeeded"
    replayed = gateway.post("/v1/payment_intents", PAY, headers=KEY)
    assert replayed.content == answers[0].content
    assert switch.mtis() == ["0200", "0201"]
    assert sent.elements[4] == "000000001099"


def test_many_at_once_make_one_payment(gateway: Gateway, switch: FakeSwitch) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: statuses.append(gateway.post("/v1/payment_intents", PAY, headers=KEY).status_code)
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert set(statuses) <= {200, 409}
    assert 200 in statuses
    assert switch.mtis() == ["0200"]


def test_a_request_that_was_never_valid_leaves_no_key(gateway: Gateway) -> None:
    assert gateway.post("/v1/payment_intents", {"amount": "x"}, headers=KEY).status_code == 400
    assert gateway.post("/v1/payment_intents", PAY, headers=KEY).status_code == 200


def test_keys_of_two_accounts_are_two(gateway: Gateway) -> None:
    assert gateway.post("/v1/payment_intents", PAY, headers={"Idempotency-Key": "x" * 256}).status_code == 400
    assert gateway.post("/v1/payment_intents", PAY, headers={"Idempotency-Key": ""}).status_code == 400
