"""Addresses as configurations write them."""

from __future__ import annotations

import pytest

from messages.address import address_of


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:5010", ("127.0.0.1", 5010)), ("[::1]:80", ("::1", 80)), ("host:0", ("host", 0))],
)
def test_host_and_port_are_told_apart(text: str, address: tuple[str, int]) -> None:
    assert address_of(text) == address


@pytest.mark.parametrize("text", ["80", ":80", "host", "host:", "host:http", "host:70000", "host:-1", "host:²", ""])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected host:port, got "):
        address_of(text)
