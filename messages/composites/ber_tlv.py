"""BER-TLV, as chip data in DE 55: bytes in, a tree of tags out, and back; called by `messages.composites.tree`.

Values stay hexadecimal: the meaning of a tag is in `messages.dictionary.emv`. Nothing is put in order or thrown away:
unknown and repeated tags, filling, and lengths that are longer than they need be come back as they were.

Source: EMV Book 3, annex B (B1 tag, B2 length, B3 value); filling with FF: ISO/IEC 7816-4 5.2.2. That a tag has up
to four bytes is inferred: EMV defines up to three.
"""

from __future__ import annotations

from messages.composites.nodes import PADDING, Node, Tree
from messages.composites.scope import Scope, unhex
from messages.errors import DecodeError

_MAX_TAG = 4
_MAX_LENGTH = 3  # bytes behind 81, 82, 83

_CONSTRUCTED = 0x20
_LONG_TAG = 0x1F
_MORE = 0x80


def read(scope: Scope, data: bytes) -> Tree:
    """Bytes → tree.

    Raises:
        DecodeError: an invalid tag or length, or a value that ends too soon.
    """
    reserved = tuple(bytes.fromhex(key) for key in scope.composite.parts if key.upper().startswith("FF"))
    nodes = []
    at = 0
    while at < len(data):
        scope.take(at)
        end = _filling_end(data, at, reserved)
        if end > at:
            nodes.append(Node(key=PADDING, value=data[at:end].hex().upper()))
        else:
            node, end = _read_node(scope, data, at)
            nodes.append(node)
        at = end
    return Tree(tuple(nodes))


def write(scope: Scope, tree: Tree) -> bytes:
    """Tree → bytes.

    Raises:
        EncodeError: an invalid tag, length or value.
    """
    return b"".join(_write_node(scope, node) for node in tree.nodes)


def _filling_end(data: bytes, at: int, reserved: tuple[bytes, ...]) -> int:
    while at < len(data) and (data[at] == 0 or (data[at] == 0xFF and not data.startswith(reserved, at))):
        at += 1
    return at


def _read_node(scope: Scope, data: bytes, start: int) -> tuple[Node, int]:
    at = _tag_end(data, start)
    if not at:
        raise scope.refused("", start, f"expected a tag of up to {_MAX_TAG} bytes")
    tag = data[start:at].hex().upper()
    length_end = at + _length_size(data, at)
    field = data[at:length_end]
    size = _length(field)
    if size is None:
        raise scope.refused(tag, at, f"expected a length: one byte up to 7F, or 81 to 8{_MAX_LENGTH} and that many")
    at, end = length_end, length_end + size
    if end > len(data):
        raise scope.refused(tag, at, f"expected {size} bytes, {len(data) - at} are left")
    value: str | Tree | None = None
    if data[start] & _CONSTRUCTED:
        value = _inside(scope, tag, data[at:end], at)
    if value is None:
        value = data[at:end].hex().upper()
    longer = "" if field == _shortest(size) else field.hex().upper()
    return Node(key=tag, value=value, length=longer), end


def _inside(scope: Scope, tag: str, data: bytes, at: int) -> Tree | None:
    """The tree in a constructed tag; None where there is none, which is no error: it is kept as bytes."""
    left = scope.budget.left
    try:
        return read(scope.inside(tag, scope.composite, scope.text, at), data)
    except DecodeError:
        scope.budget.left = left
        return None


def _tag_end(data: bytes, start: int) -> int:
    """End of the tag; 0 where it does not end within its four bytes."""
    if data[start] & _LONG_TAG != _LONG_TAG:
        return start + 1
    for at in range(start + 1, min(start + _MAX_TAG, len(data))):
        if not data[at] & _MORE:
            return at + 1
    return 0


def _length_size(data: bytes, at: int) -> int:
    return 1 + (data[at] & 0x7F if at < len(data) and data[at] & _MORE else 0)


def _length(field: bytes) -> int | None:
    """A length field as a number; None for one that is cut off, too long, or of no stated length (80)."""
    if not field or field[0] == _MORE or field[0] > _MORE + _MAX_LENGTH:
        return None
    if field[0] < _MORE:
        return field[0] if len(field) == 1 else None
    if len(field) != 1 + field[0] - _MORE:
        return None
    return int.from_bytes(field[1:], "big")


def _shortest(size: int) -> bytes:
    if size < _MORE:
        return bytes([size])
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([_MORE + len(digits)]) + digits


def _write_node(scope: Scope, node: Node) -> bytes:
    if node.key == PADDING:
        filling = unhex(node.value) if isinstance(node.value, str) else None
        if filling is None or filling.strip(b"\x00\xff"):
            raise scope.unwritable("", "filling must be 00 and FF")
        return filling
    tag = unhex(node.key)
    reserved = any(node.key.upper() == key.upper() for key in scope.composite.parts)
    if not tag or tag[0] == 0 or (tag[0] == 0xFF and not reserved) or _tag_end(tag, 0) != len(tag):
        raise scope.unwritable(node.key, f"is no tag of up to {_MAX_TAG} bytes")
    if node.raw:
        raise scope.unwritable(node.key, 'has its bytes in "value", not in "raw"')
    if isinstance(node.value, Tree):
        value: bytes | None = write(scope.inside(node.key, scope.composite, scope.text), node.value)
    else:
        value = unhex(node.value)
    if value is None:
        raise scope.unwritable(node.key, "expected hexadecimal digits in pairs")
    length = unhex(node.length) if node.length else _shortest(len(value))
    if length is None or _length(length) != len(value):
        raise scope.unwritable(node.key, f"its length field does not say {len(value)}, the bytes of its value")
    return tag + length + value
