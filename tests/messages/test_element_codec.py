"""Every encoding with every length and pad, as small dialects: compiled, interpreted, by pyiso8583, and by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
import pytest

from messages.decoder_source import REFUSALS as DECODE_REFUSALS
from messages.decoder_source import compile_decoder
from messages.dialect import Dialect, Element
from messages.element_codec import ElementCodec
from messages.encoder_source import REFUSALS as ENCODE_REFUSALS
from messages.encoder_source import compile_encoder
from messages.errors import DecodeError, EncodeError
from messages.interpreter import Interpreter
from messages.lengths import counted_in_bytes, scale
from messages.message import Message
from messages.pyiso8583_spec import lacking_in_pyiso8583
from tests.messages.sample_dialects import decoded_by_pyiso8583, encoded_by_pyiso8583, text_of_size, their_texts

TEXT = ("ascii", "cp037", "cp500", "cp1047")
ENCODINGS = {
    "n": (*TEXT, "bcd"),
    "z": (*TEXT, "bcd"),
    "x+n": (*TEXT, "bcd"),
    "an": TEXT,
    "ans": TEXT,
    "b": ("hex", "binary", "ebcdic-hex"),
}
LENGTHS = (*TEXT, "bcd", "binary")
COUNTS = ("", "bytes", "digits", "nibbles", "octets")
PADS = ("left 0", "right F", "left F", "right 0", "right D", "")
SIZES = {1: (9, 7), 2: (19,), 3: (104,), 4: (1500,), 5: (1201,), 6: (1024,)}  # length digits → largest values
START = 4 + 8  # bytes of type and bitmap
BEFORE, TESTED, BEHIND = 3, 10, 11


def element(kind: str, encoding: str, size: int, **more: object) -> Element:
    settings: dict[str, object] = {"length_kind": 0, "length_encoding": "ascii", **more}
    return Element(number=TESTED, name="", kind=kind, encoding=encoding, max_length=size, **settings)  # type: ignore[arg-type]


def around(tested: Element) -> Dialect:
    """A dialect in which an element has neighbours."""
    before, behind = (msgspec.structs.replace(element("n", "ascii", 2), number=number) for number in (BEFORE, BEHIND))
    return Dialect(
        name="small",
        mti_encoding="ascii",
        bitmap_encoding="binary",
        elements={BEFORE: before, TESTED: tested, BEHIND: behind},
    )


def fixed(kind: str, encoding: str) -> Iterator[Element]:
    for size in (1, 2, 5, 8):
        for pad in PADS if encoding == "bcd" and kind != "x+n" else ("",):
            if kind != "x+n" or size > 1:
                yield element(kind, encoding, size, pad=pad)


def variable(kind: str, encoding: str) -> Iterator[Element]:
    if kind == "x+n" and encoding == "bcd":
        return  # has no form on the wire
    for digits, sizes in SIZES.items():
        for length in LENGTHS:
            for count in COUNTS:
                if count == "octets" and kind != "b":
                    continue
                for size in sizes:
                    for pad in PADS if encoding == "bcd" and digits < 3 else PADS[:2] if encoding == "bcd" else ("",):
                        tested = element(
                            kind,
                            encoding,
                            size,
                            length_kind=digits,
                            length_encoding=length,
                            length_count=count,
                            length_size=4 if digits == 6 and length == "binary" else 0,
                            pad=pad,
                        )
                        if scale(tested).largest >= tested.wire_units and (
                            pad or encoding != "bcd" or count == "bytes"
                        ):
                            yield tested


def values(chance: random.Random, tested: Element) -> list[str]:
    """Some that are, at the ends of what may be."""
    size = tested.max_length
    smallest = {"n": 1, "z": 1, "x+n": 2}.get(tested.kind, 0)
    sizes = [smallest, smallest + 1, size - 1, size] if tested.length_kind else [size]
    return [text_of_size(chance, tested, size) for size in sizes]


def comes_back(tested: Element, text: str) -> bool:
    """Whether bytes say the whole value: in BCD counted in bytes a digit may be a pad, and a D a separator."""
    packed = tested.encoding == "bcd"
    pad = tested.pad[-1:]
    ambiguous = counted_in_bytes(tested) and tested.length_kind > 0
    if ambiguous and len(text) % 2 and len(text) < tested.max_length:
        return pad == "F" or (pad == "D" and tested.kind == "n")
    if ambiguous and pad and len(text) % 2 == 0:  # a pad in its place would be taken off
        at_pad = text[0 if tested.pad.startswith("left") else -1]
        return not (pad == "D" and tested.kind == "z" and at_pad in "=D" and len(text) > tested.max_length)
    return not packed or "D" not in text


def every_way(tested: Element, chance: random.Random) -> None:
    dialect = around(tested)
    interpreter = Interpreter(dialect)
    numbers = (BEFORE, TESTED, BEHIND)
    decode, encode = compile_decoder(dialect, numbers, START), compile_encoder(dialect, numbers)
    by_itself = ElementCodec(tested)
    speakable = not lacking_in_pyiso8583(tested)
    for text in values(chance, tested):
        given = Message("0100", {BEFORE: "12", TESTED: text, BEHIND: "34"})
        try:
            data = interpreter.encode(given)
        except EncodeError:
            assert counted_in_bytes(tested) and not tested.pad and len(text) % 2, "an odd number of digits needs a pad"
            assert _refuses(lambda given=given: encode(given.mti, given.elements), ENCODE_REFUSALS)
            continue
        assert encode(given.mti, given.elements) == data
        wire = by_itself.encode(text)
        assert data[START + 2 : -2] == wire
        decoded = interpreter.decode(data)
        assert decode(data) == decoded
        assert by_itself.decode(b"xx" + wire, 2) == (decoded.elements[TESTED], len(wire) + 2)
        assert interpreter.encode(decoded) == data
        if comes_back(tested, text):
            assert decoded == given
        if speakable:
            assert encoded_by_pyiso8583(dialect, given) == data
            assert decoded_by_pyiso8583(dialect, data) == their_texts(dialect, given)
        for broken in _broken(chance, data):
            assert _accepted(decode, broken) == _accepted(interpreter.decode, broken)


def _broken(chance: random.Random, data: bytes) -> list[bytes]:
    """Bytes with one of them changed, gone or added, near the length more often than not."""
    spoiled = []
    for _ in range(3):
        at = chance.choice((START + 2, START + 3, chance.randrange(START + 1, len(data))))
        spoiled.append(
            data[:at] + bytes([chance.choice((0, 0x0F, 0x30, 0x39, 0x44, 0xD1, 0xF0, 0xFF))]) + data[at + 1 :]
        )
        spoiled.append(data[:at] + data[at + 1 :])
    return [*spoiled, data[:-3], data + b"0"]


def _accepted(decode, data):  # type: ignore[no-untyped-def]
    try:
        return decode(data)
    except DECODE_REFUSALS:
        return None


def _refuses(call, refusals):  # type: ignore[no-untyped-def]
    try:
        return call() is None
    except refusals:
        return True


@pytest.mark.parametrize(("kind", "encoding"), [(kind, each) for kind, all_ in ENCODINGS.items() for each in all_])
def test_all_fixed_lengths_and_pads_are_the_same_in_every_way(kind: str, encoding: str) -> None:
    chance = random.Random(f"{kind} {encoding}")
    for tested in fixed(kind, encoding):
        if encoding == "bcd" and kind != "x+n" and tested.max_length % 2 and not tested.pad:
            continue  # no dialect may say that
        every_way(tested, chance)


@pytest.mark.parametrize(("kind", "encoding"), [(kind, each) for kind, all_ in ENCODINGS.items() for each in all_])
def test_all_lengths_before_values_are_the_same_in_every_way(kind: str, encoding: str) -> None:
    chance = random.Random(f"{kind} {encoding}")
    for tested in variable(kind, encoding):
        every_way(tested, chance)


@pytest.mark.parametrize(
    ("tested", "text", "wire"),
    [
        (element("n", "bcd", 19, length_kind=2, length_encoding="bcd", pad="left 0"), "123", "030123"),
        (element("n", "bcd", 19, length_kind=2, length_encoding="bcd", pad="right F"), "123", "03123F"),
        (
            element("n", "bcd", 19, length_kind=2, length_encoding="cp037", pad="right F", length_count="bytes"),
            "123",
            "F0F2123F",
        ),
        (element("z", "bcd", 37, length_kind=2, length_encoding="bcd", pad="right F"), "42=30", "0542D30F"),
        (element("z", "bcd", 37, length_kind=2, length_encoding="binary", pad="left 0"), "42=30", "05042D30"),
        (element("ans", "cp037", 99, length_kind=2, length_encoding="cp037"), "A[1", "F0F3C1BAF1"),
        (element("ans", "cp500", 99, length_kind=2, length_encoding="ascii"), "A[1", "3033C14AF1"),
        (element("ans", "cp1047", 999, length_kind=3, length_encoding="bcd"), "A[1", "0003C1ADF1"),
        (element("ans", "ascii", 99, length_kind=2, length_encoding="ascii", length_count="nibbles"), "AB", "30344142"),
        (element("b", "binary", 255, length_kind=3, length_encoding="binary", length_size=1), "9F26", "029F26"),
        (
            element("b", "binary", 999, length_kind=3, length_encoding="ascii", length_count="digits"),
            "9F26",
            "3030349F26",
        ),
        (
            element("b", "hex", 999, length_kind=3, length_encoding="ascii", length_count="octets"),
            "9F26",
            "30303239463236",
        ),
        (element("b", "ebcdic-hex", 2), "9F26", "F9C6F2F6"),
        (element("x+n", "bcd", 9), "C00001234", "4300001234"),
        (element("x+n", "bcd", 8), "D0001234", "4400001234"),
        (element("x+n", "cp037", 9), "D00001234", "C4F0F0F0F0F1F2F3F4"),
        (element("n", "bcd", 5, pad="left 0"), "12345", "012345"),
        (element("n", "ascii", 999_999, length_kind=6, length_encoding="binary", length_size=4), "12", "000000023132"),
        (element("ans", "ascii", 999_999, length_kind=6, length_encoding="bcd"), "12", "0000023132"),
        (element("ans", "ascii", 9, length_kind=1, length_encoding="ascii"), "12", "323132"),
    ],
)
def test_bytes_written_by_hand(tested: Element, text: str, wire: str) -> None:
    codec = ElementCodec(tested)
    assert codec.encode(text).hex().upper() == wire
    assert codec.decode(bytes.fromhex(wire), 0) == (text, len(wire) // 2)


@pytest.mark.parametrize(
    ("tested", "data", "offset", "reason"),
    [
        (element("n", "ascii", 19, length_kind=2), b"20", 0, "expected a length of 1 to 19, got 20"),
        (element("n", "ascii", 19, length_kind=2), b"+2", 0, "expected 2 length digits"),
        (element("n", "ascii", 19, length_kind=2), b"0", 0, "expected 2 length digits"),
        (element("n", "ascii", 19, length_kind=2), b"0312", 2, "expected 3 bytes, got 2"),
        (element("n", "ascii", 19, length_kind=2), b"0312x", 2, "expected digits"),
        (element("b", "hex", 99, length_kind=3), b"003ABC", 0, "expected a length of 0 to 198, an even one, got 3"),
        (element("b", "hex", 2), b"ABCx", 0, "expected hexadecimal digits"),
        (
            element("n", "bcd", 19, length_kind=2, length_encoding="bcd", pad="right F"),
            b"\x03\x12\x34",
            1,
            "expected the pad F on the right of an odd number of digits",
        ),
        (
            element("n", "bcd", 9, length_kind=1, length_encoding="bcd", pad="left 0"),
            b"\x1a",
            0,
            "expected 2 BCD digits",
        ),
        (element("n", "ascii", 9, length_kind=3, length_encoding="binary"), b"\x00", 0, "expected 2 bytes of length"),
        (element("x+n", "bcd", 9), b"E\x00\x00\x12\x34", 0, "expected C or D and digits"),
    ],
)
def test_a_fault_has_its_place_and_reason(tested: Element, data: bytes, offset: int, reason: str) -> None:
    codec = ElementCodec(tested, "62.3")
    with pytest.raises(DecodeError) as caught:
        codec.decode(b"...." + data, 4, base=100)
    assert (caught.value.path, caught.value.offset) == ("62.3", 104 + offset)
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("tested", "short", "full"),
    [
        (element("n", "ascii", 6, fill="left 0"), "12", b"000012"),
        (element("ans", "ascii", 6, fill="right  "), "", b"      "),
        (element("ans", "cp037", 3, fill="right  "), "A", b"\xc1\x40\x40"),
        (element("x+n", "ascii", 9, fill="left 0"), "C12", b"C00000012"),
        (element("x+n", "bcd", 9, fill="left 0"), "D12", b"D\x00\x00\x00\x12"),
        (element("b", "binary", 3, fill="right 0"), "AB", b"\xab\x00\x00"),
        (element("n", "bcd", 5, fill="left 0", pad="right F"), "12", b"\x00\x01\x2f"),
        (element("z", "ascii", 5, fill="right ="), "12", b"12==="),
    ],
)
def test_a_short_value_is_filled_where_the_dialect_says_so(tested: Element, short: str, full: bytes) -> None:
    assert ElementCodec(tested).encode(short) == full
    encode = compile_encoder(around(tested), (TESTED,))
    assert encode("0100", {TESTED: short}) == Interpreter(around(tested)).encode(Message("0100", {TESTED: short}))
    with pytest.raises(EncodeError):
        ElementCodec(tested).encode("x" * 40)


def test_an_empty_number_is_never_filled() -> None:
    tested = element("n", "ascii", 6, fill="left 0")
    with pytest.raises(EncodeError):
        ElementCodec(tested).encode("")
    assert compile_encoder(around(tested), (TESTED,))("0100", {TESTED: ""}) is None
