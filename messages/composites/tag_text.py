"""Tag, length, value in characters, as many hosts have in DE 48: bytes in, a tree of tags out, and back.

Called by `messages.composites.tree`. Tags that the dialect has parts for must be as those say; all others are kept,
as text or, in a binary element, as hexadecimal. Without a length each tag needs a part with a fixed format.

Source: inferred from what networks publish of their private elements (two digits of tag, two or three of length).
"""

from __future__ import annotations

import msgspec

from messages.composites.nodes import Node, Tree
from messages.composites.scope import Scope, bytes_of, text_of, unhex
from messages.dialect import Element
from messages.formats import problem


def read(scope: Scope, data: bytes) -> Tree:
    """Bytes → tree.

    Raises:
        DecodeError: an invalid tag or length, a value that ends too soon or is not as its part says.
    """
    size = scope.composite.tag_size
    encoding = scope.encoding(scope.composite.tag_encoding)
    nodes = []
    at = 0
    while at < len(data):
        scope.take(at)
        field = data[at : at + size]
        tag = text_of(field, encoding)
        if len(field) < size:
            raise scope.refused("", at, f"expected a tag of {size} characters")
        part = scope.composite.parts.get(tag)
        if scope.composite.length_size:
            node, at = _read_counted(scope, tag, part, data, at + size)
        elif part is None:
            raise scope.refused(tag, at, "the dialect does not say how long it is")
        else:
            node, at = scope.read_part(tag, part, data, at + size)
        nodes.append(node)
    return Tree(tuple(nodes))


def write(scope: Scope, tree: Tree) -> bytes:
    """Tree → bytes.

    Raises:
        EncodeError: an invalid tag, or a value that is not as its part says or too long.
    """
    written = []
    for node in tree.nodes:
        tag = bytes_of(node.key, scope.encoding(scope.composite.tag_encoding))
        if tag is None or len(tag) != scope.composite.tag_size:
            raise scope.unwritable(node.key, f"is no tag of {scope.composite.tag_size} characters")
        part = scope.composite.parts.get(node.key)
        if scope.composite.length_size:
            value = _write_value(scope, part, node)
            written += [tag, _length_field(scope, node.key, len(value)), value]
        elif part is None:
            raise scope.unwritable(node.key, "the dialect does not say how long it is")
        else:
            written += [tag, scope.write_part(node.key, part, node)]
    return b"".join(written)


def _read_counted(scope: Scope, tag: str, part: Element | None, data: bytes, at: int) -> tuple[Node, int]:
    start = at + scope.composite.length_size
    size = _length(scope, data[at:start])
    if size is None:
        raise scope.refused(tag, at, f"expected a length of {scope.composite.length_size} digits")
    end = start + size
    if end > len(data):
        raise scope.refused(tag, at, f"expected {size} characters, {max(len(data) - start, 0)} are left")
    value = data[start:end]
    if scope.text:
        text = value.decode("latin-1")
        wrong = problem(part, text) if part else None
        if wrong:
            raise scope.refused(tag, start, wrong)
        return Node(key=tag, value=scope.opened(tag, part, text, start, end) if part else text), end
    if part is None:
        return Node(key=tag, value=value.hex().upper()), end
    node, stop = scope.read_part(tag, _sized(part, size), data[:end], start)
    if stop != end:
        raise scope.refused(tag, start, f"{end - stop} bytes after its value")
    return node, end


def _write_value(scope: Scope, part: Element | None, node: Node) -> bytes:
    if node.raw:
        return scope.raw(node)
    if part is None and not isinstance(node.value, str):
        raise scope.unwritable(node.key, "has no parts in this dialect, expected text")
    if scope.text:
        text = scope.closed(node.key, part, node) if part else str(node.value)
        wrong = problem(part, text) if part else None
        if wrong:
            raise scope.unwritable(node.key, wrong)
        try:
            return text.encode("ascii")
        except UnicodeEncodeError:
            raise scope.unwritable(node.key, "expected ASCII characters") from None
    if part is None:
        value = unhex(str(node.value))
        if value is None:
            raise scope.unwritable(node.key, "expected hexadecimal digits in pairs")
        return value
    text = scope.closed(node.key, part, node)
    return scope.write_part(node.key, _sized(part, _size(part, text)), Node(key=node.key, value=text))


def _sized(part: Element, size: int) -> Element:
    """The part without a length of its own: that of its tag says it; one of fixed format has it anyway."""
    if not part.length_kind:
        return part
    units = size * 2 if part.encoding == "bcd" else size // 2 if part.encoding in ("hex", "ebcdic-hex") else size
    return msgspec.structs.replace(part, length_kind=0, max_length=min(units, part.max_length), length_size=0)


def _size(part: Element, text: str) -> int:
    """Bytes that a value takes."""
    if part.encoding == "bcd":
        return (len(text) + 1) // 2
    return len(text) // 2 if part.encoding == "binary" else len(text)


def _length(scope: Scope, field: bytes) -> int | None:
    encoding = scope.encoding(scope.composite.length_encoding)
    if len(field) < scope.composite.length_size:
        return None
    if encoding == "binary":
        return int.from_bytes(field, "big")
    digits = text_of(field, encoding)
    return int(digits) if digits.isascii() and digits.isdigit() else None


def _length_field(scope: Scope, tag: str, size: int) -> bytes:
    width, encoding = scope.composite.length_size, scope.encoding(scope.composite.length_encoding)
    if encoding == "binary":
        most, field = 256**width - 1, b""
    else:
        digits = width * 2 if encoding == "bcd" else width
        most, field = 10**digits - 1, bytes_of(f"{size:0{digits}d}", encoding) or b""
    if size > most:
        raise scope.unwritable(tag, f"has {size} characters, its length can say {most}")
    return size.to_bytes(width, "big") if encoding == "binary" else field
