"""Names and meanings of chip data tags, and which of them may be shown."""

from __future__ import annotations

import pytest

from messages.dictionary.emv import TAGS, describe_tag, is_harmless

# Source: PCI DSS 4.0.1 requirement 3 (cardholder data, sensitive authentication data) over EMV Book 3 annex A.
CARD_DATA = {"56", "57", "5A", "5F20", "5F24", "5F30", "9F0B", "9F1F", "9F20", "9F6B", "99", "9F24", "9F25", "5F53"}
SCRIPTS = {"71", "72", "86", "9F18"}  # may change a PIN


@pytest.mark.parametrize("tag", sorted(CARD_DATA | SCRIPTS))
def test_card_data_and_scripts_are_named_and_not_shown(tag: str) -> None:
    assert TAGS[tag].name
    assert not is_harmless(tag)


def test_tags_that_nobody_knows_and_templates_are_not_shown() -> None:
    for tag in ("DF01", "C1", "9F7F", "E1", "70", "77", "", "9f26"):
        assert not is_harmless(tag)


def test_what_a_payment_carries_is_named_and_shown() -> None:
    tags = "9F26 9F27 9F10 9F37 9F36 95 9A 9C 9F02 9F03 5F2A 82 9F1A 9F33 9F34 9F35 9F1E 84 9F09 9F41 91 8A 5F34"
    for tag in tags.split():
        assert is_harmless(tag) and TAGS[tag].format, tag
    assert TAGS["9F26"].name == "Application Cryptogram"
    assert all(tag == tag.upper() and len(tag) % 2 == 0 for tag in TAGS)


MEANINGS = {
    ("95", "0000008000"): "above the floor limit",
    ("95", "8080848000"): "offline data authentication not performed, different application versions, "
    "cardholder verification failed, online PIN entered, above the floor limit",
    ("95", "0000000000"): "nothing set",
    ("9B", "E800"): "offline data authentication performed, cardholder verification performed, "
    "card risk management performed, terminal risk management performed",
    ("82", "3900"): "DDA, cardholder verification, terminal risk management, CDA",
    ("9F27", "80"): "ARQC, asks the issuer",
    ("9F27", "40"): "TC, approved offline",
    ("9F27", "00"): "AAC, declined",
    ("9F34", "420300"): "enciphered PIN online: unknown",
    ("9F34", "1E0302"): "signature: successful",
    ("9F34", "2A0309"): "unknown method: unknown",
    ("9F35", "22"): "merchant, attended, offline with online capability",
    ("9F35", "99"): "unknown terminal type",
    ("9C", "00"): "Goods and services",
    ("8A", "3030"): "Approved",
    ("9F26", "1122334455667788"): "",
    ("95", "00"): "",
    ("95", "0000008000FF"): "",
    ("95", "xx"): "",
}


@pytest.mark.parametrize(("tag", "value"), sorted(MEANINGS))
def test_coded_values_are_told(tag: str, value: str) -> None:
    assert describe_tag(tag, value) == MEANINGS[tag, value]
