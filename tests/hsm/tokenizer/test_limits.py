"""Rate limits and card testing: limits of one address, one key and one guesser."""

from __future__ import annotations

import httpx
import pytest

from hsm.software import SoftwareHsm
from hsm.tokenizer import limits
from hsm.tokenizer.errors import ApiError
from hsm.tokenizer.limits import WINDOW_S, RefusedCards
from messages.card import luhn_digit
from tests.hsm.tokenizer.endpoint_calls import CARD, FORM, INTERNAL, KEY, OTHER_KEY, SECRET_KEY, Keys, run
from web.config import HttpConfig

PROXY = {"behind_proxy": True, "url": "https://tokens.example"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_table_of_refused_cards_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MAX_SUSPECTS", 10)
    refused = RefusedCards(5, Clock())
    for number in range(50):
        refused.count(str(number), "4242424242424241")
    assert len(refused._seen) == 10


def test_wrong_numbers_count_once_each_and_are_forgotten() -> None:
    clock = Clock()
    refused = RefusedCards(3, clock)
    for number in ("1", "2", "2", "2"):
        refused.count("a", number)
        refused.check("a")
    refused.count("a", "3")
    clock.now += 100
    with pytest.raises(ApiError) as stopped:
        refused.check("a")
    assert (stopped.value.status, stopped.value.headers["Retry-After"]) == (429, str(int(WINDOW_S) - 100))
    refused.check("b")
    clock.now += WINDOW_S - 100
    refused.check("a")
    assert not refused._seen


def test_what_is_remembered_is_no_number() -> None:
    refused = RefusedCards(3, Clock())
    refused.count("a", "4242424242424241")
    assert "4242" not in repr(vars(refused))


def test_an_address_has_its_limit_whatever_its_publishable_keys_and_answers_say_how_long() -> None:
    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        unknown = {"Authorization": "Bearer pk_test_unknown"}
        answers = [
            (await client.post("/v1/tokens", data=FORM, headers=headers)).status_code
            for headers in (KEY, SECRET_KEY, unknown, KEY, OTHER_KEY, KEY)
        ]
        # Strangers and servers behind the address cost its pages nothing, and pages cost servers nothing.
        assert answers == [200, 200, 401, 200, 200, 429]
        refused = await client.post("/v1/payment_methods", data={"type": "card"} | FORM, headers=KEY)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "rate_limit")
        assert (await client.post("/v1/tokens", data=FORM, headers=SECRET_KEY)).status_code == 200
        # Internal calls go on: payments do not wait for browsers.
        named = {"id": "pm_card_visa", "domain": "acct_1"}
        for _ in range(5):
            assert (await client.post("/internal/resolve", json=named, headers=INTERNAL)).status_code == 200

    run(test, rate_per_s=0.1, burst=2)


def test_guesses_at_the_internal_secret_are_limited_and_the_gateway_beside_them_is_served() -> None:
    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        statuses = [
            (await client.post("/internal/resolve", json={}, headers={"Authorization": f"Bearer {guess}"})).status_code
            for guess in range(4)
        ]
        assert statuses == [401, 401, 429, 429]
        named = {"id": "pm_card_visa", "domain": "acct_1"}
        assert (await client.post("/internal/resolve", json=named, headers=INTERNAL)).status_code == 200
        assert (await client.get("/readyz", headers=INTERNAL)).status_code == 200

    run(test, http=HttpConfig(keyless_per_s=0.1, keyless_burst=2))


def test_guesses_at_keys_are_limited_and_a_page_can_read_the_refusal() -> None:
    keys = Keys()

    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        assert (await client.post("/v1/tokens", data=FORM, headers=KEY)).status_code == 200
        for number in range(10):
            guess = {"Authorization": f"Bearer sk_test_{number}", "Origin": "https://shop.example"}
            answer = await client.post("/v1/tokens", data=FORM, headers=guess)
            assert answer.status_code == (401 if number < 3 else 429)
            assert answer.headers["access-control-allow-origin"] == "*"
        assert keys.questions == 4, "a refused guess asks nobody"
        preflight = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
        assert (await client.options("/v1/tokens", headers=preflight)).status_code == 204
        assert (await client.post("/v1/tokens", data=FORM, headers=KEY)).status_code == 200

    run(test, keys=keys, http=HttpConfig(keyless_per_s=0.1, keyless_burst=3))


def test_addresses_behind_a_proxy_and_networks_of_ipv6() -> None:
    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        async def status(forwarded: str) -> int:
            headers = KEY | {"X-Forwarded-For": forwarded}
            return (await client.post("/v1/tokens", data=FORM, headers=headers)).status_code

        assert [await status("192.0.2.1"), await status("192.0.2.2")] == [200, 200]
        assert await status("198.51.100.9, 192.0.2.1") == 429  # a forged entry in front changes nothing
        assert await status("::ffff:192.0.2.1") == 429
        assert await status("192.0.2.1:50123") == 429
        assert await status("[2001:db8:0:3::1]:443") == 200
        assert await status("2001:db8:0:3::7") == 429
        assert await status("2001:db8:0:1::1") == 200
        assert await status("2001:db8:0:1:ffff::2") == 429
        assert await status("2001:db8:0:2::1") == 200

    run(test, rate_per_s=0.1, burst=1, **PROXY)


def test_without_a_proxy_nobody_chooses_his_address() -> None:
    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        statuses = [
            (await client.post("/v1/tokens", data=FORM, headers=KEY | {"X-Forwarded-For": address})).status_code
            for address in ("192.0.2.1", "192.0.2.2")
        ]
        assert statuses == [200, 429]

    run(test, rate_per_s=0.1, burst=1)


def test_a_key_has_its_limit_over_all_addresses() -> None:
    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        async def status(headers: dict[str, str], last: int) -> int:
            sent = headers | {"X-Forwarded-For": f"192.0.2.{last}"}
            return (await client.post("/v1/tokens", data=FORM, headers=sent)).status_code

        assert [await status(KEY, last) for last in range(4)] == [200, 200, 429, 429]
        assert await status(SECRET_KEY, 9) == 200

    run(test, key_rate_per_s=0.1, key_burst=2, **PROXY)


def wrong(number: int) -> str:
    """The `number`-th card that fails the Luhn check."""
    partial = f"42424242424{number:04d}"
    return partial + str((int(luhn_digit(partial)) + 1) % 10)


def test_card_testing_is_stopped() -> None:
    async def test(client: httpx.AsyncClient, _: SoftwareHsm) -> None:
        async def status(pan: str, headers: dict[str, str], address: str = "192.0.2.1") -> int:
            sent = headers | {"X-Forwarded-For": address}
            return (await client.post("/v1/tokens", json={"card": CARD | {"number": pan}}, headers=sent)).status_code

        good = CARD["number"]
        for number in (1, 1, 1, 1, 2):  # one of them again and again is a person who corrects
            assert await status(wrong(number), KEY) == 402
        assert await status(str(good), KEY) == 200
        assert await status(wrong(3), KEY) == 402
        assert await status(wrong(4), KEY) == 429
        assert await status(str(good), KEY) == 429
        assert await status(str(good), SECRET_KEY) == 200  # a merchant's server answers for its customers
        assert await status(str(good), KEY, "192.0.2.2") == 200

    run(test, refused_cards=3, **PROXY)
