"""Frames on a byte stream: payloads in, framed bytes out, and back; called by whoever owns a socket.

Sans-I/O: `FrameDecoder.receive` takes whatever a socket gave and returns the whole payloads in it.
A frame without payload is a keep-alive and vanishes. A frame that is too long means the stream is lost.
"""

from __future__ import annotations

from messages.errors import FrameError, SpecError

FRAMINGS = ("2-byte-be",)

_HEADER = 2  # bytes of length before each payload
_LARGEST = 0xFFFF  # what two bytes can say


def framing(name: str = "2-byte-be", max_frame: int = 8192) -> Framing:
    """The framing of a link.

    Args:
        name: one of `FRAMINGS`.
        max_frame: largest payload accepted or sent, bytes, 1 to 65535.

    Raises:
        SpecError: for an unknown name or an impossible limit.
    """
    problems = []
    if name not in FRAMINGS:
        problems.append(f"unknown framing {name!r}, known are {', '.join(FRAMINGS)}")
    if not 1 <= max_frame <= _LARGEST:
        problems.append(f"max_frame is {max_frame}, must be 1 to {_LARGEST}")
    if problems:
        raise SpecError("framing", problems)
    return Framing(name, max_frame)


class Framing:
    """Two bytes of length, big-endian, not counting themselves, then the payload.

    Source: inferred from what acquirers and hosts use most on TCP (jPOS calls it NACChannel without TPDU).
    """

    __slots__ = ("max_frame", "name")

    def __init__(self, name: str, max_frame: int) -> None:
        self.name = name
        self.max_frame = max_frame

    def encode(self, payload: bytes) -> bytes:
        """Payload → frame; an empty payload makes a keep-alive.

        Raises:
            FrameError: the payload is longer than `max_frame`.
        """
        size = len(payload)
        if size > self.max_frame:
            raise FrameError(f"a payload of {size} bytes is larger than the largest frame of {self.max_frame}")
        return size.to_bytes(_HEADER, "big") + payload

    def decoder(self) -> FrameDecoder:
        """A decoder for one direction of one connection."""
        return FrameDecoder(self.max_frame)


class FrameDecoder:
    """Cuts one byte stream into payloads; holds at most one unfinished frame."""

    __slots__ = ("_lost", "_max_frame", "_rest")

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._rest = b""
        self._lost = ""  # why framing is lost, "" while it is not

    @property
    def buffered(self) -> int:
        """Bytes received that do not make a whole frame yet."""
        return len(self._rest)

    def receive(self, data: bytes) -> list[bytes]:
        """Takes the next bytes of the stream, in any chunking.

        Returns:
            The payloads that are complete now, oldest first; keep-alives are left out.

        Raises:
            FrameError: a frame is longer than the limit. Where whole frames came before it in the same
                `data`, they are returned first and the next call raises, as does every call after that.
        """
        if self._lost:
            raise FrameError(self._lost)
        stream = self._rest + data if self._rest else bytes(data)
        frames: list[bytes] = []
        at, end = 0, len(stream)
        while end - at >= _HEADER:
            size = (stream[at] << 8) | stream[at + 1]
            if size > self._max_frame:
                self._lost = f"a frame of {size} bytes is larger than the largest of {self._max_frame}"
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
