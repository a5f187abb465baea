"""Frames under any chunking, keep-alives, limits."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.errors import FrameError, SpecError
from messages.framing import framing


def test_two_bytes_big_endian_do_not_count_themselves() -> None:
    assert framing().encode(b"0800") == b"\x00\x040800"
    assert framing(max_frame=300).encode(b"x" * 258) == b"\x01\x02" + b"x" * 258


@given(payloads=st.lists(st.binary(max_size=300), max_size=8), cuts=st.lists(st.integers(0, 2500), max_size=12))
def test_payloads_come_out_whole_under_any_chunking(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(framing().encode, payloads))
    decoder = framing().decoder()
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    received = []
    for start, stop in itertools.pairwise(edges):
        received += decoder.receive(stream[start:stop])
    assert received == [payload for payload in payloads if payload]
    assert decoder.buffered == 0


def test_a_byte_at_a_time() -> None:
    decoder = framing().decoder()
    received = [frame for byte in b"\x00\x03abc\x00\x00\x00\x01d" for frame in decoder.receive(bytes([byte]))]
    assert received == [b"abc", b"d"]


def test_a_keep_alive_is_no_payload() -> None:
    assert framing().encode(b"") == b"\x00\x00"
    assert framing().decoder().receive(b"\x00\x00\x00\x00\x00\x01x") == [b"x"]


def test_half_a_frame_waits() -> None:
    decoder = framing().decoder()
    assert decoder.receive(b"\x00\x05abc") == []
    assert decoder.buffered == 5
    assert decoder.receive(b"de\x00") == [b"abcde"]
    assert decoder.buffered == 1


def test_a_frame_beyond_the_limit_loses_the_stream_for_good() -> None:
    decoder = framing(max_frame=4).decoder()
    assert decoder.receive(b"\x00\x04abcd") == [b"abcd"]
    with pytest.raises(FrameError, match="5 bytes is larger than the largest of 4"):
        decoder.receive(b"\x00\x05")
    assert decoder.buffered == 0
    with pytest.raises(FrameError, match="5 bytes"):
        decoder.receive(b"\x00\x01x")


def test_whole_frames_before_a_loss_are_not_lost_with_it() -> None:
    decoder = framing(max_frame=4).decoder()
    assert decoder.receive(b"\x00\x01a\x00\x02bc\x00\x05defgh") == [b"a", b"bc"]
    with pytest.raises(FrameError, match="5 bytes"):
        decoder.receive(b"\x00\x01x")


def test_we_do_not_send_what_we_would_not_take() -> None:
    with pytest.raises(FrameError, match="5 bytes"):
        framing(max_frame=4).encode(b"abcde")


def test_every_problem_of_a_framing_is_listed() -> None:
    with pytest.raises(SpecError) as caught:
        framing("3-byte-le", 70_000)
    assert len(caught.value.problems) == 2
    assert "2-byte-be" in str(caught.value)
