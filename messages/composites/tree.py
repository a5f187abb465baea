"""Elements with parts inside: an element's value in, a tree out, and the same value back, byte for byte.

Called by users of the parts: the decode and encode commands, issuers that check chip data. Nobody else pays
for it: a message keeps the value as it came. The dialect describes the parts (`messages.composites.spec`); each kind
has one module here.
"""

from __future__ import annotations

from messages.composites import ber_tlv, bitmapped, positional, tag_text
from messages.composites.nodes import MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, Tree, from_plain
from messages.composites.scope import Read, Scope, Write, is_text, unhex
from messages.dialect import Element
from messages.errors import DecodeError, EncodeError

__all__ = ["KINDS", "Node", "Tree", "build", "from_plain", "parse"]

KINDS: dict[str, tuple[Read, Write]] = {
    "positional": (positional.read, positional.write),
    "ber-tlv": (ber_tlv.read, ber_tlv.write),
    "tag-text": (tag_text.read, tag_text.write),
    "bitmapped": (bitmapped.read, bitmapped.write),
}


def parse(element: Element, value: str) -> Tree:
    """The parts of an element's value.

    Args:
        element: of a dialect; one without parts is one without a tree.
        value: as in a `Message`.

    Raises:
        DecodeError: path "55.9F26", offset in bytes of the value, reason; never the value.
    """
    path = str(element.number)
    if element.parts is None:
        raise DecodeError(path, None, "has no parts in this dialect")
    text = is_text(element)
    data = value.encode("latin-1", "replace") if text else unhex(value)
    if data is None:
        raise DecodeError(path, None, "expected hexadecimal digits in pairs")
    if len(data) > MAX_BYTES:
        raise DecodeError(path, None, f"has {len(data)} bytes, the most is {MAX_BYTES}")
    return _read(Scope(element.parts, path, text, _read, _write), data)


def build(element: Element, tree: Tree) -> str:
    """The value of an element from its parts; the result of `parse` becomes the value that it was given.

    Args:
        element: as for `parse`.
        tree: from `parse`, from `from_plain`, or made by hand.

    Raises:
        EncodeError: path "55.9F26", reason; never the value.
    """
    path = str(element.number)
    if element.parts is None:
        raise EncodeError(path, "has no parts in this dialect")
    if _count(tree, path) > MAX_NODES:
        raise EncodeError(path, f"more than {MAX_NODES} parts")
    text = is_text(element)
    data = _write(Scope(element.parts, path, text, _read, _write), tree)
    if len(data) > MAX_BYTES:
        raise EncodeError(path, f"has {len(data)} bytes, the most is {MAX_BYTES}")
    return data.decode("latin-1") if text else data.hex().upper()


def _read(scope: Scope, data: bytes) -> Tree:
    return KINDS[scope.composite.kind][0](scope, data)


def _write(scope: Scope, tree: Tree) -> bytes:
    return KINDS[scope.composite.kind][1](scope, tree)


def _count(tree: Tree, path: str, depth: int = 1) -> int:
    if depth > MAX_DEPTH:
        raise EncodeError(path, f"more than {MAX_DEPTH} levels")
    inside = [node.value for node in tree.nodes if isinstance(node.value, Tree)]
    return len(tree.nodes) + sum(_count(below, path, depth + 1) for below in inside)
