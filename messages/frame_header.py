"""Fixed headers between the length of a frame and its message: cut off what arrives, made for what leaves; pure.

Only `messages.framing` calls it. A header names stations, not contents: the answer to a message goes back by the
header of that message, turned around.
"""

from __future__ import annotations

from collections.abc import Callable

from messages.errors import SpecError

MAX_HEADER = 255  # bytes
TPDU, VAP = 5, 22  # bytes
TPDU_ID = 0x60  # first byte of a TPDU that carries a transaction
NAMES = ("tpdu", "vap")


class Frame(bytes):
    """A payload that came with a header; a plain `bytes` where the header does not matter."""

    header: bytes

    def __new__(cls, payload: bytes, header: bytes) -> Frame:
        made = super().__new__(cls, payload)
        made.header = header
        return made


class FrameHeader:
    """The header before each message of a link.

    Args:
        size: of the headers that we make, bytes; the peer's may be longer only where they state their length.
        start: the header of what we send without being asked.
        told: whether the first byte of a header is its length.
        turned: the header of a message → that of its answer.
        total: offset of the total length, header included, 2 bytes big-endian; None where it has none.
    """

    __slots__ = ("_start", "_told", "_total", "_turned", "size")

    def __init__(
        self, size: int, start: bytes, *, told: bool, turned: Callable[[bytes], bytes], total: int | None
    ) -> None:
        self.size = size
        self._start = start
        self._told = told
        self._turned = turned
        self._total = total

    def cut(self, frame: bytes) -> Frame | None:
        """A frame without its header; None where it has no room for one."""
        if len(frame) < self.size:
            return None
        size = max(self.size, frame[0]) if self._told else self.size
        return Frame(frame[size:], frame[:size]) if len(frame) >= size else None

    def before(self, payload: bytes, answered: bytes) -> bytes:
        """The header to send `payload` with.

        Args:
            answered: the frame that it answers; one without header, or b"", for what we start.
        """
        came = getattr(answered, "header", b"")
        header = self._turned(came)[: self.size] if len(came) >= self.size else self._start
        if self._total is None:
            return header
        whole = (len(header) + len(payload)).to_bytes(2, "big")
        return header[: self._total] + whole + header[self._total + 2 :]


def frame_header(kind: str | int, start: bytes) -> FrameHeader | None:
    """The headers of a link; None where it has none.

    Args:
        kind: "" or 0 for none, "tpdu", "vap", or a number of bytes that are echoed.
        start: bytes to send where we start; b"" for zeros (and the usual first bytes of a tpdu or vap).

    Raises:
        SpecError: an unknown kind, an impossible size, or `start` of another size.
    """
    if kind in ("", 0):
        if start:
            raise SpecError("frame header", ["header_bytes without a header"])
        return None
    if isinstance(kind, str) and kind not in NAMES:
        raise SpecError("frame header", [f"unknown header {kind!r}, known are {', '.join(NAMES)} or a number of bytes"])
    size = {"tpdu": TPDU, "vap": VAP}[kind] if isinstance(kind, str) else kind
    if not 1 <= size <= MAX_HEADER:
        raise SpecError("frame header", [f"a header of {size} bytes, must be 1 to {MAX_HEADER}"])
    if start and len(start) != size:
        raise SpecError("frame header", [f"header_bytes has {len(start)} bytes, the header has {size}"])
    if kind == "tpdu":
        return FrameHeader(size, start or bytes([TPDU_ID, 0, 0, 0, 0]), told=False, turned=_turned_tpdu, total=None)
    if kind == "vap":
        if start and start[0] != VAP:
            raise SpecError("frame header", [f"header_bytes must begin with its own length, {VAP:02X}"])
        return FrameHeader(size, start or _VAP_START, told=True, turned=_turned_vap, total=3)
    return FrameHeader(size, start or bytes(size), told=False, turned=_echoed, total=None)


# Length, format of the header, format of the text (2: ISO 8583), total length, then stations and flags.
_VAP_START = bytes([VAP, 0x01, 0x02]) + bytes(VAP - 3)


def _turned_tpdu(header: bytes) -> bytes:
    """Protocol id, destination, source → protocol id, source, destination.

    Source: inferred from the transport unit of terminals on X.25 and NAC, as public switches document it.
    """
    return header[:1] + header[3:5] + header[1:3]


def _turned_vap(header: bytes) -> bytes:
    """Destination (bytes 6–8) and source (9–11) swapped; everything else comes back as it was.

    The extra bytes of a header longer than 22 bytes (a reject's reason) are about the received message, and are left
    out.
    Source: inferred from public descriptions of the 22-byte header of VAP links; its flags are the network's business.
    """
    return bytes([VAP]) + header[1:5] + header[8:11] + header[5:8] + header[11:VAP]


def _echoed(header: bytes) -> bytes:
    return header
