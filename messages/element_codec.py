"""One element by itself: bytes at a place in, its value out, and back; a pair of functions made for the element.

Called by the interpreter for every element of a message, by composites for their parts, and by compiled code for what
is too rare to be written out. Everything that depends on the dialect alone is settled when the functions are made.
Refused values go through `_fault` again, which finds the words: reasons cost nothing where nothing is wrong.
"""

from __future__ import annotations

from binascii import a2b_hex
from collections.abc import Callable

from messages.charsets import TO_LATIN, page_of, wire
from messages.dialect import Element
from messages.errors import DecodeError, EncodeError
from messages.formats import ALLOWED, CHECK_NAMES, PATTERNS, problem
from messages.lengths import Lengths, counted_in_bytes, decode_table, encode_table, prefix_size, said, scale

Reader = Callable[[bytes, int], tuple[str, int]]
Writer = Callable[[str], bytes]
_Fault = Callable[[bytes, int], DecodeError]

_REFUSED = (ValueError, TypeError, AttributeError, IndexError)  # exceptions that an invalid value may raise
_HEX = b"0123456789ABCDEFabcdef"
_x_n = CHECK_NAMES["X_N"]


class ElementCodec:
    """Decodes and encodes one element.

    Args:
        element: of a dialect, or a part of a composite.
        path: its name in errors; "" for the element's own "DE 4".

    `read` and `write` are what `decode` and `encode` call: for loops that cannot afford a method.
    """

    __slots__ = ("element", "path", "read", "write")

    def __init__(self, element: Element, path: str = "") -> None:
        self.element = element
        self.path = path or element.path
        self.read: Reader = _reader(element, self._fault)
        self.write: Writer = self._writer()

    def decode(self, data: bytes, at: int, base: int = 0) -> tuple[str, int]:
        """Reads the element.

        Args:
            data: bytes that have it.
            at: where in them it starts, with its length if it has one.
            base: bytes before `data`, for the offset in an error.

        Returns:
            Its value, and where the next element starts.

        Raises:
            DecodeError: path, offset and reason.
        """
        try:
            return self.read(data, at)
        except DecodeError as error:
            if not base or error.offset is None:
                raise
            raise DecodeError(error.path, error.offset + base, error.reason) from None

    def encode(self, value: str) -> bytes:
        """A value with its length, if it has one, as on the wire.

        Raises:
            EncodeError: path and reason.
        """
        return self.write(value)

    def _writer(self) -> Writer:
        write = _writer(self.element)
        fill = self.element.fill
        if fill and not self.element.length_kind:
            write = _filling(self.element, write)

        def checked(value: str) -> bytes:
            try:
                raw = write(value)
            except _REFUSED:
                raw = None
            if raw is None:
                raise EncodeError(self.path, problem(self.element, value) or "is not as the dialect says")
            return raw

        return checked

    def _fault(self, data: bytes, at: int) -> DecodeError:
        """The error for bytes that a reader refused."""
        element, start = self.element, at
        units = element.wire_units
        if element.length_kind:
            start = at + prefix_size(element)
            lengths = scale(element)
            raw = data[at:start]
            number = said(lengths, raw) if len(raw) == lengths.size else None
            if number is None:
                return DecodeError(self.path, at, f"expected {_length_digits(element)}")
            try:
                units = decode_table(lengths)[raw[0] if len(raw) == 1 else raw]
            except KeyError:
                least, most = lengths.said(lengths.smallest), lengths.said(lengths.largest)
                even = ", an even one" if lengths.said(lengths.step) == 2 else ""
                return DecodeError(self.path, at, f"expected a length of {least} to {most}{even}, got {number}")
        size = _wire_bytes(element, units)
        raw = data[start : start + size]
        if len(raw) != size:
            return DecodeError(self.path, start, f"expected {size} bytes, got {len(raw)}")
        return DecodeError(self.path, start, self._why(raw, units))

    def _why(self, raw: bytes, units: int) -> str:
        element = self.element
        if element.encoding in ("hex", "ebcdic-hex"):
            return "expected hexadecimal digits"
        if element.encoding == "bcd" and element.pad and units % 2 and element.kind != "x+n":
            side, pad = element.pad.split()
            if raw.hex().upper()[0 if side == "left" else -1] != pad:
                return f"expected the pad {pad} on the {side} of an odd number of digits"
        return f"expected {PATTERNS[element.kind][1]}"


def _length_digits(element: Element) -> str:
    size = prefix_size(element)
    if element.length_encoding == "binary":
        return f"{size} bytes of length"
    return f"{2 * size} BCD digits of length" if element.length_encoding == "bcd" else f"{size} length digits"


def _wire_bytes(element: Element, units: int) -> int:
    """Bytes that so many units take."""
    if element.encoding != "bcd":
        return units
    return 1 + units // 2 if element.kind == "x+n" else (units + 1) // 2


def _spread(element: Element) -> tuple[int, dict[int | bytes, int]]:
    """The size of the length before a value, and what it may be."""
    return prefix_size(element), decode_table(scale(element))


def _reader(element: Element, fault: _Fault) -> Reader:
    if element.encoding == "bcd":
        if element.kind == "x+n":
            return _signed_bcd_reader(element, fault)
        if counted_in_bytes(element) and element.length_kind:
            return _byte_counted_reader(element, fault)
        return _bcd_reader_of_any_length(element, fault) if element.length_kind else _bcd_reader(element, fault)
    if element.encoding == "binary":
        return _binary_reader_of_any_length(element, fault) if element.length_kind else _binary_reader(element, fault)
    plain = element.encoding == "ascii"
    if element.length_kind:
        read = _ascii_reader_of_any_length(element, fault) if plain else _text_reader_of_any_length(element, fault)
    else:
        read = _ascii_reader(element, fault) if plain else _text_reader(element, fault)
    return _signed(read, fault) if element.kind == "x+n" else read


def _allowed(element: Element) -> bytes:
    """The bytes that text of this element consists of, in ASCII."""
    return _HEX if element.kind == "b" else ALLOWED[element.kind]


def _ascii_reader(element: Element, fault: _Fault) -> Reader:
    size, allowed = element.wire_units, _allowed(element)

    def read(data: bytes, at: int) -> tuple[str, int]:
        end = at + size
        raw = data[at:end]
        if len(raw) != size or raw.translate(None, allowed):
            raise fault(data, at)
        return raw.decode("latin-1"), end

    return read


def _ascii_reader_of_any_length(element: Element, fault: _Fault) -> Reader:
    allowed = _allowed(element)
    width, units = _spread(element)

    def read(data: bytes, at: int) -> tuple[str, int]:
        start = at + width
        try:
            size = units[data[at] if width == 1 else data[at:start]]
        except (KeyError, IndexError):
            raise fault(data, at) from None
        end = start + size
        raw = data[start:end]
        if len(raw) != size or raw.translate(None, allowed):
            raise fault(data, at)
        return raw.decode("latin-1"), end

    return read


def _text_reader(element: Element, fault: _Fault) -> Reader:
    """In a code page, or hexadecimal."""
    size, allowed, hexadecimal = element.wire_units, _allowed(element), element.kind == "b"
    to_latin = TO_LATIN[page_of(element.encoding)] if page_of(element.encoding) else None

    def read(data: bytes, at: int) -> tuple[str, int]:
        end = at + size
        raw = data[at:end].translate(to_latin)
        if len(raw) != size or raw.translate(None, allowed):
            raise fault(data, at)
        return (raw.upper() if hexadecimal else raw).decode("latin-1"), end

    return read


def _text_reader_of_any_length(element: Element, fault: _Fault) -> Reader:
    allowed, hexadecimal = _allowed(element), element.kind == "b"
    to_latin = TO_LATIN[page_of(element.encoding)] if page_of(element.encoding) else None
    width, units = _spread(element)

    def read(data: bytes, at: int) -> tuple[str, int]:
        start = at + width
        try:
            size = units[data[at] if width == 1 else data[at:start]]
        except (KeyError, IndexError):
            raise fault(data, at) from None
        end = start + size
        raw = data[start:end].translate(to_latin)
        if len(raw) != size or raw.translate(None, allowed):
            raise fault(data, at)
        return (raw.upper() if hexadecimal else raw).decode("latin-1"), end

    return read


def _signed(read: Reader, fault: _Fault) -> Reader:
    """C or D, then digits."""

    def signed(data: bytes, at: int) -> tuple[str, int]:
        value, end = read(data, at)
        if _x_n(value.encode("latin-1")) is None:
            raise fault(data, at)
        return value, end

    return signed


def _binary_reader(element: Element, fault: _Fault) -> Reader:
    size = element.wire_units

    def read(data: bytes, at: int) -> tuple[str, int]:
        end = at + size
        raw = data[at:end]
        if len(raw) != size:
            raise fault(data, at)
        return raw.hex().upper(), end

    return read


def _binary_reader_of_any_length(element: Element, fault: _Fault) -> Reader:
    width, units = _spread(element)

    def read(data: bytes, at: int) -> tuple[str, int]:
        start = at + width
        try:
            size = units[data[at] if width == 1 else data[at:start]]
        except (KeyError, IndexError):
            raise fault(data, at) from None
        end = start + size
        raw = data[start:end]
        if len(raw) != size:
            raise fault(data, at)
        return raw.hex().upper(), end

    return read


def _bcd_reader(element: Element, fault: _Fault) -> Reader:
    """A known number of digits; a track's separator is a D."""
    size, track = element.max_length, element.kind == "z"
    octets = (size + 1) // 2
    left, pad = element.pad.startswith("left"), element.pad[-1:].lower()
    odd = size % 2 == 1
    cut = slice(1, None) if left and odd else slice(0, size)

    def read(data: bytes, at: int) -> tuple[str, int]:
        end = at + octets
        nibbles = data[at:end].hex()
        value = nibbles[cut]
        if len(value) != size or (odd and nibbles[0 if left else -1] != pad):
            raise fault(data, at)
        if track:
            value = value.replace("d", "=")
        if not (value.replace("=", "0") if track else value).isdecimal():
            raise fault(data, at)
        return value, end

    return read


def _bcd_reader_of_any_length(element: Element, fault: _Fault) -> Reader:
    """The length counts digits."""
    track = element.kind == "z"
    left, pad = element.pad.startswith("left"), element.pad[-1:].lower()
    width, units = _spread(element)

    def read(data: bytes, at: int) -> tuple[str, int]:
        start = at + width
        try:
            size = units[data[at] if width == 1 else data[at:start]]
        except (KeyError, IndexError):
            raise fault(data, at) from None
        end = start + (size + 1) // 2
        value = data[start:end].hex()
        if size & 1:
            if value[:1] != pad if left else value[-1:] != pad:
                raise fault(data, at)
            value = value[1:] if left else value[:-1]
        if track:
            value = value.replace("d", "=")
        if len(value) != size or not (value.replace("=", "0") if track else value).isdecimal():
            raise fault(data, at)
        return value, end

    return read


def _byte_counted_reader(element: Element, fault: _Fault) -> Reader:
    """The length counts bytes: a pad is one if it can be nothing else, and where the digits would be too many."""
    kind, most = element.kind, element.max_length
    left, pad = element.pad.startswith("left"), element.pad[-1:]
    certain = bool(pad) and pad.encode() not in (b"0123456789D" if kind == "z" else b"0123456789")
    matches = PATTERNS[kind][0].fullmatch
    width, units = _spread(element)

    def read(data: bytes, at: int) -> tuple[str, int]:
        start = at + width
        try:
            size = units[data[at] if width == 1 else data[at:start]]
        except (KeyError, IndexError):
            raise fault(data, at) from None
        end = start + size // 2
        value = data[start:end].hex().upper()
        if len(value) != size:
            raise fault(data, at)
        if (certain or size > most) and (value[0] if left else value[-1]) == pad:
            value = value[1:] if left else value[:-1]
        value = value.replace("D", "=") if kind == "z" else value
        if len(value) > most or matches(value) is None:
            raise fault(data, at)
        return value, end

    return read


def _signed_bcd_reader(element: Element, fault: _Fault) -> Reader:
    """C or D as a character, then a known number of digits in BCD, a zero before them where they are odd."""
    digits = element.max_length - 1
    octets = 1 + (digits + 1) // 2
    cut = slice(2 + digits % 2, None)

    def read(data: bytes, at: int) -> tuple[str, int]:
        end = at + octets
        raw = data[at:end]
        nibbles = raw.hex()
        value = nibbles[cut]
        if (
            len(raw) != octets
            or raw[0] not in b"CD"
            or not nibbles[2:].isdecimal()
            or (digits % 2 and nibbles[2] != "0")
        ):
            raise fault(data, at)
        return chr(raw[0]) + value, end

    return read


def _writer(element: Element) -> Callable[[str], bytes | None]:
    """Value → wire; an invalid value gives None or one of `_REFUSED`."""
    if element.encoding == "bcd":
        return _signed_bcd_writer(element) if element.kind == "x+n" else _bcd_writer(element)
    if element.encoding == "binary":
        return _binary_writer(element)
    return _text_writer(element)


def _prefixes(element: Element) -> Lengths[bytes]:
    """Bytes before a value of so many characters; None where it may not have that many."""
    if not element.length_kind:
        return tuple(b"" if count == element.characters else None for count in range(element.characters + 1))
    return encode_table(scale(element), 2 if element.encoding == "binary" else 1)


def _text_writer(element: Element) -> Callable[[str], bytes | None]:
    prefixes, allowed, hexadecimal = _prefixes(element), _allowed(element), element.kind == "b"
    page, signed = page_of(element.encoding), element.kind == "x+n"

    def write(value: str) -> bytes | None:
        raw = value.encode("ascii")
        before = prefixes[len(raw)]
        if before is None or raw.translate(None, allowed) or (signed and _x_n(raw) is None):
            return None
        if hexadecimal:
            raw = raw.upper()
        return before + wire(page, raw)

    return write


def _binary_writer(element: Element) -> Callable[[str], bytes | None]:
    prefixes = _prefixes(element)

    def write(value: str) -> bytes | None:
        before = prefixes[len(value)]
        return None if before is None else before + a2b_hex(value.encode("ascii"))

    return write


def _bcd_writer(element: Element) -> Callable[[str], bytes | None]:
    track, most = element.kind == "z", element.characters
    by_bytes = counted_in_bytes(element) and element.length_kind > 0
    left, pad = element.pad.startswith("left"), element.pad[-1:].encode()
    prefixes, allowed = _prefixes(element), ALLOWED[element.kind]

    def write(value: str) -> bytes | None:
        raw = value.encode("ascii")
        size = len(raw)
        odd = size % 2
        before = prefixes[size + odd if by_bytes else size]
        if before is None or size > most or raw.translate(None, allowed) or (odd and not pad):
            return None
        if track:
            raw = raw.replace(b"=", b"D")
        if odd:
            raw = pad + raw if left else raw + pad
        return before + a2b_hex(raw)

    return write


def _signed_bcd_writer(element: Element) -> Callable[[str], bytes | None]:
    size, zero = element.max_length, b"0" if element.max_length % 2 == 0 else b""

    def write(value: str) -> bytes | None:
        raw = value.encode("ascii")
        if len(raw) != size or _x_n(raw) is None:
            return None
        return raw[:1] + a2b_hex(zero + raw[1:])

    return write


def _filling(element: Element, write: Callable[[str], bytes | None]) -> Callable[[str], bytes | None]:
    """Makes a shorter value as long as the element is; the sign of an amount stays in front."""
    side, fill, size = element.fill.split(" ")[0], element.fill[-1], element.characters
    matches, after = PATTERNS[element.kind][0].fullmatch, 1 if element.kind == "x+n" else 0

    def filled(value: str) -> bytes | None:
        if len(value) < size:
            if matches(value) is None:
                return None
            body, missing = value[after:], size - len(value)
            value = value[:after] + (fill * missing + body if side == "left" else body + fill * missing)
        return write(value)

    return filled
