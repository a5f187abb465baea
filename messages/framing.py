"""Frames on a byte stream: payloads in, framed bytes out, and back; called by owners of a socket.

Sans-I/O: a decoder's `receive` takes the bytes of a socket and returns the whole payloads in them. Fixed headers of a
link are cut off, and each payload remembers its own, so that `encode` can answer with it. A frame without payload is a
keep-alive and vanishes, or an error where the link knows none. A frame that is too long, or an invalid length,
means the stream is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from messages.errors import FrameError, SpecError
from messages.frame_header import Frame, FrameHeader, frame_header

STX, ETX = b"\x02", b"\x03"
TERMINATED = {"etx": b"", "stx-etx": STX}  # the form that we send; both may come
LARGEST = 1024 * 1024  # bytes, of any framing
_HEADER = 2  # bytes of length before each payload, in the framing that is most used


class Prefix(NamedTuple):
    """A length before each frame.

    Args:
        size: bytes of it. largest: greatest length that it can express.
        own: bytes of itself that it counts: 0, or `size` where it is inclusive.
        read: (stream, position) → what it says, -1 where it is no number.
        write: the other way.
    """

    size: int
    largest: int
    own: int
    read: Callable[[bytes, int], int]
    write: Callable[[int], bytes]


def _read_two(stream: bytes, at: int) -> int:
    return (stream[at] << 8) | stream[at + 1]


def _read_four(stream: bytes, at: int) -> int:
    return int.from_bytes(stream[at : at + 4], "big")


def _read_digits(stream: bytes, at: int) -> int:
    digits = stream[at : at + 4]
    return int(digits) if digits.isdigit() else -1  # of bytes: ASCII digits only


def _read_bcd(stream: bytes, at: int) -> int:
    digits = stream[at : at + 2].hex()
    return int(digits) if digits.isdecimal() else -1


def _write_two(size: int) -> bytes:
    return size.to_bytes(2, "big")


def _write_four(size: int) -> bytes:
    return size.to_bytes(4, "big")


def _write_digits(size: int) -> bytes:
    return b"%04d" % size


def _write_bcd(size: int) -> bytes:
    return bytes.fromhex(f"{size:04d}")


_PLAIN = {
    "2-byte-be": Prefix(2, 0xFFFF, 0, _read_two, _write_two),
    "4-byte-be": Prefix(4, 0xFFFFFFFF, 0, _read_four, _write_four),
    "4-ascii": Prefix(4, 9999, 0, _read_digits, _write_digits),
    "2-byte-bcd": Prefix(2, 9999, 0, _read_bcd, _write_bcd),
}
PREFIXES: dict[str, Prefix] = {
    name: prefix
    for plain, kind in _PLAIN.items()
    for name, prefix in ((plain, kind), (f"{plain}-inclusive", kind._replace(own=kind.size)))
}
FRAMINGS = (*PREFIXES, *TERMINATED)
_LARGEST_OF = {
    **{name: min(LARGEST, prefix.largest - prefix.own) for name, prefix in PREFIXES.items()},
    **dict.fromkeys(TERMINATED, LARGEST),
}


def framing(
    name: str = "2-byte-be",
    max_frame: int = 8192,
    *,
    header: str | int = "",
    header_bytes: bytes = b"",
    keepalive: bool = True,
) -> Framing:
    """The framing of a link.

    Args:
        name: one of `FRAMINGS`.
        max_frame: largest frame accepted or sent, bytes, its header included, its length (or STX and ETX) not.
        header: "tpdu", "vap", or the number of bytes before each message, which are echoed; "" or 0 for none.
        header_bytes: the header of what we start; b"" for the usual one.
        keepalive: whether a frame without payload is a sign of life; else the stream is lost with it.

    Raises:
        SpecError: for an unknown name or header, or an impossible limit.
    """
    problems = []
    if name not in FRAMINGS:
        problems.append(f"unknown framing {name!r}, known are {', '.join(FRAMINGS)}")
    largest = _LARGEST_OF.get(name, 0xFFFF)
    if not 1 <= max_frame <= largest:
        problems.append(f"max_frame is {max_frame}, must be 1 to {largest}")
    before = None
    try:
        before = frame_header(header, header_bytes)
    except SpecError as error:
        problems += error.problems
    if before is not None:
        if before.size >= max_frame:
            problems.append(f"max_frame is {max_frame}, which has no room behind a header of {before.size} bytes")
        if name in TERMINATED:
            problems.append(f"a header is binary, and {name} ends frames by a byte that it may hold")
    if problems:
        raise SpecError("framing", problems)
    return Framing(name, max_frame, before, keepalive=keepalive)


class Decoder(Protocol):
    """One direction of one connection; holds at most one unfinished frame."""

    @property
    def buffered(self) -> int:
        """Bytes received that do not make a whole frame yet."""

    def receive(self, data: bytes) -> list[bytes]:
        """Takes the next bytes of the stream, in any chunking.

        Returns:
            The payloads that are complete now, oldest first; keep-alives are left out.

        Raises:
            FrameError: the stream is lost. Where whole frames came before that in the same `data`, they are
                returned first and the next call raises, as does every call after that.
        """


class Framing:
    """Begin and end of the frames of a link.

    Source: inferred from what acquirers and hosts use on TCP; jPOS has a channel for each.
    """

    __slots__ = ("_before", "_own", "_write", "keepalive", "max_frame", "name")

    def __init__(self, name: str, max_frame: int, before: FrameHeader | None = None, *, keepalive: bool = True) -> None:
        self.name = name
        self.max_frame = max_frame
        self.keepalive = keepalive
        self._before = before
        prefix = PREFIXES.get(name)
        self._write = prefix.write if prefix is not None else None
        self._own = prefix.own if prefix is not None else 0

    @property
    def has_header(self) -> bool:
        """Whether frames carry a header; then answers are encoded with the frame that they answer."""
        return self._before is not None

    def encode(self, payload: bytes, answered: bytes = b"") -> bytes:
        """Payload → frame; an empty payload makes a keep-alive, without header.

        Args:
            answered: the frame that this answers, as a decoder returned it: its header goes back.

        Raises:
            FrameError: the payload is longer than `max_frame`, or contains a byte that begins or ends a frame.
        """
        if self._before is not None and payload:
            payload = self._before.before(payload, answered) + payload
        size = len(payload)
        if size > self.max_frame:
            raise FrameError(f"a payload of {size} bytes is larger than the largest frame of {self.max_frame}")
        if self._write is not None:
            return self._write(size + self._own) + payload
        if ETX in payload or payload.startswith(STX):
            raise FrameError("the payload contains a byte that begins or ends a frame")
        return TERMINATED[self.name] + payload + ETX

    def decoder(self) -> Decoder:
        """A decoder for one direction of one connection."""
        if self.name in TERMINATED:
            return _TerminatedDecoder(self.max_frame, self.keepalive)
        if self.name == "2-byte-be" and self._before is None and self.keepalive:
            return FrameDecoder(self.max_frame)
        return _PrefixDecoder(PREFIXES[self.name], self._before, self.max_frame, self.keepalive)


class FrameDecoder:
    """Two bytes of length, big-endian, not counting themselves: the framing of most links, unrolled."""

    __slots__ = ("_lost", "_max_frame", "_rest")

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._rest = b""
        self._lost = ""  # why framing is lost, "" while it is not

    @property
    def buffered(self) -> int:
        return len(self._rest)

    def receive(self, data: bytes) -> list[bytes]:
        if self._lost:
            raise FrameError(self._lost)
        stream = self._rest + data if self._rest else bytes(data)
        frames: list[bytes] = []
        at, end = 0, len(stream)
        while end - at >= _HEADER:
            size = (stream[at] << 8) | stream[at + 1]
            if size > self._max_frame:
                self._lost = _too_long(size, self._max_frame)
                self._rest = b""
                if frames:
                    return frames
                raise FrameError(self._lost)
            start = at + _HEADER
            if end - start < size:
                break
            at = start + size
            if size:
                frames.append(stream[start:at])
        self._rest = stream[at:]
        return frames


class _PrefixDecoder:
    """Any length before each frame, any header behind it."""

    __slots__ = ("_before", "_keepalive", "_lost", "_max_frame", "_prefix", "_rest")

    def __init__(self, prefix: Prefix, before: FrameHeader | None, max_frame: int, keepalive: bool) -> None:
        self._prefix = prefix
        self._before = before
        self._max_frame = max_frame
        self._keepalive = keepalive
        self._rest = b""
        self._lost = ""

    @property
    def buffered(self) -> int:
        return len(self._rest)

    def receive(self, data: bytes) -> list[bytes]:
        if self._lost:
            raise FrameError(self._lost)
        stream = self._rest + data if self._rest else bytes(data)
        frames: list[bytes] = []
        before, (prefix_size, _, own, read, _) = self._before, self._prefix
        at, end = 0, len(stream)
        while end - at >= prefix_size:
            size = read(stream, at) - own
            if size > self._max_frame or size <= 0:
                self._lost = self._problem(size, read(stream, at))
                if self._lost:
                    self._rest = b""
                    if frames:
                        return frames
                    raise FrameError(self._lost)
            start = at + prefix_size
            if end - start < size:
                break
            at = start + size
            if size:
                frame = stream[start:at]
                if before is None:
                    frames.append(frame)
                elif (cut := before.cut(frame)) is None:
                    frames.append(Frame(b"", frame))  # no codec takes that: the decoder reports it, and the link stays
                elif cut or not self._keepalive:
                    frames.append(cut)
        self._rest = stream[at:]
        return frames

    def _problem(self, size: int, said: int) -> str:
        """Why no frame can have this size; "" where it is a keep-alive."""
        if said < 0:
            return "the length of a frame is no number"
        if size < 0:
            return f"the length of a frame counts itself, and is {said}"
        if size == 0:
            return "" if self._keepalive else _EMPTY
        return _too_long(size, self._max_frame)


class _TerminatedDecoder:
    """Frames that end with ETX, with or without an STX in front."""

    __slots__ = ("_keepalive", "_lost", "_max_frame", "_rest")

    def __init__(self, max_frame: int, keepalive: bool) -> None:
        self._max_frame = max_frame
        self._keepalive = keepalive
        self._rest = b""
        self._lost = ""

    @property
    def buffered(self) -> int:
        return len(self._rest)

    def receive(self, data: bytes) -> list[bytes]:
        if self._lost:
            raise FrameError(self._lost)
        stream = self._rest + data if self._rest else bytes(data)
        frames: list[bytes] = []
        # The rest of earlier data holds no ETX: without this a byte at a time would cost the square of a frame.
        at, searched = 0, len(self._rest)
        while True:
            stop = stream.find(ETX, max(at, searched))
            start = at + 1 if stream[at : at + 1] == STX else at
            self._lost = self._problem(start, len(stream) if stop < 0 else stop, stop >= 0)
            if self._lost or stop < 0:
                break
            if stop > start:
                frames.append(stream[start:stop])
            at = stop + 1
        self._rest = b"" if self._lost else stream[at:]
        if self._lost and not frames:
            raise FrameError(self._lost)
        return frames

    def _problem(self, start: int, stop: int, whole: bool) -> str:
        if stop - start > self._max_frame:
            return _too_long(stop - start, self._max_frame, "" if whole else "at least ")
        return _EMPTY if whole and stop == start and not self._keepalive else ""


_EMPTY = "a frame without payload, which this link does not use"


def _too_long(size: int, largest: int, about: str = "") -> str:
    return f"a frame of {about}{size} bytes is larger than the largest of {largest}"
