"""Dialects: a TOML file in, frozen structs out; called once at start by whoever needs a codec.

A dialect says which elements exist, in which format, and how types, numbers, text, binary data and lengths
look on the wire. `pyiso8583_spec` gives the same in pyiso8583's model, for its users and our interpreter.
"""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from messages.composites.spec import Composite
from messages.dictionary.iso1987 import ELEMENT_NAMES
from messages.errors import SpecError

KINDS = ("n", "a", "an", "ans", "z", "x+n", "b")

# What may stand in [encoding], and in an element for itself alone.
_MTI = ("ascii", "bcd")
_BITMAP = ("hex", "binary")
_LENGTH = ("ascii", "bcd")
_BY_KIND = {"n": ("ascii", "bcd"), "z": ("ascii", "bcd"), "text": ("ascii",), "b": ("hex", "binary")}
_PAD = re.compile(r"(left|right) ([0-9A-F])")
_FORMAT = re.compile(r"(x\+n|ans|an|a|n|z|b)(?: |(\.\.\.?))([1-9][0-9]*)")
_BITMAPS = (1, 65)
_LAST = 128


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """`element` is needed where `when` holds.

    Args:
        element: what is needed.
        when: element that is looked at.
        starts: values, or their beginnings, that make it hold; empty: that it is there.
        unless: elements each of which does instead.
    """

    element: int
    when: int | None = None
    starts: tuple[str, ...] = ()
    unless: tuple[int, ...] = ()


class MessageRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a message type must have; `echo` of an answer: what must be as in the request, where the request has it."""

    mandatory: tuple[int, ...] = ()
    conditional: tuple[Condition, ...] = ()
    echo: tuple[int, ...] = ()


class Element(msgspec.Struct, frozen=True, kw_only=True):
    """One data element of a dialect, or one part of a composite.

    Args:
        number: 2 to 192; of a part its place, from 1.
        kind: what a value may look like, see `messages.formats`: n, a, an, ans, z, x+n, b.
        encoding: of the value on the wire: "ascii", "cp037", "cp500", "cp1047", "bcd", "binary", "hex" (two ASCII
            characters a byte) or "ebcdic-hex" (the same in EBCDIC).
        length_kind: length digits: 0 fixed, 1 LVAR … 6 LLLLLLVAR.
        max_length: digits or characters, for kind "b" bytes; where `length_kind` is 0 it is the length.
        length_encoding: "ascii", "cp037", "cp500", "cp1047", "bcd" or "binary" (big-endian).
        length_size: bytes of the length on the wire; 0: what follows from `length_kind` and `length_encoding`.
        length_count: what the length counts: "" the default of the encoding; "bytes" on the wire, "digits" of the value
            (characters), "nibbles" on the wire without the pad, "octets" of a binary value.
        pad: "left 0", "right F" …: the nibble that makes an odd number of BCD digits even; "" elsewhere.
        fill: "left 0", "right  " …: what a shorter value is filled with when a fixed length is encoded; "" refuses it.
        parts: how the value is taken apart, see `messages.composites`; None where it is not.
    """

    number: int
    name: str
    kind: str
    encoding: str
    length_kind: int
    max_length: int
    length_encoding: str
    length_size: int = 0
    length_count: str = ""
    pad: str = ""
    fill: str = ""
    parts: Composite | None = None

    @property
    def path(self) -> str:
        """How errors name it: "DE 4"."""
        return f"DE {self.number}"

    @property
    def format(self) -> str:
        """The standard's notation: "n..19", "an 12", "b 64"."""
        if self.length_kind:
            return f"{self.kind}{'.' * self.length_kind}{self.max_length}"
        if self.kind == "b":
            return f"b {self.max_length * 8}"
        return f"x+n {self.max_length - 1}" if self.kind == "x+n" else f"{self.kind} {self.max_length}"

    @property
    def characters(self) -> int:
        """`max_length` in characters of a value in a `Message`: two a byte for kind "b"."""
        return self.max_length * 2 if self.kind == "b" else self.max_length

    @property
    def wire_units(self) -> int:
        """`max_length` as a length on the wire counts it: digits in BCD, else bytes."""
        return self.max_length * 2 if self.encoding == "hex" else self.max_length

    def pyiso8583_spec(self) -> dict[str, Any]:
        """This element in pyiso8583's model."""
        bcd = self.encoding == "bcd"
        packed_length = self.length_encoding == "bcd"
        spec: dict[str, Any] = {
            "data_enc": "b" if self.encoding in ("bcd", "binary") else "ascii",
            "len_enc": self.length_encoding,
            "len_type": (self.length_kind + 1) // 2 if packed_length else self.length_kind,
            "max_len": self.wire_units,
            "len_count": "nibbles" if bcd else "bytes",
            "desc": self.name,
        }
        if bcd and self.pad:
            side, nibble = self.pad.split()
            spec[f"{side}_pad"] = nibble
        return spec


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """A set of elements, how the header before them looks, and what messages must have.

    Args:
        version: "1987", "1993" or "2003": which dictionary and codes its elements have.
        mti_encoding: "ascii", "bcd", "cp037", "cp500" or "cp1047".
        bitmap_encoding: "binary", "hex" (ASCII), or "cp037", "cp500", "cp1047" for hexadecimal digits in EBCDIC.
        tertiary: where the bitmap of elements 129–192 is: "" nowhere, "contiguous" right behind the second one,
            "element" as DE 65 in its place among the elements.
        identification: what names an earlier message beside DE 11 and DE 32: "transmission" DE 7, "local" DE 12.
        keepalive: whether a frame without payload is a sign of life; else it is an error of the framing.
        elements: ordered by number.
        rules: MTI without repeat digit → what its messages must have.
    """

    name: str
    version: str = "1987"
    mti_encoding: str
    bitmap_encoding: str
    tertiary: str = ""
    identification: str = "transmission"
    keepalive: bool = True
    elements: dict[int, Element]
    rules: dict[str, MessageRule] = {}

    def pyiso8583_spec(self) -> dict[str, dict[str, Any]]:
        """The whole dialect as a pyiso8583 spec; elements that the dialect lacks are not in it."""
        text = {"data_enc": "ascii", "len_enc": "ascii", "len_type": 0}
        raw = {"data_enc": "b", "len_enc": "ascii", "len_type": 0}
        bitmap = {**raw, "max_len": 8} if self.bitmap_encoding == "binary" else {**text, "max_len": 16}
        spec: dict[str, dict[str, Any]] = {
            "h": {**text, "max_len": 0, "desc": "Message header"},
            "t": {**(raw if self.mti_encoding == "bcd" else text), "max_len": 4, "desc": "Message type indicator"},
            "p": {**bitmap, "desc": "Bitmap, primary"},
            "1": {**bitmap, "desc": "Bitmap, secondary"},
        }
        if self.mti_encoding == "bcd":
            spec["t"]["max_len"] = 2
        for number, element in self.elements.items():
            spec[str(number)] = element.pyiso8583_spec()
        return spec


def load_dialect(name_or_path: str) -> Dialect:
    """Reads a dialect.

    Args:
        name_or_path: a name in specs/ ("iso87-ascii"), or a path with a slash or ".toml" in it.

    Raises:
        SpecError: no such file, no TOML, or a dialect with problems: all of them.
    """
    try:
        if "/" in name_or_path or name_or_path.endswith(".toml"):
            text = Path(name_or_path).read_text("utf-8")
        else:
            text = resources.files("specs").joinpath(f"{name_or_path}.toml").read_text("utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "is not UTF-8 text"
        raise SpecError(name_or_path, [f"cannot be read: {reason}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(name_or_path, [f"is not TOML: {error}"]) from None
    return parse_dialect(table, name_or_path)


def parse_dialect(table: dict[str, Any], source: str = "dialect") -> Dialect:
    """A dialect from the table of its file.

    Raises:
        SpecError: lists every problem.
    """
    return _Reader(source).dialect(table)


class _Reader:
    """Collects problems instead of stopping at the first."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[str] = []

    def dialect(self, table: dict[str, Any]) -> Dialect:
        self.unknown_keys("", table, {"name", "encoding", "elements"})
        name = table.get("name")
        if not isinstance(name, str) or not name:
            self.problems.append("name is missing")
        encoding = self.encoding(table.get("encoding"))
        elements = self.elements(table.get("elements"), encoding)
        if self.problems:
            raise SpecError(self.source, self.problems)
        return Dialect(
            name=str(name),
            mti_encoding=encoding["mti"],
            bitmap_encoding=encoding["bitmap"],
            elements=elements,
        )

    def encoding(self, table: Any) -> dict[str, str]:
        known = {"mti": _MTI, "bitmap": _BITMAP, "length": _LENGTH, **_BY_KIND}
        if not isinstance(table, dict):
            self.problems.append("[encoding] is missing")
            table = {}
        self.unknown_keys("encoding.", table, {*known, "pad_n", "pad_z"})
        chosen = {}
        for key, values in known.items():
            chosen[key] = self.choice(f"encoding.{key}", table.get(key), values)
        for key in ("pad_n", "pad_z"):
            chosen[key] = self.pad(f"encoding.{key}", table.get(key, ""))
        return chosen

    def elements(self, table: Any, encoding: dict[str, str]) -> dict[int, Element]:
        if not isinstance(table, dict) or not table:
            self.problems.append("[elements] is missing or empty")
            return {}
        elements = {}
        for key, entry in table.items():
            number = int(key) if key.isascii() and key.isdigit() and len(key) < 4 else 0
            if not 1 <= number <= _LAST or str(number) != key:
                self.problems.append(f"elements.{key}: the key must be a number from 2 to {_LAST}")
            elif number in _BITMAPS:
                self.problems.append(f"elements.{key}: is a bitmap, no data element")
            else:
                element = self.element(number, entry, encoding)
                if element:
                    elements[number] = element
        return dict(sorted(elements.items()))

    def element(self, number: int, entry: Any, encoding: dict[str, str]) -> Element | None:
        where = f"elements.{number}"
        if not isinstance(entry, dict):
            self.problems.append(f'{where}: must be a table like {{ format = "n..19" }}')
            return None
        self.unknown_keys(f"{where}.", entry, {"format", "name", "encoding", "length", "pad"})
        name = entry.get("name", ELEMENT_NAMES.get(number, ""))
        if not isinstance(name, str):
            self.problems.append(f"{where}.name: must be text")
        parts = _FORMAT.fullmatch(entry["format"]) if isinstance(entry.get("format"), str) else None
        if not parts:
            self.problems.append(f'{where}.format: must be like "n 12", "n..19", "ans...999" or "b 64"')
            return None
        kind, dots, size = parts[1], len(parts[2] or ""), int(parts[3])
        family = kind if kind in _BY_KIND else "text"
        chosen = self.choice(f"{where}.encoding", entry.get("encoding", encoding[family]), _BY_KIND[family])
        length = self.choice(f"{where}.length", entry.get("length", encoding["length"]), _LENGTH)
        pad = self.pad(f"{where}.pad", entry.get("pad", encoding.get(f"pad_{kind}", "")))
        if kind == "b" and not dots:
            if size % 8:
                self.problems.append(f"{where}.format: {size} bits are no whole bytes")
            size //= 8
        if kind == "x+n" and not dots:
            size += 1  # the C or D is not counted in the notation
        element = Element(
            number=number,
            name=str(name),
            kind=kind,
            encoding=chosen,
            length_kind=dots,
            max_length=size,
            length_encoding=length,
            pad=pad if chosen == "bcd" else "",
        )
        self.consistent(where, element)
        return element

    def consistent(self, where: str, element: Element) -> None:
        size = element.wire_units
        if element.length_kind and size >= 10**element.length_kind:
            self.problems.append(
                f"{where}.format: a length of {element.length_kind} digits cannot say {size} {element.encoding} units"
            )
        if not element.length_kind and not 1 <= size <= 999:
            self.problems.append(f"{where}.format: a fixed length must be 1 to 999")
        odd = element.length_kind or element.max_length % 2
        if element.encoding == "bcd" and odd and not element.pad:
            self.problems.append(f"{where}.pad: an odd number of BCD digits needs a pad")

    def choice(self, where: str, value: Any, values: tuple[str, ...]) -> str:
        if value in values:
            return str(value)
        self.problems.append(f"{where}: must be one of {', '.join(values)}")
        return values[0]

    def pad(self, where: str, value: Any) -> str:
        if isinstance(value, str) and (not value or _PAD.fullmatch(value)):
            return value
        self.problems.append(f'{where}: must be like "left 0" or "right F"')
        return ""

    def unknown_keys(self, where: str, table: dict[str, Any], known: set[str]) -> None:
        self.problems += [f"{where}{key}: unknown key" for key in table if key not in known]
