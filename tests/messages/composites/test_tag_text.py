"""Tag, length, value in characters, as hosts have it in DE 48; and its like in bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.composites.nodes import MAX_NODES, from_plain
from messages.composites.spec import Composite
from messages.composites.tree import build, parse
from messages.dialect import Element
from messages.errors import DecodeError, EncodeError
from tests.messages.composites.parts import element, parts

KNOWN = {
    "42": element("n 3"),
    "66": element("ans...999", parts=Composite(kind="positional", parts=parts("n 2", "a 2"))),
    "71": element("ans...12"),
}
PRIVATE = element("ans...999", 48, Composite(kind="tag-text", parts=KNOWN, length_size=3))
FIXED = element(
    "ans...999", 48, Composite(kind="tag-text", parts={"A1": element("n 3"), "B2": element("ans..9")}, length_size=0)
)
EBCDIC = element(
    "b...999", 48,
    Composite(
        kind="tag-text", tag_encoding="cp037", length_encoding="cp037",
        parts={"42": element("n 3", encoding="cp037"), "71": element("ans...12", encoding="cp037")},
    ),
)  # fmt: skip
BINARY = element(
    "b...999", 48,
    Composite(
        kind="tag-text", tag_size=1, tag_encoding="binary", length_size=1, length_encoding="binary",
        parts={"0A": element("n 3", encoding="bcd"), "0B": element("n..19", encoding="bcd"), "0C": element("b..9")},
    ),
)  # fmt: skip
PACKED = element(
    "b...999", 48, Composite(kind="tag-text", tag_size=2, tag_encoding="bcd", length_size=2, length_encoding="bcd")
)

TERMS: dict[str, tuple[Element, str, object]] = {
    "known and unknown tags": (PRIVATE, "42003123" "99002zz", {"42": "123", "99": "zz"}),
    "repeated": (PRIVATE, "99001a" "99001b", [{"tag": "99", "value": "a"}, {"tag": "99", "value": "b"}]),
    "empty": (PRIVATE, "99000", {"99": ""}),
    "nothing": (PRIVATE, "", {}),
    "parts in a tag": (PRIVATE, "66004" "12US", {"66": {"1": "12", "2": "US"}}),
    "without lengths": (FIXED, "A1123B203abcA1999",
        [{"tag": "A1", "value": "123"}, {"tag": "B2", "value": "abc"}, {"tag": "A1", "value": "999"}]),
    "EBCDIC": (EBCDIC, "F4F2F0F3F1F2F3" "F7F1F0F2C1C2" "F9F9F0F1FF", {"42": "123", "71": "AB", "99": "FF"}),
    "binary tag and length": (BINARY, "0A020123" "0B021234" "0C0101" "FE03AABBCC",
        {"0A": "123", "0B": "1234", "0C": "01", "FE": "AABBCC"}),
    "packed tag and length": (PACKED, "1234000101", {"1234": "01"}),
}  # fmt: skip


@pytest.mark.parametrize("name", TERMS)
def test_what_comes_out_and_goes_back(name: str) -> None:
    of, value, plain = TERMS[name]
    tree = parse(of, value)
    assert tree.to_plain() == plain
    assert build(of, tree) == value
    assert build(of, from_plain(plain, "48")) == value


REFUSED: dict[str, tuple[Element, str, str, int]] = {
    "a tag that is cut off": (PRIVATE, "99001a9", "48", 6),
    "a length that is cut off": (PRIVATE, "9900", "48.99", 2),
    "a length of other signs": (PRIVATE, "9900xa", "48.99", 2),
    "a length with a sign": (PRIVATE, "99+01a", "48.99", 2),
    "a value that ends too soon": (PRIVATE, "99001a" "71010abc", "48.71", 8),
    "a known tag of another length": (PRIVATE, "42004" "1234", "48.42", 5),
    "a known tag of other signs": (PRIVATE, "99001a" "42003" "12x", "48.42", 11),
    "a known tag that is too long": (PRIVATE, "71013" + "a" * 13, "48.71", 5),
    "a part in a tag": (PRIVATE, "66004" "12U5", "48.66.2", 7),
    "an unknown tag without a length": (FIXED, "C1123", "48.C1", 0),
    "a packed length of other signs": (PACKED, "123400FF01", "48.1234", 2),
    "bytes behind a value": (BINARY, "0A03012399", "48.0A", 2),
    "a number of other nibbles": (BINARY, "0B0212F4", "48.0B", 2),
    "too many tags": (PRIVATE, "99000" * (MAX_NODES + 1), "48", 5 * MAX_NODES),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_none_is_refused_with_its_path_and_byte(name: str) -> None:
    of, value, path, offset = REFUSED[name]
    with pytest.raises(DecodeError) as refused:
        parse(of, value)
    assert (refused.value.path, refused.value.offset) == (path, offset)


UNWRITABLE: dict[str, tuple[Element, object, str]] = {
    "a tag of another size": (PRIVATE, {"9": "a"}, "48.9"),
    "not as its part says": (PRIVATE, {"42": "12"}, "48.42"),
    "a part in a tag": (PRIVATE, {"66": {"1": "1x"}}, "48.66.1"),
    "a tree where there is none": (PRIVATE, {"99": {"1": "1"}}, "48.99"),
    "a tree where the part has none": (PRIVATE, {"42": {"1": "1"}}, "48.42"),
    "other signs": (PRIVATE, {"99": "é"}, "48.99"),
    "longer than the length can say": (PRIVATE, {"99": "a" * 1000}, "48.99"),
    "an unknown tag without a length": (FIXED, {"C1": "1"}, "48.C1"),
    "no hexadecimal in bytes": (BINARY, {"FE": "xy"}, "48.FE"),
    "a binary length that is too long": (BINARY, {"FE": "00" * 256}, "48.FE"),
    "a number with letters": (BINARY, {"0B": "12x4"}, "48.0B"),
    "a number that is too long": (BINARY, {"0B": "1" * 40}, "48.0B"),
    "a tag of other letters": (BINARY, {"x1": "00"}, "48.x1"),
    "a letter that the code page has not": (EBCDIC, {"71": "€"}, "48.71"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_a_tree_that_makes_no_value_is_refused(name: str) -> None:
    of, plain, path = UNWRITABLE[name]
    with pytest.raises(EncodeError) as refused:
        build(of, from_plain(plain, "48"))
    assert refused.value.path == path


@given(text=st.text(alphabet="04296713xA. ", max_size=60), name=st.sampled_from(sorted(TERMS)))
def test_any_value_is_refused_or_comes_back(text: str, name: str) -> None:
    of = TERMS[name][0]
    value = text.encode().hex().upper() if of.kind == "b" else text
    try:
        tree = parse(of, value)
    except DecodeError as error:
        assert error.path.startswith("48") and error.offset is not None and 0 <= error.offset <= len(text)
        return
    assert build(of, tree) == value
    assert build(of, from_plain(tree.to_plain(), "48")) == value


@given(pairs=st.lists(st.tuples(st.text("0123456789", min_size=2, max_size=2), st.text(max_size=40)), max_size=9))
def test_what_can_be_written_is_read_as_it_was(pairs: list[tuple[str, str]]) -> None:
    plain = [{"tag": tag, "value": value} for tag, value in pairs]
    try:
        value = build(PRIVATE, from_plain(plain, "48"))
    except EncodeError:
        return
    try:
        tree = parse(PRIVATE, value)
    except DecodeError as error:
        # Only the text in a tag with parts is not looked at when it is written as one text.
        assert error.path.startswith("48.66") or "é" in value
        return
    assert [node.key for node in tree.nodes] == [tag for tag, _ in pairs]
