"""DE 22 and 25 of 1987, the positions of 1993, the bits of 2003."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.dictionary.iso1987 import ENTRY_MODES, PIN_CAPABILITIES
from messages.dictionary.iso1993 import describe as describe_1993
from messages.dictionary.iso2003 import describe as describe_2003
from messages.points_of_service import (
    bits_2003,
    condition_1993,
    condition_2003,
    entry_mode_1993,
    entry_mode_2003,
    positions_1993,
)

# DE 22, DE 25, with a PIN block → positions. Source: ISO 8583:1993 annex A.8, worked out by hand.
POSITIONS = {
    ("051", "00", True): "51010151300C",  # chip, attended, PIN verified by who authorizes
    ("021", "", False): "21010120000C",
    ("012", "08", False): "600020600000",  # manual, mail or telephone
    ("812", "59", False): "000050S00000",  # electronic commerce
    ("071", "02", False): "M10201M0000C",  # contactless, unattended
    ("000", "", False): "000101000001",
}
# The same → four groups of four bytes, the first bit the lowest of the first byte.
BITS = {
    ("051", "00", True): "20000000" + "08000000" + "02000000" + "01000000",
    ("020", "02", False): "10000000" + "01000000" + "04000000" + "01000000",
    ("800", "00", False): "10280000" + "01000000" + "02000000" + "01000000",
    ("810", "59", False): "02000000" + "01000000" + "10000000" + "01000000",
}
# Codes that 2003 has no room for: first two digits of DE 22 → those that come back.
LESS_2003 = {"04": "00", "07": "05", "90": "02", "91": "02", "95": "05"}


@pytest.mark.parametrize(("mode", "condition", "with_pin"), sorted(POSITIONS))
def test_positions_of_1993(mode: str, condition: str, with_pin: bool) -> None:
    assert positions_1993(mode, condition, with_pin=with_pin) == POSITIONS[mode, condition, with_pin]


@pytest.mark.parametrize(("mode", "condition", "with_pin"), sorted(BITS))
def test_bits_of_2003(mode: str, condition: str, with_pin: bool) -> None:
    assert bits_2003(mode, condition, with_pin=with_pin) == BITS[mode, condition, with_pin]


@pytest.mark.parametrize("mode", sorted(ENTRY_MODES))
@pytest.mark.parametrize("pin", sorted(PIN_CAPABILITIES))
def test_each_mode_comes_back(mode: str, pin: str) -> None:
    said = positions_1993(mode + pin, "", with_pin=False)
    assert entry_mode_1993(said) == mode + pin
    assert "unknown position" not in describe_1993(22, said)
    bits = bits_2003(mode + pin, "", with_pin=False)
    assert entry_mode_2003(bits) == LESS_2003.get(mode, mode) + "0"
    assert "unknown bit" not in describe_2003(22, bits)


@pytest.mark.parametrize("condition", ["00", "01", "02", "05", "08", "59", "06"])
def test_conditions_come_back_or_are_normal(condition: str) -> None:
    known = {"00", "01", "02", "05", "08", "59"}
    assert condition_1993(positions_1993("051", condition, with_pin=False)) == (
        condition if condition in known else "00"
    )
    known -= {"01", "05"}
    assert condition_2003(bits_2003("051", condition, with_pin=False)) == (condition if condition in known else "00")


@pytest.mark.parametrize(
    ("positions", "condition"),
    [
        ("510141500000", "01"),
        ("510220500000", "08"),
        ("510430500000", "08"),
        ("510201500000", "02"),
        ("510999500000", "00"),
    ],
)
def test_places_that_no_condition_names_get_the_nearest(positions: str, condition: str) -> None:
    assert condition_1993(positions) == condition


@given(st.from_regex(r"[A-Za-z0-9 ]{12}", fullmatch=True))
def test_any_positions_have_a_mode_and_a_condition(positions: str) -> None:
    assert len(entry_mode_1993(positions)) == 3 and len(condition_1993(positions)) == 2


@given(st.from_regex(r"[0-9A-F]{32}", fullmatch=True))
def test_any_bits_have_a_mode_and_a_condition(bits: str) -> None:
    assert len(entry_mode_2003(bits)) == 3 and len(condition_2003(bits)) == 2
