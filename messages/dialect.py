"""Dialects: a TOML file in, frozen structs out; called once at start by users of a codec.

A dialect says which elements exist, in which format, and how types, numbers, text, binary data and lengths
look on the wire. `pyiso8583_spec` gives the same in pyiso8583's model, for its users and as an oracle for our codec.
"""

from __future__ import annotations

import tomllib
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import msgspec

from messages.composites.spec import Composite
from messages.errors import SpecError

_BEGINNING = 64  # bytes of a file that say what it is

KINDS = ("n", "a", "an", "ans", "z", "x+n", "b")


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """`element` is needed where `when` holds.

    Args:
        element: the needed element.
        when: element that is looked at.
        starts: values, or their beginnings, that make it hold; empty: that it is there.
        unless: elements each of which does instead.
    """

    element: int
    when: int | None = None
    starts: tuple[str, ...] = ()
    unless: tuple[int, ...] = ()


class MessageRule(msgspec.Struct, frozen=True, kw_only=True):
    """Mandatory elements of a message type; `echo`: elements that an answer returns as in its request."""

    mandatory: tuple[int, ...] = ()
    conditional: tuple[Condition, ...] = ()
    echo: tuple[int, ...] = ()


class Element(msgspec.Struct, frozen=True, kw_only=True):
    """One data element of a dialect, or one part of a composite.

    Args:
        number: 2 to 192; of a part its place, from 1.
        kind: form of the value, see `messages.formats`: n, a, an, ans, z, x+n, b.
        encoding: of the value on the wire: "ascii", "cp037", "cp500", "cp1047", "bcd", "binary", "hex" (two ASCII
            characters a byte) or "ebcdic-hex" (the same in EBCDIC).
        length_kind: length digits: 0 fixed, 1 LVAR … 6 LLLLLLVAR.
        max_length: digits or characters, for kind "b" bytes; where `length_kind` is 0 it is the length.
        length_encoding: "ascii", "cp037", "cp500", "cp1047", "bcd" or "binary" (big-endian).
        length_size: bytes of the length on the wire; 0: it follows from `length_kind` and `length_encoding`.
        length_count: unit of the length: "" the default of the encoding; "bytes" on the wire, "digits" of the value
            (characters), "nibbles" on the wire without the pad, "octets" of a binary value.
        pad: "left 0", "right F" …: the nibble that makes an odd number of BCD digits even; "" elsewhere.
        fill: "left 0", "right  " …: side and character that fill a shorter value when a fixed length is encoded; ""
            refuses it.
        parts: its parts, see `messages.composites`; None where it has none.
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
        """Its name in errors: "DE 4"."""
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
        return self.max_length * 2 if self.encoding in ("hex", "ebcdic-hex") else self.max_length


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """A set of elements, how the header before them looks, and what messages must have.

    Args:
        version: "1987", "1993" or "2003": which dictionary and codes its elements have.
        mti_encoding: "ascii", "bcd", "cp037", "cp500" or "cp1047".
        bitmap_encoding: "binary", "hex" (ASCII), or "ebcdic-hex", with "cp037", "cp500" and "cp1047" as other names.
        secondary: "announced" by bit 1 where it is there, or "always": both bitmaps in each message, bit 1 never set.
        tertiary: where the bitmap of elements 129–192 is: "" nowhere, "contiguous" right behind the second one,
            "element" as DE 65 in its place among the elements.
        identification: the element that names an earlier message beside DE 11 and DE 32: "transmission" DE 7, "local"
            DE 12.
        keepalive: whether a frame without payload is a sign of life; else it is an error of the framing.
        elements: ordered by number.
        rules: MTI without repeat digit → what its messages must have.
    """

    name: str
    version: str = "1987"
    mti_encoding: str
    bitmap_encoding: str
    secondary: str = "announced"
    tertiary: str = ""
    identification: str = "transmission"
    keepalive: bool = True
    elements: dict[int, Element]
    rules: dict[str, MessageRule] = {}

    def pyiso8583_spec(self) -> dict[str, dict[str, Any]]:
        """The whole dialect as a pyiso8583 spec; elements that the dialect lacks are not in it.

        Raises:
            SpecError: names everything that pyiso8583 has no words for.
        """
        from messages.pyiso8583_spec import spec_of  # reads this module: imported here, where the circle is harmless

        return spec_of(self)


def load_dialect(name_or_path: str) -> Dialect:
    """Reads a dialect.

    Args:
        name_or_path: a name in specs/ ("iso87-ascii"), or a path with a slash or ".toml" in it; a file of another
            product (`is_foreign`) goes to `messages.importers`.

    Raises:
        SpecError: no such file, no TOML, or a dialect with problems: all of them.
    """
    if is_foreign(name_or_path):
        return _imported(name_or_path)
    try:
        if "/" in name_or_path or name_or_path.endswith(".toml"):
            text = Path(name_or_path).read_text("utf-8")
        elif name_or_path in dialect_names():
            text = resources.files("specs").joinpath(f"{name_or_path}.toml").read_text("utf-8")
        else:
            known = ", ".join(dialect_names())
            raise SpecError(name_or_path, [f"no such dialect; there are {known}; a file has a slash in its name"])
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "is not UTF-8 text"
        raise SpecError(name_or_path, [f"cannot be read: {reason}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(name_or_path, [f"is not TOML: {error}"]) from None
    return parse_dialect(table, name_or_path)


def is_foreign(name_or_path: str) -> bool:
    """Whether a dialect is named by a file of another product: by its ending, or by what no TOML starts with."""
    ending = Path(name_or_path).suffix.lower()
    if ending in (".xml", ".json") or ending == ".toml" or "/" not in name_or_path:
        return ending in (".xml", ".json")
    try:
        with open(name_or_path, "rb") as file:
            return file.read(_BEGINNING).lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"{"))
    except (OSError, ValueError):
        return False


def dialect_names() -> list[str]:
    """The dialects in specs/, in order of their names."""
    files = (Path(entry.name) for entry in resources.files("specs").iterdir())
    return sorted(file.stem for file in files if file.suffix == ".toml" and file.stem.startswith("iso"))


def parse_dialect(table: dict[str, Any], source: str = "dialect") -> Dialect:
    """A dialect from the table of its file.

    Raises:
        SpecError: lists every problem.
    """
    from messages.dialect_reader import read  # reads this module: imported here, where the circle is harmless

    return read(table, source)


def _imported(path: str) -> Dialect:
    importers = import_module("messages.importers")
    dialect: Dialect = importers.load(path)
    return dialect
