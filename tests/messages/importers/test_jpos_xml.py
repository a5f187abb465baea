"""jPOS packagers: the bytes of each field class and nested packager, and an error with its line for all else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from messages.codec import Codec
from messages.composites.tree import build, from_plain, parse
from messages.dialect import Element, load_dialect
from messages.element_codec import ElementCodec
from messages.errors import SpecError
from messages.importers import read, read_bytes
from messages.importers.imported import Imported
from messages.importers.jpos_classes import CLASSES, FILLED
from messages.message import Message

SAMPLES = Path(__file__).parent / "samples"

# class → value → bytes, as jPOS packs them. An odd number of digits in BCD gets its zero behind, with pad="true" in
# front (IFB_LLNUM here); EBCDIC is code page 1047, which its brackets show.
VECTORS: dict[str, tuple[str, str]] = {
    "IF_CHAR": ("AB[1]|~!", "41425B315D7C7E21"),
    "IF_ECHAR": ("AB[1]|~!", "C1C2ADF1BD4FA15A"),
    "IFE_CHAR": ("AB[1]|~!", "C1C2ADF1BD4FA15A"),
    "IFA_NUMERIC": ("1234567", "31323334353637"),
    "IFE_NUMERIC": ("1234567", "F1F2F3F4F5F6F7"),
    "IFB_NUMERIC": ("1234567", "12345670"),
    "IFB_FNUMERIC": ("1234567", "1234567F"),
    "IFA_AMOUNT": ("D00000123", "443030303030313233"),
    "IFE_AMOUNT": ("D00000123", "C4F0F0F0F0F0F1F2F3"),
    "IFB_AMOUNT": ("D00000123", "4400000123"),
    "IFA_AMOUNT2003": ("9782000000012345", "39373832303030303030303132333435"),
    "IFB_AMOUNT2003": ("9782000000012345", "9782000000012345"),
    "IFA_BINARY": ("0123456789ABCDEF", "30313233343536373839414243444546"),
    "IFB_BINARY": ("0123456789ABCDEF", "0123456789ABCDEF"),
    "IFE_BINARY": ("0123456789ABCDEF", "F0F1F2F3F4F5F6F7F8F9C1C2C3C4C5C6"),
    "IFA_LCHAR": ("A[1]|", "35415B315D7C"),
    "IFA_LLCHAR": ("A[1]|", "3035415B315D7C"),
    "IFA_LLLCHAR": ("A[1]|", "303035415B315D7C"),
    "IFA_LLLLCHAR": ("A[1]|", "30303035415B315D7C"),
    "IFA_LLLLLCHAR": ("A[1]|", "3030303035415B315D7C"),
    "IFA_LLLLLLCHAR": ("A[1]|", "303030303035415B315D7C"),
    "IFA_LLNUM": ("12345", "30353132333435"),
    "IFA_LLLNUM": ("12345", "3030353132333435"),
    "IFA_LBINARY": ("012345", "33012345"),
    "IFA_LLBINARY": ("012345", "3033012345"),
    "IFA_LLLBINARY": ("012345", "303033012345"),
    "IFA_LLLLBINARY": ("012345", "30303033012345"),
    "IFA_LLLLLBINARY": ("012345", "3030303033012345"),
    "IFA_LLLLLLBINARY": ("012345", "303030303033012345"),
    "IFA_LLABINARY": ("012345", "3033303132333435"),
    "IFA_LLLABINARY": ("012345", "303033303132333435"),
    "IFB_LLCHAR": ("A[1]|", "05415B315D7C"),
    "IFB_LLLCHAR": ("A[1]|", "0005415B315D7C"),
    "IFB_LLLLCHAR": ("A[1]|", "0005415B315D7C"),
    "IFB_LLLLLLCHAR": ("A[1]|", "000005415B315D7C"),
    "IFB_LLNUM": ("12345", "05012345"),
    "IFB_LLLNUM": ("12345", "0005123450"),
    "IFB_FLLNUM": ("12345", "0512345F"),
    "IFB_FLLLNUM": ("12345", "000512345F"),
    "IFB_LLBINARY": ("012345", "03012345"),
    "IFB_LLLBINARY": ("012345", "0003012345"),
    "IFB_LLLLBINARY": ("012345", "0003012345"),
    "IFB_LLHCHAR": ("A[1]|", "05415B315D7C"),
    "IFB_LLHECHAR": ("A[1]|", "05C1ADF1BD4F"),
    "IFB_LLHNUM": ("12345", "05123450"),
    "IFB_LLHBINARY": ("012345", "03012345"),
    "IFB_LLLHCHAR": ("A[1]|", "0005415B315D7C"),
    "IFB_LLLHECHAR": ("A[1]|", "0005C1ADF1BD4F"),
    "IFB_LLLHNUM": ("12345", "0005123450"),
    "IFB_LLLHBINARY": ("012345", "0003012345"),
    "IFE_LCHAR": ("A[1]|", "F5C1ADF1BD4F"),
    "IFE_LLCHAR": ("A[1]|", "F0F5C1ADF1BD4F"),
    "IFE_LLLCHAR": ("A[1]|", "F0F0F5C1ADF1BD4F"),
    "IFE_LLLLCHAR": ("A[1]|", "F0F0F0F5C1ADF1BD4F"),
    "IFE_LNUM": ("12345", "F5F1F2F3F4F5"),
    "IFE_LLNUM": ("12345", "F0F5F1F2F3F4F5"),
    "IFE_LLLNUM": ("12345", "F0F0F5F1F2F3F4F5"),
    "IFE_LBINARY": ("012345", "F3012345"),
    "IFE_LLBINARY": ("012345", "F0F3012345"),
    "IFE_LLLBINARY": ("012345", "F0F0F3012345"),
    "IFE_LLLLBINARY": ("012345", "F0F0F0F3012345"),
    "IFEA_LLCHAR": ("A[1]|", "F0F5415B315D7C"),
    "IFEB_LLNUM": ("12345", "F0F312345F"),
    "IFEB_LLLNUM": ("12345", "F0F0F312345F"),
    "IFA_FLLCHAR": ("03ABC     ", "30334142432020202020"),
    "IFA_FLLNUM": ("03123     ", "30333132332020202020"),
}


@pytest.fixture(scope="module")
def classes() -> dict[str, Element]:
    return {element.name: element for element in load_dialect(str(SAMPLES / "jpos-classes.xml")).elements.values()}


@pytest.fixture(scope="module")
def nested() -> dict[int, Element]:
    imported = read(SAMPLES / "jpos-nested.xml")
    assert imported.warnings == ()
    return imported.dialect.elements


def test_every_class_has_a_vector(classes: dict[str, Element]) -> None:
    misnamed = {"IFA_LLHBINARY"}
    assert set(VECTORS) == set(CLASSES) - misnamed | set(FILLED) == set(classes)


@pytest.mark.parametrize("name", VECTORS)
def test_each_class_has_its_bytes(classes: dict[str, Element], name: str) -> None:
    value, wire = VECTORS[name]
    codec = ElementCodec(classes[name])
    assert codec.encode(value).hex().upper() == wire
    assert codec.decode(bytes.fromhex(wire), 0) == (value, len(wire) // 2)


def test_short_values_of_fixed_fields_are_filled(classes: dict[str, Element]) -> None:
    assert ElementCodec(classes["IF_CHAR"]).encode("AB") == b"AB      "
    assert ElementCodec(classes["IFA_NUMERIC"]).encode("12") == b"0000012"
    assert ElementCodec(classes["IFB_NUMERIC"]).encode("12") == bytes.fromhex("00000120")


INSIDES: dict[int, tuple[str, Any]] = {
    43: (b"04ShopBerlnDE".hex(), {"1": "Shop", "2": "Berln", "3": "DE"}),
    48: (b"0105ABCDE1202xy3303zzz".hex(), {"01": "ABCDE", "12": "xy", "33": "zzz"}),
    55: ("9F020600000000010082021800", {"9F02": "000000000100", "82": "1800"}),
    62: ("8080000000000000123403414243", {"1": "1234", "9": "ABC"}),
    63: (b"0012003ABC0777002xy".hex(), {"0012": "ABC", "0777": "xy"}),
    126: ("0240000000000000024142313233343536", {"7": "AB", "10": "123456"}),
    127: ("12" + b"06ABC042".hex(), {"1": "12", "2": {"1": "ABC", "2": "042"}}),
}


@pytest.mark.parametrize("number", INSIDES)
def test_each_nested_packager_has_its_parts(nested: dict[int, Element], number: int) -> None:
    raw, plain = INSIDES[number]
    element = nested[number]
    value = raw.upper() if element.kind == "b" else bytes.fromhex(raw).decode("ascii")
    assert parse(element, value).to_plain() == plain
    assert build(element, from_plain(plain, str(number))) == value


def test_a_whole_message_of_a_packager() -> None:
    codec = Codec(load_dialect(str(SAMPLES / "jpos-nested.xml")))
    message = Message("0100", {2: "4242424242424242", 35: "4242424242424242=2512", 48: "0101A"})
    data = codec.encode(message)
    assert data == bytes.fromhex(
        "0100" + b"4000000020010000".hex() + "164242424242424242" + "214242424242424242D25120" + b"0050101A".hex()
    )
    assert codec.decode(data) == message


HEAD = """<isopackager>
<isofield id="0" length="4" name="Type" class="org.jpos.iso.IFA_NUMERIC"/>
<isofield id="1" length="16" name="Bitmap" class="org.jpos.iso.IFA_BITMAP"/>
<isofield id="11" length="6" name="Trace" class="org.jpos.iso.IFA_NUMERIC"/>
"""


def packager(*lines: str, head: str = HEAD) -> bytes:
    return (head + "\n".join(lines) + "\n</isopackager>").encode()


def imported(*lines: str, head: str = HEAD) -> Imported:
    return read_bytes(packager(*lines, head=head), "packager", "packager.xml")


def field(number: int, java_class: str, length: object = 6, more: str = "") -> str:
    return f'<isofield id="{number}" length="{length}" name="x" class="{java_class}" {more}/>'


def nest(packager: str, *inner: str, more: str = "", number: int = 48) -> str:
    head = f'<isofieldpackager id="{number}" length="99" name="x" class="org.jpos.iso.IFA_LLCHAR" packager="{packager}"'
    return f"{head} {more}>{''.join(inner)}</isofieldpackager>"


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown class": ((field(2, "org.jpos.iso.IFZ_LLCHAR"),), "line 5: org.jpos.iso.IFZ_LLCHAR is no field class"),
    "class of your own": ((field(2, "com.acme.IFA_LLCHAR"),), "line 5: com.acme.IFA_LLCHAR is no field class"),
    "unknown class inside": (
        (nest("org.jpos.iso.packager.GenericSubFieldPackager", "\n", field(1, "IFZ")),),
        "line 6: IFZ is no field class",
    ),
    "unknown packager": ((nest("com.acme.Packager", field(1, "IF_CHAR")),), "line 5: com.acme.Packager is no packager"),
    "no class": (('<isofield id="2" length="4" name="x"/>',), "line 5: <isofield> has no class"),
    "no length": (('<isofield id="2" class="org.jpos.iso.IF_CHAR"/>',), "line 5: <isofield> has no length"),
    "a length that is none": ((field(2, "org.jpos.iso.IF_CHAR", "six"),), "line 5: <isofield> has a wrong length"),
    "a length of 0": ((field(2, "org.jpos.iso.IFA_LLCHAR", 0),), "line 5: org.jpos.iso.IFA_LLCHAR: a length of 0"),
    "a number too large": ((field(193, "org.jpos.iso.IF_CHAR"),), "line 5: there is no element 193"),
    "unknown tag": (("<isofeld/>",), "line 5: there is no tag <isofeld>"),
    "a length that counts itself": (
        (field(2, "org.jpos.iso.IFA_LLCHAR", 9, 'inclusive="true"'),),
        "line 5: org.jpos.iso.IFA_LLCHAR: inclusive",
    ),
    "a fixed field that may be shorter": (
        (field(2, "org.jpos.iso.IF_CHAR", 9, 'trim="true"'),),
        'line 5: trim="true"',
    ),
    "a bitmap in the wrong place": ((field(2, "org.jpos.iso.IFA_BITMAP", 8),), "line 5: org.jpos.iso.IFA_BITMAP"),
    "a tagged class in a message": ((field(2, "org.jpos.iso.IFA_TTLLCHAR"),), "line 5: org.jpos.iso.IFA_TTLLCHAR"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_line(name: str) -> None:
    lines, expected = WRONG[name]
    with pytest.raises(SpecError) as caught:
        imported(*lines)
    assert any(problem.startswith(expected) for problem in caught.value.problems), caught.value.problems


def test_every_problem_is_listed() -> None:
    with pytest.raises(SpecError) as caught:
        imported(field(2, "A"), field(3, "B"), field(4, "org.jpos.iso.IF_CHAR", "x"))
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["line 5", "line 6", "line 7"]


WRONG_HEADS = {
    "another root": ("<packager>\n", "line 1: the root of a jPOS packager"),
    "no type": (
        '<isopackager><isofield id="1" length="16" class="IFA_BITMAP"/>',
        "line 1: the message type is missing",
    ),
    "no bitmap": (HEAD.replace('id="1"', 'id="3"'), "line 1: the bitmap is missing"),
    "a bitmap that is none": (HEAD.replace("IFA_BITMAP", "IFA_NUMERIC"), "line 3: org.jpos.iso.IFA_NUMERIC: field 1"),
    "a type of six digits": (HEAD.replace('length="4"', 'length="6"'), "line 2: org.jpos.iso.IFA_NUMERIC: a message"),
    "no bitmap at all": (HEAD.replace("<isopackager>", '<isopackager emitBitmap="false">'), "line 1: emitBitmap"),
}


@pytest.mark.parametrize("name", WRONG_HEADS)
def test_a_packager_is_one_of_iso_8583(name: str) -> None:
    head, expected = WRONG_HEADS[name]
    data = packager(head=head).replace(
        b"</isopackager>", b"</packager>" if name == "another root" else b"</isopackager>"
    )
    with pytest.raises(SpecError) as caught:
        read_bytes(data, "x", "x.xml")
    assert any(problem.startswith(expected) for problem in caught.value.problems), caught.value.problems


WHOLE = {
    "lengths before tags": (
        nest(
            "org.jpos.iso.packager.GenericTaggedFieldsPackager",
            field(1, "org.jpos.iso.IFA_TTLLCHAR"),
            more='tagSize="2" lenSize="2" swapTagAndLen="true" tagMapper="org.jpos.iso.packager.TTDecimalTagMapper"',
        ),
        "lengths come before tags",
    ),
    "tags inside of lengths": (
        nest("org.jpos.iso.packager.EuroSubFieldPackager", field(1, "org.jpos.iso.IFEP_LLCHAR")),
        "tags inside of their lengths",
    ),
    "no bitmap": (
        nest("org.jpos.iso.packager.GenericSubFieldPackager", field(1, "org.jpos.iso.IF_CHAR")),
        "no bitmap where jPOS looks for it",
    ),
    "a header": (
        nest(
            "org.jpos.iso.packager.GenericPackager",
            field(1, "org.jpos.iso.IF_CHAR"),
            more='emitBitmap="false" headerLength="3"',
        ),
        "a header before its fields",
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_an_inside_that_no_composite_says_travels_whole(name: str) -> None:
    line, reason = WHOLE[name]
    made = imported(line)
    assert made.dialect.elements[48].parts is None
    assert ElementCodec(made.dialect.elements[48]).encode("ABC") == b"03ABC"
    assert [reason in warning and warning.startswith("line 5: field 48") for warning in made.warnings] == [True]


def test_what_is_not_read_is_told() -> None:
    made = imported(
        field(5, "org.jpos.iso.IFA_LLCHAR", 200),
        field(6, "org.jpos.iso.IF_NOP", 0),
        field(7, "org.jpos.iso.IFA_NUMERIC", 0),
        field(11, "org.jpos.iso.IFB_NUMERIC"),
        field(65, "org.jpos.iso.IFA_BINARY", 8),
        field(129, "org.jpos.iso.IF_CHAR"),
        "<isofieldvalidator/>",
        head=HEAD.replace("<isopackager>", '<isopackager headerLength="5">'),
    )
    told = " | ".join(made.warnings)
    for part in (
        "line 1: headerLength 5",
        "line 5: org.jpos.iso.IFA_LLCHAR: a length of 200",
        "line 6: DE 6 is left out",
        "line 7: DE 7 is left out: a length of 0",
        "line 8: field 11 is there twice",
        "line 9: DE 65 is left out",
        "line 10: DE 129: left out",
        "1 validators are not read",
    ):
        assert part in told
    assert list(made.dialect.elements) == [5, 11]
    assert made.dialect.elements[11].encoding == "bcd"


def test_a_third_bitmap_among_the_fields() -> None:
    made = imported(
        field(65, "org.jpos.iso.IFA_BITMAP", 8),
        field(129, "org.jpos.iso.IF_CHAR"),
        head=HEAD.replace("<isopackager>", '<isopackager thirdBitmapField="65">'),
    )
    assert made.dialect.tertiary == "element"
    assert list(made.dialect.elements) == [11, 129]
    codec = Codec(made.dialect)
    message = Message("0100", {11: "000001", 129: "ABCDEF"})
    data = codec.encode(message)
    assert data == b"0100" + b"80200000000000008000000000000000" + b"000001" + b"8000000000000000" + b"ABCDEF"
    assert codec.decode(data) == message


@pytest.mark.parametrize(("size", "version"), [(2, "1987"), (3, "1993"), (4, "2003")])
def test_the_version_follows_from_element_39(size: int, version: str) -> None:
    assert imported(field(39, "org.jpos.iso.IFA_NUMERIC", size)).dialect.version == version
