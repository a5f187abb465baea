"""DE 55 of an issuer's answer, which is stored with the outcome: it must hold no card data.

Upper-case hexadecimal goes in; whether it may be kept comes out. Called by `switch.stages.forward`.

Source: EMV Book 3, annex A (what the tags are).
"""

from __future__ import annotations

from messages.composites.nodes import Tree
from messages.composites.spec import Composite
from messages.composites.tree import parse
from messages.dialect import Element
from messages.errors import DecodeError

# Track 1 and 2 and what networks copy of them, the card number, the cardholder's name, dates, discretionary data.
CARD_TAGS = frozenset({"56", "57", "5A", "5F20", "5F24", "5F25", "9F0B", "9F1F", "9F20", "9F6B", "99"})
CONSTRUCTED = 0x20  # bit of a tag's first byte: there are tags inside

_CHIP_DATA = Element(
    number=55,
    name="",
    kind="b",
    encoding="binary",
    length_kind=3,
    max_length=999,
    length_encoding="ascii",
    parts=Composite(kind="ber-tlv"),
)


def may_be_kept(icc_data: str) -> bool:
    """Whether DE 55 reads as tags and values, none of which is card data."""
    try:
        return _is_clean(parse(_CHIP_DATA, icc_data))
    except DecodeError:
        return False


def _is_clean(tree: Tree) -> bool:
    for node in tree.nodes:
        if isinstance(node.value, Tree):
            if not _is_clean(node.value):
                return False
        elif node.key in CARD_TAGS or (node.key and node.value and int(node.key[:2], 16) & CONSTRUCTED):
            return False  # of a constructed tag whose inside does not read nobody knows what it holds
    return True
