"""A bitmap and the parts that it announces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.composites.nodes import from_plain
from messages.composites.spec import Composite
from messages.composites.tree import build, parse
from messages.dialect import Element
from messages.errors import DecodeError, EncodeError
from tests.messages.composites.parts import element, parts

BINARY = element("b...255", 62, Composite(kind="bitmapped", parts=parts("n 2", "ans..9", "b 16"), bitmap_size=1))
TEXT = element(
    "ans...255", 62,
    Composite(kind="bitmapped", parts=parts("n 2", "ans..9", "b 16"), bitmap_size=1, bitmap_encoding="hex"),
)  # fmt: skip
TERMS: dict[str, tuple[Element, str, object]] = {
    "all parts in bytes": (BINARY, "E0" "3132" "303141" "BEEF", {"1": "12", "2": "A", "3": "BEEF"}),
    "some": (BINARY, "A0" "3132" "BEEF", {"1": "12", "3": "BEEF"}),
    "none": (BINARY, "00", {}),
    "all parts in text": (TEXT, "E0" "12" "01A" "BEEF", {"1": "12", "2": "A", "3": "BEEF"}),
    "a bitmap in small letters": (TEXT, "e0" "12" "01A" "BEEF", {"0": "e0", "1": "12", "2": "A", "3": "BEEF"}),
}  # fmt: skip


@pytest.mark.parametrize("name", TERMS)
def test_what_comes_out_and_goes_back(name: str) -> None:
    of, value, plain = TERMS[name]
    tree = parse(of, value)
    assert tree.to_plain() == plain
    assert build(of, tree) == value
    assert build(of, from_plain(plain, "62")) == value


REFUSED: dict[str, tuple[Element, str, str, int, str]] = {
    "no bitmap": (BINARY, "", "62", 0, "bitmap"),
    "no bitmap in text": (TEXT, "E", "62", 0, "bitmap"),
    "a bitmap of other signs": (TEXT, "0x12", "62", 0, "bitmap"),
    "a part that there is not": (BINARY, "10", "62", 0, "part 4"),
    "not as its part says": (BINARY, "803141", "62.1", 1, "digits"),
    "ends too soon": (TEXT, "C01203A", "62.2", 6, "3 bytes"),
    "bytes behind the last": (BINARY, "80313200", "62", 3, "1 bytes after"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_none_is_refused_with_its_path_and_byte(name: str) -> None:
    of, value, path, offset, reason = REFUSED[name]
    with pytest.raises(DecodeError) as refused:
        parse(of, value)
    assert (refused.value.path, refused.value.offset) == (path, offset)
    assert reason in refused.value.reason


UNWRITABLE: dict[str, tuple[object, str]] = {
    "a part that there is not": ({"4": "1"}, "62.4"),
    "a part twice": ([{"tag": "1", "value": "12"}, {"tag": "1", "value": "12"}], "62.1"),
    "not as its part says": ({"1": "x"}, "62.1"),
    "a bitmap of other parts": ({"0": "e0", "1": "12"}, "62"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_a_tree_that_makes_no_value_is_refused(name: str) -> None:
    plain, path = UNWRITABLE[name]
    with pytest.raises(EncodeError) as refused:
        build(TEXT, from_plain(plain, "62"))
    assert refused.value.path == path


@given(data=st.binary(max_size=20), of=st.sampled_from((BINARY, TEXT)))
def test_any_value_is_refused_or_comes_back(data: bytes, of: Element) -> None:
    value = data.hex().upper() if of.kind == "b" else data.hex()
    try:
        tree = parse(of, value)
    except DecodeError as error:
        assert error.path.startswith("62") and error.offset is not None
        return
    assert build(of, tree) == value
    assert build(of, from_plain(tree.to_plain(), "62")) == value
