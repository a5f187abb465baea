"""Amounts of the API: integers only, Stripe's special currencies, limits by currency, withdrawn currencies."""

from __future__ import annotations

import inspect
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import amounts, shapes
from gateway.amounts import chargeable_currency, charged, from_minor, maximum, minimum, step, to_minor
from gateway.errors import ApiError
from gateway.parameters import convert, decode_body
from messages.currencies import CURRENCIES, WITHDRAWN
from messages.money import currency_exponent
from tests.gateway.conftest import Gateway
from tests.gateway.fake_switch import FakeSwitch, eventually

INTENTS = "/v1/payment_intents"
USED = sorted(CURRENCIES.keys() - WITHDRAWN.keys())
FORM, JSON = "application/x-www-form-urlencoded", "application/json"


def refused(call: Any, *arguments: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call(*arguments)
    return caught.value


# Integers only

NO_INTEGERS = [
    *("10.00", "10.0", "10.", ".5", "1e3", "1E3", "+5", "1_000", "1,000", "0x10", "5 ", " 5", "--5", "-", "5-", "5\n"),
    *("\u0661\u0660", "\uff11\uff10", "\u00b2", "1\u200b0", "1\u00a0000", "Infinity", "NaN", "null", "true", "None"),
    *("9" * 19, "9" * 5000, "1" + "0" * 40),
]


@pytest.mark.parametrize("text", NO_INTEGERS)
@pytest.mark.parametrize(
    ("shape", "param", "rest"),
    [
        (shapes.IntentCreate, "amount", {"currency": "eur"}),
        (shapes.IntentUpdate, "amount", {}),
        (shapes.IntentCapture, "amount_to_capture", {}),
        (shapes.RefundCreate, "amount", {"payment_intent": "pi_1"}),
        (shapes.Page, "limit", {}),
        (shapes.Page, "created", {}),
    ],
)
def test_everything_but_digits_is_no_integer(
    text: str, shape: type[shapes.Shape], param: str, rest: dict[str, str]
) -> None:
    error = refused(convert, {**rest, param: text}, shape)
    assert (error.status, error.code, error.param) == (400, "parameter_invalid_integer", param)


@pytest.mark.parametrize("member", ["gt", "gte", "lt", "lte"])
def test_a_bound_of_a_list_is_an_integer(member: str) -> None:
    error = refused(convert, {"created": {member: "1e3"}}, shapes.Page)
    assert (error.code, error.param, error.message) == (
        *("parameter_invalid_integer", f"created[{member}]"),
        "Invalid integer: 1e3",
    )
    assert convert({"created": {member: "1000"}}, shapes.Page).created is not None


def test_the_message_is_stripe_s_and_shows_what_is_too_short_for_a_card_number() -> None:
    assert refused(convert, {"amount": "10.00", "currency": "eur"}, shapes.IntentCreate).message == (
        "Invalid integer: 10.00"
    )
    for secret in ("4242424242424242.0", "whsec", "4242 4242"):
        error = refused(convert, {"amount": secret, "currency": "eur"}, shapes.IntentCreate)
        assert error.message == "Invalid integer"


def test_json_integers_are_taken_and_no_other_numbers() -> None:
    def amount(text: str) -> int:
        body = f'{{"amount": {text}, "currency": "eur"}}'.encode()
        return convert(decode_body(body, JSON), shapes.IntentCreate).amount

    assert amount("1000") == amount('"1000"') == 1000
    for text in ("10.0", "10.00", "1e3", "1E+3", "true", "[10]", "{}", '"10.0"', "9" * 30, "9" * 400, "-1.0"):
        assert refused(amount, text).param == "amount"


@pytest.mark.parametrize("text", ["1", "0", "yes", "True", "TRUE", "on", "null", "1.0", " true"])
def test_a_boolean_is_true_or_false(text: str) -> None:
    error = refused(convert, {"amount": "100", "currency": "eur", "confirm": text}, shapes.IntentCreate)
    assert (error.param, error.message) == ("confirm", "Invalid boolean")
    nested = {"amount": "100", "currency": "eur", "automatic_payment_methods": {"enabled": text}}
    assert refused(convert, nested, shapes.IntentCreate).param == "automatic_payment_methods[enabled]"
    for number in (0, 1, 1.0):
        refused(convert, {"amount": "100", "currency": "eur", "confirm": number}, shapes.IntentCreate)


def test_texts_stay_texts() -> None:
    params = {"amount": "100", "currency": "eur", "payment_method": "null", "description": "007"}
    created = convert(params, shapes.IntentCreate)
    assert (created.payment_method, created.description) == ("null", "007")


@pytest.mark.parametrize(
    ("shape", "param"), [(shapes.RefundCreate, "amount"), (shapes.IntentCapture, "amount_to_capture")]
)
def test_an_empty_amount_is_not_all_of_it(shape: type[shapes.Shape], param: str) -> None:
    error = refused(convert, {param: ""}, shape)
    assert (error.code, error.param) == ("parameter_invalid_empty", param)


@given(st.integers(-(10**17), 10**17))
def test_digits_are_the_integer_that_they_say(number: int) -> None:
    read: int | None = None
    try:
        read = convert({"amount": str(number), "currency": "eur"}, shapes.IntentCreate).amount
    except ApiError as error:
        assert error.code == "parameter_invalid_integer"
    assert read == number or not 1 <= number <= 10**15


def test_every_integer_of_every_shape_is_read_strictly() -> None:
    found = 0
    for shape in [each for _, each in inspect.getmembers(shapes, inspect.isclass) if issubclass(each, shapes.Shape)]:
        for field in msgspec.inspect.type_info(shape).fields:  # type: ignore[attr-defined]
            if "IntType" in str(field.type):
                found += 1
                assert refused(convert, {field.encode_name: "10.00"}, shape).code == "parameter_invalid_integer"
    assert found > 10


# Stripe's special currencies. Source: Stripe's "Supported currencies".


@pytest.mark.parametrize(
    ("currency", "amount", "minor"),
    [
        ("EUR", 1099, 1099),
        ("JPY", 500, 500),
        ("ISK", 500, 5),
        ("UGX", 500, 5),
        ("MGA", 500, 50_000),
        ("KWD", 5120, 5120),
        ("HUF", 17_545, 17_545),
        ("TWD", 80_045, 80_045),
        *((zero, 500, 500) for zero in ("BIF", "CLP", "DJF", "GNF", "KMF", "KRW", "PYG", "RWF", "VND", "VUV")),
        *((zero, 500, 500) for zero in ("XAF", "XOF", "XPF")),
    ],
)
def test_minor_units_of_an_amount_at_the_api(currency: str, amount: int, minor: int) -> None:
    assert charged(amount, currency) == minor
    assert from_minor(minor, currency) == amount


@pytest.mark.parametrize(
    ("currency", "amount"),
    [("ISK", 505), ("UGX", 505), ("BHD", 1001), ("JOD", 1001), ("KWD", 1001), ("OMR", 1001), ("TND", 1001)],
)
def test_decimals_that_must_be_zeros(currency: str, amount: int) -> None:
    for check in (charged, to_minor):
        error = refused(check, amount, currency)
        assert (error.code, error.param) == ("parameter_invalid_integer", "amount")


@given(st.sampled_from(USED), st.integers(1, 10**12))
def test_what_can_be_charged_comes_back_and_fits_de_4(currency: str, amount: int) -> None:
    try:
        minor = charged(amount, currency)
    except ApiError as error:
        assert error.code in ("amount_too_small", "amount_too_large", "parameter_invalid_integer")
        too_small, too_large = amount < minimum(currency), amount > maximum(currency)
        assert too_small or too_large or amount % step(currency)
        return
    assert 1 <= minor <= 999_999_999_999
    assert from_minor(minor, currency) == amount


@given(st.sampled_from(USED), st.integers(0, 10**12 - 1))
def test_any_amount_of_the_network_can_be_shown(currency: str, minor: int) -> None:
    shown = from_minor(minor, currency)
    lost = 10 ** max(0, currency_exponent(currency) - amounts.decimals(currency))
    assert 0 <= minor - to_minor(shown - shown % step(currency), currency) < max(lost, step(currency))


# Limits by currency


@pytest.mark.parametrize(
    ("currency", "least", "most"),
    [
        ("USD", 50, 99_999_999),
        ("GBP", 30, 99_999_999),
        ("EUR", 50, 99_999_999),
        ("JPY", 50, 999_999_999_999),
        ("HUF", 17_500, 999_999_999_999),
        ("IDR", 50, 999_999_999_999),
        ("COP", 50, 9_999_999_999),
        ("INR", 50, 999_999_999),
        ("MXN", 1000, 99_999_999),
        ("KWD", 10, 99_999_990),
        ("ISK", 100, 999_999_999_900),
        ("UGX", 100, 999_999_999_900),
        ("MGA", 1, 9_999_999_999),
        ("VND", 1, 999_999_999_999),
    ],
)
def test_the_limits_are_the_currency_s(currency: str, least: int, most: int) -> None:
    assert (minimum(currency), maximum(currency)) == (least, most)
    charged(least, currency)
    charged(most, currency)
    assert refused(charged, most + 1, currency).code == "amount_too_large"
    if least > 1:
        assert refused(charged, least - 1, currency).code == "amount_too_small"


def test_limits_are_said_in_the_currency() -> None:
    assert refused(charged, 49, "EUR").message == "Amount must be at least 0.50 eur"
    assert refused(charged, 10**8, "EUR").message == "Amount must be no more than 999,999.99 eur"
    assert refused(charged, 49, "JPY").message == "Amount must be at least 50 jpy"


def test_the_largest_amount_of_every_currency_fits_de_4() -> None:
    for currency in USED:
        assert minimum(currency) <= maximum(currency)
        assert len(str(to_minor(maximum(currency), currency))) <= 12


def test_no_limit_is_below_stripe_s_or_above_its_twelve_digits_for_cards() -> None:
    """Source: Stripe's page "Supported currencies", maximum charge amounts, editions of 2024 and 2026."""
    published = {"IDR": 12, "COP": 10, "INR": 9, "HUF": 10, "JPY": 10, "LBP": 11}
    for currency in USED:
        digits = len(str(maximum(currency)))
        assert published.get(currency, 8) <= digits <= 12, currency
    assert {currency: len(str(maximum(currency))) for currency in ("USD", "EUR", "COP", "INR", "IDR")} == {
        "USD": 8, "EUR": 8, "COP": 10, "INR": 9, "IDR": 12,
    }  # fmt: skip


# Withdrawn currencies


def test_no_payment_can_be_made_in_a_withdrawn_currency() -> None:
    assert chargeable_currency("bgn", date(2025, 12, 31)) == "BGN"
    error = refused(chargeable_currency, "bgn", date(2026, 1, 1))
    assert (error.status, error.param) == (400, "currency")
    assert error.message == "Invalid currency: BGN was withdrawn after 2025-12-31, its successor is EUR"


def test_a_payment_in_a_withdrawn_currency_is_refunded_and_no_other_confirmed(
    gateway: Gateway, switch: FakeSwitch
) -> None:
    paid = gateway.post(INTENTS, pay("eur", 1000)).json()
    waiting = gateway.post(INTENTS, {"amount": "1000", "currency": "eur", "payment_method": "pm_card_visa"}).json()
    for table in ("payment_intents", "charges", "attempts"):
        gateway.rows(f"UPDATE gateway.{table} SET currency = 'BGN'")
    answer = gateway.post(f"{INTENTS}/{waiting['id']}/confirm")
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "currency"
    refund = gateway.post("/v1/refunds", {"payment_intent": paid["id"]}).json()
    assert (refund["status"], refund["currency"]) == ("succeeded", "bgn")
    assert switch.received[-1].elements[49] == "975"


# Through the API


def pay(currency: str, amount: int, **more: str) -> dict[str, str]:
    return {"amount": str(amount), "currency": currency, "payment_method": "pm_card_visa", "confirm": "true", **more}


@pytest.mark.parametrize(
    ("currency", "amount", "part", "de4", "de4_part"),
    [("isk", 1000, 400, 10, 4), ("mga", 1000, 400, 100_000, 40_000), ("kwd", 1000, 400, 1000, 400)],
)
def test_de_4_is_in_minor_units_and_every_answer_in_the_api_s(
    gateway: Gateway, switch: FakeSwitch, currency: str, amount: int, part: int, de4: int, de4_part: int
) -> None:
    held = gateway.post(INTENTS, pay(currency, amount, capture_method="manual")).json()
    assert (held["amount"], held["amount_capturable"]) == (amount, amount)
    captured = gateway.post(f"{INTENTS}/{held['id']}/capture", {"amount_to_capture": str(part)}).json()
    assert captured["amount_received"] == part
    refund = gateway.post("/v1/refunds", {"payment_intent": held["id"]}).json()
    assert (refund["amount"], refund["status"]) == (part, "succeeded")
    money = [message for message in switch.received if message.mti in ("0100", "0220", "0200")]
    assert [int(message.elements[4]) for message in money] == [de4, de4_part, de4_part]

    [charge] = gateway.get("/v1/charges").json()["data"]
    assert (charge["amount"], charge["amount_captured"], charge["amount_refunded"]) == (amount, part, part)
    events = eventually(lambda: gateway.get("/v1/events").json()["data"])
    shown = {event["data"]["object"]["amount"] for event in events}
    assert shown == {amount, part}
    too_much = gateway.post("/v1/refunds", {"payment_intent": held["id"], "amount": str(part)})
    assert too_much.json()["error"]["code"] == "charge_already_refunded"


def test_a_change_of_currency_keeps_the_number_and_checks_it(gateway: Gateway) -> None:
    made = gateway.post(INTENTS, {"amount": "1000", "currency": "isk"}).json()
    changed = gateway.post(f"{INTENTS}/{made['id']}", {"currency": "mga"}).json()
    assert (changed["amount"], changed["currency"]) == (1000, "mga")
    assert gateway.rows("SELECT amount_minor FROM gateway.payment_intents") == [{"amount_minor": 100_000}]
    small = gateway.post(f"{INTENTS}/{made['id']}", {"currency": "huf"})
    assert small.json()["error"]["code"] == "amount_too_small"
    assert gateway.post(f"{INTENTS}/{made['id']}", {"amount": "505", "currency": "ugx"}).status_code == 400
