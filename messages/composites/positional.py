"""Parts one after the other, as in DE 3, 43, 90, and rows of them, as in DE 54: bytes in, a tree out, and back.

Called by `messages.composites.tree`. Each part is read by its own format and encoding; the last ones may be missing.
Rows are trees in a tree, under "1", "2" …, and whole.

Source: ISO 8583:1987 (DE 3, 43, 54, 90, 95: their parts).
"""

from __future__ import annotations

from messages.composites.nodes import Node, Tree
from messages.composites.scope import Scope
from messages.dialect import Element


def read(scope: Scope, data: bytes) -> Tree:
    """Bytes → tree.

    Raises:
        DecodeError: a part that is not as its format says, or bytes behind the last one.
    """
    if not scope.composite.rows:
        tree, at = _read_row(scope, data, 0)
        if at < len(data):
            raise scope.refused("", at, f"{len(data) - at} bytes after the last part")
        return tree
    rows: list[Node] = []
    at = 0
    while at < len(data):
        scope.take(at)
        row = scope.inside(str(len(rows) + 1), scope.composite, scope.text)
        start = at
        tree, at = _read_row(row, data, at)
        if len(tree.nodes) < len(scope.composite.parts) or at == start:
            raise row.refused("", start, "the value ends before the row does")
        rows.append(Node(key=str(len(rows) + 1), value=tree))
    return Tree(tuple(rows))


def write(scope: Scope, tree: Tree) -> bytes:
    """Tree → bytes.

    Raises:
        EncodeError: a part that is not the next one, or not as its format says.
    """
    if not scope.composite.rows:
        return _write_row(scope, tree)
    written = []
    for place, node in enumerate(tree.nodes, 1):
        if node.key != str(place) or not isinstance(node.value, Tree):
            raise scope.unwritable(node.key, f'expected row "{place}" with its parts')
        if len(node.value.nodes) != len(scope.composite.parts):
            raise scope.unwritable(node.key, f"expected all {len(scope.composite.parts)} parts of the row")
        written.append(_write_row(scope.inside(node.key, scope.composite, scope.text), node.value))
    return b"".join(written)


def _parts(scope: Scope) -> list[tuple[str, Element]]:
    return sorted(scope.composite.parts.items(), key=lambda item: int(item[0]))


def _read_row(scope: Scope, data: bytes, at: int) -> tuple[Tree, int]:
    nodes = []
    for key, part in _parts(scope):
        if at >= len(data):
            break
        scope.take(at)
        node, at = scope.read_part(key, part, data, at)
        nodes.append(node)
    return Tree(tuple(nodes)), at


def _write_row(scope: Scope, tree: Tree) -> bytes:
    parts = _parts(scope)
    if len(tree.nodes) > len(parts):
        raise scope.unwritable(tree.nodes[len(parts)].key, f"there are {len(parts)} parts")
    written = []
    for (key, part), node in zip(parts, tree.nodes, strict=False):
        if node.key != key:
            raise scope.unwritable(node.key, f'expected part "{key}" in its place')
        written.append(scope.write_part(key, part, node))
    return b"".join(written)
