"""Specifications of moov-io/iso8583: the bytes of each type, encoding and prefix, and an error for all else."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from messages.codec import COMPILE_AFTER, Codec
from messages.composites.tree import build, from_plain, parse
from messages.dialect import Element, load_dialect, parse_dialect
from messages.element_codec import ElementCodec
from messages.errors import DecodeError, SpecError
from messages.exporters import export
from messages.exporters.dialect_file import text_of
from messages.importers import read, read_bytes
from messages.message import Message

SAMPLE = Path(__file__).parent / "samples" / "moov.json"
TRACK1 = "B4242424242424242^DOE/J^25122010000000000"

# DE → value → bytes, worked out by hand from what moov documents of each encoding, prefix and padding.
VECTORS: dict[int, tuple[str, str]] = {
    2: ("42424242424242424", "17042424242424242424"),  # BCD: a length in digits, a zero in front of an odd number
    3: ("001000", "001000"),
    4: ("000000012345", "303030303030303132333435"),
    11: ("000007", "000007"),
    23: ("001", "0010"),  # LBCD: a zero behind an odd number
    32: ("123456", "F0F6F1F2F3F4F5F6"),
    35: ("4242424242424242=2512201", "3234" + b"4242424242424242=2512201".hex()),
    37: ("ABC123def[]|", "C1C2C3F1F2F3848586ADBD4F"),  # code page 1047 has its brackets at AD and BD
    41: ("T1      ", "5431202020202020"),
    45: (TRACK1, "3431" + TRACK1.encode().hex()),
    52: ("0123456789ABCDEF", "0123456789ABCDEF"),
    53: ("A1B2C3D4E5F60708", "41314232433344344535463630373038"),
    54: ("CAFE", "30303243414645"),  # the prefix counts bytes, not the characters that they take
    63: ("00FF", "000200FF"),
    70: ("301", "333031"),
    102: ("ACC", "303033414343"),
}
# DE → value on the wire without its length → what is inside
INSIDES: dict[int, tuple[str, Any]] = {
    43: ((b"Shop" + b" " * 21 + b"Berlin" + b" " * 7 + b"DE").hex(), {
        "1": "Shop" + " " * 21, "2": "Berlin" + " " * 7, "3": "DE",
    }),
    48: (b"0105ABCDE12005VP042".hex(), {"01": "ABCDE", "12": {"1": "VP", "2": "042"}}),
    55: ("9F02060000000123009A03251124", {"9F02": "000000012300", "9A": "251124"}),
    62: ("8080" "1234" "02" "4142", {"1": "1234", "9": "AB"}),
    124: (b"0102ABZZ03xyz".hex(), {"01": "AB", "ZZ": "xyz"}),
    125: ("DF0101" "02" "DF0203" "0123", {"DF01": "02", "DF02": "123"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def elements() -> dict[int, Element]:
    return read(str(SAMPLE)).dialect.elements


@pytest.mark.parametrize("number", VECTORS)
def test_each_type_encoding_and_prefix_has_its_bytes(elements: dict[int, Element], number: int) -> None:
    value, wire = VECTORS[number]
    codec = ElementCodec(elements[number])
    assert codec.encode(value).hex().upper() == wire.upper()
    assert codec.decode(bytes.fromhex(wire), 0) == (value, len(wire) // 2)


@pytest.mark.parametrize("number", INSIDES)
def test_each_composite_has_its_parts(elements: dict[int, Element], number: int) -> None:
    raw, plain = INSIDES[number]
    element = elements[number]
    value = raw.upper() if element.kind == "b" else bytes.fromhex(raw).decode("ascii")
    assert parse(element, value).to_plain() == plain
    assert build(element, from_plain(plain, str(number))) == value


def test_padding_fills_what_is_shorter(elements: dict[int, Element]) -> None:
    assert ElementCodec(elements[4]).encode("12345") == b"000000012345"
    assert ElementCodec(elements[41]).encode("T1") == b"T1      "
    assert ElementCodec(elements[3]).encode("1000") == bytes.fromhex("001000")


def test_a_dialect_is_named_by_such_a_file() -> None:
    dialect = load_dialect(str(SAMPLE))
    assert (dialect.name, dialect.mti_encoding, dialect.bitmap_encoding) == ("one of each", "bcd", "binary")
    assert read(str(SAMPLE)).origin == "moov"
    assert read(str(SAMPLE)).warnings == ()


HEAD: dict[str, dict[str, Any]] = {
    "0": {"type": "String", "length": 4, "enc": "ASCII", "prefix": "ASCII.Fixed"},
    "1": {"type": "Bitmap", "enc": "HexToASCII", "prefix": "Hex.Fixed"},
}
NUMBER = {"type": "String", "length": 6, "enc": "ASCII", "prefix": "ASCII.Fixed"}


def spec(**fields: Any) -> bytes:
    chosen = {**HEAD, "11": NUMBER, **{key.lstrip("f"): field for key, field in fields.items()}}
    return json.dumps({"fields": {key: field for key, field in chosen.items() if field is not None}}).encode()


def composite(**keys: Any) -> dict[str, Any]:
    return {"type": "Composite", "length": 99, "prefix": "ASCII.LL", **keys}


WRONG: dict[str, tuple[bytes, str]] = {
    "unknown encoding": (spec(f2={**NUMBER, "enc": "UTF16"}), "fields.2.enc: 'UTF16' is no encoding"),
    "unknown prefix": (spec(f2={**NUMBER, "prefix": "ASCII.M"}), "fields.2.prefix: 'ASCII.M' is no prefix"),
    "unknown type": (spec(f2={**NUMBER, "type": "Money"}), "fields.2.type: 'Money' is no type"),
    "unknown padding": (
        spec(f2={**NUMBER, "padding": {"type": "Both", "pad": "0"}}),
        "fields.2.padding.type: 'Both' is no padding",
    ),
    "unknown order": (
        spec(f48=composite(tag={"sort": "ByName"}, subfields={"1": NUMBER})),
        "fields.48.tag.sort: 'ByName' is no order",
    ),
    "unknown encoding inside": (
        spec(f48=composite(tag={"sort": "StringsByInt"}, subfields={"7": {**NUMBER, "enc": "x"}})),
        "fields.48.subfields.7.enc: 'x' is no encoding",
    ),
    "length in hexadecimal": (spec(f2={**NUMBER, "prefix": "Hex.LL"}), "fields.2.prefix: Hex.LL"),
    "no length": (spec(f2={**NUMBER, "length": 0}), "fields.2.length: must be a number from 1"),
    "length that is text": (spec(f2={**NUMBER, "length": "6"}), "fields.2.length: must be a number"),
    "no prefix": (spec(f2={"type": "String", "length": 6, "enc": "ASCII"}), "fields.2.prefix: is missing"),
    "a value without end": (spec(f2={**NUMBER, "prefix": "None.Fixed"}), "fields.2.prefix: None"),
    "binary in BCD": (spec(f52={**NUMBER, "type": "Binary", "enc": "BCD"}), "fields.52.enc: BCD"),
    "no type of message": (spec(f0=None), "fields.0: the message type is missing"),
    "no bitmap": (spec(f1=None), "fields.1: the bitmap is missing"),
    "bitmap of another type": (spec(f1={**NUMBER, "length": 8}), "fields.1.type: field 1 is the bitmap"),
    "tag and bitmap": (
        spec(f48=composite(tag={"sort": "StringsByInt"}, bitmap=HEAD["1"], subfields={"1": NUMBER})),
        "fields.48: a composite field has either a tag or a bitmap",
    ),
    "a key that is no number": (spec(fX=NUMBER), "fields.X: the key must be a number"),
    "a number too large": (spec(f193=NUMBER), "fields.193: the key must be a number"),
    "a field that is no object": (spec(f2=7), "fields.2: must be an object"),
    "nothing": (b'{"fields": {}}', "fields: there are no fields beside type and bitmap"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_path(name: str) -> None:
    data, expected = WRONG[name]
    with pytest.raises(SpecError) as caught:
        read_bytes(data, "x", "x.json")
    assert any(problem.startswith(expected) for problem in caught.value.problems), caught.value.problems


def test_every_problem_is_listed() -> None:
    with pytest.raises(SpecError) as caught:
        read_bytes(spec(f2={**NUMBER, "enc": "x"}, f3={**NUMBER, "prefix": "y"}, f4={**NUMBER, "type": "z"}), "x", "x")
    assert len(caught.value.problems) == 3


WHOLE: dict[str, tuple[dict[str, Any], str]] = {
    "lengths that count digits": (
        composite(
            tag={"enc": "BerTLVTag", "sort": "StringsByHex"},
            subfields={"9F02": {"type": "String", "length": 12, "enc": "BCD", "prefix": "BerTLV"}},
        ),
        "counts something else than bytes",
    ),
    "a bitmap that grows": (composite(bitmap=HEAD["1"], subfields={"2": NUMBER}), "bitmap may grow"),
    "other lengths for unknown tags": (
        composite(
            tag={
                "length": 2, "enc": "ASCII", "sort": "StringsByInt",
                "skipUnknownTLVTags": True, "prefUnknownTLV": "ASCII.LLL",
            },
            subfields={"01": {**NUMBER, "prefix": "ASCII.LL"}},
        ),
        "others differ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_an_inside_that_no_composite_says_travels_whole(name: str) -> None:
    field, reason = WHOLE[name]
    imported = read_bytes(spec(f48=field), "x", "x.json")
    element = imported.dialect.elements[48]
    assert (element.parts, element.kind, element.length_kind) == (None, "b", 2)
    assert any(warning.startswith("fields.48: travels whole") and reason in warning for warning in imported.warnings)


def test_files_of_the_first_versions_have_other_names() -> None:
    old = {
        "Field000": {"type": "String", "length": 4, "enc": "asciiEncoder", "prefix": "ASCII.fixed"},
        "Field001": {"type": "Bitmap", "length": 16, "enc": "hexEncoder", "prefix": "Hex.fixed"},
        "Field004": {
            "type": "String", "length": 12, "enc": "asciiEncoder", "prefix": "ASCII.fixed",
            "padding": {"type": "leftPadder", "pad": 48},
        },
    }  # fmt: skip
    dialect = read_bytes(json.dumps({"fields": old}).encode(), "old", "x.json").dialect
    assert (dialect.name, dialect.bitmap_encoding, dialect.secondary) == ("old", "hex", "announced")
    assert ElementCodec(dialect.elements[4]).encode("7") == b"000000000007"


def test_a_bitmap_of_16_bytes_is_always_there_and_announces_nothing() -> None:
    """As moov packs it: 32 hexadecimal digits for any elements, and DE 65 is an ordinary element."""
    one = {**NUMBER, "length": 1}
    imported = read_bytes(spec(f1={**HEAD["1"], "length": 16}, f65=one, f70={**NUMBER, "length": 3}), "x", "x.json")
    assert imported.warnings == ()
    codec = Codec(imported.dialect)
    for message, bitmaps in (
        (Message("0800", {11: "000001"}), "00200000000000000000000000000000"),
        (Message("0800", {11: "000001", 70: "301"}), "00200000000000000400000000000000"),
        (Message("0800", {65: "1"}), "00000000000000008000000000000000"),
    ):
        expected = b"0800" + bitmaps.encode() + "".join(message.elements.values()).encode()
        for _ in range(COMPILE_AFTER + 2):  # interpreted, then compiled
            assert codec.encode(message) == expected
            assert codec.decode(expected) == message
        first, value = next(iter(message.elements.items()))
        assert expected[codec.offset(message, first) :].startswith(value.encode())
    assert codec.compiled == (3, 3)
    for wrong in (b"08008020000000000000" + b"0" * 16 + b"000001", b"08000020000000000000000001", b"0800" + b"0" * 20):
        with pytest.raises(DecodeError, match="bitmap"):
            codec.decode(wrong)


@pytest.mark.parametrize("to", ["moov", "file"])
def test_such_a_bitmap_is_said_in_moov_and_in_a_file(to: str) -> None:
    dialect = read_bytes(spec(f1={**HEAD["1"], "length": 16}), "x", "x.json").dialect
    assert dialect.secondary == "always"
    if to == "moov":
        again = read_bytes(json.dumps(export(dialect, "moov").spec).encode(), "x", "x.json").dialect
    else:
        again = parse_dialect(tomllib.loads(text_of(dialect)))
    assert again.secondary == "always"
    with pytest.raises(SpecError, match="pyiso8583 has no second bitmap"):
        export(dialect, "pyiso8583")
    with pytest.raises(SpecError, match="tertiary: cannot be announced"):
        parse_dialect(tomllib.loads('tertiary = "contiguous"\n' + text_of(dialect)))


def test_what_is_not_read_is_told() -> None:
    fields: dict[str, Any] = {
        "f2": {**NUMBER, "prefix": "ASCII.LL", "padding": {"type": "Left", "pad": "0"}},
        "f5": {**NUMBER, "length": 120, "prefix": "ASCII.LL"},
        "f6": {**NUMBER, "packer": "own"},
        "f65": NUMBER,
    }
    imported = read_bytes(spec(**fields), "x", "x.json")
    told = " | ".join(imported.warnings)
    for part in ("fields.2.padding", "fields.5.length: 120", "fields.6.packer", "fields.65: is left out"):
        assert part in told
    assert imported.dialect.elements[5].max_length == 99


def test_digits_of_the_standard_are_digits_and_the_version_follows_from_element_39() -> None:
    later = {**NUMBER, "length": 3}
    dialect = read_bytes(spec(f22={**NUMBER, "length": 12}, f39=later), "x", "x.json").dialect
    assert (dialect.version, dialect.identification) == ("1993", "local")
    assert [dialect.elements[number].kind for number in (11, 22, 39)] == ["n", "ans", "n"]
