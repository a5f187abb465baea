"""Dialect files: what the shipped ones say, and that every problem of a bad one is listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from messages.dialect import load_dialect
from messages.dictionary.iso1987 import ELEMENT_NAMES, FORMATS
from messages.errors import SpecError

every_dialect = pytest.mark.parametrize("name", ["iso87-ascii", "iso87-bcd"])


@every_dialect
def test_the_shipped_dialects_have_all_elements_of_1987(name: str) -> None:
    dialect = load_dialect(name)
    assert list(dialect.elements) == [number for number in range(2, 129) if number != 65]
    assert {number: element.format for number, element in dialect.elements.items()} == FORMATS
    assert {number: element.name for number, element in dialect.elements.items()} == ELEMENT_NAMES


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


def test_every_problem_is_listed(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(
        'colour = 1\n[encoding]\nmti="ebcdic"\nbitmap="hex"\nlength="bcd"\nn="bcd"\nz="bcd"\ntext="ascii"\nb="binary"\n'
        "[elements]\n"
        '1 = { format = "b 64" }\n'
        '65 = { format = "b 64" }\n'
        '129 = { format = "n 6" }\n'
        'x = { format = "n 6" }\n'
        '2 = { format = "n..19" }\n'
        '3 = { format = "n six" }\n'
        '4 = { format = "b 12" }\n'
        '5 = { format = "ans..100" }\n'
        '6 = { format = "n 6", pad = "middle 0", colour = 1 }\n'
        '7 = "n 10"\n'
        '8 = { format = "n 1000" }\n'
    )
    with pytest.raises(SpecError) as caught:
        load_dialect(str(file))
    shown = "\n".join(caught.value.problems)
    for expected in (
        "colour: unknown key",
        "name is missing",
        "encoding.mti: must be one of ascii, bcd",
        "elements.1: is a bitmap",
        "elements.65: is a bitmap",
        "elements.129: the key must be a number from 2 to 128",
        "elements.x: the key",
        "elements.2.pad: an odd number of BCD digits needs a pad",
        "elements.3.format: must be like",
        "elements.4.format: 12 bits",
        "elements.5.format: a length of 2 digits cannot say 100",
        "elements.6.pad: must be like",
        "elements.6.colour: unknown key",
        "elements.7: must be a table",
        "elements.8.format: a fixed length",
    ):
        assert expected in shown
    assert len(caught.value.problems) == 15


def test_what_is_no_file_or_no_toml_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="iso88: cannot be read"):
        load_dialect("iso88")
    file = tmp_path / "broken.toml"
    file.write_text("name = ")
    with pytest.raises(SpecError, match="is not TOML"):
        load_dialect(str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="not UTF-8"):
        load_dialect(str(file))
