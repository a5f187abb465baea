"""Frames on the HSM's unix socket: 4 bytes length of the rest, 4 bytes request id, 4 bytes budget, a MessagePack body.

Bytes go in under any chunking, whole frames come out, and back. The id is the caller's and comes back with the
answer; answers come in any order. The budget is what is left of the caller's patience in milliseconds, 0 in answers and
where the HSM's own default is meant; a command that waited longer is answered `expired` and not done. Called by both
ends.
"""

from __future__ import annotations

import struct
from typing import get_args

import msgspec

from hsm.audit_commands import AuditAnswer, AuditRequest
from hsm.card_commands import CardAnswer, CardRequest
from hsm.commands import Dispatch, Dispatched, GeneratedMac, GenerateMac, MacVerified, Screen, Screened, VerifyMac
from hsm.errors import ProtocolError
from hsm.key_commands import KeyAnswer, KeyRequest
from hsm.ledger_commands import LedgerAnswer, LedgerRequest
from hsm.officer_commands import OfficerAnswer, OfficerRequest
from hsm.vault_commands import HsmStatus, ReadStatus, VaultAnswer, VaultRequest

MAX_FRAME_BYTES = 65_536
MAX_BUDGET_MS = 2**32 - 1
EXPIRED = "expired"
_HEADER = struct.Struct(">III")
_AFTER_LENGTH = _HEADER.size - 4

Frame = tuple[int, int, bytes]
"""Request id, budget in ms, body."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """HsmRefused on the wire."""

    code: str
    detail: str


class Unavailable(msgspec.Struct, frozen=True, tag="unavailable"):
    """HsmUnavailable on the wire."""

    reason: str


SwitchRequest = Screen | Dispatch | GenerateMac | VerifyMac
SwitchAnswer = Screened | Dispatched | GeneratedMac | MacVerified

_CommandRequest = (
    SwitchRequest | CardRequest | KeyRequest | OfficerRequest | VaultRequest | AuditRequest | LedgerRequest
)
Request = _CommandRequest | ReadStatus
_CommandAnswer = SwitchAnswer | CardAnswer | KeyAnswer | OfficerAnswer | VaultAnswer | AuditAnswer | LedgerAnswer
Answer = _CommandAnswer | HsmStatus | Refused | Unavailable

REQUESTS: tuple[type[msgspec.Struct], ...] = get_args(Request)


def tag_of(request: type[msgspec.Struct]) -> str:
    """Return the name of a command on the wire, in `[[caller]] commands` and in the audit."""
    return str(request.__struct_config__.tag)


decode_request = msgspec.msgpack.Decoder[Request](Request).decode
decode_answer = msgspec.msgpack.Decoder[Answer](Answer).decode
encode_body = msgspec.msgpack.Encoder().encode


def frame(number: int, body: bytes, budget_ms: int = 0) -> bytes:
    """Return one frame.

    Args:
        number: 0–2**32-1.
        body: at most MAX_FRAME_BYTES - 8 bytes.
        budget_ms: 1–MAX_BUDGET_MS, or 0.
    Raises:
        ProtocolError: the body is too long.
    """
    if len(body) + _AFTER_LENGTH > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame has at most {MAX_FRAME_BYTES} bytes")
    return _HEADER.pack(len(body) + _AFTER_LENGTH, number, budget_ms) + body


class FrameReader:
    """Puts frames together; its buffer is bounded by one frame and one chunk."""

    def __init__(self) -> None:
        self._rest = b""

    def receive(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes.

        Raises:
            ProtocolError: a length out of range; nothing after it can be read.
        """
        if self._rest:
            data = self._rest + data
        frames = []
        start, end = 0, len(data)
        while end - start >= _HEADER.size:
            length, number, budget_ms = _HEADER.unpack_from(data, start)
            if not _AFTER_LENGTH <= length <= MAX_FRAME_BYTES:
                raise _length_error()
            stop = start + 4 + length
            if stop > end:
                break
            frames.append((number, budget_ms, data[start + _HEADER.size : stop]))
            start = stop
        self._rest = data[start:]
        # Said as soon as it is known: the sender of a broken frame may send no more.
        known = 4 <= len(self._rest) < _HEADER.size
        if known and not _AFTER_LENGTH <= int.from_bytes(self._rest[:4], "big") <= MAX_FRAME_BYTES:
            raise _length_error()
        return frames


def _length_error() -> ProtocolError:
    return ProtocolError(f"a frame has {_AFTER_LENGTH} to {MAX_FRAME_BYTES} bytes")
