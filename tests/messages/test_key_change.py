"""The elements of a key exchange, and that both dialects carry them."""

from __future__ import annotations

import pytest

from messages.codec import Codec
from messages.dialect import load_dialect
from messages.errors import DecodeError
from messages.key_change import KINDS, key_request, offered_key
from messages.message import Message

BLOCK = "D0144P0TB00E0000" + "0123456789ABCDEF" * 8


@pytest.mark.parametrize("dialect", ["iso87-ascii", "iso87-bcd"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_key_travels_as_block_and_kind(dialect: str, kind: str) -> None:
    codec = Codec(load_dialect(dialect))
    message = Message("0800", {7: "0314092653", 11: "000001", **key_request(kind, BLOCK)})
    read = codec.decode(codec.encode(message))
    assert read.elements[70] == "101"
    assert offered_key(read.elements) == (kind, BLOCK)


@pytest.mark.parametrize(
    ("control", "block", "path"),
    [
        ("3000000000000000", BLOCK, "DE 53"),
        ("1000000000000001", BLOCK, "DE 53"),
        ("", BLOCK, "DE 53"),
        ("1000000000000000", "", "DE 48"),
        ("1000000000000000", "   ", "DE 48"),
    ],
)
def test_what_is_no_offer_is_refused_without_repeating_it(control: str, block: str, path: str) -> None:
    elements = {number: value for number, value in ((48, block), (53, control)) if value}
    with pytest.raises(DecodeError) as caught:
        offered_key(elements)
    assert caught.value.path == path
    assert BLOCK not in str(caught.value)
