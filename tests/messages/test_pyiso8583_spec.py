"""A dialect in pyiso8583's words, and the features that those cannot express."""

from __future__ import annotations

import pytest

from messages.dialect import load_dialect
from messages.errors import SpecError
from tests.messages.sample_dialects import DIALECTS, parsed


def test_a_packed_dialect_in_their_words() -> None:
    spec = load_dialect("iso87-bcd").pyiso8583_spec()
    assert {key: spec["t"][key] for key in ("data_enc", "max_len")} == {"data_enc": "b", "max_len": 2}
    assert spec["p"]["max_len"] == 8
    assert spec["2"] == {
        "data_enc": "b",
        "len_enc": "bcd",
        "len_type": 1,
        "max_len": 19,
        "len_count": "nibbles",
        "left_pad": "0",
        "desc": "Primary account number (PAN)",
    }
    assert (spec["35"]["right_pad"], spec["55"]["len_count"], spec["55"]["len_type"]) == ("F", "bytes", 2)


def test_ebcdic_in_their_words() -> None:
    spec = DIALECTS["ebcdic"].pyiso8583_spec()
    assert (spec["t"]["data_enc"], spec["p"]["data_enc"], spec["p"]["max_len"]) == ("cp500", "cp037", 16)
    assert (spec["9"]["data_enc"], spec["9"]["len_enc"]) == ("cp1047", "cp1047")
    assert (spec["11"]["len_enc"], spec["11"]["len_type"]) == ("b", 3)


def test_a_third_bitmap_is_theirs_where_it_follows_the_second() -> None:
    assert DIALECTS["third"].pyiso8583_spec()["65"]["desc"] == "Bitmap, tertiary"
    with pytest.raises(SpecError, match="tertiary: pyiso8583 has no bitmap among the elements"):
        DIALECTS["third-inside"].pyiso8583_spec()


def test_all_that_they_have_no_words_for_is_listed() -> None:
    with pytest.raises(SpecError) as caught:
        DIALECTS["beyond"].pyiso8583_spec()
    lacking = {problem.split(":")[0] for problem in caught.value.problems}
    assert lacking == {f"elements.{number}" for number in (2, 4, 6, 7, 35, 55, 56)}


def test_element_65_is_a_bitmap_for_them() -> None:
    text = 'name = "x"\nencoding = { mti = "ascii", bitmap = "hex", length = "ascii", n = "ascii", z = "ascii", '
    text += 'text = "ascii", b = "hex" }\n[elements]\n65 = { format = "n 1" }\n'
    with pytest.raises(SpecError, match=r"elements\.65: pyiso8583 takes it for a bitmap"):
        parsed(text).pyiso8583_spec()
