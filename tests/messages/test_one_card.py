"""DE 2, tracks and chip data: which of them contradict, and what is left of chip data without its card."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.message import Message
from messages.one_card import card_problem, without_card

PAN, OTHER, ODD = "4242424242424242", "5555555555554444", "378282246310005"
CRYPTOGRAM = "9F2608AABBCCDD11223344"


def tlv(tag: str, value: str) -> str:
    assert len(value) % 2 == 0
    size = len(value) // 2
    return f"{tag}{size:02X}{value}" if size < 0x80 else f"{tag}81{size:02X}{value}"


def chip(pan: str, date: str = "3012") -> str:
    """Tag 57."""
    track = f"{pan}D{date}2011234567890"
    return tlv("57", track + "F" * (len(track) % 2))


# Content of the message besides DE 2 = PAN and DE 14 = 3012, and the wrong element; "" for none.
CASES: dict[str, tuple[dict[int, str], str]] = {
    "track 2": ({35: f"{PAN}=30122011234567890"}, ""),
    "track 2 of another card": ({35: f"{OTHER}=30122011234567890"}, "DE 35"),
    "track 2 with D": ({35: f"{PAN}D30122011234567890"}, ""),
    "track 2 with D of another": ({35: f"{OTHER}D30122011234567890"}, "DE 35"),
    "track 2 filled up": ({35: f"{PAN}D3012201123456789F"}, ""),
    "track 2 with sentinels": ({35: f";{PAN}=30122011234567890?"}, ""),
    "track 2 with sentinels of another": ({35: f";{OTHER}=30122011234567890?"}, "DE 35"),
    "track 2 with another date": ({35: f"{PAN}=31012011234567890"}, "DE 35"),
    "track 2 without a date": ({35: f"{PAN}=="}, ""),
    "track 2 without a separator": ({35: f"{PAN}30122011234567890"}, "DE 35"),
    "track 2 that is encrypted": ({35: "=1234567890123456789"}, "DE 35"),
    "track 1": ({45: f"B{PAN}^DOE/JANE^3012201"}, ""),
    "track 1 of another card": ({45: f"B{OTHER}^DOE/JANE^3012201"}, "DE 45"),
    "track 1 with spaces": ({45: f"%B{PAN[:4]} {PAN[4:]}^DOE/JANE^3012201"}, ""),
    "track 1 with another date": ({45: f"B{PAN}^DOE/JANE^3101201"}, "DE 45"),
    "track 1 that is encrypted": ({45: "QkFTRTY0IHRleHQgb2YgYSB0cmFjaw=="}, ""),
    "track 3": ({36: f"01{PAN}=724724"}, ""),
    "track 3 of another card": ({36: f"01{OTHER}=724724"}, "DE 36"),
    "extended number": ({34: PAN}, ""),
    "another extended number": ({34: OTHER}, "DE 34"),
    "chip": ({55: CRYPTOGRAM + chip(PAN) + tlv("5A", PAN) + tlv("5F24", "301231")}, ""),
    "chip track of another card": ({55: CRYPTOGRAM + chip(OTHER)}, "DE 55 tag 57"),
    "chip number of another card": ({55: tlv("5A", OTHER) + CRYPTOGRAM}, "DE 55 tag 5A"),
    "chip date of another card": ({55: tlv("5F24", "310131")}, "DE 55 tag 5F24"),
    "chip track with another date": ({55: chip(PAN, "3101")}, "DE 55 tag 57"),
    "the second of two": ({55: chip(PAN) + chip(OTHER)}, "DE 55 tag 57"),
    "inside a template": ({55: tlv("70", tlv("5A", OTHER))}, "DE 55 tag 5A"),
    "deep inside": ({55: tlv("77", tlv("70", chip(OTHER)))}, "DE 55 tag 57"),
    "behind filling": ({55: "0000FF" + tlv("5A", OTHER)}, "DE 55 tag 5A"),
    "in a data set": ({55: "01000A" + tlv("5A", OTHER)}, "DE 55 tag 5A"),
    "contactless track": ({55: tlv("9F6B", f"{OTHER}D3012201")}, "DE 55 tag 9F6B"),
    "track 1 in the chip": ({55: tlv("56", f"B{OTHER}^ /^3012".encode().hex().upper())}, "DE 55 tag 56"),
    "a length in two bytes": ({55: f"5A8108{OTHER}"}, "DE 55 tag 5A"),
    "inside a template FF01": ({55: tlv("FF01", tlv("5A", OTHER))}, "DE 55 tag 5A"),
    "inside a template FF41": ({55: tlv("FF41", chip(OTHER))}, "DE 55 tag 57"),
    "inside a template FF8105": ({55: "9F0000" + tlv("FF8105", tlv("5A", OTHER))}, "DE 55 tag 5A"),
    "inside FF inside of FF": ({55: tlv("FF01", "FF" + tlv("FF02", tlv("5A", OTHER)))}, "DE 55 tag 5A"),
    "inside FF inside of another": ({55: tlv("70", tlv("FF01", tlv("5A", OTHER)))}, "DE 55 tag 5A"),
    "inside FF01, and of the card": ({55: tlv("FF01", tlv("5A", PAN)) + chip(PAN)}, ""),
    "filled with FF": ({55: "FFFF" + CRYPTOGRAM + "FF" + tlv("5A", PAN) + "FF" * 20}, ""),
    "FF more often than can be looked at": ({55: "FF0100" * 40 + tlv("5A", PAN)}, "DE 55"),
    "chip data that cannot be read, with a card number in it": ({55: f"9F26FF5A08{OTHER}"}, "DE 55"),
    "chip data that cannot be read, with none": ({55: "9F26FF"}, ""),
    "a number by chance": ({55: "9F10035A5708"}, ""),
}


@pytest.mark.parametrize("what", CASES)
def test_whatever_names_a_card_names_the_same_one(what: str) -> None:
    elements, wrong = CASES[what]
    problem = card_problem(Message("0200", {2: PAN, 14: "3012", **elements}))
    assert (problem.path if problem else "") == wrong
    assert problem is None or OTHER[:6] not in problem.reason


def test_without_de_2_the_others_must_agree() -> None:
    track = {35: f"{ODD}=30122011234567890"}
    assert card_problem(Message("0200", track)) is None
    assert card_problem(Message("0200", {**track, 55: chip(ODD) + tlv("5A", ODD + "F")})) is None
    for elements, path in (({55: chip(PAN)}, "DE 55 tag 57"), ({45: f"B{PAN}^ /^3012"}, "DE 45")):
        problem = card_problem(Message("0200", {**track, **elements}))
        assert problem is not None and problem.path == path


@given(st.binary(max_size=60))
def test_no_chip_data_break_the_look_at_them(data: bytes) -> None:
    card_problem(Message("0200", {2: PAN, 55: data.hex().upper()}))
    assert PAN not in without_card(data.hex().upper())


@given(
    st.lists(st.sampled_from([CRYPTOGRAM, "9F10035A5708", "82023900", tlv("9F6E", "57" * 4)]), max_size=6), st.data()
)
def test_another_card_is_found_wherever_it_is(tags: list[str], data: Any) -> None:
    at = data.draw(st.integers(0, len(tags)))
    hidden = data.draw(st.sampled_from([chip(OTHER), tlv("5A", OTHER), tlv("70", tlv("77", chip(OTHER)))]))
    problem = card_problem(Message("0200", {2: PAN, 55: "".join([*tags[:at], hidden, *tags[at:]])}))
    assert problem is not None and problem.path.startswith("DE 55 tag 5")


def test_chip_data_without_their_card() -> None:
    assert without_card(CRYPTOGRAM) == CRYPTOGRAM
    assert without_card(chip(PAN) + CRYPTOGRAM + tlv("5A", PAN) + tlv("5F24", "301231")) == CRYPTOGRAM
    inner = "01" + f"{len(CRYPTOGRAM) // 2 + 10:04X}" + CRYPTOGRAM + tlv("5A", PAN)
    assert without_card(inner) == "01" + f"{len(CRYPTOGRAM) // 2:04X}" + CRYPTOGRAM
    assert without_card(CRYPTOGRAM + tlv("70", tlv("5A", PAN))) == "", "it cannot be taken out alone"
    assert without_card(f"9F26FF5A08{PAN}") == ""
    assert without_card(CRYPTOGRAM + tlv("FF01", tlv("5A", PAN))) == ""
    assert without_card("FF" + CRYPTOGRAM + tlv("5A", PAN) + "FFFF") == CRYPTOGRAM
