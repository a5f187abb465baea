"""Events and their webhooks: signed as the official package verifies, repeated until taken, never redirected."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable

import asyncpg
import pytest
import stripe

from gateway import keys
from gateway.config import GatewayConfig
from gateway.delivery import pause_s
from tests.gateway.conftest import Gateway
from tests.gateway.fake_switch import FakeSwitch, eventually
from tests.gateway.stubs import Sink

PAY = {"amount": 1099, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
MakeSink = Callable[..., Sink]


def test_a_webhook_is_signed_and_verifies(gateway: Gateway, sink: MakeSink) -> None:
    receiver = sink()
    client = gateway.stripe()
    endpoint = client.v1.webhook_endpoints.create(
        {"url": receiver.url + "/hook", "enabled_events": ["payment_intent.succeeded"], "description": "shop"}
    )
    intent = client.v1.payment_intents.create(PAY)
    [(path, headers, body)] = eventually(lambda: receiver.calls)
    event = stripe.Webhook.construct_event(body, headers["stripe-signature"], endpoint.secret)
    assert (path, event.type, event.data.object.id) == ("/hook", "payment_intent.succeeded", intent.id)
    assert event.data.object.status == "succeeded"
    assert client.v1.events.retrieve(event.id).type == "payment_intent.succeeded"
    for wrong in (body.replace(b"1099", b"9999"), body + b" "):
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(wrong, headers["stripe-signature"], endpoint.secret)


def test_a_webhook_that_fails_is_sent_again(gateway: Gateway, sink: MakeSink) -> None:
    receiver = sink(500, 302, 200)
    client = gateway.stripe()
    client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["payment_intent.canceled"]})
    intent = client.v1.payment_intents.create({"amount": 100, "currency": "eur"})
    client.v1.payment_intents.cancel(intent.id)
    eventually(lambda: _states(gateway) == [("delivered", 3, "200")])
    assert [path for path, _, _ in receiver.calls] == ["/", "/", "/"], "a redirect must not be followed"
    assert len({json.loads(body)["id"] for _, _, body in receiver.calls}) == 1


def test_a_webhook_is_given_up_after_the_last_try(gateway: Gateway, sink: MakeSink) -> None:
    receiver = sink(500)
    client = gateway.stripe()
    client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    client.v1.payment_intents.create({"amount": 100, "currency": "eur"})
    eventually(lambda: _states(gateway) == [("failed", 3, "500")])
    assert len(receiver.calls) == 3


def test_a_webhook_waits_for_the_process_to_come_back(gateway: Gateway, sink: MakeSink) -> None:
    receiver = sink(500, 200)
    client = gateway.stripe()
    client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    client.v1.payment_intents.create({"amount": 100, "currency": "eur"})
    eventually(lambda: receiver.calls)
    gateway.stop()
    gateway.start()
    eventually(lambda: _states(gateway) == [("delivered", 2, "200")])


def test_a_deleted_endpoint_gets_nothing_more(gateway: Gateway, sink: MakeSink) -> None:
    receiver = sink()
    client = gateway.stripe()
    endpoint = client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    assert [item.id for item in client.v1.webhook_endpoints.list()] == [endpoint.id]
    assert not hasattr(client.v1.webhook_endpoints.retrieve(endpoint.id), "secret")
    assert client.v1.webhook_endpoints.delete(endpoint.id).deleted is True
    client.v1.payment_intents.create({"amount": 100, "currency": "eur"})
    assert _states(gateway) == []
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.webhook_endpoints.retrieve(endpoint.id)
    assert refused.value.http_status == 404


def test_only_plain_web_addresses_are_taken(gateway: Gateway) -> None:
    for url in ("ftp://shop.example/", "file:///etc/passwd", "shop.example", "http://u:p@shop.example/", "http://"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            gateway.stripe().v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})
        assert (refused.value.param, refused.value.code) == ("url", "url_invalid")


def test_events_tell_the_story_in_order(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create({**PAY, "capture_method": "manual"})
    client.v1.payment_intents.capture(intent.id, {"amount_to_capture": 1000})
    client.v1.refunds.create({"payment_intent": intent.id})
    switch.rule = lambda _: "05"
    with pytest.raises(stripe.CardError):
        client.v1.payment_intents.create(PAY)
    told = [event.type for event in client.v1.events.list({"limit": 100})][::-1]
    assert told == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
        "refund.created",
        "charge.refunded",
        "refund.updated",
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
    ]
    assert len(client.v1.events.list({"type": "charge.*"}).data) == 4
    assert len(client.v1.events.list({"types": ["refund.created", "refund.updated"]}).data) == 2


def test_pauses_double_up_to_the_cap() -> None:
    config = GatewayConfig(webhook_backoff_s=2.0, webhook_cap_s=60.0)
    for tries, full in ((1, 2), (2, 4), (5, 32), (6, 60), (1000, 60)):
        assert 0.75 * full <= pause_s(tries, config) <= full


def _states(gateway: Gateway) -> list[tuple[str, int, str]]:
    rows = gateway.rows("SELECT state, tries, last_result FROM gateway.deliveries ORDER BY id")
    return [(row["state"], row["tries"], row["last_result"]) for row in rows]


def test_tarpits_of_one_merchant_do_not_hold_up_another_s_webhooks(idle_gateway: Gateway, sink: MakeSink) -> None:
    """Sixteen receivers that accept and never answer, as many as an account may have, each with deliveries waiting."""
    with contextlib.ExitStack() as stack:
        tarpits = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64)) for _ in range(16)]
        idle_gateway.start(webhook_timeout_s=30.0)
        idle_gateway.wait_ready()
        client = idle_gateway.stripe()
        for tarpit in tarpits:
            url = f"http://127.0.0.1:{tarpit.getsockname()[1]}/"
            client.v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})
        for _ in range(3):
            client.v1.payment_intents.create({"amount": 100, "currency": "eur"})
        eventually(lambda: idle_gateway.rows("SELECT 1 FROM gateway.deliveries WHERE tries > 0"))

        async def other() -> str:
            connection = await asyncpg.connect(idle_gateway.dsn)
            try:
                await keys.ensure_account(connection, "OTHER", "Other", city="Bonn", country="DE", mcc="5814")
                return (await keys.create_key(connection, "OTHER")).key
            finally:
                await connection.close()

        theirs, receiver = idle_gateway.stripe(asyncio.run(other())), sink()
        theirs.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
        for _ in range(5):
            theirs.v1.payment_intents.create({"amount": 100, "currency": "eur"})
        eventually(lambda: len(receiver.calls) == 5, timeout_s=10.0)
        held = idle_gateway.rows("SELECT count(*) AS n FROM gateway.deliveries WHERE tries > 0 AND state = 'waiting'")
        assert held[0]["n"] == idle_gateway.config.deliveries_per_account
        idle_gateway.stop()
