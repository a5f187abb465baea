"""Forms, shapes, ids, declines and limits by themselves."""

from __future__ import annotations

import random
import time
import uuid
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st
from stripe._api_requestor import _generate_idempotency_key
from stripe._encode import _api_encode

from gateway import shapes
from gateway.attempts import card_acceptor
from gateway.config import GatewayConfig
from gateway.declines import DECLINES, card_error, decline
from gateway.delivery import signature
from gateway.errors import ApiError
from gateway.ids import new_id
from gateway.keys import Account
from gateway.parameters import convert, decode_body, decode_form, refuse_card_data
from messages.card import luhn_digit
from messages.card_numbers import holds
from messages.dictionary.iso1987 import RESPONSE_CODES
from tests.card_number_cases import WITH_CARD_NUMBER, WITHOUT_CARD_NUMBER

NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
TREES = st.recursive(
    st.text(max_size=12).filter(lambda text: "\x00" not in text),
    lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=12,
)


def depth(tree: Any) -> int:
    return 1 + max(map(depth, tree.values()), default=0) if isinstance(tree, dict) else 0


@given(st.dictionaries(NAMES.filter(lambda name: name not in shapes.LISTS), TREES, max_size=4))
def test_what_the_official_client_encodes_is_decoded(tree: dict[str, Any]) -> None:
    if depth(tree) <= 6:
        assert decode_form(urlencode(list(_api_encode(tree)))) == tree


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/x-www-form-urlencoded"]))
def test_any_body_is_read_or_refused(body: bytes, content_type: str) -> None:
    try:
        params = decode_body(body, content_type)
        refuse_card_data(params, "http://tokens")
        convert(params, shapes.IntentCreate)
    except ApiError as error:
        assert error.status in (400, 413)


def test_lists_in_their_three_forms() -> None:
    for form in ("expand[]=a&expand[]=b", "expand[0]=a&expand[1]=b", "expand%5B0%5D=a&expand%5B1%5D=b"):
        assert decode_form(form) == {"expand": ["a", "b"]}
    assert decode_form("metadata[0]=a") == {"metadata": {"0": "a"}}


@pytest.mark.parametrize(
    "form", ["a[=1", "a]=1", "[a]=1", "a[b]c=1", "a=1&a[b]=2", "a[b]=1&a=2", "=1", "a=%ff", "a[[b]]=1"]
)
def test_broken_forms_are_refused(form: str) -> None:
    with pytest.raises(ApiError):
        decode_form(form)


@given(
    st.sampled_from(["424242", "555555", "378282", "601111"]),
    st.integers(0, 10**9 - 1),
    st.sampled_from(["", " ", "-"]),
)
def test_card_numbers_are_found_wherever_they_stand(prefix: str, middle: int, separator: str) -> None:
    partial = f"{prefix}{middle:09d}"[: 14 if prefix.startswith("37") else 15]
    digits = partial + luhn_digit(partial)
    shown = separator.join(digits[at : at + 4] for at in range(0, len(digits), 4))
    for params in (
        {"description": f"paid with {shown}!"},
        {"a": {"b": [shown]}},
        {"metadata": {shown: "x"}},
        {"description": f"{shown} 12/31 123"},
        {"description": f"order 4711 {shown} 1231"},
        {"description": f"{digits}1231123"},
    ):
        with pytest.raises(ApiError) as refused:
            refuse_card_data(params, "http://tokens")
        assert digits not in str(refused.value.body())
        assert shown not in str(refused.value.body())


def test_other_numbers_pass() -> None:
    refuse_card_data(
        {"amount": "1099", "metadata": {"order": "4242424242424243", "phone": "+49 221 123456", "number": "7"}}, "x"
    )


@pytest.mark.parametrize("name", WITH_CARD_NUMBER)
def test_card_numbers_are_refused_in_every_spelling(name: str) -> None:
    text = WITH_CARD_NUMBER[name].replace("\x00", "")
    for params, param in (
        ({"description": text}, "description"),
        ({"metadata": {"note": text}}, "metadata[note]"),
        ({"metadata": {text: "x"}}, "metadata"),
        ({"a": {"b": ["x", text]}}, "a[b][1]"),
        ({text: "x"}, None),
        ({"Idempotency-Key": text}, "Idempotency-Key"),
        (decode_form(urlencode({"metadata[note]": text})), "metadata[note]"),
        (decode_body(msgspec.json.encode({"metadata": {"note": text}}), "application/json"), "metadata[note]"),
    ):
        with pytest.raises(ApiError) as refused:
            refuse_card_data(params, "http://tokens")
        assert (refused.value.code, refused.value.param or None) == ("card_data_not_allowed", param)
        assert not holds(str(refused.value.body()))


@pytest.mark.parametrize("name", WITHOUT_CARD_NUMBER)
def test_what_is_no_card_number_passes(name: str) -> None:
    text = WITHOUT_CARD_NUMBER[name]
    refuse_card_data({"description": text, "metadata": {"order": text}, text or "x": [text]}, "http://tokens")


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata": {"note": 4242424242424242}}',
        b'{"metadata": {"note": 4242424242424242.0}}',
        b'{"metadata": {"note": 4.242424242424242e15}}',
        b'{"metadata": {"note": 42424242424242.42E+2}}',
        b'{"metadata": {"note": -4242424242424242}}',
        b'{"metadata": {"note": "\\u0034242424242424242"}}',
        b'{"metadata": {"note": ["4242", "4242", "4242", "4242"]}}',
        b'{"metadata": {"note": [4242, 4242, 4242, 4242]}}',
        b'{"metadata": {"a": "4242", "b": "4242", "c": "4242", "d": "4242"}}',
        b'{"metadata": {"note": {"deep": [4242424242424242.0]}}}',
        b'{"amount": 4242424242424242.0}',
        b'{"off_session": 4242424242424242}',
    ],
)
def test_card_numbers_are_refused_in_values_of_every_type(body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        refuse_card_data(decode_body(body, "application/json"), "http://tokens")
    assert refused.value.code == "card_data_not_allowed"
    assert refused.value.param


@pytest.mark.parametrize("group", ["1 ", "0 ", "4 ", "4-", "1", "4", "44444444444444444 ", "424242424242 "])
def test_a_body_of_digits_does_not_hold_others_up(group: str) -> None:
    text = group * (65_536 // len(group))
    before = time.process_time()
    holds(text)
    assert time.process_time() - before < 1.0


def test_idempotency_keys_of_clients_are_no_card_numbers() -> None:
    """The official clients send a UUID with each request."""
    numbers = random.Random(8)
    made = [str(uuid.UUID(int=numbers.getrandbits(128))) for _ in range(20_000)]
    made += [_generate_idempotency_key() for _ in range(1_000)]
    assert not any(map(holds, made))
    inside = "42424242-4242-4242-0000-00000000000a"
    assert not holds(f"order {inside}, again")
    assert holds(f"{inside} 4242424242424242"), "adjacent values are checked"
    assert holds("4242-4242-4242-4242"), "groups of a card are no UUID"
    assert holds("42424242-4242-4242-0000-000000000000"), "nor are digits alone"


def test_metadata_limits() -> None:
    base = {"amount": 1, "currency": "eur"}
    assert convert({**base, "metadata": {"a": 1, "b": True, "c": None}}, shapes.IntentCreate).metadata == {
        "a": "1",
        "b": "true",
        "c": "",
    }
    for metadata in (
        {str(number): "x" for number in range(51)},
        {"x" * 41: "x"},
        {"x": "x" * 501},
        {"x": {"y": "z"}},
        {"x": []},
        ["x"],
    ):
        with pytest.raises(ApiError):
            convert({**base, "metadata": metadata}, shapes.IntentCreate)


def test_errors_repeat_no_values() -> None:
    secret = "do-not-repeat"
    for params in (
        {"amount": secret, "currency": "eur"},
        {"amount": 1, "currency": "eur", "capture_method": secret},
        {"amount": 1, "currency": "eur", "confirm": secret},
        {"amount": 1, "currency": "eur", "statement_descriptor": secret * 3},
        {"amount": 1, "currency": "eur", "automatic_payment_methods": secret},
    ):
        with pytest.raises(ApiError) as refused:
            convert(params, shapes.IntentCreate)
        assert secret not in str(refused.value.body())
        assert refused.value.param


def test_ids_are_unique_and_in_order() -> None:
    made = [new_id("pi") for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(len(one) == len("pi_") + 24 for one in made)


def test_declines_have_stripes_codes() -> None:
    assert decline("51").decline_code == "insufficient_funds"
    assert card_error("51", "ch_1")["decline_code"] == "insufficient_funds"
    assert card_error("54", "ch_1")["code"] == "expired_card"
    assert card_error("", "ch_1")["code"] == "processing_error"
    assert card_error("Z9", "ch_1") == {
        "type": "card_error",
        "code": "card_declined",
        "decline_code": "generic_decline",
        "message": "Your card was declined.",
        "charge": "ch_1",
        "network_decline_code": "Z9",
    }
    assert {code for code in DECLINES if code.isdigit()} <= RESPONSE_CODES.keys()


def test_signatures_verify_with_the_official_package() -> None:
    now = int(time.time())
    body = '{"object": "event", "name": "Café"}'.encode()
    assert stripe.WebhookSignature.verify_header(body, signature(body, "whsec_x", now), "whsec_x", 300)
    for header in (signature(body, "whsec_y", now), signature(body, "whsec_x", now - 400)):
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.WebhookSignature.verify_header(body, header, "whsec_x", 300)


@given(st.text(max_size=60), st.text(max_size=30))
def test_card_acceptor_is_forty_printable_characters(name: str, city: str) -> None:
    text = card_acceptor(Account("acct_1", "SHOP", name, city, "DE", "5814"))
    assert len(text) == 40
    assert text.isascii()
    assert text.isprintable()
    assert text.endswith("DE")


def test_configuration_problems_are_listed() -> None:
    assert GatewayConfig().problems() == []
    wrong = GatewayConfig(listen="nowhere", request_timeout_s=1.0, answer_timeout_s=2.0)
    assert len(wrong.problems()) == 2
