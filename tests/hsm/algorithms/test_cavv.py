"""The CAVV's bytes against the published example, and back."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.algorithms.card_value import cavv_output
from hsm.algorithms.cavv import RESULT_CODES, Cavv, decode_cavv
from hsm.algorithms.clear_keys import ClearTdesKey

# Source: the example of Visa's 3-D Secure CAVV tables, as the public Go package gocavv tests it.
EXAMPLE = bytes.fromhex("0700010972799396022310347279930000000000")
PARTS = Cavv(result_code="7", second_factor="00", key_indicator="01", output="972", atn="9602231034727993")


def digits(count: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=count, max_size=count)


CAVVS = st.builds(
    Cavv,
    result_code=digits(1),
    second_factor=digits(2),
    key_indicator=digits(2),
    output=digits(3),
    atn=digits(16),
    version=digits(2),
    address=st.binary(min_size=4, max_size=4),
)


def test_the_published_example() -> None:
    assert PARTS.encode() == EXAMPLE
    assert decode_cavv(EXAMPLE) == PARTS
    key = ClearTdesKey(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
    assert cavv_output(key, "4123456789012345", PARTS.atn[-4:], PARTS.result_code + PARTS.second_factor) == PARTS.output
    assert RESULT_CODES["A"] == PARTS.result_code


@given(cavv=CAVVS)
def test_there_and_back(cavv: Cavv) -> None:
    assert decode_cavv(cavv.encode()) == cavv


@given(data=st.binary(min_size=20, max_size=20))
def test_bytes_are_read_whole_or_not_at_all(data: bytes) -> None:
    try:
        cavv = decode_cavv(data)
    except ValueError:
        return
    assert cavv.encode() == data


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 0x17),  # filler
        (0, 0x0A),  # no digits
        (1, 0xA0),
        (2, 0x0F),
        (3, 0x19),  # filler
        (3, 0x0A),
        (4, 0x7F),
        (5, 0x78),  # not the end of the tracking number
        (6, 0x94),
        (7, 0xF6),
        (14, 0x94),
        (15, 0x0C),
    ],
)
def test_bytes_that_are_no_cavv(place: int, value: int) -> None:
    with pytest.raises(ValueError, match="CAVV"):
        decode_cavv(EXAMPLE[:place] + bytes([value]) + EXAMPLE[place + 1 :])


@pytest.mark.parametrize("length", [0, 19, 21])
def test_a_cavv_has_20_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        decode_cavv(EXAMPLE.ljust(21, b"\0")[:length])


@pytest.mark.parametrize(
    "changes",
    [
        {"result_code": ""},
        {"result_code": "70"},
        {"second_factor": "0"},
        {"key_indicator": "1"},
        {"output": "97"},
        {"output": "97a"},
        {"atn": "7993"},
        {"version": "0"},
        {"version": "٠٠"},
        {"address": b"123"},
    ],
)
def test_parts_of_another_shape(changes: dict[str, str | bytes]) -> None:
    with pytest.raises(ValueError, match="of a CAVV has"):
        msgspec.structs.replace(PARTS, **changes)
    assert "972" not in repr(PARTS)
