"""Token cryptograms: the MAC's input, the bytes on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from hsm.algorithms.clear_keys import ClearAesKey
from hsm.algorithms.token_cryptogram import (
    CRYPTOGRAM_BYTES,
    Cryptogram,
    cryptogram_matches,
    make_cryptogram,
    parse_cryptogram,
)
from hsm.errors import TokenCryptogramError

VALUE = bytes(range(32))
KEY = ClearAesKey(VALUE)
DPAN, EXPIRY = "9900010000000008", "3012"

counters = st.integers(1, 2**32 - 1)
four_bytes = st.binary(min_size=4, max_size=4)


def test_the_mac_is_the_cmac_of_what_the_docstring_says() -> None:
    # The MAC's own vectors (NIST SP 800-38B, D.3) are in the tests of the keys; this one holds the layout of its input.
    mac = CMAC(AES(VALUE))
    mac.update(b"cardswitch network token cryptogram 1\0" + bytes([16]) + b"99000100000000083012\0\0\1\0abcd")
    assert make_cryptogram(KEY, DPAN, EXPIRY, 256, b"abcd").mac == mac.finalize()[:8]


def test_layout() -> None:
    assert Cryptogram(0x01020304, b"abcd", b"12345678").encode() == b"\1\1\2\3\4abcd12345678\0\0\0"


@given(counter=counters, unpredictable=four_bytes)
def test_what_is_encoded_is_read_again(counter: int, unpredictable: bytes) -> None:
    made = make_cryptogram(KEY, DPAN, EXPIRY, counter, unpredictable)
    assert len(made.encode()) == CRYPTOGRAM_BYTES
    assert parse_cryptogram(made.encode()) == made
    assert cryptogram_matches(KEY, DPAN, EXPIRY, made)


@given(data=st.data(), counter=counters, unpredictable=four_bytes)
def test_any_bit_flipped_is_refused(data: Any, counter: int, unpredictable: bytes) -> None:
    encoded = bytearray(make_cryptogram(KEY, DPAN, EXPIRY, counter, unpredictable).encode())
    bit = data.draw(st.integers(0, 8 * CRYPTOGRAM_BYTES - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    try:
        altered = parse_cryptogram(bytes(encoded))
    except TokenCryptogramError:
        return
    assert not cryptogram_matches(KEY, DPAN, EXPIRY, altered)


@pytest.mark.parametrize(
    ("dpan", "expiry"), [("9900010000000016", EXPIRY), (DPAN, "3011"), (DPAN + "3", "0123"), (DPAN[:-1], "8301")]
)
def test_another_number_or_expiry_does_not_match(dpan: str, expiry: str) -> None:
    assert not cryptogram_matches(KEY, dpan, expiry, make_cryptogram(KEY, DPAN, EXPIRY, 1, b"abcd"))


@pytest.mark.parametrize("data", [b"", bytes(20), b"\1" + bytes(19), b"\1" + b"x" * 19, bytes([1]) * 21])
def test_what_is_no_cryptogram(data: bytes) -> None:
    with pytest.raises(TokenCryptogramError):
        parse_cryptogram(data)


@pytest.mark.parametrize(
    "arguments",
    [
        ("12345678901", EXPIRY, 1, b"abcd"),
        ("9" * 20, EXPIRY, 1, b"abcd"),
        ("９９０００１０００００００００８", EXPIRY, 1, b"abcd"),
        (DPAN, "301", 1, b"abcd"),
        (DPAN, "３０１２", 1, b"abcd"),
        (DPAN, EXPIRY, 0, b"abcd"),
        (DPAN, EXPIRY, 2**32, b"abcd"),
        (DPAN, EXPIRY, 1, b"abc"),
    ],
)
def test_arguments_of_another_shape(arguments: Any) -> None:
    with pytest.raises(ValueError):
        make_cryptogram(KEY, *arguments)
