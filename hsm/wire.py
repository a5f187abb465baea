"""Frames on the HSM's unix socket: 4 bytes length of the rest, 4 bytes request id, a MessagePack body.

Bytes go in under any chunking, whole frames come out, and back. The id is the caller's and comes back with the
answer; answers come in any order. Called by both ends.
"""

from __future__ import annotations

import struct

import msgspec

from hsm.commands import Dispatch, Dispatched, GeneratedMac, GenerateMac, Screen, Screened
from hsm.errors import ProtocolError
from hsm.vault_commands import CardToken, HsmStatus, ReadStatus, ResolveToken, Tokenize

MAX_FRAME_BYTES = 65_536
_HEADER = struct.Struct(">II")
_ID_BYTES = 4


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """HsmRefused on the wire."""

    code: str
    detail: str


class Unavailable(msgspec.Struct, frozen=True, tag="unavailable"):
    """HsmUnavailable on the wire."""

    reason: str


Request = Screen | Dispatch | GenerateMac | Tokenize | ResolveToken | ReadStatus
Answer = Screened | Dispatched | GeneratedMac | CardToken | HsmStatus | Refused | Unavailable

decode_request = msgspec.msgpack.Decoder[Request](Request).decode
decode_answer = msgspec.msgpack.Decoder[Answer](Answer).decode
encode_body = msgspec.msgpack.Encoder().encode


def frame(number: int, body: bytes) -> bytes:
    """Return one frame.

    Args:
        number: 0–2**32-1.
        body: at most MAX_FRAME_BYTES - 4 bytes.
    Raises:
        ProtocolError: the body is too long.
    """
    if len(body) + _ID_BYTES > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame has at most {MAX_FRAME_BYTES} bytes")
    return _HEADER.pack(len(body) + _ID_BYTES, number) + body


class FrameReader:
    """Puts frames together; what it keeps is bounded by one frame and one chunk."""

    def __init__(self) -> None:
        self._rest = b""

    def receive(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return the frames that `data` completes, as (id, body).

        Raises:
            ProtocolError: a length out of range; nothing after it can be read.
        """
        if self._rest:
            data = self._rest + data
        frames = []
        start, end = 0, len(data)
        while end - start >= _HEADER.size:
            length, number = _HEADER.unpack_from(data, start)
            if not _ID_BYTES <= length <= MAX_FRAME_BYTES:
                raise ProtocolError(f"a frame has {_ID_BYTES} to {MAX_FRAME_BYTES} bytes")
            stop = start + 4 + length
            if stop > end:
                break
            frames.append((number, data[start + _HEADER.size : stop]))
            start = stop
        self._rest = data[start:]
        return frames
