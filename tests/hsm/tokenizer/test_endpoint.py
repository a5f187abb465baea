"""The tokenization endpoint: merchants' requests and their results, and the gateway's requests."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from hsm.errors import ConfigurationError
from hsm.software import SoftwareHsm
from hsm.tokenizer.config import TokenizerConfig
from hsm.tokenizer.named_cards import named_card
from hsm.tokenizer.server import internal_secret, serve_tokenizer
from messages.card import luhn_valid
from tests.hsm.tokenizer.endpoint_calls import (
    ACCOUNT,
    CARD,
    FORM,
    INTERNAL,
    KEY,
    OTHER_ACCOUNT,
    OTHER_KEY,
    PAN,
    SECRET,
    SECRET_KEY,
    call,
    post,
    run,
)


@pytest.mark.parametrize("how", [{"data": FORM}, {"json": {"card": CARD}}])
def test_a_token_from_form_and_json(how: dict[str, Any]) -> None:
    answer = post("/v1/tokens", **how)
    token = answer.json()
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    assert token["id"].startswith("tok_") and (token["object"], token["used"]) == ("token", False)
    card = token["card"]
    assert (card["brand"], card["last4"], card["exp_month"], card["exp_year"]) == ("Visa", "4242", 12, 2030)
    assert (card["funding"], card["country"]) == ("credit", "US") and "fingerprint" not in card
    assert PAN not in answer.text and "990000" not in answer.text and "cvc" not in answer.text


def test_a_payment_method() -> None:
    method = post("/v1/payment_methods", data={"type": "card"} | FORM).json()
    assert method["id"].startswith("pm_") and (method["object"], method["type"]) == ("payment_method", "card")
    assert (method["card"]["brand"], method["card"]["last4"]) == ("visa", "4242")


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"number": "4242424242424241"}, "incorrect_number", "number"),
        ({"number": "4242"}, "incorrect_number", "number"),
        ({"number": [PAN]}, "incorrect_number", "number"),
        ({"number": "9900000000000002"}, "incorrect_number", "number"),
        ({"exp_month": 13}, "invalid_expiry_month", "exp_month"),
        ({"exp_month": "x"}, "invalid_expiry_month", "exp_month"),
        ({"exp_month": True}, "invalid_expiry_month", "exp_month"),
        ({"exp_month": 5, "exp_year": 2026}, "invalid_expiry_month", "exp_month"),
        ({"exp_year": 2025}, "invalid_expiry_year", "exp_year"),
        ({"exp_year": 2099}, "invalid_expiry_year", "exp_year"),
        ({"cvc": "12"}, "invalid_cvc", "cvc"),
        ({"cvc": "1234"}, "invalid_cvc", "cvc"),
    ],
)
def test_wrong_cards(changes: dict[str, Any], code: str, param: str) -> None:
    answer = post("/v1/tokens", json={"card": CARD | changes})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"], error["param"]) == (402, "card_error", code, param)
    assert "424242" not in answer.text


def test_expiry_is_good_to_the_end_of_its_month_and_years_may_be_short() -> None:
    assert post("/v1/tokens", json={"card": CARD | {"exp_month": 6, "exp_year": 26}}).status_code == 200


@pytest.mark.parametrize(
    ("how", "status", "code", "param"),
    [
        ({"data": FORM | {"card[colour]": "red"}}, 400, "parameter_unknown", "card[colour]"),
        ({"data": FORM | {"colour": "red"}}, 400, "parameter_unknown", "colour"),
        ({"data": FORM | {PAN: "x"}}, 400, "parameter_unknown", "…"),
        ({"data": {"card[number]": PAN}}, 400, "parameter_missing", "card[exp_month]"),
        ({"data": {}}, 400, "parameter_missing", "card"),
        ({"json": {"card": "x"}}, 400, "parameter_missing", "card"),
        ({"json": []}, 400, None, None),
        ({"content": b"{", "headers": KEY | {"Content-Type": "application/json"}}, 400, None, None),
        ({"content": b"<x/>", "headers": KEY | {"Content-Type": "text/xml"}}, 400, None, None),
        ({"data": FORM | {"card[a][b]": "1"}}, 400, None, None),
        ({"data": FORM | {"x": "y" * 3000}}, 413, None, None),
        ({"data": FORM, "headers": {}}, 401, None, None),
        ({"data": FORM, "headers": {"Authorization": "Bearer nonsense"}}, 401, None, None),
        ({"data": FORM, "headers": {"Authorization": "Basic !!"}}, 401, None, None),
    ],
)
def test_wrong_requests(how: dict[str, Any], status: int, code: str | None, param: str | None) -> None:
    answer = post("/v1/tokens", **how)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, "invalid_request_error")
    assert (error.get("code"), error.get("param")) == (code, param)
    assert PAN not in answer.text and error["message"]


def test_basic_authentication_as_curl_sends_it() -> None:
    assert post("/v1/tokens", data=FORM, headers={}, auth=(SECRET, "")).status_code == 200


def test_servers_see_the_fingerprint_and_may_read_a_token_browsers_do_not() -> None:
    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        token = (await client.post("/v1/tokens", data=FORM, headers=SECRET_KEY)).json()
        assert len(token["card"]["fingerprint"]) == 32
        body = {"type": "card"} | FORM
        method = (await client.post("/v1/payment_methods", data=body, headers=SECRET_KEY)).json()
        assert method["card"]["fingerprint"] == token["card"]["fingerprint"]
        assert "fingerprint" not in (await client.post("/v1/payment_methods", data=body, headers=KEY)).json()["card"]
        assert (await client.get(f"/v1/tokens/{token['id']}", headers=SECRET_KEY)).json() == token
        refused = await client.get(f"/v1/tokens/{token['id']}", headers=KEY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "secret_key_required")

    run(test)


# Every address and what opens it: a key for servers, any key, the secret of `/internal`, nothing.
OPENED_BY = {
    ("POST", "/v1/tokens"): "any key",
    ("GET", "/v1/tokens/{id}"): "secret key",
    ("POST", "/v1/payment_methods"): "any key",
    ("POST", "/internal/resolve"): "internal secret",
    ("GET", "/fields"): "nothing",
    ("GET", "/fields.js"): "nothing",
    ("GET", "/healthz"): "nothing",
    ("GET", "/readyz"): "nothing",
    ("GET", "/metrics"): "nothing",
}


def test_every_address_has_a_decision_about_keys() -> None:
    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        app = client._transport.app  # type: ignore[attr-defined]
        routes = {(method, route.path) for route in app.routes for method in route.methods}
        assert {route for route in routes if route[0] != "HEAD"} == OPENED_BY.keys()
        refused_to = {"any key": (), "secret key": (KEY,), "internal secret": (KEY, SECRET_KEY), "nothing": ()}
        for (method, path), opened_by in OPENED_BY.items():
            for headers in refused_to[opened_by]:
                answer = await client.request(method, path.replace("{id}", "tok_x"), headers=headers)
                assert answer.status_code in (401, 403), (path, headers)
            if opened_by != "nothing":
                assert (await client.request(method, path.replace("{id}", "tok_x"))).status_code == 401, path

    run(test)


def test_a_page_sees_of_a_card_what_a_receipt_shows() -> None:
    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        shown = {"brand", "country", "exp_month", "exp_year", "funding", "last4"}
        token = (await client.post("/v1/tokens", data=FORM, headers=KEY)).json()
        method = (await client.post("/v1/payment_methods", data={"type": "card"} | FORM, headers=KEY)).json()
        assert token["card"].keys() == shown | {"object"}
        assert method["card"].keys() == shown

    run(test)


def test_unknown_addresses_have_the_same_shape() -> None:
    answer = post("/v1/charges")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")


def test_the_gateway_resolves_a_tok_once() -> None:
    async def test(client: httpx.AsyncClient, hsm: SoftwareHsm) -> None:
        token = (await client.post("/v1/tokens", data=FORM, headers=SECRET_KEY)).json()
        wanted = {"id": token["id"], "domain": ACCOUNT, "used_by": "pi_1"}
        first = await client.post("/internal/resolve", json=wanted, headers=INTERNAL)
        assert first.json()["surrogate"] == hsm.add_card(PAN)
        assert first.json()["fingerprint"] == token["card"]["fingerprint"]
        assert (first.json()["brand"], first.json()["last4"]) == ("visa", "4242")
        again = await client.post("/internal/resolve", json=wanted, headers=INTERNAL)
        assert again.json() == first.json()
        other = await client.post("/internal/resolve", json=wanted | {"used_by": "pi_2"}, headers=INTERNAL)
        assert (other.status_code, other.json()["error"]["code"]) == (400, "token_already_used")
        assert (await client.get(f"/v1/tokens/{token['id']}", headers=SECRET_KEY)).json()["used"]

    run(test)


def test_a_token_becomes_a_payment_method() -> None:
    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        token = (await client.post("/v1/tokens", data=FORM, headers=KEY)).json()["id"]
        for source, statuses in ((token, [200, 400]), ("tok_visa", [200, 200])):
            body = {"type": "card", "card[token]": source}
            answers = [await client.post("/v1/payment_methods", data=body, headers=KEY) for _ in range(2)]
            assert [answer.status_code for answer in answers] == statuses

    run(test)


@pytest.mark.parametrize(
    ("name", "last4", "brand"),
    [
        ("pm_card_visa", "4242", "visa"),
        ("tok_visa", "4242", "visa"),
        ("pm_card_visa_debit", "5556", "visa"),
        ("pm_card_mastercard", "4444", "mastercard"),
        ("pm_card_amex", "0005", "amex"),
        ("pm_card_chargeDeclined", "0002", "visa"),
        ("tok_chargeDeclinedInsufficientFunds", "9995", "visa"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "9995", "visa"),
    ],
)
def test_names_of_test_cards(name: str, last4: str, brand: str) -> None:
    resolved = post("/internal/resolve", json={"id": name, "domain": ACCOUNT}, headers=INTERNAL).json()
    assert (resolved["last4"], resolved["brand"], resolved["exp_year"]) == (last4, brand, 2030)
    assert luhn_valid(resolved["surrogate"])
    card = named_card(name)
    assert card is not None and luhn_valid(card.pan) and card.pan.endswith(last4)


@pytest.mark.parametrize("wanted", ["pm_card_none", "tok_none", PAN, "pi_1", "pm_" + "0" * 22])
def test_what_is_no_token_is_not_found_and_not_repeated(wanted: str) -> None:
    answer = post("/internal/resolve", json={"id": wanted, "domain": ACCOUNT}, headers=INTERNAL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "resource_missing")
    assert wanted not in answer.text


def test_resolving_needs_the_secret() -> None:
    for headers in (KEY, {}, {"Authorization": "Bearer "}):
        assert (
            post("/internal/resolve", json={"id": "pm_card_visa", "domain": ACCOUNT}, headers=headers).status_code
            == 401
        )


def test_an_hsm_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.readiness.KEEP_S", 0.0)

    async def test(client: httpx.AsyncClient, hsm: SoftwareHsm) -> None:
        assert (await client.get("/readyz")).status_code == 200
        hsm.available = False
        answer = await client.post("/v1/tokens", data=FORM, headers=KEY)
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "api_error")
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        metrics = (await client.get("/metrics")).text
        assert 'cardswitch_tokenizer_requests_total{kind="token",status="503"} 1.0' in metrics
        assert 'cardswitch_hsm_up{part="token"} 0' in metrics

    run(test)


def test_however_many_ask_whether_it_is_ready_the_hsm_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    status = SoftwareHsm.status

    async def counted(hsm: SoftwareHsm) -> Any:
        nonlocal asked
        asked += 1
        return await status(hsm)

    monkeypatch.setattr(SoftwareHsm, "status", counted)
    monkeypatch.setattr("web.readiness.KEEP_S", 3600.0)

    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        assert {(await client.get("/readyz")).status_code for _ in range(50)} == {200}

    run(test)
    assert asked == 1


def test_tokens_are_of_one_account_and_test_names_of_all() -> None:
    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        for path, body in (("/v1/tokens", FORM), ("/v1/payment_methods", {"type": "card"} | FORM)):
            made = (await client.post(path, data=body, headers=KEY)).json()["id"]
            wanted = {"id": made, "domain": OTHER_ACCOUNT}
            stolen = await client.post("/internal/resolve", json=wanted, headers=INTERNAL)
            assert (stolen.status_code, stolen.json()["error"]["message"]) == (404, "No such token.")
            assert (await client.get(f"/v1/tokens/{made}", headers=OTHER_KEY)).status_code == 404
            taken = {"type": "card", "card[token]": made}
            assert (await client.post("/v1/payment_methods", data=taken, headers=OTHER_KEY)).status_code == 404
            # Nothing of that has used it up.
            own = await client.post("/internal/resolve", json={"id": made, "domain": ACCOUNT}, headers=INTERNAL)
            assert own.status_code == 200
        for domain in (ACCOUNT, OTHER_ACCOUNT):
            named = {"id": "pm_card_visa", "domain": domain}
            assert (await client.post("/internal/resolve", json=named, headers=INTERNAL)).status_code == 200
        for wrong in ("", "acct_", 4, None, PAN):
            none = await client.post("/internal/resolve", json={"id": made, "domain": wrong}, headers=INTERNAL)
            assert (none.status_code, none.json()["error"]["param"]) == (400, "domain")

    run(test)


def test_what_is_ours_alone_is_not_there_for_others() -> None:
    outside: Any = {"run_with": {"client": ("192.0.2.7", 5000)}}
    for path in ("/metrics", "/readyz"):
        assert call("GET", path, **outside).status_code == 404
    wanted = {"id": "pm_card_visa", "domain": ACCOUNT}
    assert post("/internal/resolve", json=wanted, headers=INTERNAL, **outside).status_code == 404
    assert call("GET", "/healthz", **outside).status_code == 200
    inside: Any = {"run_with": {"client": ("192.0.2.7", 5000), "internal_networks": ("192.0.2.0/24",)}}
    assert post("/internal/resolve", json=wanted, headers=INTERNAL, **inside).status_code == 200


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    secret = internal_secret(tmp_path)
    assert internal_secret(tmp_path) == secret and len(secret) >= 32
    assert (tmp_path / "tokenizer.secret").stat().st_mode & 0o777 == 0o600


def test_the_secret_is_one_for_all_who_ask_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: internal_secret(tmp_path), range(50)))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.secret"]


def test_an_address_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsm.tokenizer.server.forbid_dumps", lambda: None)
    serving = serve_tokenizer(TokenizerConfig(listen="nowhere"), state_directory=tmp_path, dsn="", ready=lambda: None)
    with pytest.raises(ConfigurationError, match=r"tokenizer\.listen"):
        asyncio.run(serving)
