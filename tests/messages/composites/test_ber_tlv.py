"""BER-TLV: the standard's examples, everything back byte for byte, and refusals with a path and an offset."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.composites.nodes import MAX_DEPTH, MAX_NODES, PADDING, Node, Tree, from_plain
from messages.composites.spec import Composite
from messages.composites.tree import build, parse
from messages.dialect import Element
from messages.errors import DecodeError, EncodeError

CHIP = Element(
    number=55,
    name="Integrated circuit card data (EMV)",
    kind="b",
    encoding="binary",
    length_kind=3,
    max_length=999,
    length_encoding="ascii",
    parts=Composite(kind="ber-tlv"),
)
# One purchase, as terminals send it: EMV Book 3 annex A has the tags.
PURCHASE = (
    "9F26081122334455667788" "9F270180" "9F100706010A03A0A100" "9F3704DEADBEEF" "9F36020001" "950500000080009A03261122"
    "9C01009F02060000000123005F2A020978820239009F1A0202769F03060000000000009F3303E0F8C89F34034203009F3501225F340101"
)  # fmt: skip


def plain(value: str) -> object:
    tree = parse(CHIP, value)
    assert build(CHIP, tree) == value
    assert build(CHIP, from_plain(tree.to_plain(), "55")) == value
    return tree.to_plain()


# The rules of annex B of EMV Book 3, one value a rule.
RULES: dict[str, tuple[str, object]] = {
    "B1: a tag of one byte": ("9A03261122", {"9A": "261122"}),
    "B1: the low five bits are ones: a second byte": ("9F0206000000012300", {"9F02": "000000012300"}),
    "B1: bit 8 of the second byte is one: a third": ("DF810C0101", {"DF810C": "01"}),
    "four bytes": ("DF81820C0101", {"DF81820C": "01"}),
    "B2: lengths to 127 in one byte": (f"50{127:02X}" + "41" * 127, {"50": "41" * 127}),
    "B2: lengths to 255 behind 81": ("5081C8" + "41" * 200, {"50": "41" * 200}),
    "B2: longer ones behind 82": ("5082012C" + "41" * 300, {"50": "41" * 300}),
    "B3: bit 6 of the tag is one: data objects inside": (
        "E1099F2701809F36020001", {"E1": {"9F27": "80", "9F36": "0001"}}
    ),
    "B1: 00 between data objects means nothing": (
        "0000" "9C0100" "00" "9A03261122" "0000",
        [{"padding": "0000"}, {"tag": "9C", "value": "00"}, {"padding": "00"}, {"tag": "9A", "value": "261122"},
         {"padding": "0000"}],
    ),
    "ISO/IEC 7816-4: nor does FF": (
        "FFFF9C0100FF", [{"padding": "FFFF"}, {"tag": "9C", "value": "00"}, {"padding": "FF"}]
    ),
    "a tag without a value": ("9F3400", {"9F34": ""}),
    "nothing": ("", {}),
    "a length longer than it need be": ("9C810100", [{"tag": "9C", "length": "8101", "value": "00"}]),
    "and behind 83": ("9C8300000100", [{"tag": "9C", "length": "83000001", "value": "00"}]),
    "repeated tags in their order": (
        "9F1001AA9C01009F1001BB",
        [{"tag": "9F10", "value": "AA"}, {"tag": "9C", "value": "00"}, {"tag": "9F10", "value": "BB"}],
    ),
    "unknown tags": ("DF010100C10155", {"DF01": "00", "C1": "55"}),
    "constructed, but nothing parses in it": ("E1029F27", {"E1": "9F27"}),
    "constructed twice": ("E107A2059F360201029C0100", {"E1": {"A2": {"9F36": "0102"}}, "9C": "00"}),
    "constructed and empty": ("E100", {"E1": {}}),
    "constructed and repeated inside": (
        "E1069C01009C0101", {"E1": [{"tag": "9C", "value": "00"}, {"tag": "9C", "value": "01"}]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_of_the_annex(rule: str) -> None:
    value, expected = RULES[rule]
    assert plain(value) == expected


def test_a_purchase() -> None:
    tree = parse(CHIP, PURCHASE)
    assert tree.get("9F26") == "1122334455667788"
    assert tree.get("9F99") == "" and tree.get("9F99", "none") == "none"
    assert "82" in tree and "9F99" not in tree
    assert len(tree.nodes) == 17
    assert build(CHIP, tree) == PURCHASE
    assert isinstance(tree.to_plain(), dict)


def test_paths_of_all_leaves() -> None:
    tree = parse(CHIP, "E107A2059F36020102009C0100")
    assert [(path, node.value) for path, node in tree.leaves()] == [("E1.A2.9F36", "0102"), ("9C", "00")]


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 0xFFFF - 4])
def test_lengths_are_the_shortest_unless_they_came_longer(size: int) -> None:
    value = build(CHIP, Tree((Node(key="50", value="AB" * size),)))
    assert parse(CHIP, value).nodes == (Node(key="50", value="AB" * size),)


REFUSED = {
    "a tag that is cut off": ("9C01009F", "55", 3, "expected a tag"),
    "a tag that never ends": ("9FFFFFFF01", "55", 0, "expected a tag"),
    "no length": ("9C01009A", "55.9A", 4, "expected a length"),
    "a length that is cut off": ("9F268201", "55.9F26", 2, "expected a length"),
    "a length of no stated size": ("9F2680", "55.9F26", 2, "expected a length"),
    "a length of four bytes": ("9F268400000001AA", "55.9F26", 2, "expected a length"),
    "a value that ends too soon": ("9C01009F26081122", "55.9F26", 6, "expected 8 bytes, 2 are left"),
    "too many tags": ("9C00" * (MAX_NODES + 1), "55", 2 * MAX_NODES, f"more than {MAX_NODES} parts"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_none_is_refused_with_its_path_and_byte(name: str) -> None:
    value, path, offset, reason = REFUSED[name]
    with pytest.raises(DecodeError) as refused:
        parse(CHIP, value)
    assert (refused.value.path, refused.value.offset) == (path, offset)
    assert reason in refused.value.reason
    assert "1122" not in str(refused.value)


@pytest.mark.parametrize("value", ["9", "9C 0100", "9G0100", "é9"])
def test_what_is_no_hexadecimal_is_refused(value: str) -> None:
    with pytest.raises(DecodeError) as refused:
        parse(CHIP, value)
    assert refused.value.path == "55"


def test_more_bytes_than_the_limit_are_refused() -> None:
    with pytest.raises(DecodeError, match="65536 bytes, the most is 65535"):
        parse(CHIP, "00" * 65_536)
    with pytest.raises(EncodeError, match="the most is 65535"):
        build(CHIP, Tree((Node(key="50", value="00" * 65_535),)))


def test_deeper_than_the_limit_is_kept_as_bytes() -> None:
    value = "9C0100"
    for _ in range(MAX_DEPTH + 3):
        value = f"E1{len(value) // 2:02X}{value}"
    tree = parse(CHIP, value)
    assert build(CHIP, tree) == value
    depth, inner = 1, tree
    while isinstance(inner.nodes[0].value, Tree):
        depth, inner = depth + 1, inner.nodes[0].value
    assert depth == MAX_DEPTH and isinstance(inner.nodes[0].value, str)


def test_private_tags_that_begin_with_ff_are_tags_where_the_dialect_names_them() -> None:
    named = Element(
        number=55, name="", kind="b", encoding="binary", length_kind=3, max_length=255, length_encoding="ascii",
        parts=Composite(kind="ber-tlv", parts={"FF8106": CHIP}),
    )  # fmt: skip
    value = "FF81060400009C00FF9C0100"
    assert parse(named, value).nodes == (
        Node(key="FF8106", value=Tree((Node(key=PADDING, value="0000"), Node(key="9C", value="")))),
        Node(key=PADDING, value="FF"),
        Node(key="9C", value="00"),
    )
    assert build(named, parse(named, value)) == value


UNWRITABLE: dict[str, tuple[object, str, str]] = {
    "no tag": ({"9F": "00"}, "55.9F", "is no tag"),
    "two tags in one": ({"9C9A": "00"}, "55.9C9A", "is no tag"),
    "a tag that is filling": ({"00": "00"}, "55.00", "is no tag"),
    "a tag of other signs": ({"9 C": "00"}, "55.9 C", "is no tag"),
    "a value of other signs": ({"E1": {"9C": "0 0"}}, "55.E1.9C", "expected hexadecimal digits in pairs"),
    "an odd value": ({"9C": "0"}, "55.9C", "expected hexadecimal digits in pairs"),
    "a length that lies": ([{"tag": "9C", "length": "8102", "value": "00"}], "55.9C", "length field"),
    "a length that is none": ([{"tag": "9C", "length": "zz", "value": "00"}], "55.9C", "length field"),
    "filling that means something": ([{"padding": "9C"}], "55", "filling"),
    "raw bytes": ([{"tag": "9C", "raw": "00"}], "55.9C", '"value"'),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_a_tree_that_makes_no_bytes_is_refused(name: str) -> None:
    given_plain, path, reason = UNWRITABLE[name]
    with pytest.raises(EncodeError) as refused:
        build(CHIP, from_plain(given_plain, "55"))
    assert refused.value.path == path
    assert reason in refused.value.reason


def test_trees_by_hand_keep_to_the_limits() -> None:
    deep = Tree((Node(key="9C", value="00"),))
    for _ in range(MAX_DEPTH):
        deep = Tree((Node(key="E1", value=deep),))
    with pytest.raises(EncodeError, match=f"more than {MAX_DEPTH} levels"):
        build(CHIP, deep)
    with pytest.raises(EncodeError, match=f"more than {MAX_NODES} parts"):
        build(CHIP, Tree((Node(key="9C", value="00"),) * (MAX_NODES + 1)))


def test_small_letters_are_taken_and_written_large() -> None:
    assert build(CHIP, parse(CHIP, "9f2608aabbccddeeff0011")) == "9F2608AABBCCDDEEFF0011"
    assert build(CHIP, from_plain({"9f26": "aabb"}, "55")) == "9F2602AABB"


def test_an_element_without_parts_has_no_tree() -> None:
    flat = Element(number=2, name="", kind="n", encoding="ascii", length_kind=2, max_length=19, length_encoding="ascii")
    with pytest.raises(DecodeError, match="no parts"):
        parse(flat, "4242424242424242")
    with pytest.raises(EncodeError, match="no parts"):
        build(flat, Tree())


def test_a_tree_shows_no_values() -> None:
    tree = parse(CHIP, "5A0842424242424242420000E10A5A084242424242424242")
    for shown in (repr(tree), repr(tree.nodes), str(tree.__rich_repr__()), str(tree.nodes[0].__rich_repr__())):
        assert "4242" not in shown and "5A" in shown


def test_showing_keeps_the_shape_and_changes_the_values() -> None:
    tree = parse(CHIP, "5A0842424242424242429C81010000E1035A0142").mapped(lambda path, value: f"<{path}>")
    assert tree.to_plain() == [
        {"tag": "5A", "value": "<5A>"},
        {"tag": "9C", "length": "8101", "value": "<9C>"},
        {"padding": "00"},
        {"tag": "E1", "value": {"5A": "<E1.5A>"}},
    ]


def _length(chance: random.Random, size: int) -> bytes:
    fields = [bytes([0x80 + digits]) + size.to_bytes(digits, "big") for digits in (1, 2, 3) if size < 256**digits]
    return chance.choice([bytes([size]), *fields]) if size < 128 else chance.choice(fields)


def tlv(chance: random.Random, depth: int = 0) -> bytes:
    """Any valid content: known and unknown tags, repeated, filling, odd lengths, nested."""
    parts = []
    for _ in range(chance.randint(0, 6)):
        if chance.random() < 0.2:
            parts.append(bytes(chance.choices((0, 0xFF), k=chance.randint(1, 3))))
        tag = bytes.fromhex(chance.choice(("9A", "5A", "9F26", "9F10", "DF8101", "DF81820C", "C1", "E1", "BF0C", "FE")))
        value = (
            tlv(chance, depth + 1) if depth < 4 and chance.random() < 0.4 else chance.randbytes(chance.randint(0, 140))
        )
        parts += [tag, _length(chance, len(value)), value]
    return b"".join(parts)


@given(seed=st.integers(0, 2**32))
def test_valid_content_comes_back_byte_for_byte_by_tree_and_by_plain(seed: int) -> None:
    value = tlv(random.Random(seed)).hex().upper()[: 2 * 60_000]
    try:
        tree = parse(CHIP, value)
    except DecodeError as error:
        assert error.reason.startswith("more than")
        return
    assert build(CHIP, tree) == value
    assert build(CHIP, from_plain(tree.to_plain(), "55")) == value


@given(data=st.binary(max_size=120))
def test_noise_is_refused_or_comes_back(data: bytes) -> None:
    value = data.hex().upper()
    try:
        tree = parse(CHIP, value)
    except DecodeError as error:
        assert error.path.startswith("55") and error.offset is not None and 0 <= error.offset <= len(data)
        return
    assert build(CHIP, tree) == value
    assert build(CHIP, from_plain(tree.to_plain(), "55")) == value
