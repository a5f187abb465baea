"""Codecs of links: canonical inside for any dialect of the peer, rules checked, bytes as in the plain codec."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import msgspec
import pytest

from messages.canonical import canonical_codec
from messages.codec import COMPILE_AFTER, Codec
from messages.dialect import Dialect
from messages.dialect import load_dialect as read_dialect
from messages.errors import DecodeError, EncodeError, RuleViolation
from messages.exchange import pairing_key
from messages.message import Message

NOW = datetime(2026, 11, 25, 21, 0, 30, tzinfo=UTC)
LATER = ("iso93-ascii", "iso93-binary", "iso2003-ascii")
ALL = ("iso87-ascii", "iso87-bcd", "iso87-ebcdic", *LATER)
REQUEST = Message(
    "0100",
    {
        2: "4242424242424242", 3: "000000", 4: "000000001234", 7: "1125210000", 11: "000042", 22: "051", 32: "400100",
        41: "TERM0001", 42: "MERCHANT0000001", 49: "978", 52: "1122334455667788",
        55: "9F2608AABBCCDD11223344950500000080",
    },
)  # fmt: skip
ANSWER = Message("0110", {7: "1125210000", 11: "000042", 32: "400100", 39: "51", 41: "TERM0001"})


@cache
def load_dialect(name: str) -> Dialect:
    return read_dialect(name)


def codec(name: str) -> Codec:
    return canonical_codec(load_dialect(name), lambda: NOW)


@pytest.mark.parametrize("name", ALL)
def test_what_goes_out_comes_back(name: str) -> None:
    link = codec(name)
    for sent in (REQUEST, ANSWER):
        came = link.decode(link.encode(sent))
        assert came.mti == sent.mti
        kept = {number: came.elements.get(number) for number in sent.elements}
        if name == "iso2003-ascii":
            kept[22] = sent.elements.get(22)  # whether a PIN can be entered is not in DE 22 there
            kept = {number: value for number, value in kept.items() if number in sent.elements}
        assert kept == sent.elements
        assert pairing_key(came) == pairing_key(REQUEST)


@pytest.mark.parametrize("name", LATER)
def test_peers_of_later_versions_get_their_types_and_codes(name: str) -> None:
    dialect = load_dialect(name)
    native = Codec(dialect).decode(codec(name).encode(ANSWER))
    digit = {"1993": "1", "2003": "2"}[dialect.version]
    assert native.mti == f"{digit}110"
    assert native.elements[39] == {"1993": "116", "2003": "1016"}[dialect.version]
    assert native.elements[12] == {"1993": "261125210000", "2003": "20261125210000"}[dialect.version]
    assert native.elements[7] == "1125210030"  # an answer's own time


@pytest.mark.parametrize("name", ALL)
def test_places_of_elements_and_macs_are_those_in_the_bytes(name: str) -> None:
    link = codec(name)
    dialect = load_dialect(name)
    sealed = Message(REQUEST.mti, {**REQUEST.elements, 64: "0" * 16})
    data = link.encode(sealed)
    for number in (2, 52):
        value = sealed.elements[number]
        element = dialect.elements[number]
        size = len(value) // 2 if element.encoding in ("bcd", "binary") else len(value)
        at = link.offset(sealed, number)
        shown = data[at : at + size]
        page = "cp037" if "cp" in element.encoding or element.encoding.startswith("ebcdic") else "ascii"
        assert (shown.hex().upper() if element.encoding in ("bcd", "binary") else shown.decode(page)) == value
    mac = bytes(range(8))
    assert link.mac_input(link.replace_mac(data, mac)) == (link.mac_input(data)[0], mac)


@pytest.mark.parametrize("name", LATER)
def test_the_mac_is_the_last_element_of_what_is_sent(name: str) -> None:
    reversal = {
        7: "1125210000",
        11: "000043",
        32: "400100",
        90: "0100" + "000042" + "1125210000" + "00000400100" + "0" * 11,
    }
    link = codec(name)
    data = link.encode(Message("0420", {**reversal, 128: "0" * 16}))  # DE 90 is above 64 in 1987, DE 56 is not
    assert link.mac_input(data)[1] == bytes(8)
    assert 64 in Codec(load_dialect(name)).decode(data).elements


@pytest.mark.parametrize("name", ALL)
def test_what_rules_refuse_can_be_answered(name: str) -> None:
    dialect = load_dialect(name)
    elements = {number: value for number, value in REQUEST.elements.items() if number != 3}
    data = codec(name).encode(Message("0101", elements))
    for _ in range(COMPILE_AFTER + 1):  # interpreted, and compiled
        with pytest.raises(RuleViolation) as caught:
            codec(name).decode(data)
    assert caught.value.path == "DE 3" and "is missing" in caught.value.reason
    message = caught.value.message
    assert message.mti == "0101" and (message.elements[7], message.elements[11]) == ("1125210000", "000042")
    assert dialect.rules and isinstance(caught.value, DecodeError)


def test_a_rule_is_told_in_the_numbers_of_the_dialect() -> None:
    with pytest.raises(RuleViolation) as caught:
        link = codec("iso93-ascii")
        link.decode(link.encode(Message("0420", {7: "1125210000", 11: "000042"})))
    assert caught.value.path == "DE 56"  # DE 90 inside


def test_bytes_that_are_no_message_stay_a_decode_error() -> None:
    for name in ALL:
        with pytest.raises(DecodeError) as caught:
            codec(name).decode(b"\x01\x00garbage")
        assert not isinstance(caught.value, RuleViolation)


def test_1987_without_rules_is_decoded_by_the_plain_codec() -> None:
    bare = msgspec.structs.replace(load_dialect("iso87-ascii"), rules={})
    assert type(canonical_codec(bare, lambda: NOW)).decode is Codec.decode


def test_what_later_versions_said_stays_behind_on_the_way_to_1987() -> None:
    link = codec("iso87-ascii")
    came = Message("0110", {**ANSWER.elements, 1012: "261125210000", 1024: "100", 128: "0" * 16})
    assert link.decode(link.encode(came)) == Message("0110", {**ANSWER.elements, 64: "0" * 16})
    with pytest.raises(EncodeError) as caught:
        link.encode(Message("0110", {**ANSWER.elements, 39: "long"}))
    assert caught.value.path == "DE 39"


@pytest.mark.parametrize("name", LATER)
def test_the_sound_part_of_a_broken_message_is_canonical_too(name: str) -> None:
    link = codec(name)
    data = link.encode(REQUEST)
    at = link.offset(REQUEST, 52)
    part = link.partial(data[: at + 3])
    assert part.mti == "0100" and part.elements[11] == "000042" and part.elements[7] == "1125210000"
    assert 52 not in part.elements
