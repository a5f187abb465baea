"""Framings and headers: any stream, in any chunking, gives the same frames or the same end."""

from __future__ import annotations

import random
from collections.abc import Iterable

from messages.errors import FrameError
from messages.frame_header import NAMES
from messages.framing import FRAMINGS, TERMINATED, Framing, framing
from tests.fuzz.driver import Target
from tests.fuzz.outcome import word

_MAX_FRAME = 300
_HEADERS: tuple[str | int, ...] = ("", *NAMES, 3)
ALL: list[Framing] = [
    framing(name, _MAX_FRAME, header=header, keepalive=keepalive)
    for name in FRAMINGS
    for header in (("",) if name in TERMINATED else _HEADERS)
    for keepalive in (True, False)
]


def run(data: bytes) -> str:
    """The first two bytes say which framing and how the rest is cut."""
    chosen = ALL[data[0] % len(ALL)] if data else ALL[0]
    stream = data[2:]
    whole = _frames(chosen, [stream])
    cut = _frames(chosen, _chunks(stream, data[1] if len(data) > 1 else 0))
    assert whole == cut, "another chunking gives other frames"
    frames, end = whole
    for frame in frames:
        assert frame or chosen.has_header or not chosen.keepalive
        try:
            sent = chosen.encode(frame, frame)
        except FrameError:
            continue  # a byte that ends a frame cannot come out of one, a longer header of a peer may be too much
        assert len(frame) == 0 or _frames(chosen, [sent])[0] == [frame], "an answer is not read as it was written"
    return f"{chosen.name}: {min(len(frames), 3)} frames, {end}"


def _frames(chosen: Framing, chunks: Iterable[bytes]) -> tuple[list[bytes], str]:
    decoder = chosen.decoder()
    frames: list[bytes] = []
    ended = ""
    for chunk in (*chunks, b""):
        try:
            frames += decoder.receive(chunk)
        except FrameError as error:
            ended = word(error).replace("at least ", "")  # a terminator that has not come yet makes the difference
    assert decoder.buffered <= _MAX_FRAME + 8, "more is kept than a frame"
    return frames, ended


def _chunks(stream: bytes, seed: int) -> Iterable[bytes]:
    chance = random.Random(seed)
    at = 0
    while at < len(stream):
        size = chance.choice((1, 1, 2, 3, 7, 50))
        yield stream[at : at + size]
        at += size


def seeds() -> Iterable[bytes]:
    for number, chosen in enumerate(ALL):
        frames = chosen.encode(b"0800" * 5) + chosen.encode(b"") + chosen.encode(b"A")
        yield bytes((number, number)) + frames
        yield bytes((number, 1)) + frames[:-3]


TARGET = Target("framing", run, seeds, words=(b"\x02", b"\x03", b"0012", b"\x00\x00\x00\x04", b"\x16\x01\x02"))
