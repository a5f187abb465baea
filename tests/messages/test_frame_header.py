"""Headers between length and message: cut off, turned around, made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.errors import SpecError
from messages.frame_header import MAX_HEADER, TPDU, VAP, Frame, FrameHeader, frame_header


def header_of(kind: str | int, start: bytes = b"") -> FrameHeader:
    header = frame_header(kind, start)
    assert header is not None
    return header


@pytest.mark.parametrize("kind", ["", 0])
def test_a_link_may_have_none(kind: str | int) -> None:
    assert frame_header(kind, b"") is None


def test_the_addresses_of_a_tpdu_are_swapped_in_the_answer() -> None:
    header = header_of("tpdu")
    came = header.cut(bytes.fromhex("6012345678") + b"0100")
    assert came == Frame(b"0100", bytes.fromhex("6012345678"))
    assert header.before(b"0110", came) == bytes.fromhex("6056781234")
    assert header.before(b"0800", b"") == bytes.fromhex("6000000000")


def test_a_vap_header_tells_its_own_length_and_that_of_the_whole() -> None:
    header = header_of("vap")
    flags = bytes(range(0xA0, 0xAB))
    came = header.cut(bytes([22, 1, 2, 0, 26]) + b"\x11\x22\x33" + b"\x44\x55\x66" + flags + b"0100")
    assert came == b"0100"
    answer = header.before(b"0110 longer", came or b"")
    assert answer == bytes([22, 1, 2, 0, 33]) + b"\x44\x55\x66" + b"\x11\x22\x33" + flags
    assert len(answer) == VAP
    assert header.before(b"0800", b"") == bytes([22, 1, 2, 0, 26]) + bytes(17)


def test_a_longer_vap_header_is_cut_off_whole_and_answered_with_a_short_one() -> None:
    """As in a reject: the reason is behind the usual 22 bytes."""
    header = header_of("vap")
    came = header.cut(bytes([26]) + bytes(21) + b"why?" + b"0100")
    assert came is not None and (bytes(came), came.header[-4:]) == (b"0100", b"why?")
    answer = header.before(b"0110", came)
    assert (len(answer), answer[0]) == (VAP, VAP)


@pytest.mark.parametrize(
    ("kind", "frame"), [("tpdu", b"\x60123"), ("vap", bytes(21)), ("vap", b"\xff" + bytes(60)), (7, b"123456")]
)
def test_a_frame_without_room_for_its_header(kind: str | int, frame: bytes) -> None:
    assert header_of(kind).cut(frame) is None


def test_a_header_of_one_s_own_is_echoed() -> None:
    header = header_of(3, b"abc")
    came = header.cut(b"xyz0100")
    assert header.before(b"0110", came or b"") == b"xyz"
    assert header.before(b"0800", b"") == b"abc"
    assert header_of(3).before(b"0800", b"") == bytes(3)


def test_what_came_without_a_header_is_answered_with_the_usual_one() -> None:
    assert header_of("tpdu").before(b"0110", b"0100") == bytes.fromhex("6000000000")
    assert header_of("tpdu").before(b"0110", Frame(b"", b"\x60")) == bytes.fromhex("6000000000")


@given(header=st.binary(min_size=TPDU, max_size=TPDU))
def test_turning_a_tpdu_twice_changes_nothing(header: bytes) -> None:
    tpdu = header_of("tpdu")
    assert tpdu.before(b"x", Frame(b"x", tpdu.before(b"x", Frame(b"x", header)))) == header


@given(
    kind=st.sampled_from(["tpdu", "vap", 1, MAX_HEADER]), came=st.binary(max_size=300), payload=st.binary(max_size=600)
)
def test_what_is_made_can_be_cut_again(kind: str | int, came: bytes, payload: bytes) -> None:
    header = header_of(kind)
    answered = header.cut(came)
    made = header.before(payload, answered if answered is not None else b"")
    assert len(made) == header.size
    again = header.cut(made + payload)
    assert again is not None and bytes(again) == payload


@pytest.mark.parametrize(
    ("kind", "start", "problem"),
    [
        ("mystery", b"", "unknown header 'mystery', known are tpdu, vap"),
        (-1, b"", "a header of -1 bytes, must be 1 to 255"),
        (256, b"", "a header of 256 bytes"),
        ("tpdu", b"\x60", "header_bytes has 1 bytes, the header has 5"),
        ("vap", bytes(22), "must begin with its own length, 16"),
        ("", b"\x60", "header_bytes without a header"),
    ],
)
def test_a_header_that_makes_no_sense(kind: str | int, start: bytes, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        frame_header(kind, start)
