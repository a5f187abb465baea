"""The codec against bytes written by hand, its refusals, its caches and its MAC."""

from __future__ import annotations

import traceback

import pytest

from messages.codec import COMPILE_AFTER, Codec
from messages.decoder_source import compile_decoder
from messages.dialect import Dialect, load_dialect
from messages.errors import DecodeError, EncodeError
from messages.interpreter import Interpreter
from messages.message import Message
from tests.messages.sample_dialects import DIALECTS, parsed, third

PAN = "4242424242424242"

AUTHORIZATION = Message(
    "0100",
    {
        2: PAN,
        3: "000000",
        4: "000000001000",
        11: "123456",
        14: "3012",
        22: "051",
        32: "12345",
        35: "4242424242424242=30122010000000000000",
        39: "00",
        41: "TERM0001",
        49: "978",
        52: "0123456789ABCDEF",
        55: "9F2701809A03261122",
        70: "301",
        128: "A1B2C3D4E5F60718",
    },
)
# bits 1 2 3 4 | 11 14 | 22 | 32 || 35 39 | 41 | 49 52 | 55      and in the second: 70 | 128
BITMAPS = "F0240401 22809200".replace(" ", "") + "0400000000000001"

ASCII = (
    b"0100" + BITMAPS.encode()
    + b"16" b"4242424242424242"
    + b"000000" b"000000001000" b"123456" b"3012" b"051"
    + b"05" b"12345"
    + b"37" b"4242424242424242=30122010000000000000"
    + b"00" b"TERM0001" b"978" b"0123456789ABCDEF"
    + b"018" b"9F2701809A03261122"
    + b"301" b"A1B2C3D4E5F60718"
)  # fmt: skip
BCD = bytes.fromhex(
    "0100" + BITMAPS
    + "16" "4242424242424242"
    + "000000" "000000001000" "123456" "3012" "0051"
    + "05" "012345"
    + "37" "4242424242424242D30122010000000000000F"
    + "3030" "5445524D30303031" "393738" "0123456789ABCDEF"
    + "0009" "9F2701809A03261122"
    + "0301" "A1B2C3D4E5F60718"
)  # fmt: skip
EBCDIC = (
    "0100".encode("cp037") + bytes.fromhex(BITMAPS)
    + "164242424242424242".encode("cp037")
    + "0000000000000010001234563012051".encode("cp037")
    + "0512345".encode("cp037")
    + "374242424242424242=30122010000000000000".encode("cp037")
    + "00TERM0001978".encode("cp037") + bytes.fromhex("0123456789ABCDEF")
    + "009".encode("cp037") + bytes.fromhex("9F2701809A03261122")
    + "301".encode("cp037") + bytes.fromhex("A1B2C3D4E5F60718")
)  # fmt: skip
WIRES = {"iso87-ascii": ASCII, "iso87-bcd": BCD, "iso87-ebcdic": EBCDIC}
every_dialect = pytest.mark.parametrize("name", WIRES)


def warm(codec: Codec, message: Message, data: bytes) -> None:
    for _ in range(COMPILE_AFTER):
        codec.encode(message)
        codec.decode(data)


@every_dialect
def test_bytes_written_by_hand_mean_what_they_should(name: str) -> None:
    codec = Codec(load_dialect(name))
    for _ in range(COMPILE_AFTER + 2):  # interpreted first, compiled at the end
        assert codec.decode(WIRES[name]) == AUTHORIZATION
        assert codec.encode(AUTHORIZATION) == WIRES[name]
    assert codec.compiled == (1, 1)


@every_dialect
def test_order_of_insertion_does_not_matter(name: str) -> None:
    codec = Codec(load_dialect(name))
    backwards = Message("0100", dict(reversed(AUTHORIZATION.elements.items())))
    warm(codec, backwards, WIRES[name])
    assert codec.encode(backwards) == WIRES[name]


def test_an_echo_without_secondary_elements_has_one_bitmap() -> None:
    echo = Message("0800", {7: "1122154500", 11: "000001"})
    assert Codec(load_dialect("iso87-ascii")).encode(echo) == b"080002200000000000001122154500000001"
    assert Codec(load_dialect("iso87-bcd")).encode(echo) == bytes.fromhex("080002200000000000001122154500000001")


def test_lower_case_hexadecimal_is_read_and_upper_case_written() -> None:
    codec = Codec(load_dialect("iso87-ascii"))
    lower = ASCII.replace(BITMAPS.encode(), BITMAPS.lower().encode()).replace(b"0123456789ABCDEF", b"0123456789abcdef")
    for _ in range(COMPILE_AFTER + 2):
        assert codec.decode(lower) == AUTHORIZATION
    assert codec.encode(codec.decode(lower)) == ASCII


def test_a_secondary_bitmap_without_bits_is_read() -> None:
    codec = Codec(load_dialect("iso87-bcd"))
    for _ in range(COMPILE_AFTER + 2):
        assert codec.decode(bytes.fromhex("08008020000000000000" + "00" * 8 + "000001")) == Message(
            "0800", {11: "000001"}
        )


@pytest.mark.parametrize(
    ("broken", "path", "offset"),
    [
        (b"", "MTI", 0),
        (b"01", "MTI", 0),
        (b"01A0" + ASCII[4:], "MTI", 0),
        (b"01\xb20" + ASCII[4:], "MTI", 0),
        (ASCII[:20], "bitmap", 20),
        (ASCII[:4] + b" 0240401228092 0" + ASCII[20:], "bitmap", 4),
        (ASCII.replace(b"16" + PAN.encode(), b"20" + PAN.encode()), "DE 2", 36),
        (ASCII.replace(b"16" + PAN.encode(), b"+6" + PAN.encode()), "DE 2", 36),
        (ASCII.replace(b"16" + PAN.encode(), b"16" + PAN.encode()[:-1] + b"x"), "DE 2", 38),
        (ASCII.replace(b"000000001000", b"00000000100 "), "DE 4", 60),
        (ASCII.replace(b"TERM0001", b"TERM000\n"), "DE 41", ASCII.index(b"TERM0001")),
        (ASCII.replace(b"018", b"017"), "DE 55", ASCII.index(b"018")),
        (ASCII + b"0", "message", len(ASCII)),
        (ASCII[:-1], "DE 128", len(ASCII) - 16),
    ],
)
def test_a_refusal_says_where(broken: bytes, path: str, offset: int) -> None:
    for warmed in (False, True):
        codec = Codec(load_dialect("iso87-ascii"))
        if warmed:
            warm(codec, AUTHORIZATION, ASCII)
        with pytest.raises(DecodeError) as caught:
            codec.decode(broken)
        assert (caught.value.path, caught.value.offset) == (path, offset)
        assert PAN[6:-4] not in str(caught.value)


def test_an_element_that_the_dialect_lacks_is_named() -> None:
    with pytest.raises(DecodeError, match=r"bitmap at byte 2: announces DE 65, which iso87-bcd does not have"):
        Codec(load_dialect("iso87-bcd")).decode(bytes.fromhex("0100" + "8000000000000000" + "8000000000000000"))


@pytest.mark.parametrize(
    ("mti", "number", "value", "path"),
    [
        ("0100", 2, PAN + "1234", "DE 2"),
        ("0100", 2, "", "DE 2"),
        ("0100", 2, "424242424242424x", "DE 2"),
        ("0100", 4, "1000", "DE 4"),
        ("0100", 35, "4242424242424242^3012", "DE 35"),
        ("0100", 41, "TERM 01", "DE 41"),
        ("0100", 41, "TERM00\xe91", "DE 41"),
        ("0100", 52, "0123456789ABCDEG", "DE 52"),
        ("0100", 55, "9F2", "DE 55"),
        ("0100", 65, "0", "DE 65"),
        ("0100", 129, "0", "DE 129"),
        ("010", 3, "000000", "MTI"),
        ("01O0", 3, "000000", "MTI"),
    ],
)
@every_dialect
def test_what_cannot_be_said_is_refused_by_path_without_the_value(
    name: str, mti: str, number: int, value: str, path: str
) -> None:
    for warmed in (False, True):
        codec = Codec(load_dialect(name))
        if warmed:
            warm(codec, AUTHORIZATION, WIRES[name])
        with pytest.raises(EncodeError) as caught:
            codec.encode(Message(mti, {**AUTHORIZATION.elements, number: value}))
        assert caught.value.path == path
        assert "42424" not in str(caught.value)


@every_dialect
def test_the_caches_stay_bounded_whatever_a_peer_sends(name: str) -> None:
    codec = Codec(load_dialect(name), cache_size=8)
    interpreter = Interpreter(codec.dialect)
    for first in range(3, 20):
        for second in (37, 38, 39):
            message = Message(
                "0800",
                {number: "1" * codec.dialect.elements[number].max_length for number in (first, second)},
            )
            data = interpreter.encode(message)
            for _ in range(COMPILE_AFTER + 1):
                assert codec.decode(data) == message
                assert codec.encode(message) == data
            assert max(codec.compiled) <= 8
    for first in range(3, 20):
        for second in range(20, 28):
            message = Message(
                "0800", {number: "1" * codec.dialect.elements[number].max_length for number in (first, second)}
            )
            codec.decode(codec.encode(message))
            assert codec._seen_bitmaps.entries <= 32
            assert codec._seen_sets.entries <= 32


def test_bytes_that_are_refused_never_get_compiled_code() -> None:
    codec = Codec(load_dialect("iso87-ascii"))
    for _ in range(3 * COMPILE_AFTER):
        with pytest.raises(DecodeError):
            codec.decode(ASCII + b"0")
    assert codec.compiled == (0, 0)


def test_generated_source_shows_in_tracebacks() -> None:
    decoder = compile_decoder(load_dialect("iso87-ascii"), (2,), 20)
    try:
        decoder(b"0100" + b"4000000000000000" + b"xx")
    except KeyError as error:
        shown = "".join(traceback.format_exception(error))
    assert "generated/iso87-ascii/decode/2" in shown
    assert "start_2 + LENGTH" in shown


@every_dialect
def test_a_mac_covers_everything_before_it_and_can_be_replaced(name: str) -> None:
    codec = Codec(load_dialect(name))
    covered, mac = codec.mac_input(WIRES[name])
    assert mac == bytes.fromhex("A1B2C3D4E5F60718")
    assert WIRES[name].startswith(covered)
    assert len(WIRES[name]) - len(covered) == (16 if name == "iso87-ascii" else 8)
    replaced = codec.replace_mac(WIRES[name], bytes(range(0xF8, 0x100)))
    assert codec.mac_input(replaced) == (covered, bytes(range(0xF8, 0x100)))
    assert codec.decode(replaced).elements[128] == "F8F9FAFBFCFDFEFF"


@every_dialect
def test_the_mac_of_a_message_without_secondary_elements_is_de_64(name: str) -> None:
    codec = Codec(load_dialect(name))
    data = codec.encode(Message("0800", {11: "000001", 64: "00" * 8}))
    assert codec.decode(codec.replace_mac(data, b"\x01" * 8)).elements == {11: "000001", 64: "01" * 8}


@every_dialect
def test_no_mac_where_there_is_none(name: str) -> None:
    codec = Codec(load_dialect(name))
    without = codec.encode(Message("0800", {11: "000001"}))
    not_last = codec.encode(Message("0800", {64: "00" * 8, 70: "301"}))
    for data in (without, not_last):
        with pytest.raises(DecodeError, match="neither DE 64 nor DE 128"):
            codec.mac_input(data)
    with pytest.raises(DecodeError, match="MAC"):
        codec.replace_mac(WIRES[name][: 40 if name == "iso87-ascii" else 20], b"\x01" * 8)
    with pytest.raises(ValueError, match="8 bytes"):
        codec.replace_mac(WIRES[name], b"\x01" * 7)
    if name == "iso87-ascii":
        with pytest.raises(DecodeError, match="16 hexadecimal digits"):
            codec.mac_input(ASCII[:-1] + b"g")


@pytest.mark.parametrize("dialect", ["iso87-ascii", "iso87-bcd", "iso87-ebcdic"])
@pytest.mark.parametrize("pan", ["4" * 12, "4" * 13, PAN, "4" * 19])
@pytest.mark.parametrize("last", [52, 64, 70, 128])
def test_the_offset_of_a_value_is_where_it_stands(dialect: str, pan: str, last: int) -> None:
    """For any bitmaps, and any state of compilation."""
    known = load_dialect(dialect)
    codec = Codec(known)
    values = {2: pan, 4: "000000001000", 43: "x" * 40, 52: "FEDCBA9876543210", 64: "0" * 16, 70: "301", 128: "0" * 16}
    message = Message("0100", {number: value for number, value in values.items() if number <= last})
    for _ in range(COMPILE_AFTER + 2):
        data = codec.encode(message)
        for number in (2, 52):
            value = values[number]
            packed = known.elements[number].encoding in ("bcd", "binary")
            text = value.encode("cp037" if dialect == "iso87-ebcdic" else "ascii")
            raw = bytes.fromhex(value if len(value) % 2 == 0 else f"0{value}") if packed else text
            at = codec.offset(message, number)
            assert data[at : at + len(raw)] == raw


THIRD = third("third", "contiguous", "ascii", "hex")
INSIDE = third("third-inside", "element", "bcd", "binary")


def test_a_third_bitmap_stands_behind_the_second_or_among_the_elements() -> None:
    message = Message("0800", {3: "000000", 70: "301", 130: "12345", 192: "0102030405060708"})
    behind = (
        b"0800" + b"A000000000000000" + b"8400000000000000" + b"4000000000000001"
        + b"000000" + b"301" + b"0512345" + b"0102030405060708"
    )  # fmt: skip
    among = (
        bytes.fromhex("0800" + "A000000000000000" + "8400000000000000")
        + b"000000" + bytes.fromhex("4000000000000001") + b"301" + b"0512345" + b"0102030405060708"
    )  # fmt: skip
    for dialect, data in ((THIRD, behind), (INSIDE, among)):
        codec = Codec(dialect)
        for _ in range(COMPILE_AFTER + 2):
            assert codec.decode(data) == message
            assert codec.encode(message) == data
        assert codec.compiled == (0 if dialect is INSIDE else 1, 1)


@pytest.mark.parametrize(
    "dialect",
    [THIRD, INSIDE, third("third-ebcdic", "contiguous", "cp037", "ebcdic-hex"), DIALECTS["always-two"]],
    ids=lambda dialect: dialect.name,
)
@pytest.mark.parametrize("last", [3, 64, 66, 128, 150, 192])
def test_offsets_know_all_three_bitmaps(dialect: Dialect, last: int) -> None:
    values = {3: "123456", 48: "free text", 64: "1" * 16, 66: "7", 128: "2" * 16, 150: "abcd", 192: "3" * 16}
    known = {number: value for number, value in values.items() if number <= last and number in dialect.elements}
    message = Message("0100", known)
    codec = Codec(dialect)
    data = codec.encode(message)
    for number, value in message.elements.items():
        raw = bytes.fromhex(value) if dialect.elements[number].encoding == "binary" else value.encode()
        at = codec.offset(message, number)
        assert data[at : at + len(raw)] == raw


def test_the_third_bitmap_is_read_even_if_empty_and_checked_for_elements() -> None:
    codec = Codec(THIRD)
    head = b"0100" + b"A000000000000000" + b"8000000000000000"
    assert codec.decode(head + b"0" * 16 + b"123456").elements == {3: "123456"}
    with pytest.raises(DecodeError, match=r"bitmap at byte 4: announces DE 129, which third does not have"):
        codec.decode(head + b"8" + b"0" * 15 + b"123456")
    with pytest.raises(DecodeError, match=r"bitmap at byte 36: expected 16 bytes, got 3"):
        codec.decode(head + b"000")


def test_a_message_with_its_bitmap_among_the_elements_has_no_mac_at_its_end() -> None:
    codec = Codec(INSIDE)
    with pytest.raises(DecodeError, match="neither DE 64 nor DE 128"):
        codec.mac_input(codec.encode(Message("0800", {3: "000000", 128: "00" * 8, 192: "00" * 8})))


@pytest.mark.parametrize("mac", [64, 128])
def test_a_mac_in_ebcdic_digits_is_read_and_replaced(mac: int) -> None:
    codec = Codec(DIALECTS["ebcdic"] if mac == 128 else parsed(EBCDIC_MAC))
    data = codec.encode(Message("0800", {3: "000000", mac: "A1B2C3D4E5F60718"}))
    covered, value = codec.mac_input(data)
    assert value == bytes.fromhex("A1B2C3D4E5F60718")
    assert data == covered + "A1B2C3D4E5F60718".encode("cp037")
    assert codec.decode(codec.replace_mac(data, b"\xab" * 8)).elements[mac] == "AB" * 8


EBCDIC_MAC = """
name = "ebcdic-mac"
encoding = { mti = "cp500", bitmap = "ebcdic-hex", length = "cp037", n = "cp037", z = "cp037", text = "cp1047", \
b = "ebcdic-hex" }
[elements]
3 = { format = "n 6" }
64 = { format = "b 64" }
"""


def test_what_stands_before_a_fault_can_still_be_had() -> None:
    codec = Codec(load_dialect("iso87-ascii"))
    broken = ASCII.replace(b"TERM0001", b"TERM000\n")
    partial = codec.partial(broken)
    known = {number: value for number, value in AUTHORIZATION.elements.items() if number < 41}
    assert partial == Message("0100", known)
    assert codec.partial(ASCII) == AUTHORIZATION
    with pytest.raises(DecodeError, match="bitmap"):
        codec.partial(ASCII[:20])
