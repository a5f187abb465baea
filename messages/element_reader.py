"""The reader of one element of a dialect file, and of the parts inside of it: a TOML table in, an `Element` out.

Called by `messages.dialect_reader` for every entry of [elements]. Problems are collected, never raised: all faults of a
file are reported at once. docs/dialects.md documents the settings of an element.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from messages.charsets import FROM_LATIN, TEXT
from messages.composites.spec import Composite
from messages.dialect import Element
from messages.formats import ALLOWED
from messages.lengths import scale

# Values allowed in [encoding], and in an element for itself alone.
LENGTHS = (*TEXT, "bcd", "binary")
BY_KIND: dict[str, tuple[str, ...]] = {
    "n": (*TEXT, "bcd"),
    "z": (*TEXT, "bcd"),
    "text": TEXT,
    "x+n": (*TEXT, "bcd"),
    "b": ("hex", "binary", "ebcdic-hex"),
}
COUNTS = ("bytes", "digits", "nibbles")
MOST_FIXED = 9999  # digits, characters or bytes on the wire of an element of fixed length

_PAD = re.compile(r"(left|right) ([0-9A-F])")
_FILL = re.compile(r"(left|right) ([ -~])")
_FORMAT = re.compile(r"(x\+n|ans|an|a|n|z|b)(?: |(\.{1,6}))([1-9][0-9]{0,5})")
_SIZED_LENGTHS = ("bcd", "binary")  # encodings whose length may be longer than its digits need
_MOST_LENGTH = 4  # bytes of such a length

_ELEMENT_KEYS = {"format", "name", "encoding", "length", "length_size", "length_count", "pad", "fill", "parts"}
_KINDS_OF_PARTS: dict[str, set[str]] = {
    "positional": {"rows"},
    "ber-tlv": set(),
    "tag-text": {"tag_size", "tag_encoding", "length_size", "length_encoding"},
    "bitmapped": {"bitmap_size", "bitmap_encoding"},
}
_OPTIONS = {"kind"}.union(*_KINDS_OF_PARTS.values())
_MOST_LEVELS = 8  # parts in parts, as many as a value can be taken apart
_TAG = re.compile(r"(?:[0-9A-F]{2}){1,4}")


class Problems:
    """The faults of a file, in its order."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def say(self, where: str, text: str) -> None:
        """One more problem."""
        self.found.append(f"{where}: {text}" if where else text)

    def choice(self, where: str, value: Any, values: tuple[str, ...]) -> str:
        """A value that has to be one of some."""
        if isinstance(value, str) and value in values:
            return value
        known = ", ".join(value or "nothing" for value in values)
        self.say(where, f"must be one of {known}")
        return values[0]

    def text(self, where: str, value: Any) -> str:
        """A value that has to be text."""
        if isinstance(value, str):
            return value
        self.say(where, "must be text")
        return ""

    def number(self, where: str, value: Any, smallest: int, largest: int) -> int:
        """A value that has to be a whole number."""
        if isinstance(value, int) and not isinstance(value, bool) and smallest <= value <= largest:
            return value
        self.say(where, f"must be a number from {smallest} to {largest}")
        return smallest

    def flag(self, where: str, value: Any) -> bool:
        """A value that has to be true or false."""
        if isinstance(value, bool):
            return value
        self.say(where, "must be true or false")
        return False

    def pad(self, where: str, value: Any) -> str:
        """A side and a nibble."""
        if isinstance(value, str) and (not value or _PAD.fullmatch(value)):
            return value
        self.say(where, 'must be like "left 0" or "right F"')
        return ""

    def fill(self, where: str, value: Any) -> str:
        """A side and a character."""
        if isinstance(value, str) and (not value or _FILL.fullmatch(value)):
            return value
        self.say(where, 'must be like "left 0" or "right  " (a side, a blank, the character)')
        return ""

    def unknown_keys(self, where: str, table: Mapping[str, Any], known: set[str]) -> None:
        """Keys that nothing reads are mistakes."""
        for key in table:
            if key not in known:
                self.say(f"{where}{key}", "unknown key")


class ElementReader:
    """Reads entries with what [encoding] says for all of them.

    Args:
        encoding: the encodings of lengths and of each kind, and the pads and fills by kind.
        problems: gets what is wrong.
    """

    def __init__(self, encoding: Mapping[str, str], problems: Problems) -> None:
        self.encoding = encoding
        self.problems = problems

    def element(self, where: str, number: int, entry: Any, name: str = "", depth: int = 1) -> Element | None:
        """One element, or None where not even its format is one.

        Args:
            where: its place in the file: "elements.48.parts.66".
            number: of the element; of a part its place.
            entry: its table.
            name: where the table has none.
            depth: number of elements around it, itself included.
        """
        problems, encoding = self.problems, self.encoding
        if not isinstance(entry, dict):
            problems.say(where, 'must be a table like { format = "n..19" }')
            return None
        problems.unknown_keys(f"{where}.", entry, _ELEMENT_KEYS)
        found = _FORMAT.fullmatch(entry["format"]) if isinstance(entry.get("format"), str) else None
        if not found:
            problems.say(f"{where}.format", 'must be like "n 12", "n..19", "ans...999" or "b 64"')
            return None
        kind, dots, size = found[1], len(found[2] or ""), int(found[3])
        family = kind if kind in BY_KIND else "text"
        chosen = problems.choice(f"{where}.encoding", entry.get("encoding", encoding[family]), BY_KIND[family])
        length = problems.choice(f"{where}.length", entry.get("length", encoding["length"]), LENGTHS)
        pad = problems.pad(f"{where}.pad", entry.get("pad", encoding.get(f"pad_{kind}", "")))
        fill = problems.fill(f"{where}.fill", entry.get("fill", encoding.get(f"fill_{family}", "")))
        count = entry.get("length_count", encoding.get("length_count", ""))
        counts = ("", *COUNTS, "octets") if kind == "b" else ("", *COUNTS)
        if kind == "b" and not dots:
            if size % 8:
                problems.say(f"{where}.format", f"{size} bits are no whole bytes")
            size = max(size // 8, 1)
        if kind == "x+n" and not dots:
            size += 1  # the C or D is not counted in the notation
        element = Element(
            number=number,
            name=problems.text(f"{where}.name", entry.get("name", name)),
            kind=kind,
            encoding=chosen,
            length_kind=dots,
            max_length=size,
            length_encoding=length,
            length_size=self.length_size(where, entry, dots, length),
            length_count=problems.choice(f"{where}.length_count", count, counts) if dots else "",
            pad=pad if chosen == "bcd" and kind != "x+n" else "",
            fill="" if dots else fill,
            parts=self.parts(f"{where}.parts", entry["parts"], depth) if "parts" in entry else None,
        )
        self.consistent(where, element, entry)
        return element

    def length_size(self, where: str, entry: Mapping[str, Any], dots: int, encoding: str) -> int:
        """Bytes of the length, where the file says them."""
        if "length_size" not in entry:
            return 0
        if not dots or encoding not in _SIZED_LENGTHS:
            self.problems.say(f"{where}.length_size", "only a length in bcd or binary has one")
            return 0
        return self.problems.number(f"{where}.length_size", entry["length_size"], 1, _MOST_LENGTH)

    def consistent(self, where: str, element: Element, entry: Mapping[str, Any]) -> None:
        """Settings that are right by themselves and wrong together."""
        problems, size = self.problems, element.wire_units
        if element.length_kind:
            lengths = scale(element)
            if lengths.largest < size or lengths.said(size) >= 10**element.length_kind:
                problems.say(
                    f"{where}.format",
                    f"a length of {element.length_kind} digits cannot say {size} {element.encoding} units",
                )
        elif size > MOST_FIXED:
            problems.say(f"{where}.format", f"a fixed length must be 1 to {MOST_FIXED}")
        if element.encoding == "bcd":
            if element.kind == "x+n" and element.length_kind:
                problems.say(f"{where}.format", "an amount with its sign has a fixed length in bcd")
            by_bytes = element.length_count == "bytes"
            odd = not by_bytes if element.length_kind else element.max_length % 2
            if odd and not element.pad and element.kind != "x+n":
                problems.say(f"{where}.pad", "an odd number of BCD digits needs a pad")
        if "fill" in entry and element.length_kind:
            problems.say(f"{where}.fill", "only a fixed length is filled")
        if element.fill and element.kind == "b" and element.fill[-1] not in "0123456789ABCDEF":
            problems.say(f"{where}.fill", "a binary element is filled with a hexadecimal digit")
        elif element.fill and element.kind != "b" and element.fill[-1].encode() not in _fillings(element.kind):
            problems.say(f"{where}.fill", f"is no character of an element of kind {element.kind}")

    def parts(self, where: str, table: Any, depth: int) -> Composite | None:
        """The inside of an element."""
        problems = self.problems
        if depth >= _MOST_LEVELS:
            problems.say(where, f"more than {_MOST_LEVELS} levels")
            return None
        if not isinstance(table, dict):
            problems.say(where, 'must be a table like { kind = "positional", 1 = { format = "n 2" } }')
            return None
        kind = problems.choice(f"{where}.kind", table.get("kind"), tuple(_KINDS_OF_PARTS))
        for option in _OPTIONS - _KINDS_OF_PARTS[kind] - {"kind"}:
            if option in table:
                problems.say(f"{where}.{option}", f"unknown key of kind {kind}")
        texts = (*TEXT, "binary")
        options = Composite(
            kind=kind,
            rows=problems.flag(f"{where}.rows", table.get("rows", False)),
            tag_size=problems.number(f"{where}.tag_size", table.get("tag_size", 2), 1, 32),
            tag_encoding=problems.choice(f"{where}.tag_encoding", table.get("tag_encoding", "ascii"), texts),
            length_size=problems.number(f"{where}.length_size", table.get("length_size", 2), 0, 6),
            length_encoding=problems.choice(f"{where}.length_encoding", table.get("length_encoding", "ascii"), LENGTHS),
            bitmap_size=problems.number(f"{where}.bitmap_size", table.get("bitmap_size", 8), 1, 32),
            bitmap_encoding=problems.choice(
                f"{where}.bitmap_encoding", table.get("bitmap_encoding", "binary"), ("binary", "hex")
            ),
        )
        entries = {key: entry for key, entry in table.items() if key not in _OPTIONS}
        self.keys(where, entries, options)
        parts = {}
        for place, (key, entry) in enumerate(entries.items(), 1):
            number = int(key) if kind in ("positional", "bitmapped") and key.isdecimal() else place
            part = self.element(f"{where}.{key}", number, _named_only(kind, entry), depth=depth + 1)
            if part is not None:
                parts[key] = part
        return Composite(**{**{key: getattr(options, key) for key in options.__struct_fields__}, "parts": parts})

    def keys(self, where: str, entries: Mapping[str, Any], options: Composite) -> None:
        """Keys of parts: places, tags or bits."""
        problems, kind = self.problems, options.kind
        if kind == "positional":
            if not entries:
                problems.say(where, 'needs its parts: 1 = { format = "n 2" }, 2 = …')
            if sorted(entries) != sorted(str(place) for place in range(1, len(entries) + 1)):
                problems.say(where, f"the parts must be numbered from 1 to {len(entries)}")
        for key in entries:
            if kind == "bitmapped" and not (key.isdecimal() and str(int(key)) == key):
                problems.say(f"{where}.{key}", "must be the number of a bit")
            elif kind == "bitmapped" and not 1 <= int(key) <= 8 * options.bitmap_size:
                problems.say(f"{where}.{key}", f"must be a bit from 1 to {8 * options.bitmap_size}")
            elif kind == "ber-tlv" and _TAG.fullmatch(key) is None:
                problems.say(f"{where}.{key}", "must be a tag: one to four bytes in upper-case hex")
            elif kind == "tag-text" and not _is_text_tag(key, options):
                problems.say(f"{where}.{key}", f"must be a tag of {options.tag_size} characters")


def _fillings(kind: str) -> bytes:
    return b"0123456789" if kind == "x+n" else ALLOWED[kind]


def _named_only(kind: str, entry: Any) -> Any:
    """A part of chip data has no format of its own: its tag decides its kind."""
    if kind == "ber-tlv" and isinstance(entry, dict) and "format" not in entry:
        return {**entry, "format": "b...255", "length": "ascii", "encoding": "binary"}
    return entry


def _is_text_tag(key: str, options: Composite) -> bool:
    if options.tag_encoding == "binary":
        return _TAG.fullmatch(key) is not None and len(key) == 2 * options.tag_size
    if len(key) != options.tag_size or not key.isascii():
        return False
    return options.tag_encoding == "ascii" or options.tag_encoding in FROM_LATIN
