"""The codec of a link: frames' bytes in, messages out, and back; called by the switch for every message.

A set of elements that was seen a few times gets a function of its own, written and compiled by
`decoder_source` and `encoder_source`; rare sets go through the interpreter. Peers choose the sets, so
the functions live in bounded caches, and a set has to come `COMPILE_AFTER` times before it is worth one:
compiling costs as much as some twenty-five interpreted messages, and a peer that never repeats itself never gets it.

Both ways accept and refuse exactly the same. A refusal always comes from the interpreter, with the reason. Messages
with a bitmap among their elements (`Dialect.tertiary` is "element") are always decoded by it: which elements they have
shows only on the way.
"""

from __future__ import annotations

from binascii import a2b_hex
from typing import TypeVar

from messages import decoder_source, encoder_source
from messages.cache import BoundedCache
from messages.charsets import latin, page_of, wire
from messages.decoder_source import Decoder, compile_decoder
from messages.dialect import Dialect, Element
from messages.encoder_source import Encoder, compile_encoder
from messages.errors import DecodeError, EncodeError
from messages.header import TERTIARY, announces_another, bitmap_size, mti_size, read_header
from messages.interpreter import Interpreter
from messages.message import Message

COMPILE_AFTER = 32  # valid messages with the same elements

_Key = TypeVar("_Key")

_MACS = (64, 128)  # a MAC is the last element, whichever of the two it is
_MAC_BYTES = 8
_LAST_OF_PRIMARY, _LAST_OF_SECONDARY = 64, 128  # elements above need another bitmap


class Codec:
    """Decodes and encodes one dialect.

    Args:
        dialect: the dialect of the peer.
        cache_size: compiled functions at most, in each direction.
    """

    def __init__(self, dialect: Dialect, cache_size: int = 256) -> None:
        self.dialect = dialect
        self._interpreter = Interpreter(dialect)
        self._decoders: BoundedCache[bytes, Decoder] = BoundedCache(cache_size)
        self._encoders: BoundedCache[tuple[int, ...], Encoder] = BoundedCache(cache_size)
        self._seen_bitmaps: BoundedCache[bytes, int] = BoundedCache(4 * cache_size)
        self._seen_sets: BoundedCache[tuple[int, ...], int] = BoundedCache(4 * cache_size)
        self._macs: BoundedCache[bytes, tuple[int, int]] = BoundedCache(cache_size)
        # Places of the bitmaps: they are the key of the decoders. The first byte of one says whether another follows.
        self._at = mti_size(dialect)
        self._size = bitmap_size(dialect)
        self._another = announces_another(dialect)
        one, two, self._three = (slice(self._at, self._at + count * self._size) for count in (1, 2, 3))
        self._always_two = dialect.secondary == "always"
        self._bitmaps = tuple(two if another or self._always_two else one for another in self._another)
        self._tertiary = dialect.tertiary == "contiguous"

    def decode(self, data: bytes) -> Message:
        """Bytes of one frame → message.

        Raises:
            DecodeError: the fault and its place, never the value.
        """
        try:
            key = data[self._bitmaps[data[self._at]]]
            if self._tertiary and len(key) > self._size and self._another[key[self._size]]:
                key = data[self._three]
            message = self._decoders[key](data)
            if message is not None:
                return message
        except decoder_source.REFUSALS:
            pass
        return self._decode_rare(data)

    def partial(self, data: bytes) -> Message:
        """The part of a message before its first fault, so that it can be answered.

        Raises:
            DecodeError: not even type and bitmaps can be read.
        """
        return self._interpreter.partial(bytes(data))

    def encode(self, message: Message) -> bytes:
        """Message → bytes of one frame; bitmaps follow from its elements.

        Raises:
            EncodeError: the MTI, or the first element by number, that the dialect cannot express.
        """
        elements = message.elements
        try:
            data = self._encoders[tuple(elements)](message.mti, elements)
            if data is not None:
                return data
        except encoder_source.REFUSALS:
            pass
        return self._encode_rare(message)

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
            return covered, a2b_hex(latin(self._mac_page, mac))
        except ValueError:
            raise DecodeError("MAC", split, "expected 16 hexadecimal digits") from None

    def replace_mac(self, data: bytes, mac: bytes) -> bytes:
        """The encoded message with another MAC in its DE 64 or DE 128.

        Args:
            data: as for `mac_input`; the content of the MAC element does not matter.
            mac: 8 bytes.

        Raises:
            DecodeError: path "MAC": the message has none at its end.
            ValueError: `mac` has another length.
        """
        if len(mac) != _MAC_BYTES:
            raise ValueError(f"a MAC has {_MAC_BYTES} bytes, got {len(mac)}")
        split = self._mac_offset(data)
        if len(data) - split == _MAC_BYTES:
            return data[:split] + mac
        return data[:split] + wire(self._mac_page, mac.hex().upper().encode())

    def offset(self, message: Message, number: int) -> int:
        """Offset of the value of one of its elements in the encoded message; a pad before it belongs to it.

        Args:
            message: as for `encode`.
            number: of an element that it has.

        Raises:
            EncodeError: the dialect cannot express the elements up to that one.
            KeyError: the message does not have it.
        """
        elements = message.elements
        value = elements[number]
        last = max(elements)
        up_to = {other: elements[other] for other in elements if other <= number}
        end = len(Codec.encode(self, Message(message.mti, up_to)))  # not that of a subclass, which may translate
        # The whole message has bitmaps that this one lacks.
        if number <= _LAST_OF_PRIMARY < last and not self._always_two:
            end += self._size
        if number <= _LAST_OF_SECONDARY < last and (self._tertiary or number > _LAST_OF_PRIMARY):
            end += self._size
        return end - _value_bytes(self.dialect.elements[number], value)

    @property
    def compiled(self) -> tuple[int, int]:
        """Number of compiled decoders and encoders that are kept now."""
        return self._decoders.entries, self._encoders.entries

    @property
    def _mac_page(self) -> str:
        """The code page of a hexadecimal MAC."""
        return next((page_of(self.dialect.elements[mac].encoding) for mac in _MACS if mac in self.dialect.elements), "")

    def _mac_offset(self, data: bytes) -> int:
        try:
            key = data[self._bitmaps[data[self._at]]]
            units, end = self._macs[key]
        except (IndexError, KeyError):
            units, end = self._mac_of(data)
        split = len(data) - units
        if split < end:
            raise DecodeError("MAC", end, "the message ends before its MAC")
        return split

    def _mac_of(self, data: bytes) -> tuple[int, int]:
        """Size of the MAC in bytes, and the start of the elements; remembers it by the bitmaps."""
        header = read_header(self.dialect, data)
        inside = self.dialect.tertiary == "element" and TERTIARY in header.numbers
        if not header.numbers or header.numbers[-1] not in _MACS or inside:
            raise DecodeError("MAC", None, "the last element is neither DE 64 nor DE 128")
        units = self.dialect.elements[header.numbers[-1]].wire_units
        key = bytes(data[self._at : header.end])
        if len(key) <= 2 * self._size:
            self._macs.put(key, (units, header.end))
        return units, header.end

    def _decode_rare(self, data: bytes) -> Message:
        data = bytes(data)
        message = self._interpreter.decode(data)
        key = data[self._bitmaps[data[self._at]]]
        if self.dialect.tertiary and len(key) > self._size and self._another[key[self._size]]:
            if not self._tertiary:
                return message  # no key covers the bitmap among the elements
            key = data[self._three]
        if key in self._decoders:
            raise DecodeError("message", None, "compiled code refuses what the interpreter accepts: a bug of ours")
        if _worth_compiling(self._seen_bitmaps, key):
            self._decoders.put(key, compile_decoder(self.dialect, tuple(message.elements), self._at + len(key)))
        return message

    def _encode_rare(self, message: Message) -> bytes:
        data = self._interpreter.encode(message)
        key = tuple(message.elements)
        if key in self._encoders:
            raise EncodeError("message", "compiled code refuses what the interpreter accepts: a bug of ours")
        if _worth_compiling(self._seen_sets, key):
            self._encoders.put(key, compile_encoder(self.dialect, tuple(sorted(key))))
        return data


def _value_bytes(element: Element, value: str) -> int:
    """Bytes that the value takes on the wire, with its pad, without its length."""
    size = len(value) if element.length_kind else element.characters
    if element.encoding == "binary":
        return size // 2
    if element.encoding == "bcd":
        return 1 + size // 2 if element.kind == "x+n" else (size + 1) // 2
    return size


def _worth_compiling(seen: BoundedCache[_Key, int], key: _Key) -> bool:
    """Counts valid messages of a kind; true once it is time, and then counts anew."""
    try:
        count = seen[key] + 1
    except KeyError:
        count = 1
    if count < COMPILE_AFTER:
        seen.put(key, count)
        return False
    seen.discard(key)
    return True
