"""Card verification values against published examples, and against psec as an independent oracle."""

from __future__ import annotations

import psec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.algorithms.card_value import (
    SERVICE_CODES,
    card_value,
    cavv_output,
    dynamic_card_value,
    service_code,
    values_match,
)
from hsm.algorithms.clear_keys import ClearTdesKey
from hsm.algorithms.decimalization import decimal_digits

# psec calls TripleDES as cryptography no longer wants it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:TripleDES has been moved"),
    pytest.mark.filterwarnings("ignore:Two-key TripleDES"),
    pytest.mark.filterwarnings("ignore:Single-key TripleDES"),
]

CVK = ClearTdesKey(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
PAN = "4123456789012345"
DIGITS = "0123456789"
PANS = st.text(DIGITS, min_size=12, max_size=19)
DOUBLE = st.binary(min_size=16, max_size=16)


def test_cvv_vectors() -> None:
    # Source: the worked example of Visa's Payment Technology Standards Manual, as host manuals of HSMs repeat it.
    assert card_value(CVK, PAN, "8701", "101") == "561"
    # Source: psec.cvv.generate_cvv, its documented example.
    assert card_value(CVK, "1234567890123456", "9912", "220") == "170"


@given(
    key=DOUBLE, pan=PANS, expiry=st.text(DIGITS, min_size=4, max_size=4), code=st.text(DIGITS, min_size=3, max_size=3)
)
def test_cvv_is_that_of_psec(key: bytes, pan: str, expiry: str, code: str) -> None:
    oracle = psec.cvv.generate_cvv(key, pan, expiry, code)
    value = card_value(ClearTdesKey(key), pan, expiry, code)
    assert len(value) == 3 and value.isdigit()
    # psec does not go on with A–F where the decimal digits run out, which happens once in a hundred thousand.
    assert value.startswith(oracle)


def test_dcvv_vectors() -> None:
    # Source: the public unit tests of an EMV card personalisation tool (dsc_test.py: card keys
    # 9991C31043BFD9858016396CF24F0D6F and 1274FB0FCD3E27E088B741553037F089), with the master keys they come from.
    first = ClearTdesKey(bytes.fromhex("01017391010101101320010101010101"))
    assert dynamic_card_value(first, "4012340000000016", "00", "0001", "1228", "000") == "369"
    second = ClearTdesKey(bytes.fromhex("2315208C9110AD402315208C9110AD40"))
    assert dynamic_card_value(second, "4761739001010010", "00", "0001", "1220", "000") == "802"
    assert dynamic_card_value(second, "4761739001010010", "00", "0002", "1220", "000") != "802"
    assert dynamic_card_value(second, "4761739001010010", "01", "0001", "1220", "000") != "802"


def test_cavv_vector() -> None:
    # Source: the example of Visa's 3-D Secure CAVV tables (ATN 9602231034727993, authentication results code 7, second
    # factor code 00), as the public Go package gocavv tests it.
    assert cavv_output(CVK, PAN, "7993", "700") == "972"
    # The same source: of a longer number the rightmost 16 digits enter, a shorter one is padded on the left.
    assert cavv_output(CVK, "123" + PAN, "7993", "700") == "972"
    assert cavv_output(CVK, "23456789012345", "7993", "700") == cavv_output(CVK, "0023456789012345", "7993", "700")


def test_decimal_digits_go_on_with_letters() -> None:
    assert decimal_digits(bytes.fromhex("12ABCDEF34567890"), 3) == "123"
    assert decimal_digits(bytes.fromhex("AB1CDEFABCDEF2AB"), 3) == "120"
    assert decimal_digits(bytes.fromhex("ABCDEFABCDEFAB9C"), 3) == "901"
    assert decimal_digits(bytes.fromhex("FEDCBAFEDCBAFEDC"), 3) == "543"


@given(kind=st.sampled_from(sorted(SERVICE_CODES)), code=st.text(DIGITS, min_size=3, max_size=3))
def test_no_two_kinds_share_a_service_code(kind: str, code: str) -> None:
    try:
        used = service_code(kind, code)
    except ValueError:
        return
    assert used == code
    for other in set(SERVICE_CODES) - {kind}:
        with pytest.raises(ValueError, match="service code"):
            service_code(other, used)


def test_fixed_service_codes() -> None:
    assert service_code("cvv2") == service_code("cvv2", "000") == "000"
    assert service_code("icvv") == service_code("icvv", "999") == "999"
    assert service_code("cvv", "201") == "201"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("cvv", ""),
        ("cvv", "000"),
        ("cvv", "999"),
        ("cvv", "20"),
        ("cvv", "2011"),
        ("cvv", "20x"),
        ("cvv", "٢٠١"),
        ("cvv2", "999"),
        ("cvv2", "201"),
        ("icvv", "000"),
        ("dcvv", "201"),
        ("", "201"),
    ],
)
def test_service_codes_that_do_not_belong(kind: str, code: str) -> None:
    with pytest.raises(ValueError, match=r"service code|kinds"):
        service_code(kind, code)


@pytest.mark.parametrize(
    ("pan", "expiry", "code", "reason"),
    [
        ("4" * 11, "3012", "101", "12 to 19"),
        ("4" * 20, "3012", "101", "12 to 19"),
        ("424242424242424x", "3012", "101", "12 to 19"),
        ("", "3012", "101", "12 to 19"),
        (PAN, "301", "101", "4 digits"),
        (PAN, "30122", "101", "4 digits"),
        (PAN, "3O12", "101", "4 digits"),
        (PAN, "3012", "1", "3 digits"),
        (PAN, "3012", "1010", "3 digits"),
    ],
)
def test_fields_of_another_shape(pan: str, expiry: str, code: str, reason: str) -> None:
    for call in (
        lambda: card_value(CVK, pan, expiry, code),
        lambda: cavv_output(CVK, pan, expiry, code),
        lambda: dynamic_card_value(CVK, pan, "00", "0001", expiry, code),
    ):
        with pytest.raises(ValueError, match=reason) as caught:
            call()
        assert not pan or pan not in str(caught.value)


@pytest.mark.parametrize("atc", ["", "001", "00001", "00G1", "٠٠٠١"])
def test_dcvv_counters_of_another_shape(atc: str) -> None:
    with pytest.raises(ValueError, match="counter"):
        dynamic_card_value(CVK, PAN, "00", atc, "3012", "201")


def test_values_match_whole() -> None:
    assert values_match("123", "123")
    assert not any(values_match("123", other) for other in ("124", "12", "1234", "", "१२३"))
