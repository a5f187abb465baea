"""Calls of each kind of key, and the members that a page sees with a publishable key."""

from __future__ import annotations

from typing import Any

import pytest
import stripe
from starlette.routing import Route

from gateway.app import CALLS, build_app
from gateway.client_view import MEMBERS, client_view, secret_fits
from tests.gateway.conftest import Gateway
from web.config import HttpConfig

INTENTS = "/v1/payment_intents"
SERVER, PAGE, ANYBODY = {"secret"}, {"secret", "publishable"}, {"secret", "publishable", "none"}

# Every call of the API and the kinds of keys that may make it. A new route fails until it is listed here, too.
ALLOWED: dict[tuple[str, str], set[str]] = {
    ("POST", INTENTS): SERVER,
    ("POST", f"{INTENTS}/{{id}}"): SERVER,
    ("POST", f"{INTENTS}/{{id}}/confirm"): SERVER,
    ("POST", f"{INTENTS}/{{id}}/capture"): SERVER,
    ("POST", f"{INTENTS}/{{id}}/cancel"): SERVER,
    ("GET", INTENTS): SERVER,
    ("GET", f"{INTENTS}/{{id}}"): PAGE,
    ("POST", "/v1/refunds"): SERVER,
    ("GET", "/v1/refunds"): SERVER,
    ("GET", "/v1/refunds/{id}"): SERVER,
    ("GET", "/v1/charges"): SERVER,
    ("GET", "/v1/charges/{id}"): SERVER,
    ("GET", "/v1/disputes"): SERVER,
    ("GET", "/v1/disputes/{id}"): SERVER,
    ("GET", "/v1/events"): SERVER,
    ("GET", "/v1/events/{id}"): SERVER,
    ("GET", "/v1/payment_methods/{id}"): SERVER,
    ("POST", "/v1/webhook_endpoints"): SERVER,
    ("GET", "/v1/webhook_endpoints"): SERVER,
    ("GET", "/v1/webhook_endpoints/{id}"): SERVER,
    ("DELETE", "/v1/webhook_endpoints/{id}"): SERVER,
    ("POST", "/v1/tokens"): ANYBODY,  # refused to all, with the address of the tokenizer
    ("POST", "/v1/payment_methods"): ANYBODY,
    ("GET", "/healthz"): ANYBODY,
    ("GET", "/readyz"): ANYBODY,
    ("GET", "/metrics"): ANYBODY,
}
# Members that Stripe's reference marks as retrievable with a publishable key, as far as this gateway has them.
SHOWN = {
    "id", "object", "amount", "automatic_payment_methods", "canceled_at", "cancellation_reason", "capture_method",
    "client_secret", "confirmation_method", "created", "currency", "description", "last_payment_error", "livemode",
    "next_action", "payment_method", "payment_method_types", "processing", "receipt_email", "setup_future_usage",
    "shipping", "status",
}  # fmt: skip


def test_every_route_has_a_decision_about_keys(gateway: Gateway) -> None:
    app = build_app(gateway_services())
    routes = {
        (method, route.path) for route in app.routes if isinstance(route, Route) for method in route.methods or ()
    }
    assert {route for route in routes if route[0] != "HEAD"} == ALLOWED.keys()
    assert {(call.method, call.path): set(call.keys) for call in CALLS} == {
        route: kinds for route, kinds in ALLOWED.items() if kinds != ANYBODY
    }


def gateway_services() -> Any:
    """As much of the services as routes need before a request comes."""

    class Nothing:
        config = type("Config", (), {"requests_per_s": 1.0, "max_requests": 1, "http": HttpConfig()})()

        def __getattr__(self, name: str) -> Any:
            return self

    return Nothing()


def test_each_call_is_open_to_the_kinds_of_keys_that_it_is_for(gateway: Gateway) -> None:
    keys = {"secret": gateway.secret_key, "publishable": gateway.publishable_key, "none": ""}
    for (method, path), kinds in ALLOWED.items():
        for kind, key in keys.items():
            headers = {"Authorization": f"Bearer {key}" if key else ""}
            answer = gateway.request(method, path.replace("{id}", "x"), headers=headers)
            wanted = {"publishable": 403, "none": 401}.get(kind, 0)
            refused = answer.status_code in (401, 403)
            assert refused is (kind not in kinds), (method, path, kind, answer.status_code)
            assert not refused or answer.status_code == wanted, (method, path, kind, answer.status_code)


def paid(gateway: Gateway, **more: Any) -> stripe.PaymentIntent:
    return gateway.stripe().v1.payment_intents.create(
        {
            "amount": 100,
            "currency": "eur",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "metadata": {"customer_of": "the merchant"},
            "statement_descriptor": "INTERNAL",
            **more,
        }  # type: ignore[arg-type]
    )


def as_page(gateway: Gateway, path: str, **params: str) -> Any:
    return gateway.get(path, params=params, headers={"Authorization": f"Bearer {gateway.publishable_key}"})


def test_a_page_sees_what_it_needs_of_its_payment_and_no_more(gateway: Gateway) -> None:
    intent = paid(gateway)
    answer = as_page(gateway, f"{INTENTS}/{intent.id}", client_secret=intent.client_secret or "")
    assert answer.json().keys() == SHOWN
    assert answer.json()["status"] == "succeeded"
    for hidden in ("the merchant", "INTERNAL", "fingerprint", "Xt5EWLLDS7FJjR1c", str(intent.latest_charge)):
        assert hidden not in answer.text, hidden
    with_server_key = gateway.get(f"{INTENTS}/{intent.id}", params={"client_secret": "wrong"})
    assert with_server_key.json()["metadata"] == {"customer_of": "the merchant"}, "servers see all"


def test_a_page_sees_of_a_decline_what_it_may_say(gateway: Gateway) -> None:
    gateway.switch.rule = lambda message: "51"
    with pytest.raises(stripe.CardError) as declined:
        paid(gateway)
    intent = declined.value.error.payment_intent  # type: ignore[union-attr]
    answer = as_page(gateway, f"{INTENTS}/{intent['id']}", client_secret=intent["client_secret"])
    error = answer.json()["last_payment_error"]
    assert error.keys() == {"type", "code", "decline_code", "message", "payment_method"}
    assert error["payment_method"].keys() == {"id", "object", "created", "livemode", "type", "card"}
    assert error["payment_method"]["card"].keys() == {
        "brand", "country", "exp_month", "exp_year", "funding", "last4",
    }  # fmt: skip
    assert "Xt5EWLLDS7FJjR1c" not in answer.text and "ch_" not in answer.text


@pytest.mark.parametrize("path", ["latest_charge", "payment_method", "customer", "latest_charge.payment_intent", "x"])
def test_a_page_expands_nothing(gateway: Gateway, path: str) -> None:
    intent = paid(gateway)
    answer = gateway.get(
        f"{INTENTS}/{intent.id}",
        params={"client_secret": intent.client_secret, "expand[]": path},
        headers={"Authorization": f"Bearer {gateway.publishable_key}"},
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "expand")
    assert "auth" not in answer.text and "fingerprint" not in answer.text


def test_a_wrong_client_secret_is_answered_like_an_intent_that_is_not_there(gateway: Gateway) -> None:
    intent, other = paid(gateway), paid(gateway)
    answers = [
        as_page(gateway, f"{INTENTS}/{intent.id}"),
        as_page(gateway, f"{INTENTS}/{intent.id}", client_secret=""),
        as_page(gateway, f"{INTENTS}/{intent.id}", client_secret="wrong"),
        as_page(gateway, f"{INTENTS}/{intent.id}", client_secret="None"),
        as_page(gateway, f"{INTENTS}/{intent.id}", client_secret=(intent.client_secret or "")[:-1]),
        as_page(gateway, f"{INTENTS}/{intent.id}", client_secret=other.client_secret or ""),
        as_page(gateway, f"{INTENTS}/pi_nothing"),
        as_page(gateway, f"{INTENTS}/pi_nothing", client_secret=intent.client_secret or ""),
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1


def test_a_member_that_nobody_decided_about_is_not_shown() -> None:
    assert client_view({"object": "payment_intent", "id": "pi_1", "new": "x"}) == {
        "id": "pi_1",
        "object": "payment_intent",
    }
    for kind in ("charge", "event", "refund", "dispute", "webhook_endpoint", "payment_method"):
        assert kind not in MEMBERS
        with pytest.raises(KeyError):
            client_view({"object": kind})


def test_no_secret_fits_an_object_without_one() -> None:
    assert not secret_fits(None, None)
    assert not secret_fits(None, "")
    assert not secret_fits({"id": "x"}, "None")
    assert not secret_fits({"client_secret": ""}, "")
    assert secret_fits({"client_secret": "a"}, "a")


def test_a_visitor_with_a_publishable_key_does_not_use_up_the_merchant_s_requests(gateway: Gateway) -> None:
    gateway.stop()
    gateway.start(requests_per_s=2.0)
    page = {"Authorization": f"Bearer {gateway.publishable_key}"}
    statuses = [gateway.get(f"{INTENTS}/pi_none", headers=page).status_code for _ in range(12)]
    assert 429 in statuses
    assert gateway.get(INTENTS).status_code == 200
