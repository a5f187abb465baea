"""A bitmap and the parts that it announces: bytes in, a tree of parts by bit out, and back.

Called by `messages.composites.tree`. All bits are parts: none of them announces another bitmap. A bitmap in
hexadecimal that has small letters stands in the tree under "0", since the parts alone would not give it back.

Source: inferred from private elements of networks that begin with a bitmap of their own (DE 62, 63, 126).
"""

from __future__ import annotations

from messages.composites.nodes import Node, Tree
from messages.composites.scope import Scope, unhex

_BITMAP = "0"


def read(scope: Scope, data: bytes) -> Tree:
    """Bytes → tree.

    Raises:
        DecodeError: no bitmap, a bit without a part, a part not as its format says, or bytes behind the last one.
    """
    size = scope.composite.bitmap_size
    in_hex = scope.composite.bitmap_encoding == "hex"
    at = size * 2 if in_hex else size
    field = data[:at]
    bitmap = unhex(field.decode("latin-1")) if in_hex else field
    if len(field) < at or bitmap is None:
        raise scope.refused("", 0, f"expected a bitmap of {at} {'hexadecimal digits' if in_hex else 'bytes'}")
    nodes = []
    if in_hex and field != field.upper():
        nodes.append(Node(key=_BITMAP, value=field.decode("latin-1")))
    for bit in _bits(bitmap):
        part = scope.composite.parts.get(str(bit))
        if part is None:
            raise scope.refused("", 0, f"announces part {bit}, which the dialect does not have")
        scope.take(at)
        node, at = scope.read_part(str(bit), part, data, at)
        nodes.append(node)
    if at < len(data):
        raise scope.refused("", at, f"{len(data) - at} bytes after the last part")
    return Tree(tuple(nodes))


def write(scope: Scope, tree: Tree) -> bytes:
    """Tree → bytes.

    Raises:
        EncodeError: a part that the dialect does not have, or that comes twice, or not as its format says.
    """
    bitmap = bytearray(scope.composite.bitmap_size)
    written = {}
    given = b""
    for node in tree.nodes:
        if node.key == _BITMAP and isinstance(node.value, str):
            given = node.value.encode("ascii", "replace")
            continue
        part = scope.composite.parts.get(node.key)
        bit = int(node.key) if part else 0
        if part is None or not 1 <= bit <= len(bitmap) * 8:
            raise scope.unwritable(node.key, "the dialect does not have it")
        if bit in written:
            raise scope.unwritable(node.key, "comes twice")
        bitmap[(bit - 1) // 8] |= 0x80 >> (bit - 1) % 8
        written[bit] = scope.write_part(node.key, part, node)
    field = bytes(bitmap)
    if scope.composite.bitmap_encoding == "hex":
        field = field.hex().upper().encode()
    if given and given.upper() != field:
        raise scope.unwritable("", f'the bitmap under "{_BITMAP}" announces other parts')
    return (given or field) + b"".join(written[bit] for bit in sorted(written))


def _bits(bitmap: bytes) -> list[int]:
    return [bit for bit in range(1, len(bitmap) * 8 + 1) if bitmap[(bit - 1) // 8] & 0x80 >> (bit - 1) % 8]
