"""Trees: the parts of an element, in the order in which they came; and their plain form, for JSON.

Made by the kinds beside this module and by `from_plain`; read by callers that need the parts of an element. A tree
knows what its bytes need beyond the values: a length that was longer than it need be, filling between tags, bytes
that the values alone would not give back. `repr` shows keys only: values may be card data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from messages.errors import EncodeError

MAX_BYTES = 65_535  # of an element's value
MAX_DEPTH = 8  # trees in trees
MAX_NODES = 1024  # in one element, all levels together
_LONGEST_KEY = 8  # characters of a key in a path: four bytes of tag

PADDING = ""  # the key of bytes between tags that mean nothing

Plain = str | dict[str, Any] | list[Any]


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One part.

    Args:
        key: its place, tag or bit, tags in upper case; `PADDING` for filling, whose value is hex.
        value: as in a `Message`, or the tree inside.
        length: hex of its length field, where that is not the shortest one.
        raw: hex of its bytes, where `value` alone would be encoded in another way.
    """

    key: str
    value: str | Tree
    length: str = ""
    raw: str = ""

    def __repr__(self) -> str:
        return f"Node({self.key!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # a struct's own would show the value
        return [("key", self.key)]


class Tree(msgspec.Struct, frozen=True):
    """Parts in their order; keys may come twice."""

    nodes: tuple[Node, ...] = ()

    def __repr__(self) -> str:
        return f"Tree({', '.join(node.key or 'filling' for node in self.nodes)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("keys", [node.key for node in self.nodes])]

    def __contains__(self, key: object) -> bool:
        return any(node.key == key for node in self.nodes)

    def get(self, key: str, default: str = "") -> str:
        """The value of the first part of that key; `default` where there is none, or a tree in its place."""
        for node in self.nodes:
            if node.key == key and isinstance(node.value, str):
                return node.value
        return default

    def leaves(self, above: str = "") -> Iterator[tuple[str, Node]]:
        """Every part that is no tree, with its path: "9F26", "E1.9F02"; filling is left out."""
        for node in self.nodes:
            path = f"{above}.{node.key}" if above else node.key
            if isinstance(node.value, Tree):
                yield from node.value.leaves(path)
            elif node.key != PADDING:
                yield path, node

    def mapped(self, show: Callable[[str, str], str], above: str = "") -> Tree:
        """The same tree with other values, for showing; bytes kept beside them are gone.

        Args:
            show: path and value of a leaf → its replacement.
        """
        nodes = []
        for node in self.nodes:
            path = f"{above}.{node.key}" if above else node.key
            if isinstance(node.value, Tree):
                nodes.append(Node(key=node.key, value=node.value.mapped(show, path), length=node.length))
            elif node.key == PADDING:
                nodes.append(node)
            else:
                nodes.append(Node(key=node.key, value=show(path, node.value), length=node.length))
        return Tree(tuple(nodes))

    def to_plain(self) -> dict[str, Any] | list[Any]:
        """An object of values by key; a list of objects where an object could not say all that the bytes need.

        In the list each part is {"tag": "9F26", "value": "…"}, with "length" or "raw" where it has them, and filling
        is {"padding": "00"}.
        """
        if self._fits_object():
            return {node.key: _plain(node.value) for node in self.nodes}
        return [self._entry(node) for node in self.nodes]

    def _fits_object(self) -> bool:
        keys = {node.key for node in self.nodes}
        return len(keys) == len(self.nodes) and not any(
            node.key == PADDING or node.length or node.raw for node in self.nodes
        )

    @staticmethod
    def _entry(node: Node) -> dict[str, Any]:
        if node.key == PADDING:
            return {"padding": node.value}
        entry: dict[str, Any] = {"tag": node.key}
        if node.length:
            entry["length"] = node.length
        if node.raw:
            entry["raw"] = node.raw
        else:
            entry["value"] = _plain(node.value)
        return entry


def from_plain(plain: Any, path: str = "") -> Tree:
    """A tree from its plain form.

    Args:
        plain: an object or a list as `Tree.to_plain` makes them.
        path: of the element, for errors: "55".

    Raises:
        EncodeError: the invalid part, by its path; never the value.
    """
    return Tree(tuple(_Reader(path).nodes(plain, path, 1)))


def path_of(above: str, key: str) -> str:
    """The name of a part in errors: "55.9F26"; a long key is cut, for it may be a value in the wrong place."""
    shown = key if len(key) <= _LONGEST_KEY else f"{key[:_LONGEST_KEY]}…"
    return f"{above}.{shown}" if above else shown


def _plain(value: str | Tree) -> Plain:
    return value if isinstance(value, str) else value.to_plain()


class _Reader:
    """Counts the parts while it reads them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.count = 0

    def nodes(self, plain: Any, path: str, depth: int) -> Iterator[Node]:
        if depth > MAX_DEPTH:
            raise EncodeError(path, f"more than {MAX_DEPTH} levels")
        if isinstance(plain, dict):
            for key, value in plain.items():
                self.counted()
                yield self.node(str(key), value, path, depth)
        elif isinstance(plain, list):
            for place, entry in enumerate(plain, 1):
                yield self.entry(entry, place, path, depth)
        else:
            raise EncodeError(path, "expected text, an object or a list")

    def entry(self, entry: Any, place: int, path: str, depth: int) -> Node:
        self.counted()
        keys = set(entry) if isinstance(entry, dict) else set()
        if keys == {"padding"} and isinstance(entry["padding"], str):
            return Node(key=PADDING, value=entry["padding"].upper())
        rest = keys - {"tag", "length"}
        text = all(isinstance(entry[key], str) for key in keys & {"tag", "length", "raw"})
        if "tag" not in keys or not entry["tag"] or rest not in ({"value"}, {"raw"}) or not text:
            raise EncodeError(
                path, f'part {place} of the list must be like {{"tag": "9F26", "value": "…"}} or {{"padding": "00"}}'
            )
        key, length = entry["tag"], entry.get("length", "").upper()
        if "raw" in rest:
            return Node(key=key, value="", length=length, raw=entry["raw"].upper())
        return self.node(key, entry["value"], path, depth, length)

    def node(self, key: str, value: Any, path: str, depth: int, length: str = "") -> Node:
        if not key:
            raise EncodeError(path, "a part without a name")
        if isinstance(value, str):
            return Node(key=key, value=value, length=length)
        inside = path_of(path, key)
        return Node(key=key, value=Tree(tuple(self.nodes(value, inside, depth + 1))), length=length)

    def counted(self) -> None:
        self.count += 1
        if self.count > MAX_NODES:
            raise EncodeError(self.path, f"more than {MAX_NODES} parts")
