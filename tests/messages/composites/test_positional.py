"""Parts one after the other and rows of them: DE 3, 43, 54, 90, 95 and their like, in text and in bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.composites.nodes import MAX_DEPTH, MAX_NODES, from_plain
from messages.composites.spec import Composite
from messages.composites.tree import build, parse
from messages.dialect import Element
from messages.errors import DecodeError, EncodeError
from tests.messages.composites.parts import element, parts


def positional(notation: str, *notations: str, number: int = 1, encoding: str = "ascii", **options: Any) -> Element:
    inside = Composite(kind="positional", parts=parts(*notations, encoding=encoding), **options)
    return element(notation, number, inside, encoding)


# Source: ISO 8583:1987 for the places.
PROCESSING_CODE = positional("n 6", "n 2", "n 2", "n 2", number=3)
ACCEPTOR = positional("ans 40", "ans 23", "ans 13", "ans 2", "a 2", number=43)
AMOUNTS = positional("an...120", "n 2", "n 2", "n 3", "x+n 12", number=54, rows=True)
ORIGINAL = positional("n 42", "n 4", "n 6", "n 10", "n 11", "n 11", number=90)
REPLACED = positional("an 42", "n 12", "n 12", "x+n 8", "x+n 8", number=95)
TERMS: dict[str, tuple[Element, str, object]] = {
    "DE 3": (PROCESSING_CODE, "003000", {"1": "00", "2": "30", "3": "00"}),
    "DE 43": (
        ACCEPTOR,
        f"{'Demo Shop, Main St 1':<23}{'Springfield':<13}ILUS",
        {"1": f"{'Demo Shop, Main St 1':<23}", "2": f"{'Springfield':<13}", "3": "IL", "4": "US"},
    ),
    "DE 54": (
        AMOUNTS,
        "0040978D000000002000" "0057978C000000001500",
        {
            "1": {"1": "00", "2": "40", "3": "978", "4": "D000000002000"},
            "2": {"1": "00", "2": "57", "3": "978", "4": "C000000001500"},
        },
    ),
    "DE 54 of nothing": (AMOUNTS, "", {}),
    "DE 90": (
        ORIGINAL,
        "0100" "000123" "1122154908" "00000010001" "00000000000",
        {"1": "0100", "2": "000123", "3": "1122154908", "4": "00000010001", "5": "00000000000"},
    ),
    "DE 95": (
        REPLACED,
        "000000005000" "000000000000" "D00000000" "C00000000",
        {"1": "000000005000", "2": "000000000000", "3": "D00000000", "4": "C00000000"},
    ),
    "the last ones missing": (positional("ans..40", "n 2", "ans..9", "n 2"), "1203abc", {"1": "12", "2": "abc"}),
    "lengths of their own": (positional("ans..40", "ans..9", "n 2"), "03abc12", {"1": "abc", "2": "12"}),
    "bytes in a text": (positional("ans..40", "b 16", "n 2"), "AB1F12", {"1": "AB1F", "2": "12"}),
    "bytes in small letters": (
        positional("ans..40", "b 16", "n 2"), "ab1f12", [{"tag": "1", "raw": "61623166"}, {"tag": "2", "value": "12"}]
    ),
    "packed in bytes": (
        positional("b..40", "n 2", "n 3", "n 4", encoding="bcd"), "1201239876", {"1": "12", "2": "123", "3": "9876"}
    ),
    "EBCDIC in bytes": (positional("b..40", "n 2", "ans..9", encoding="cp037"), "F1F2F0F1C1", {"1": "12", "2": "A"}),
}  # fmt: skip


@pytest.mark.parametrize("name", TERMS)
def test_what_stands_where(name: str) -> None:
    of, value, plain = TERMS[name]
    tree = parse(of, value)
    assert tree.to_plain() == plain
    assert build(of, tree) == value
    assert build(of, from_plain(plain, str(of.number))) == value


def test_the_wire_of_a_text_does_not_matter_to_its_parts() -> None:
    for encoding in ("bcd", "cp037"):
        de3 = positional("n 6", "n 1", "n 3", "n 2", number=3, encoding=encoding)
        assert parse(de3, "003000").to_plain() == {"1": "0", "2": "030", "3": "00"}
        assert build(de3, parse(de3, "003000")) == "003000"


def test_parts_that_have_parts() -> None:
    inner = Composite(kind="positional", parts=parts("n 2", "n 2"))
    outer = Composite(kind="positional", parts={"1": element("n 2"), "2": element("ans..20", 2, inner)})
    of = element("ans..40", 48, outer)
    assert parse(of, "99041234").to_plain() == {"1": "99", "2": {"1": "12", "2": "34"}}
    assert build(of, parse(of, "99041234")) == "99041234"
    with pytest.raises(DecodeError) as refused:
        parse(of, "990412X4")
    assert (refused.value.path, refused.value.offset) == ("48.2.2", 6)
    with pytest.raises(EncodeError) as unwritable:
        build(of, from_plain({"1": "99", "2": {"1": "12", "2": "X4"}}, "48"))
    assert unwritable.value.path == "48.2.2"


REFUSED: dict[str, tuple[Element, str, str, int]] = {
    "not as its format says": (ORIGINAL, "01000001X3" + "0" * 32, "90.2", 4),
    "ends within a part": (ORIGINAL, "010000", "90.2", 4),
    "goes on behind the last": (PROCESSING_CODE, "0030001", "3", 6),
    "a row that ends too soon": (AMOUNTS, "0040978D0000000020000057978", "54.2", 20),
    "a row with a wrong part": (AMOUNTS, "0040978D0000000020000057978X000000001500", "54.2.4", 27),
    "too many rows": (AMOUNTS, "0040978D000000002000" * MAX_NODES, "54", 0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_none_is_refused_with_its_path_and_byte(name: str) -> None:
    of, value, path, offset = REFUSED[name]
    with pytest.raises(DecodeError) as refused:
        parse(of, value)
    assert refused.value.path.startswith(path)
    if name == "too many rows":
        assert f"more than {MAX_NODES} parts" in refused.value.reason
        return
    assert (refused.value.path, refused.value.offset) == (path, offset)


UNWRITABLE: dict[str, tuple[Element, object, str]] = {
    "a part too many": (PROCESSING_CODE, {"1": "00", "2": "00", "3": "00", "4": "00"}, "3.4"),
    "out of order": (PROCESSING_CODE, {"2": "00", "1": "00"}, "3.2"),
    "a gap": (PROCESSING_CODE, {"1": "00", "3": "00"}, "3.3"),
    "not as its format says": (PROCESSING_CODE, {"1": "0X"}, "3.1"),
    "too long": (PROCESSING_CODE, {"1": "000"}, "3.1"),
    "a tree in place of text": (PROCESSING_CODE, {"1": {"1": "0"}}, "3.1"),
    "a row that is not whole": (AMOUNTS, {"1": {"1": "00"}}, "54.1"),
    "rows that do not count": (AMOUNTS, {"2": {"1": "00", "2": "40", "3": "978", "4": "D000000002000"}}, "54.2"),
    "text for a row": (AMOUNTS, {"1": "00"}, "54.1"),
    "raw bytes that are none": (PROCESSING_CODE, [{"tag": "1", "raw": "x"}], "3.1"),
    "no text and no object": (PROCESSING_CODE, {"1": 7}, "3.1"),
    "a list of others": (PROCESSING_CODE, [7], "3"),
    "a part without a name": (PROCESSING_CODE, {"": "00"}, "3"),
    "a part with value and raw": (PROCESSING_CODE, [{"tag": "1", "value": "00", "raw": "3030"}], "3"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_a_tree_that_makes_no_value_is_refused(name: str) -> None:
    of, plain, path = UNWRITABLE[name]
    with pytest.raises(EncodeError) as refused:
        build(of, from_plain(plain, str(of.number)))
    assert refused.value.path == path


def test_plain_forms_keep_to_the_limits() -> None:
    with pytest.raises(EncodeError, match=f"more than {MAX_NODES} parts"):
        from_plain({str(place): "" for place in range(MAX_NODES + 1)}, "48")
    with pytest.raises(EncodeError, match=f"more than {MAX_NODES} parts"):
        from_plain([{"padding": "00"}] * (MAX_NODES + 1), "55")
    deep: object = "00"
    for _ in range(MAX_DEPTH + 1):
        deep = {"E1": deep}
    with pytest.raises(EncodeError, match=f"more than {MAX_DEPTH} levels"):
        from_plain(deep, "55")


@given(text=st.text(alphabet="0123456789CDXab ", max_size=90), place=st.sampled_from(sorted(TERMS)))
def test_any_text_is_refused_or_comes_back(text: str, place: str) -> None:
    of = TERMS[place][0]
    if of.kind == "b":
        text = text.encode().hex().upper()
    try:
        tree = parse(of, text)
    except DecodeError as error:
        assert error.path.split(".")[0] == str(of.number) and error.offset is not None
        assert 0 <= error.offset <= len(text)
        return
    assert build(of, tree) == text
    assert build(of, from_plain(tree.to_plain(), str(of.number))) == text
