"""Card numbers: check digit, brand, where a message has one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.card import brand, luhn_digit, luhn_valid, pan_of
from messages.message import Message


@pytest.mark.parametrize(
    ("pan", "name"),
    [
        ("4242424242424242", "visa"),
        ("4000000000009995", "visa"),
        ("5555555555554444", "mastercard"),
        ("2223003122003222", "mastercard"),
        ("378282246310005", "amex"),
        ("6011111111111117", "discover"),
        ("3056930009020004", "diners"),
        ("3566002020360505", "jcb"),
        ("6200000000000005", "unionpay"),
    ],
)
def test_well_known_test_numbers(pan: str, name: str) -> None:
    assert luhn_valid(pan)
    assert brand(pan) == brand(pan[:6]) == name


@given(partial=st.text("0123456789", min_size=11, max_size=18), wrong=st.integers(1, 9))
def test_the_check_digit_checks(partial: str, wrong: int) -> None:
    digit = luhn_digit(partial)
    assert luhn_valid(partial + digit)
    assert not luhn_valid(partial + str((int(digit) + wrong) % 10))


@pytest.mark.parametrize("pan", ["", "0", "42424242424", "4242 4242 4242 4242", "٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢", "0" * 20])
def test_what_is_no_number_is_not_valid(pan: str) -> None:
    assert not luhn_valid(pan)


def test_luhn_digit_wants_digits() -> None:
    with pytest.raises(ValueError, match="digits"):
        luhn_digit("42x")


def test_unknown_ranges_have_no_brand() -> None:
    assert brand("9999999999999999") == brand("") == brand("2") == "unknown"


def test_the_number_comes_from_de_2_or_from_the_track() -> None:
    assert pan_of(Message("0100", {2: "4242424242424242", 35: "5555555555554444=3012"})) == "4242424242424242"
    assert pan_of(Message("0100", {35: "5555555555554444=3012"})) == "5555555555554444"
    assert pan_of(Message("0100", {35: "5555555555554444D3012"})) == "5555555555554444"
    assert pan_of(Message("0800", {})) == ""
