"""Names, formats and codes of all versions, asked for by the version's year; DE 39 against action codes."""

from __future__ import annotations

import re

import pytest

from messages.dictionary import describe, element_format, element_name, iso1987, iso1993, iso2003
from messages.dictionary.actions import action_code, response_code

SAID = {
    ("1987", 3, "200030"): "Refund, credit account",
    ("1987", 22, "051"): "chip, PIN entry possible",
    ("1987", 39, "51"): "Insufficient funds",
    ("1987", 70, "301"): "echo test",
    ("1993", 3, "000000"): "Goods and services",
    ("1993", 24, "801"): "sign-on",
    ("1993", 25, "4021"): "time-out waiting for response",
    ("1993", 39, "116"): "Insufficient funds",
    ("2003", 24, "831"): "echo test",
    ("2003", 39, "1016"): "Insufficient funds",
    ("2003", 39, "9107"): "Issuer or switch inoperative",
    ("1987", 39, "XX"): "unknown response code",
    ("1993", 39, "999"): "unknown action code",
    ("1987", 41, "TERM0001"): "",
    ("2003", 22, "no hexadecimal digits, of that 32"): "",
}


@pytest.mark.parametrize(("version", "number", "value"), sorted(SAID))
def test_codes_are_told_in_words(version: str, number: int, value: str) -> None:
    assert describe(version, number, value) == SAID[version, number, value]


def test_points_of_service_are_told_place_by_place() -> None:
    said = describe("1993", 22, "51010151300C")
    assert "card data input mode: chip" in said and "PIN capture capability: 12 digits" in said
    assert said.count(";") == 11 and said.startswith("card data input capability: chip")
    assert "card reading: chip" in describe("2003", 22, "20000000080000000200000001000000")


def test_names_and_formats_are_those_of_the_version() -> None:
    assert [element_name(version, 12) for version in ("1987", "1993")] == [
        "Time, local transaction", "Date and time, local transaction",
    ]  # fmt: skip
    assert [element_format(version, 39) for version in ("1987", "1993", "2003")] == ["an 2", "n 3", "n 4"]
    assert element_name("1987", 200) == element_format("2003", 1) == ""
    notation = re.compile(r"(?:n|a|an|ans|z|b|x\+n)(?: |\.{1,4})\d+")
    for module in (iso1987, iso1993, iso2003):
        assert module.ELEMENT_NAMES.keys() == module.FORMATS.keys()
        assert all(notation.fullmatch(format_) for format_ in module.FORMATS.values())


@pytest.mark.parametrize("version", ["1993", "2003"])
def test_each_code_has_a_counterpart_and_usual_ones_come_back(version: str) -> None:
    codes = iso1993.ACTION_CODES if version == "1993" else iso2003.ACTION_CODES
    for code in iso1987.RESPONSE_CODES:
        assert action_code(code, "1", version) in codes
    for code in ("00", "10", "05", "14", "30", "51", "54", "55", "61", "75", "91", "92", "94", "96"):
        assert response_code(action_code(code, "1", version), version, "0110") == code
    for action in codes:
        assert response_code(action, version, "0110") in iso1987.RESPONSE_CODES
    assert response_code("099", version, "0110") == "08"  # approved, nobody knows how: taken back
    assert response_code("", version, "0110") == "96"


@pytest.mark.parametrize(
    ("message_class", "action"), [("1", "000"), ("3", "300"), ("4", "400"), ("5", "500"), ("8", "800")]
)
def test_an_approval_is_that_of_its_class(message_class: str, action: str) -> None:
    assert action_code("00", message_class, "1993") == action
    assert response_code(action, "1993", f"0{message_class}10") == "00"
