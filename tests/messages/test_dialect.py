"""Dialect files: the shipped ones, and that every problem of a bad one is listed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from messages.composites.tree import build, parse
from messages.dialect import Condition, load_dialect, parse_dialect
from messages.dictionary import iso1987, iso1993, iso2003
from messages.errors import SpecError
from messages.mti import in_version

SHIPPED = {
    "iso87-ascii": iso1987,
    "iso87-bcd": iso1987,
    "iso87-ebcdic": iso1987,
    "iso93-ascii": iso1993,
    "iso93-binary": iso1993,
    "iso2003-ascii": iso2003,
}
every_dialect = pytest.mark.parametrize("name", SHIPPED)


@every_dialect
def test_the_shipped_dialects_have_all_elements_of_their_version(name: str) -> None:
    dialect, dictionary = load_dialect(name), SHIPPED[name]
    assert dialect.name == name
    assert f"iso{dialect.version}" == dictionary.__name__.rpartition(".")[2]
    assert list(dialect.elements) == [number for number in range(2, 129) if number != 65]
    assert {number: element.name for number, element in dialect.elements.items()} == dictionary.ELEMENT_NAMES
    formats = {number: element.format for number, element in dialect.elements.items()}
    cut = {number for number, notation in dictionary.FORMATS.items() if formats[number] != notation}
    for number in cut:  # two characters a byte: three or four digits of length cannot say more
        assert dialect.elements[number].encoding == "hex"
        assert formats[number] in ("b...499", "b....4999")
    assert bool(cut) is (name in ("iso93-ascii", "iso2003-ascii"))


@every_dialect
def test_the_rules_of_the_shipped_dialects_are_about_their_own_types(name: str) -> None:
    dialect = load_dialect(name)
    digit = {"1987": "0", "1993": "1", "2003": "2"}[dialect.version]
    assert set(dialect.rules) == {
        in_version(mti, dialect.version)
        for mti in (
            *("0100", "0110", "0120", "0130", "0200", "0210", "0220", "0230", "0302", "0312"),
            *("0400", "0410", "0420", "0430", "0422", "0432", "0500", "0510", "0520", "0530"),
            *("0600", "0610", "0620", "0630", "0800", "0810", "0820", "0830"),
        )
    }
    assert 11 in dialect.rules[f"{digit}100"].mandatory
    assert 39 in dialect.rules[f"{digit}110"].mandatory
    original = 90 if dialect.version == "1987" else 56
    assert original in dialect.rules[f"{digit}420"].mandatory
    assert dialect.identification == ("transmission" if dialect.version == "1987" else "local")


# Element, its value, and its parts by path.
_ORIGINAL_1993 = "110012345626112216450006400100"
_INSIDES = [
    ("iso87-ascii", 3, "003020", {"1": "00", "2": "30", "3": "20"}),
    (
        "iso87-bcd",
        43,
        f"{'CORNER SHOP':25}{'BERLIN':13}DE",
        {"1": f"{'CORNER SHOP':25}", "2": f"{'BERLIN':13}", "3": "DE"},
    ),
    ("iso87-ebcdic", 48, "01003ABC02001X", {"01": "ABC", "02": "X"}),
    ("iso87-ascii", 54, "0002978C0000000123450040978D000000000100", {"1.4": "C000000012345", "2.2": "40"}),
    ("iso87-bcd", 55, "9F2701809A03261122", {"9F27": "80", "9A": "261122"}),
    ("iso87-ascii", 90, "010012345611221544000000040010000000000000", {"1": "0100", "2": "123456", "4": "00000400100"}),
    ("iso87-ascii", 95, f"{500:012}{0:012}C00000000D00000001", {"1": "000000000500", "4": "D00000001"}),
    ("iso93-binary", 22, "A1010151134C", {"1": "A", "7": "5", "12": "C"}),
    ("iso93-ascii", 30, f"{500:012}{400:012}", {"1": "000000000500", "2": "000000000400"}),
    ("iso93-ascii", 46, "00978C0000001010000000C00000010978", {"1.3": "C00000010", "1.6": "978"}),
    ("iso93-binary", 56, _ORIGINAL_1993, {"1": "1100", "3": "261122164500", "4": "400100"}),
    ("iso2003-ascii", 4, "9782000000001000", {"1": "978", "2": "2", "3": "000000001000"}),
    ("iso2003-ascii", 21, "10123456789ABCDE01WXYZ", {"2": "0123456789ABCDE", "4": "WXYZ"}),
    ("iso2003-ascii", 22, "20000000040000000200000001000000", {"1": "20000000", "4": "01000000"}),
    ("iso2003-ascii", 54, "00029782C000000012345", {"1.4": "2", "1.5": "C000000012345"}),
    ("iso2003-ascii", 49, "710003ABCDEF7F00020102", {"71": "ABCDEF", "7F": "0102"}),
]


@pytest.mark.parametrize(("name", "number", "value", "parts"), _INSIDES)
def test_elements_of_the_shipped_dialects_are_taken_apart(
    name: str, number: int, value: str, parts: dict[str, str]
) -> None:
    element = load_dialect(name).elements[number]
    tree = parse(element, value)
    leaves = {path: node.value for path, node in tree.leaves()}
    assert {path: leaves[path] for path in parts} == parts
    assert build(element, tree) == value


def test_elements_know_their_wire() -> None:
    text, packed = load_dialect("iso87-ascii").elements, load_dialect("iso87-bcd").elements
    assert (text[55].encoding, text[55].max_length, text[55].wire_units, text[55].characters) == ("hex", 255, 510, 510)
    assert (packed[55].encoding, packed[55].wire_units, packed[55].characters) == ("binary", 255, 510)
    assert (packed[2].encoding, packed[2].length_kind, packed[2].length_encoding) == ("bcd", 2, "bcd")
    assert (packed[22].pad, packed[35].pad, packed[41].pad, text[22].pad) == ("left 0", "right F", "", "")
    assert packed[28].max_length == 9


def test_a_path_loads_as_well_as_a_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\n[encoding]\nmti="ascii"\nbitmap="hex"\nlength="ascii"\nn="ascii"\nz="ascii"\ntext="ascii"\n'
        'b="hex"\n[elements]\n3 = { format = "n 6" }\n2 = { format = "n..19", name = "Card" }\n'
    )
    dialect = load_dialect(str(file))
    assert list(dialect.elements) == [2, 3]
    assert [element.name for element in dialect.elements.values()] == ["Card", "Processing code"]


WHOLE = """
name = "whole"
version = "1993"
tertiary = "contiguous"
identification = "local"
keepalive = false
[encoding]
mti = "cp037"
bitmap = "ebcdic-hex"
length = "binary"
length_count = "bytes"
n = "bcd"
z = "cp500"
text = "cp1047"
"x+n" = "bcd"
b = "ebcdic-hex"
pad_n = "right F"
fill_n = "left 0"
fill_text = "right  "
[elements]
2 = { format = "n..19" }
4 = { format = "n 11" }
5 = { format = "n..9", pad = "left 0", length = "bcd", length_size = 2, length_count = "digits" }
28 = { format = "x+n 8" }
192 = { format = "n 1" }
[elements.43]
format = "ans 40"
parts = { kind = "positional", 1 = { format = "ans 20", name = "Name" }, 2 = { format = "ans 20" } }
[elements.48]
format = "ans......100000"
length = "ascii"
parts = { kind = "tag-text", tag_size = 3, length_size = 3, AB1 = { format = "n..10" } }
[elements.55]
format = "b...255"
length_count = "octets"
parts = { kind = "ber-tlv", 9F26 = { name = "Cryptogram" } }
[elements.56]
format = "b 64"
encoding = "binary"
[elements.56.parts]
kind = "bitmapped"
bitmap_size = 1
3 = { format = "n 2", parts = { kind = "positional", rows = true, 1 = { format = "n 1", pad = "left 0" } } }
[rules.1100]
mandatory = [2, 4]
conditional = [ { element = 55, when = 4, starts = ["05"], unless = [2, 48] }, { element = 48 } ]
[rules.1110]
echo = [4]
"""


def test_everything_that_a_dialect_can_say_is_read() -> None:
    dialect = parse_dialect(tomllib.loads(WHOLE))
    assert (dialect.version, dialect.tertiary, dialect.identification, dialect.keepalive) == (
        "1993",
        "contiguous",
        "local",
        False,
    )
    assert (dialect.mti_encoding, dialect.bitmap_encoding) == ("cp037", "ebcdic-hex")
    elements = dialect.elements
    assert elements[4].name == "Amount, transaction"
    assert (elements[2].encoding, elements[2].length_encoding, elements[2].length_count) == ("bcd", "binary", "bytes")
    assert (elements[2].pad, elements[2].fill, elements[4].fill) == ("right F", "", "left 0")
    assert (elements[5].pad, elements[5].length_encoding, elements[5].length_size) == ("left 0", "bcd", 2)
    assert (elements[5].length_count, elements[55].length_count) == ("digits", "octets")
    assert (elements[28].encoding, elements[28].pad, elements[28].max_length) == ("bcd", "", 9)
    assert (elements[43].encoding, elements[43].fill, elements[48].length_kind) == ("cp1047", "right  ", 6)
    inside = {number: elements[number].parts for number in (43, 48, 55, 56)}
    assert all(parts is not None for parts in inside.values())
    kinds = {number: parts.kind for number, parts in inside.items() if parts}
    assert kinds == {43: "positional", 48: "tag-text", 55: "ber-tlv", 56: "bitmapped"}
    assert inside[43] and [part.name for part in inside[43].parts.values()] == ["Name", ""]
    assert inside[48] and (inside[48].tag_size, inside[48].length_size, list(inside[48].parts)) == (3, 3, ["AB1"])
    assert inside[55] and inside[55].parts["9F26"].name == "Cryptogram"
    assert inside[56] and inside[56].bitmap_size == 1 and inside[56].parts["3"].number == 3
    rows = inside[56].parts["3"].parts
    assert rows and rows.rows
    rule = dialect.rules["1100"]
    assert rule.mandatory == (2, 4)
    assert rule.conditional == (
        Condition(element=55, when=4, starts=("05",), unless=(2, 48)),
        Condition(element=48),
    )
    assert dialect.rules["1110"].echo == (4,)


def test_every_problem_is_listed(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(
        'colour = 1\nversion = "1988"\n[encoding]\nmti="ebcdic"\nbitmap="hex"\nlength="bcd"\nn="bcd"\nz="bcd"\n'
        'text="ascii"\nb="binary"\n'
        "[elements]\n"
        '1 = { format = "b 64" }\n'
        '129 = { format = "n 6" }\n'
        'x = { format = "n 6" }\n'
        '2 = { format = "n..19" }\n'
        '3 = { format = "n six" }\n'
        '4 = { format = "b 12" }\n'
        '5 = { format = "ans..100" }\n'
        '6 = { format = "n 6", pad = "middle 0", colour = 1 }\n'
        '7 = "n 10"\n'
        '8 = { format = "n 10000" }\n'
        '9 = { format = "ans..20", length = "ascii", length_size = 2, fill = "right  " }\n'
        '10 = { format = "n 6", fill = "left x" }\n'
        '11 = { format = "x+n..9", encoding = "bcd" }\n'
        '12 = { format = "n..12", length_count = "octets", pad = "left 0" }\n'
        '43 = { format = "ans 40", parts = { kind = "positional", 2 = { format = "n 2" }, tag_size = 2 } }\n'
        '48 = { format = "ans...99", parts = { kind = "text" } }\n'
        '55 = { format = "b...99", parts = { kind = "ber-tlv", 9f26 = { name = "no upper case" } } }\n'
        '56 = { format = "b 64", parts = { kind = "bitmapped", bitmap_size = 1, 9 = { format = "n 2", pad = 1 } } }\n'
        "[rules.0101]\nmandatory = [2, 3, 99]\ncolour = 1\n"
        '[rules.0110]\nmandatory = 2\nconditional = [ { element = 98, starts = ["05"] } ]\n'
    )
    with pytest.raises(SpecError) as caught:
        load_dialect(str(file))
    shown = "\n".join(caught.value.problems)
    expected = (
        "colour: unknown key",
        "name is missing",
        "version: must be one of 1987, 1993, 2003",
        "encoding.mti: must be one of ascii, cp037, cp500, cp1047, bcd",
        "elements.1: is a bitmap",
        "elements.129: the key must be a number from 2 to 128",
        "elements.x: the key",
        "elements.2.pad: an odd number of BCD digits needs a pad",
        "elements.3.format: must be like",
        "elements.4.format: 12 bits",
        "elements.5.format: a length of 2 digits cannot say 100",
        "elements.6.pad: must be like",
        "elements.6.colour: unknown key",
        "elements.7: must be a table",
        "elements.8.format: a fixed length must be 1 to 9999",
        "elements.9.length_size: only a length in bcd or binary",
        "elements.9.fill: only a fixed length is filled",
        "elements.10.fill: is no character of an element of kind n",
        "elements.11.format: an amount with its sign has a fixed length in bcd",
        "elements.12.length_count: must be one of nothing, bytes, digits, nibbles",
        "elements.43.parts: the parts must be numbered from 1 to 1",
        "elements.43.parts.tag_size: unknown key of kind positional",
        "elements.48.parts.kind: must be one of positional, ber-tlv, tag-text, bitmapped",
        "elements.48.parts: needs its parts",
        "elements.55.parts.9f26: must be a tag",
        "elements.56.parts.9: must be a bit from 1 to 8",
        "elements.56.parts.9.pad: must be like",
        "rules.0101: the key must be an MTI of 1987 without its repeat digit: 0100",
        "rules.0101.colour: unknown key",
        "rules.0101.mandatory: 3 is no element",
        "rules.0101.mandatory: 99 is no element",
        "rules.0110.mandatory: must be a list",
        "rules.0110.conditional.1.starts: says nothing without",
        "rules.0110.conditional.1.element: 98 is no element",
    )
    for problem in expected:
        assert problem in shown
    assert len(caught.value.problems) == len(expected)


def test_element_65_is_data_where_no_tertiary_bitmap_takes_its_place() -> None:
    table = tomllib.loads(WHOLE)
    table["elements"]["65"] = {"format": "b 8"}
    with pytest.raises(SpecError, match=r"elements\.65: is a bitmap"):
        parse_dialect(table)
    table["tertiary"] = ""
    del table["elements"]["192"]
    assert parse_dialect(table).elements[65].max_length == 1


def test_what_is_no_file_or_no_toml_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"iso88: no such dialect; there are .*iso87-ascii, .*; a file has a slash in"):
        load_dialect("iso88")
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        load_dialect("./iso88")
    file = tmp_path / "broken.toml"
    file.write_text("name = ")
    with pytest.raises(SpecError, match="is not TOML"):
        load_dialect(str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="not UTF-8"):
        load_dialect(str(file))


def pages() -> list[str]:
    """The TOML of docs/dialects.md, each block by itself."""
    text = (Path(__file__).parents[2] / "docs" / "dialects.md").read_text("utf-8")
    return re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_what_the_page_shows_can_be_read() -> None:
    whole, inside = (block for block in pages() if "[elements" in block)
    terminals = parse_dialect(tomllib.loads(whole))
    assert (terminals.name, terminals.elements[62].encoding, terminals.elements[62].length_size) == (
        "terminals",
        "cp500",
        1,
    )
    assert set(terminals.rules) == {"0100", "0110"}
    head = whole[: whole.index("[elements]")]
    parts = {number: element.parts for number, element in parse_dialect(tomllib.loads(head + inside)).elements.items()}
    assert {number: each.kind for number, each in parts.items() if each} == {
        3: "positional",
        48: "tag-text",
        54: "positional",
        55: "ber-tlv",
    }
