"""Frames of every framing: on the wire, under any chunking, with keep-alives, limits and lost streams."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.errors import FrameError, SpecError
from messages.framing import FRAMINGS, PREFIXES, TERMINATED, Framing, framing

SIZES: dict[str | int, int] = {"": 0, "tpdu": 5, "vap": 22, 3: 3}  # bytes of each kind of header
ALL = [(name, header) for name in PREFIXES for header in SIZES] + [(name, "") for name in TERMINATED]
# The bytes of one message of four bytes.
ON_THE_WIRE = {
    "2-byte-be": b"\x00\x040800",
    "2-byte-be-inclusive": b"\x00\x060800",
    "4-byte-be": b"\x00\x00\x00\x040800",
    "4-byte-be-inclusive": b"\x00\x00\x00\x080800",
    "4-ascii": b"00040800",
    "4-ascii-inclusive": b"00080800",
    "2-byte-bcd": b"\x00\x040800",
    "2-byte-bcd-inclusive": b"\x00\x060800",
    "etx": b"0800\x03",
    "stx-etx": b"\x020800\x03",
}
# A longer one distinguishes decimal from binary.
OF_258_BYTES = {
    "2-byte-be": b"\x01\x02",
    "2-byte-be-inclusive": b"\x01\x04",
    "4-byte-be": b"\x00\x00\x01\x02",
    "4-byte-be-inclusive": b"\x00\x00\x01\x06",
    "4-ascii": b"0258",
    "4-ascii-inclusive": b"0262",
    "2-byte-bcd": b"\x02\x58",
    "2-byte-bcd-inclusive": b"\x02\x60",
    "etx": b"",
    "stx-etx": b"\x02",
}


def chunks(stream: bytes, cuts: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    for start, stop in itertools.pairwise(edges):
        yield stream[start:stop]


def sendable(framed: Framing, payload: bytes) -> bytes:
    """The payload without bytes that end a frame of this framing."""
    return payload.translate(None, b"\x02\x03") if framed.name in TERMINATED else payload


@pytest.mark.parametrize("name", FRAMINGS)
def test_on_the_wire(name: str) -> None:
    assert framing(name).encode(b"0800") == ON_THE_WIRE[name]
    assert framing(name).encode(b"x" * 258)[: len(OF_258_BYTES[name])] == OF_258_BYTES[name]
    assert framing(name).decoder().receive(ON_THE_WIRE[name]) == [b"0800"]


@given(
    which=st.sampled_from(ALL),
    keepalive=st.booleans(),
    payloads=st.lists(st.binary(max_size=300), max_size=8),
    cuts=st.lists(st.integers(0, 2700), max_size=12),
)
def test_payloads_come_out_whole_under_any_chunking(
    which: tuple[str, str | int], keepalive: bool, payloads: list[bytes], cuts: list[int]
) -> None:
    framed = framing(which[0], header=which[1], keepalive=keepalive)
    sent = [sendable(framed, payload) for payload in payloads]
    if not keepalive:
        sent = [payload for payload in sent if payload]
    decoder = framed.decoder()
    received: list[bytes] = []
    for chunk in chunks(b"".join(map(framed.encode, sent)), cuts):
        received += decoder.receive(chunk)
    assert received == [payload for payload in sent if payload]
    assert decoder.buffered == 0


@given(
    which=st.sampled_from(ALL),
    keepalive=st.booleans(),
    stream=st.binary(max_size=400)
    | st.lists(st.sampled_from([b"\x00", b"\x03", b"\x02", b"0", b"9", b"\x16"])).map(b"".join),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_any_bytes_give_the_same_frames_in_any_chunking(
    which: tuple[str, str | int], keepalive: bool, stream: bytes, cuts: list[int]
) -> None:
    """Nothing but FrameError is raised, and what a decoder keeps has a limit."""
    framed = framing(which[0], 60, header=which[1], keepalive=keepalive)

    def cut(pieces: Iterator[bytes]) -> tuple[list[tuple[bytes, bytes]], str]:
        decoder, frames = framed.decoder(), []
        try:
            for piece in itertools.chain(pieces, [b""]):
                frames += [(bytes(frame), getattr(frame, "header", b"")) for frame in decoder.receive(piece)]
                assert decoder.buffered <= 60 + 4
        except FrameError as error:
            # The part of a frame without an end that was there when it became too long depends on the pieces.
            return frames, str(error).partition("at least")[0]
        return frames, ""

    whole, lost = cut(iter([stream]))
    assert cut(chunks(stream, cuts)) == (whole, lost)
    assert cut(bytes([byte]) for byte in stream) == (whole, lost)
    assert all(len(frame) + len(header) <= 60 for frame, header in whole)


@pytest.mark.parametrize(("name", "header"), ALL)
def test_a_keep_alive_is_no_payload(name: str, header: str | int) -> None:
    framed = framing(name, header=header)
    alive = framed.encode(b"")
    assert len(alive) == len(ON_THE_WIRE[name]) - 4
    decoder = framed.decoder()
    assert decoder.receive(alive + alive + framed.encode(b"x") + alive) == [b"x"]
    assert decoder.buffered == 0


@pytest.mark.parametrize(("name", "header"), ALL)
def test_where_there_are_no_keep_alives_one_loses_the_stream(name: str, header: str | int) -> None:
    framed = framing(name, header=header, keepalive=False)
    decoder = framed.decoder()
    assert decoder.receive(framed.encode(b"x") + framed.encode(b"") + framed.encode(b"y")) == [b"x"]
    for data in (b"", framed.encode(b"z")):
        with pytest.raises(FrameError, match="without payload"):
            decoder.receive(data)
    assert decoder.buffered == 0


@pytest.mark.parametrize("name", FRAMINGS)
def test_half_a_frame_waits(name: str) -> None:
    framed, decoder = framing(name), framing(name).decoder()
    stream = framed.encode(b"abcde")
    assert decoder.receive(stream[:-2]) == []
    assert decoder.buffered == len(stream) - 2
    assert decoder.receive(stream[-2:] + stream[:1]) == [b"abcde"]
    assert decoder.buffered == 1


@pytest.mark.parametrize(("name", "header"), ALL)
def test_a_frame_beyond_the_limit_loses_the_stream_for_good(name: str, header: str | int) -> None:
    size = SIZES[header]
    limit = size + 4
    smaller, larger = framing(name, limit, header=header), framing(name, limit + 1, header=header)
    decoder = smaller.decoder()
    assert decoder.receive(smaller.encode(b"abcd")) == [b"abcd"]
    with pytest.raises(FrameError, match=f"{limit + 1} bytes is larger than the largest of {limit}"):
        decoder.receive(larger.encode(b"abcde"))
    assert decoder.buffered == 0
    with pytest.raises(FrameError, match="is larger than"):
        decoder.receive(smaller.encode(b"x"))


@pytest.mark.parametrize("name", TERMINATED)
def test_a_frame_without_an_end_is_given_up_at_the_limit(name: str) -> None:
    decoder = framing(name, 4).decoder()
    assert decoder.receive(TERMINATED[name] + b"abcd") == []
    with pytest.raises(FrameError, match="at least 5 bytes"):
        decoder.receive(b"e")


@pytest.mark.parametrize("name", TERMINATED)
def test_an_stx_in_front_may_be_there_or_not(name: str) -> None:
    decoder = framing(name).decoder()
    assert decoder.receive(b"\x020800\x030810\x03\x02\x03\x03\x020820\x03") == [b"0800", b"0810", b"0820"]
    assert decoder.receive(b"08\x0200\x03") == [b"08\x0200"]  # only in front


@pytest.mark.parametrize("name", TERMINATED)
@pytest.mark.parametrize("payload", [b"08\x0300", b"\x03", b"\x020800"])
def test_what_would_end_a_frame_early_is_not_sent(name: str, payload: bytes) -> None:
    with pytest.raises(FrameError, match="begins or ends a frame"):
        framing(name).encode(payload)


def test_whole_frames_before_a_loss_are_not_lost_with_it() -> None:
    decoder = framing(max_frame=4).decoder()
    assert decoder.receive(b"\x00\x01a\x00\x02bc\x00\x05defgh") == [b"a", b"bc"]
    with pytest.raises(FrameError, match="5 bytes"):
        decoder.receive(b"\x00\x01x")


@pytest.mark.parametrize(
    ("name", "stream", "reason"),
    [
        ("4-ascii", b"00a4", "no number"),
        ("4-ascii", b"+004", "no number"),
        ("4-ascii", b"   4", "no number"),
        ("4-ascii-inclusive", b"0003", "counts itself, and is 3"),
        ("2-byte-bcd", b"\x00\x0a", "no number"),
        ("2-byte-bcd-inclusive", b"\x00\x01", "counts itself, and is 1"),
        ("2-byte-be-inclusive", b"\x00\x00", "counts itself, and is 0"),
        ("4-byte-be-inclusive", b"\x00\x00\x00\x03", "counts itself, and is 3"),
        ("4-byte-be", b"\xff\xff\xff\xff", "larger than the largest"),
    ],
)
def test_a_length_that_is_none_loses_the_stream(name: str, stream: bytes, reason: str) -> None:
    decoder = framing(name).decoder()
    with pytest.raises(FrameError, match=reason):
        decoder.receive(stream)
    assert decoder.buffered == 0


@pytest.mark.parametrize(("name", "header"), ALL)
def test_we_do_not_send_what_we_would_not_take(name: str, header: str | int) -> None:
    size = SIZES[header]
    framed = framing(name, size + 4, header=header)
    assert framed.decoder().receive(framed.encode(b"abcd")) == [b"abcd"]
    with pytest.raises(FrameError, match=f"{size + 5} bytes"):
        framed.encode(b"abcde")


@pytest.mark.parametrize("name", PREFIXES)
def test_the_largest_frame_of_a_framing_can_be_said(name: str) -> None:
    largest = min(1024 * 1024, PREFIXES[name].largest - PREFIXES[name].own)
    framed = framing(name, largest)
    payload = bytes(largest)
    assert framed.decoder().receive(framed.encode(payload)) == [payload]
    with pytest.raises(SpecError, match=f"must be 1 to {largest}"):
        framing(name, largest + 1)


def test_an_answer_goes_back_with_the_header_of_what_it_answers() -> None:
    acquirer, ours = framing(header="tpdu", header_bytes=bytes.fromhex("6000030001")), framing(header="tpdu")
    (request,) = ours.decoder().receive(acquirer.encode(b"0100"))
    assert (request, getattr(request, "header", b"")) == (b"0100", bytes.fromhex("6000030001"))
    assert ours.encode(b"0110", request) == b"\x00\x09" + bytes.fromhex("6000010003") + b"0110"
    assert ours.encode(b"0800") == b"\x00\x09" + bytes.fromhex("6000000000") + b"0800"
    assert ours.has_header and not framing().has_header


def test_a_message_without_room_for_its_header_is_left_to_the_codec() -> None:
    """The framing is intact, so the link stays; the decoder decides whether it is a message."""
    assert framing(header="tpdu").decoder().receive(b"\x00\x03abc\x00\x09\x60\x00\x01\x00\x020800") == [b"", b"0800"]


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        ({"name": "3-byte-le", "max_frame": 70_000}, ("unknown framing '3-byte-le'", "max_frame is 70000")),
        ({"max_frame": 0}, ("must be 1 to 65535",)),
        ({"name": "2-byte-bcd", "max_frame": 10_000}, ("must be 1 to 9999",)),
        ({"name": "4-ascii-inclusive", "max_frame": 9_999}, ("must be 1 to 9995",)),
        ({"header": "vap", "max_frame": 22}, ("no room behind a header of 22 bytes",)),
        ({"name": "etx", "header": "tpdu"}, ("a header is binary",)),
        (
            {"name": "nothing", "max_frame": 0, "header": "mystery"},
            ("framing", "max_frame", "unknown header 'mystery'"),
        ),
    ],
)
def test_every_problem_of_a_framing_is_listed(arguments: dict[str, str | int], problems: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as caught:
        framing(**arguments)  # type: ignore[arg-type]
    assert len(caught.value.problems) == len(problems)
    for problem, said in zip(problems, caught.value.problems, strict=True):
        assert problem in said
