"""The API's edges: keys, card data, unknown and wrong parameters, limits, headers, what is kept of all that."""

from __future__ import annotations

import asyncio
import base64
import random
import socket
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
import stripe

from gateway import keys
from gateway.app import CALLS
from gateway.errors import GatewayError
from tests.gateway.conftest import Gateway
from tests.gateway.fake_switch import FakeSwitch, eventually

PAN = "4242424242424242"
PAY = {"amount": 1099, "currency": "eur", "payment_method": "pm_card_visa", "confirm": "true"}
INTENTS = "/v1/payment_intents"


def error(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    return found


def with_connection(gateway: Gateway, work: Any) -> Any:
    async def run() -> Any:
        connection = await asyncpg.connect(gateway.dsn)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_keys_by_bearer_and_by_basic(gateway: Gateway) -> None:
    basic = base64.b64encode(f"{gateway.secret_key}:".encode()).decode()
    for scheme in (f"Bearer {gateway.secret_key}", f"Basic {basic}", f"bearer {gateway.secret_key}"):
        assert gateway.get(INTENTS, headers={"Authorization": scheme}).status_code == 200
    long = "Basic " + "A" * 9000, "Bearer " + "x" * 300
    for scheme in ("", "Bearer", "Bearer sk_test_wrong", "Basic !", "Digest x", *long):
        answer = gateway.get(INTENTS, headers={"Authorization": scheme})
        assert (answer.status_code, error(answer)["type"]) == (401, "invalid_request_error"), scheme
        assert "www-authenticate" in answer.headers
    with pytest.raises(stripe.AuthenticationError):
        gateway.stripe("sk_test_wrong").v1.payment_intents.list()


def test_keys_are_stored_as_digests_and_end(gateway: Gateway) -> None:
    rows = gateway.rows("SELECT * FROM gateway.api_keys WHERE kind = 'secret'")
    assert gateway.secret_key not in str(rows)
    assert rows[0]["digest"] == keys.key_digest(gateway.secret_key)
    new = with_connection(gateway, lambda c: keys.rotate_key(c, rows[0]["id"], timedelta(hours=1)))
    for key in (gateway.secret_key, new.key):
        assert gateway.get(INTENTS, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    with_connection(gateway, lambda c: keys.revoke_key(c, rows[0]["id"]))
    assert gateway.get(INTENTS).status_code == 401
    assert gateway.get(INTENTS, headers={"Authorization": f"Bearer {new.key}"}).status_code == 200
    assert {row["hint"] for row in with_connection(gateway, keys.list_keys)} >= {new.key[-4:]}
    for work in (
        lambda c: keys.revoke_key(c, rows[0]["id"]),
        lambda c: keys.rotate_key(c, "key_nothing"),
        lambda c: keys.create_key(c, "NOBODY"),
    ):
        with pytest.raises(GatewayError):
            with_connection(gateway, work)


def test_publishable_keys_can_only_read_an_intent_by_its_secret(gateway: Gateway) -> None:
    intent = gateway.stripe().v1.payment_intents.create({"amount": 100, "currency": "eur"})
    browser = gateway.stripe(gateway.publishable_key)
    assert browser.v1.payment_intents.retrieve(intent.id, {"client_secret": intent.client_secret}).id == intent.id
    for params in ({}, {"client_secret": "wrong"}):
        with pytest.raises(stripe.InvalidRequestError):
            browser.v1.payment_intents.retrieve(intent.id, params)
    with pytest.raises(stripe.PermissionError):
        browser.v1.payment_intents.create({"amount": 100, "currency": "eur"})
    with pytest.raises(stripe.PermissionError):
        browser.v1.refunds.list()


NEW = {"amount": 1, "currency": "eur"}
WITH_CARD_DATA: list[tuple[str, dict[str, Any]]] = [
    (INTENTS, {**NEW, "payment_method_data[type]": "card", "payment_method_data[card][number]": PAN}),
    (INTENTS, {**NEW, "card[number]": "1", "card[cvc]": "123"}),
    (INTENTS, {**NEW, "description": f"card {PAN[:4]} {PAN[4:8]} {PAN[8:12]} {PAN[12:]}"}),
    (INTENTS, {**NEW, f"metadata[{PAN}]": "x"}),
    (INTENTS, {**NEW, "metadata[card]": PAN}),
    (INTENTS, {"amount": PAN, "currency": "eur"}),
    (f"{INTENTS}/{PAN}", {}),
    ("/v1/refunds", {"charge": PAN}),
    ("/v1/tokens", {"card[number]": PAN, "card[cvc]": "123"}),
    ("/v1/payment_methods", {"type": "card", "card[number]": PAN}),
]


def test_card_data_are_refused_and_the_endpoint_is_named(gateway: Gateway, capfd: pytest.CaptureFixture[str]) -> None:
    for path, params in WITH_CARD_DATA:
        answer = gateway.post(path, params, headers={"Idempotency-Key": "k"})
        found = error(answer)
        assert (answer.status_code, found["code"]) == (400, "card_data_not_allowed"), (path, params)
        assert f"{gateway.tokens.url}/v1/tokens" in found["message"]
        assert PAN not in answer.text
    gateway.stop()
    said = "".join(capfd.readouterr())
    assert INTENTS in said
    assert PAN not in said
    for table in ("idempotency", "payment_intents", "events", "attempts"):
        assert gateway.rows(f"SELECT * FROM gateway.{table}") == []


def test_card_data_in_a_query_or_a_key_are_refused(gateway: Gateway) -> None:
    assert error(gateway.get(f"{INTENTS}?starting_after={PAN}"))["code"] == "card_data_not_allowed"
    answer = gateway.post(INTENTS, PAY, headers={"Idempotency-Key": PAN})
    assert error(answer)["code"] == "card_data_not_allowed"
    assert gateway.rows("SELECT * FROM gateway.idempotency") == []


def test_card_data_as_json_and_by_the_official_client(gateway: Gateway) -> None:
    answer = gateway.request(
        "POST", INTENTS, json={**PAY, "payment_method_data": {"type": "card", "card": {"number": int(PAN)}}}
    )
    assert error(answer)["code"] == "card_data_not_allowed"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        gateway.stripe().v1.tokens.create(
            {"card": {"number": PAN, "exp_month": "12", "exp_year": "2030", "cvc": "123"}}
        )
    assert gateway.tokens.url in str(refused.value)


WRONG: list[tuple[dict[str, Any], str, str | None]] = [
    ({**PAY, "colour": "red"}, "colour", "parameter_unknown"),
    ({**PAY, "automatic_payment_methods[colour]": "red"}, "automatic_payment_methods[colour]", "parameter_unknown"),
    ({"currency": "eur"}, "amount", "parameter_missing"),
    ({"amount": "", "currency": "eur"}, "amount", "parameter_invalid_empty"),
    ({"amount": "12.5", "currency": "eur"}, "amount", "parameter_invalid_integer"),
    ({"amount": "0", "currency": "eur"}, "amount", "parameter_invalid_integer"),
    ({"amount": "-5", "currency": "eur"}, "amount", "parameter_invalid_integer"),
    ({"amount": "100000000", "currency": "eur"}, "amount", "amount_too_large"),
    ({"amount": "49", "currency": "eur"}, "amount", "amount_too_small"),
    ({"amount": "1" + "0" * 16, "currency": "idr"}, "amount", "parameter_invalid_integer"),
    ({"amount": "100", "currency": "bgn"}, "currency", None),
    ({"amount": "100", "currency": "u\u017fd"}, "currency", None),
    ({"amount": "100", "currency": "xxy"}, "currency", None),
    ({"amount": "100", "currency": "eur", "capture_method": "later"}, "capture_method", None),
    ({"amount": "100", "currency": "eur", "confirm": "perhaps"}, "confirm", None),
    ({"amount": "100", "currency": "eur", "customer": "cus_1"}, "customer", "parameter_unsupported"),
    ({"amount": "100", "currency": "eur", "metadata": "x"}, "metadata", None),
    ({"amount": "100", "currency": "eur", "confirm": "true"}, "payment_method", "parameter_missing"),
    ({"amount": "100", "currency": "eur", "payment_method": "pm_nothing"}, "payment_method", "resource_missing"),
    ({"amount": "100", "currency": "eur", "payment_method": "tok_visa"}, "payment_method", "resource_missing"),
    ({"amount": "100", "currency": "eur", "amount[x]": "1"}, "amount[x]", None),
]


def test_wrong_parameters_are_named(gateway: Gateway, switch: FakeSwitch) -> None:
    for params, param, code in WRONG:
        answer = gateway.post(INTENTS, params)
        found = error(answer)
        got = (found["type"], found.get("param"), found.get("code"))
        assert got == ("invalid_request_error", param, code), params
        assert answer.status_code in (400, 404)
    assert switch.mtis() == []


def test_a_token_works_once_but_for_the_repeat_of_its_request(gateway: Gateway) -> None:
    params = {
        "amount": "100",
        "currency": "eur",
        "payment_method_data[type]": "card",
        "payment_method_data[card][token]": "tok_once",
    }
    first = gateway.post(INTENTS, params, headers={"Idempotency-Key": "one"})
    assert first.status_code == 200
    assert gateway.post(INTENTS, params, headers={"Idempotency-Key": "one"}).content == first.content
    again = gateway.post(INTENTS, params, headers={"Idempotency-Key": "two"})
    assert (again.status_code, error(again)["code"]) == (400, "token_already_used")


def test_unknown_addresses_and_ids(gateway: Gateway) -> None:
    for method, path, status in (
        ("GET", "/v1/customers", 404),
        ("GET", "/", 404),
        ("DELETE", INTENTS, 405),
        ("GET", "/v1/payment_intents/pi_nothing", 404),
        ("GET", "/v1/refunds/re_nothing", 404),
        ("GET", "/v1/events/evt_nothing", 404),
        ("GET", "/v1/payment_intents/%00", 400),
        ("POST", "/v1/payment_intents/pi_nothing/confirm", 404),
    ):
        answer = gateway.request(method, path)
        assert (answer.status_code, error(answer)["type"]) == (status, "invalid_request_error"), path
        assert answer.headers["Request-Id"].startswith("req_")


def test_headers_of_stripes_are_taken_and_given(gateway: Gateway) -> None:
    headers = {"Stripe-Version": "2020-08-27", "Idempotency-Key": "k"}
    answer = gateway.post(INTENTS, {"amount": "100", "currency": "eur"}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Idempotency-Key"] == "k"
    assert answer.headers["Cache-Control"] == "no-store"
    assert len({gateway.get(INTENTS).headers["Request-Id"] for _ in range(3)}) == 3


def test_bodies_and_headers_are_limited(gateway: Gateway) -> None:
    answer = gateway.post(INTENTS, {"description": "x" * 70_000})
    assert answer.status_code == 413
    answer = gateway.get(INTENTS, headers={f"x-{number}": "1" for number in range(120)})
    assert answer.status_code == 431
    answer = gateway.post(INTENTS, {f"a{number}": "1" for number in range(600)})
    assert answer.status_code == 400
    answer = gateway.post(INTENTS, {"metadata" + "[a]" * 10: "1"})
    assert answer.status_code == 400


def test_requests_per_second_are_limited(gateway: Gateway) -> None:
    gateway.stop()
    gateway.start(requests_per_s=2.0)
    statuses = [gateway.get(INTENTS).status_code for _ in range(8)]
    assert statuses[:4] == [200] * 4
    assert 429 in statuses[4:]
    with pytest.raises(stripe.RateLimitError):
        for _ in range(8):
            gateway.stripe().v1.payment_intents.list()


def test_a_half_request_does_not_hold_the_gateway(gateway: Gateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(b"POST /v1/payment_intents HTTP/1.1\r\nContent-Length: 100\r\n")
        assert gateway.get(INTENTS).status_code == 200


def test_no_parameters_make_it_fail(gateway: Gateway, switch: FakeSwitch) -> None:
    """Names that the API knows with values that it does not expect: never a 5xx, and nothing is sent."""
    names = sorted({name for call in CALLS for name in call.shape.__struct_fields__} - {"confirm"})
    texts = [
        "",
        "\x00",
        "\N{GRINNING FACE}",
        "-1",
        "1e999",
        "9" * 30,
        "true",
        "null",
        "pm_x",
        "a" * 6000,
        "ch_%",
        "*",
        "1",
    ]
    junk: list[Any] = [*texts, None, 0, -1, 2**70, 1.5, True, [], [[]], {}, {"type": "card"}, ["x"], {"gte": "x"}]
    rng = random.Random(7)
    with httpx.Client(base_url=gateway.url, trust_env=False, auth=(gateway.secret_key, "")) as client:
        for _ in range(200):
            call = rng.choice(CALLS)
            path = call.path.replace("{id}", rng.choice(["pi_x", "x"]))
            params = {rng.choice(names): rng.choice(junk) for _ in range(rng.randint(0, 4))}
            if call.path == INTENTS and rng.random() < 0.7:
                params = {"amount": 100, "currency": "eur", **params}
            if call.method != "POST" or rng.random() < 0.4:
                flat = {name: str(value) for name, value in params.items()}
                options: dict[str, Any] = {"data": flat} if call.method == "POST" else {"params": flat}
            else:
                options = {"content": msgspec.json.encode(params), "headers": {"Content-Type": "application/json"}}
            answer = client.request(call.method, path, **options)
            assert answer.status_code < 500, (call.path, params, answer.text)
    assert switch.mtis() == []


def test_without_the_tokenizer_known_methods_still_work(gateway: Gateway) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create({"amount": 100, "currency": "eur", "payment_method": "pm_stored0001"})
    gateway.tokens.close()
    eventually(lambda: gateway.get("/readyz").json()["tokenizer"] is False)
    with pytest.raises(stripe.APIError) as refused:
        client.v1.payment_intents.create({"amount": 100, "currency": "eur", "payment_method": "pm_card_visa"})
    assert refused.value.http_status == 503
    assert client.v1.payment_intents.confirm(intent.id).status == "succeeded"


def test_metrics_and_health(gateway: Gateway, switch: FakeSwitch) -> None:
    gateway.stripe().v1.payment_intents.create(
        {"amount": 100, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
    )
    text = gateway.get("/metrics").text
    assert 'gateway_messages_total{kind="purchase",response_code="00"} 1.0' in text
    assert "gateway_link_connections 2.0" in text
    assert 'gateway_requests_total{method="POST",route="/v1/payment_intents",status="200"} 1.0' in text
    assert gateway.get("/healthz").status_code == 200


def test_the_surrogate_is_not_shown_to_merchants(gateway: Gateway) -> None:
    answer = gateway.post(INTENTS, {**PAY, "expand[]": "latest_charge"})
    for shown in (answer.text, gateway.get("/v1/events").text, gateway.get("/v1/charges").text):
        assert "9900000000000042" not in shown


def test_the_role_owns_nothing_but_its_schema(gateway: Gateway) -> None:
    for sql in ("SELECT * FROM vault.cards", "SELECT * FROM ledger.intents", "DROP TABLE gateway.events"):
        with pytest.raises(asyncpg.PostgresError):
            gateway.rows(sql)
