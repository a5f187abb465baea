"""Frames under any chunking, and a client's half of the protocol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.client import ClientProtocol
from hsm.commands import Dispatched, HsmRefused, HsmUnavailable, MacCheck, Screen, Screened
from hsm.errors import ProtocolError
from hsm.wire import (
    EXPIRED,
    MAX_BUDGET_MS,
    MAX_FRAME_BYTES,
    REQUESTS,
    FrameReader,
    Refused,
    Unavailable,
    decode_answer,
    decode_request,
    encode_body,
    frame,
    tag_of,
)

NUMBERS = st.integers(0, 2**32 - 1)
FRAMES = st.lists(st.tuples(NUMBERS, NUMBERS, st.binary(max_size=200)), max_size=10)


@given(frames=FRAMES, cuts=st.lists(st.integers(1, 64), min_size=1))
def test_frames_come_out_under_any_chunking(frames: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(frame(number, body, budget_ms) for number, budget_ms, body in frames)
    reader, got, step = FrameReader(), [], 0
    while stream:
        size = cuts[step % len(cuts)]
        got += reader.receive(stream[:size])
        stream, step = stream[size:], step + 1
    assert got == frames


@pytest.mark.parametrize("length", [0, 7, MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_lengths_out_of_range_end_the_connection(length: int) -> None:
    with pytest.raises(ProtocolError):
        FrameReader().receive(length.to_bytes(4, "big") + bytes(8))


def test_longest_frame_passes() -> None:
    body = bytes(MAX_FRAME_BYTES - 8)
    assert FrameReader().receive(frame(1, body, 9)) == [(1, 9, body)]
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


def test_client_tells_how_long_it_waits() -> None:
    for timeout_s, budget_ms in ((2.0, 2000), (0.25, 250), (0.0001, 1), (1e9, MAX_BUDGET_MS), (0.0, 0)):
        _, data = ClientProtocol(timeout_s).send(Screen())
        assert [budget for _, budget, _ in FrameReader().receive(data)] == [budget_ms]


def test_expired_is_the_same_to_a_caller_as_no_answer() -> None:
    [(_, outcome)] = ClientProtocol().receive(frame(1, encode_body(Refused(EXPIRED, "too late"))))
    assert isinstance(outcome, HsmUnavailable) and str(outcome) == "too late"


def test_every_command_has_a_tag_of_its_own() -> None:
    tags = [tag_of(request) for request in REQUESTS]
    assert len(set(tags)) == len(tags) and all(tag == tag.lower() for tag in tags)


def test_client_refuses_an_answer_that_is_none() -> None:
    with pytest.raises(ProtocolError):
        ClientProtocol().receive(frame(1, b"\xc1"))


def test_client_refuses_to_send_what_does_not_fit() -> None:
    with pytest.raises(HsmRefused, match="malformed"):
        ClientProtocol().send(Screen(mac=MacCheck("k", bytes(MAX_FRAME_BYTES), b"")))
