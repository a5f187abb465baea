"""The codec of a link: frames' bytes in, messages out, and back; called by the switch for every message."""

from __future__ import annotations

from messages.dialect import Dialect
from messages.errors import DecodeError
from messages.header import read_header
from messages.interpreter import Interpreter
from messages.message import Message

_MACS = (64, 128)  # a MAC is the last element, whichever of the two it is
_MAC_BYTES = 8


class Codec:
    """Decodes and encodes one dialect."""

    def __init__(self, dialect: Dialect, cache_size: int = 256) -> None:
        self.dialect = dialect
        self._interpreter = Interpreter(dialect)

    def decode(self, data: bytes) -> Message:
        return self._interpreter.decode(data)

    def encode(self, message: Message) -> bytes:
        return self._interpreter.encode(message)

    def mac_input(self, data: bytes) -> tuple[bytes, bytes]:
        """Splits an encoded message into what its MAC covers and the MAC.

        Args:
            data: an encoded message whose last element is DE 64 or DE 128.

        Returns:
            All bytes before the MAC's value, and the 8 bytes of the MAC.

        Raises:
            DecodeError: path "MAC": the message has none at its end.

        Source: ISO 8583:1987 DE 64, DE 128; that it covers the bytes as sent, bitmap included, is
        inferred from common practice.
        """
        split = self._mac_offset(data)
        covered, mac = data[:split], data[split:]
        if len(mac) == _MAC_BYTES:
            return covered, mac
        try:
            return covered, bytes.fromhex(mac.decode("ascii"))
        except ValueError:
            raise DecodeError("MAC", split, "expected 16 hexadecimal digits") from None

    def replace_mac(self, data: bytes, mac: bytes) -> bytes:
        """The encoded message with another MAC in its DE 64 or DE 128.

        Args:
            data: as for `mac_input`; what stands in the MAC element does not matter.
            mac: 8 bytes.

        Raises:
            DecodeError: path "MAC": the message has none at its end.
            ValueError: `mac` has another length.
        """
        if len(mac) != _MAC_BYTES:
            raise ValueError(f"a MAC has {_MAC_BYTES} bytes, got {len(mac)}")
        split = self._mac_offset(data)
        return data[:split] + (mac if len(data) - split == _MAC_BYTES else mac.hex().upper().encode())

    def _mac_offset(self, data: bytes) -> int:
        header = read_header(self.dialect, data)
        if not header.numbers or header.numbers[-1] not in _MACS:
            raise DecodeError("MAC", None, "the last element is neither DE 64 nor DE 128")
        size = self.dialect.elements[header.numbers[-1]].wire_units
        split = len(data) - size
        if split < header.end:
            raise DecodeError("MAC", split if split > 0 else 0, "the message ends before its MAC")
        return split
