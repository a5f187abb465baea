"""Nothing of a card is seen where messages are shown."""

from __future__ import annotations

import io
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.pretty import Pretty

from messages.card_numbers import holds
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.mask import CARD_DATA, mask_pan, masked, masked_hex_dump, masked_text
from messages.message import Message
from tests.card_number_cases import WITH_CARD_NUMBER

PAN = "4242428613974242"
MIDDLE = PAN[6:-4]
TRACK1 = f"B{PAN}^DOE/JANE^30121010000000000000"
TRACK2 = f"{PAN}=30121010000000000000"

FULL = Message(
    "0100",
    {
        2: PAN,
        3: "000000",
        4: "000000001000",
        11: "123456",
        14: "3012",
        34: PAN,
        35: TRACK2,
        36: TRACK2,
        41: "TERM0001",
        42: "MERCHANT0000001",
        43: f"SHOP {PAN} BERLIN DE".ljust(40),
        45: TRACK1,
        48: f"card {PAN}",
        52: "0123456789ABCDEF",
        53: "9876543210987654",
        55: f"5A08{PAN}5F24033012315713{PAN}D30121010000000000000F",
        60: "F",
        62: PAN,
        63: PAN,
        102: PAN,
        120: PAN,
        128: "A1B2C3D4E5F60718",
    },
)


def leaks(text: str) -> bool:
    """Whether six digits of the middle of the number are in a text, however grouped."""
    squeezed = "".join(character for character in text if character.isalnum())
    return MIDDLE in squeezed


def test_pan_keeps_first_six_and_last_four() -> None:
    assert mask_pan("4242424242424242") == "424242******4242"
    assert mask_pan("4222222222222") == "422222***2222"
    assert mask_pan("6304000000000000000") == "630400*********0000"


@pytest.mark.parametrize("short", ["", "1", "424242424242", "4242 4242 4242 4242", "4242x24242424242"])
def test_what_is_no_pan_is_masked_whole(short: str) -> None:
    assert set(mask_pan(short)) <= {"*"}


def test_elements_that_no_rule_names_are_masked() -> None:
    shown = masked(FULL)
    assert list(shown) == sorted(FULL.elements)
    assert shown[2] == "424242******4242"
    assert shown[35] == "424242******4242=****"
    assert (shown[3], shown[4], shown[11], shown[41], shown[60]) == (
        "000000",
        "000000001000",
        "123456",
        "TERM0001",
        "F",
    )
    for number in (14, 34, 36, 45, 48, 52, 53, 55, 62, 63, 102, 120, 128):
        assert set(shown[number]) == {"*"}


def test_card_data_is_never_among_what_is_shown() -> None:
    elements = dict.fromkeys(CARD_DATA - {2, 35}, "1234567890123456")
    assert set(masked(Message("0100", elements)).values()) == {"*" * 8}


# Elements that are harmless in one version, and in another a card verification value, customer data or private data.
@pytest.mark.parametrize(
    ("mti", "number", "value", "shown"),
    [
        ("0100", 49, "978", True),
        ("2100", 49, "7100060102313233", False),  # DE 49 of 2003 has the card verification value
        ("2100", 51, "710003DF0101", False),
        ("2100", 43, "710003DF0101", False),
        ("0100", 49, "7100060102313233", False),  # and if a peer says 1987
        ("0100", 31, "C00000010", True),
        ("1100", 31, "acquirers' own content", False),
        ("0100", 95, "000000000500".ljust(42, "0"), True),
        ("1100", 95, "issuers' own content", False),
        ("0100", 12, "164500", True),
        ("1100", 12, "261122164500", True),
        ("2100", 12, "20261122164500", True),
        ("0100", 12, "20261122164500", False),
        ("1100", 22, "A1010151134C", True),
        ("0100", 22, "A1010151134C", False),
        ("2100", 22, "20000000040000000200000001000000", True),
        ("1420", 56, "110012345626112216450006400100", True),
        ("0420", 56, "free text", False),
        ("0100", 1012, "261122164500", True),  # carried along by a message of 1987
        ("0100", 1012, "20261122164500", True),
        ("0100", 1024, "100", True),
        ("0100", 1031, "acquirers' own content", False),
        ("0100", 1049, "7100060102313233", False),
        ("1100", 1012, "261122164500", False),
        ("0100", 130, "1", False),
        ("0100", 192, "0102030405060708", False),
        ("9100", 4, "000000001000", False),  # of no version that anybody knows
        ("", 4, "000000001000", False),
        ("0100", 4, "00000000100x", False),
        ("0100", 44, "", True),  # nothing to hide
    ],
)
def test_what_is_shown_depends_on_the_version_and_on_the_look(mti: str, number: int, value: str, shown: bool) -> None:
    assert masked(Message(mti, {number: value}))[number] == (value if shown else "*" * min(len(value), 8))


@given(number=st.integers(2, 200), before=st.text("0123456789 ABC", max_size=10))
def test_the_card_number_of_a_message_is_masked_in_every_element(number: int, before: str) -> None:
    elements = {2: PAN, number: PAN if number == 2 else before + PAN}
    assert not leaks(repr(masked(Message("0100", elements))))


def test_a_card_number_in_free_text_is_masked_without_de_2() -> None:
    assert PAN not in masked(Message("0100", {43: f"SHOP {PAN} BERLIN"}))[43]
    assert not leaks(masked(Message("0100", {43: "SHOP 4242 4286 1397 4242 BERLIN"}))[43])
    assert masked(Message("0100", {43: "SHOP 4711 BERLIN DE"}))[43] == "SHOP 4711 BERLIN DE"


@pytest.mark.parametrize("name", WITH_CARD_NUMBER)
def test_no_spelling_of_a_card_number_is_shown(name: str) -> None:
    text = WITH_CARD_NUMBER[name]
    for number in (31, 43, 44, 48, 60, 61, 62, 63):
        assert not holds(masked(Message("0600", {number: text}))[number])
    assert not holds(masked_text(f"about {text}, please"))
    assert not holds(masked_hex_dump(text.encode(), limit=10_000))


def test_free_text_keeps_what_is_no_card_number() -> None:
    for text in ("call +447911123456", "IMEI 356938035643809", "ORDER-2026-0001234567", "10.0.0.1 30.11.2026 10:20"):
        assert masked_text(text) == text
        assert masked(Message("0100", {43: text}))[43] == text


def test_a_trace_id_is_shown_unless_a_card_number_could_be_in_it() -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    assert masked(Message("0100", {63: trace_id}))[63] == trace_id
    for other in (PAN + "a" * 16, "a" + PAN + "b" * 15, trace_id.upper(), trace_id + "a", PAN * 2):
        assert masked(Message("0100", {63: other}))[63] == "*" * 8


def test_repr_rich_and_tracebacks_are_masked() -> None:
    console = Console(file=io.StringIO(), width=400)
    console.print(Pretty(FULL))
    console.print(FULL)
    rich = console.file.getvalue()  # type: ignore[attr-defined]
    try:
        raise ValueError(FULL)
    except ValueError as error:
        shown = "".join(traceback.format_exception(error))
    for text in (repr(FULL), str(FULL), f"{FULL}", rich, shown):
        assert "424242******4242" in text
        assert not leaks(text)
        assert "0123456789ABCDEF" not in text


@pytest.mark.parametrize("name", ["iso87-ascii", "iso87-bcd"])
def test_a_dump_shows_the_shape_and_nothing_of_the_card(name: str) -> None:
    data = Codec(load_dialect(name)).encode(FULL)
    for cut in (data, data[:60], data[1:], data[3:], data[20:], b"0100" + data[40:]):
        dump = masked_hex_dump(cut, limit=2000)
        assert not leaks(dump)
        assert "424242" not in dump
    assert masked_hex_dump(data).startswith(f"{len(data)} bytes, MTI 0100\n")


@given(prefix=st.binary(max_size=6))
def test_no_dump_ever_shows_a_card_number(prefix: bytes) -> None:
    for body in (PAN.encode(), bytes.fromhex(PAN), TRACK1.encode(), TRACK2.replace("=", "D").encode()):
        dump = masked_hex_dump(prefix + body)
        assert not leaks(dump)
        assert "42428" not in dump


def test_a_dump_is_bounded() -> None:
    dump = masked_hex_dump(b"A1. \x00" * 1000, limit=64)
    assert dump.splitlines() == [
        "5000 bytes",
        "0000  an..xan. .xan..xa n..xan.. xan..xan",
        "0020  ..xan..x an..xan. .xan..xa n..xan..",
        "… 4936 more",
    ]


@pytest.mark.parametrize(
    "reason",
    [
        "DE 7: too old",
        "DE 7: in the future",
        "DE 4 expected 12 digits",
        "DE 32 not permitted",
        "type not permitted",
        "totals need DE 32",
    ],
)
def test_the_reason_of_a_refusal_is_shown(reason: str) -> None:
    assert masked(Message("0110", {44: reason}))[44] == reason


@pytest.mark.parametrize(
    "text", ["DE 2 4242424242424242", "CVV 123", "DE 48 123", "DE 2: 424 242", "DE 4 expected 123456"]
)
def test_digits_beside_a_reason_are_not_shown(text: str) -> None:
    assert masked(Message("0110", {44: text}))[44] == "*" * min(len(text), 8)
