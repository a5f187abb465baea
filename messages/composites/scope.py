"""The place where a kind of composite works: the element around it, its path, and the rest of the limits.

Made by `messages.composites.tree` for an element and by the kinds for what is inside of parts; every error of a
composite is made here, so that each has the path of its part and the offset from the start of the element's value.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec

from messages.charsets import TEXT, latin, page_of, wire
from messages.composites.nodes import MAX_DEPTH, MAX_NODES, Node, Tree, path_of
from messages.composites.spec import Composite
from messages.dialect import Element
from messages.element_codec import ElementCodec
from messages.errors import DecodeError, EncodeError

Read = Callable[["Scope", bytes], Tree]
Write = Callable[["Scope", Tree], bytes]


class Budget:
    """Parts that one element may still have."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_NODES


class Scope:
    """One level of one element.

    Args:
        composite: the description of its parts.
        path: "55", "48.66".
        text: the value is characters, so that parts are text too; else bytes in which parts have their encodings.
        read: bytes of a level → tree, whichever kind it is of.
        write: the way back.
    """

    __slots__ = ("base", "budget", "composite", "depth", "path", "read", "text", "write")

    def __init__(self, composite: Composite, path: str, text: bool, read: Read, write: Write) -> None:
        self.composite = composite
        self.path = path
        self.text = text
        self.read = read
        self.write = write
        self.base = 0  # where this level starts in the element's value, bytes
        self.depth = 1
        self.budget = Budget()  # shared by all levels

    def inside(self, key: str, composite: Composite, text: bool, at: int = 0) -> Scope:
        """The level inside of a part that starts at `at`; an error where that is too deep."""
        if self.depth >= MAX_DEPTH:
            raise self.refused(key, at, f"more than {MAX_DEPTH} levels")
        level = Scope(composite, self.of(key), text, self.read, self.write)
        level.base = self.base + at
        level.depth = self.depth + 1
        level.budget = self.budget
        return level

    def of(self, key: str) -> str:
        """The path of a part."""
        return path_of(self.path, key) if key else self.path

    def take(self, at: int) -> None:
        """One more part; an error where there are too many."""
        self.budget.left -= 1
        if self.budget.left < 0:
            raise self.refused("", at, f"more than {MAX_NODES} parts")

    def refused(self, key: str, at: int, reason: str) -> DecodeError:
        """The error at byte `at` of this level."""
        return DecodeError(self.of(key), self.base + at, reason)

    def unwritable(self, key: str, reason: str) -> EncodeError:
        """The error for a value that cannot be written."""
        return EncodeError(self.of(key), reason)

    def read_part(self, key: str, part: Element, data: bytes, at: int) -> tuple[Node, int]:
        """A part by its own encoding, and the next byte."""
        codec = _codec(self.fitted(part))
        try:
            value, end = codec.decode(data, at)
        except DecodeError as error:
            raise self.refused(key, at if error.offset is None else error.offset, error.reason) from None
        bytes_of_part = data[at:end]
        try:
            same = codec.encode(value) == bytes_of_part
        except EncodeError:
            same = False
        if not same:
            return Node(key=key, value=value, raw=bytes_of_part.hex().upper()), end
        return Node(key=key, value=self.opened(key, part, value, at, end)), end

    def opened(self, key: str, part: Element, value: str, at: int, end: int) -> str | Tree:
        """The value of a part between two bytes, or the tree in it where its element has parts again."""
        if part.parts is None:
            return value
        text = self.text or is_text(part)
        data = value.encode("latin-1", "replace") if text else unhex(value)
        if data is None:
            raise self.refused(key, at, "expected hexadecimal digits in pairs")
        behind_length = max(at, end - len(data))
        return self.read(self.inside(key, part.parts, text, behind_length), data)

    def write_part(self, key: str, part: Element, node: Node) -> bytes:
        """The bytes of a part, by its own encoding."""
        if node.raw:
            return self.raw(node)
        value = self.closed(key, part, node)
        try:
            return _codec(self.fitted(part)).encode(value)
        except EncodeError as error:
            raise self.unwritable(key, error.reason) from None

    def closed(self, key: str, part: Element, node: Node) -> str:
        """The way back from `opened`."""
        if isinstance(node.value, str):
            return node.value
        if part.parts is None:
            raise self.unwritable(key, "has no parts in this dialect, expected text")
        text = self.text or is_text(part)
        data = self.write(self.inside(key, part.parts, text), node.value)
        return data.decode("latin-1") if text else data.hex().upper()

    def raw(self, node: Node) -> bytes:
        """The bytes that a part came with."""
        data = unhex(node.raw)
        if data is None:
            raise self.unwritable(node.key, "expected hexadecimal digits in pairs")
        return data

    def encoding(self, name: str) -> str:
        """The encoding of a tag or length here: in text there is only text."""
        return "ascii" if self.text else name

    def fitted(self, part: Element) -> Element:
        """The part here: in text there is only text."""
        if not self.text:
            return part
        return msgspec.structs.replace(
            part,
            encoding="hex" if part.kind == "b" else "ascii",
            length_encoding="ascii",
            length_size=0,
            length_count="",
            pad="",
        )


def is_text(element: Element) -> bool:
    """Whether the value of an element is characters, not hexadecimal for bytes."""
    return element.kind != "b"


def unhex(text: str) -> bytes | None:
    """Hexadecimal digits in pairs as bytes; None for anything else, blanks included."""
    try:
        data = bytes.fromhex(text)
    except (TypeError, ValueError):
        return None
    return data if len(data) * 2 == len(text) else None


def text_of(data: bytes, encoding: str) -> str:
    """Characters of a tag or a length: hex of "bcd" and "binary", else text as that encoding has it."""
    return latin(page_of(encoding), data).decode("latin-1") if encoding in TEXT else data.hex().upper()


def bytes_of(text: str, encoding: str) -> bytes | None:
    """The way back; None for text that the encoding does not have."""
    if encoding not in TEXT:
        return unhex(text)
    try:
        return wire(page_of(encoding), text.encode("latin-1"))
    except UnicodeEncodeError:
        return None


@lru_cache(maxsize=512)
def _codec(part: Element) -> ElementCodec:
    return ElementCodec(part)
