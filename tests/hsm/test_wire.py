"""Frames under any chunking, and a client's half of the protocol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.client import ClientProtocol
from hsm.commands import Dispatched, HsmRefused, HsmUnavailable, MacCheck, Screen, Screened
from hsm.errors import ProtocolError
from hsm.wire import (
    MAX_FRAME_BYTES,
    FrameReader,
    Refused,
    Unavailable,
    decode_answer,
    decode_request,
    encode_body,
    frame,
)

FRAMES = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=200)), max_size=10)


@given(frames=FRAMES, cuts=st.lists(st.integers(1, 64), min_size=1))
def test_frames_come_out_under_any_chunking(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(frame(number, body) for number, body in frames)
    reader, got, step = FrameReader(), [], 0
    while stream:
        size = cuts[step % len(cuts)]
        got += reader.receive(stream[:size])
        stream, step = stream[size:], step + 1
    assert got == frames


@pytest.mark.parametrize("length", [0, 3, MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_lengths_out_of_range_end_the_connection(length: int) -> None:
    with pytest.raises(ProtocolError):
        FrameReader().receive(length.to_bytes(4, "big") + bytes(4))


def test_longest_frame_passes() -> None:
    body = bytes(MAX_FRAME_BYTES - 4)
    assert FrameReader().receive(frame(1, body)) == [(1, body)]
    with pytest.raises(ProtocolError):
        frame(1, body + b"\0")


def test_requests_and_answers_keep_their_types() -> None:
    request = Screen(pan="4242424242424242", mac=MacCheck("k", b"d", b"m"))
    assert decode_request(encode_body(request)) == request
    answer = Dispatched("4242424242424242", "3012", b"12345678")
    assert decode_answer(encode_body(answer)) == answer


def test_client_matches_answers_in_any_order() -> None:
    client = ClientProtocol()
    first, _ = client.send(Screen())
    second, _ = client.send(Screen())
    data = frame(second, encode_body(Refused("card_unknown", "none"))) + frame(first, encode_body(Screened("card_1")))
    (number, refusal), (other, answer) = client.receive(data)
    assert (number, other) == (second, first)
    assert isinstance(refusal, HsmRefused) and refusal.code == "card_unknown"
    assert answer == Screened("card_1")


def test_client_says_unavailable() -> None:
    [(_, outcome)] = ClientProtocol().receive(frame(1, encode_body(Unavailable("no token"))))
    assert isinstance(outcome, HsmUnavailable) and str(outcome) == "no token"


def test_client_refuses_an_answer_that_is_none() -> None:
    with pytest.raises(ProtocolError):
        ClientProtocol().receive(frame(1, b"\xc1"))


def test_client_refuses_to_send_what_does_not_fit() -> None:
    with pytest.raises(HsmRefused, match="malformed"):
        ClientProtocol().send(Screen(mac=MacCheck("k", bytes(MAX_FRAME_BYTES), b"")))
