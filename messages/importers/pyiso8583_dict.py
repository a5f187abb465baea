"""pyiso8583's specification as JSON: its dict in, a dialect that puts the same bytes on the wire out.

Called by `messages.importers.json_spec`. pyiso8583 has text and packed data; the standard decides which packed data is
digits, for elements that it has as numbers or tracks, and so does a pad. The formats here check more than pyiso8583.

Source: pyiso8583 4, module `iso8583.specs` (data_enc, len_enc, len_type, max_len, len_count, left_pad, right_pad).
"""

from __future__ import annotations

import re
from typing import Any

from messages.dialect import Dialect, Element
from messages.importers.imported import Findings, Imported
from messages.importers.json_tree import Entry, shown
from messages.importers.standard_kinds import standard_kind, version_of

_KNOWN = frozenset({"data_enc", "len_enc", "len_type", "max_len", "len_count", "left_pad", "right_pad", "desc"})
_HEAD = ("h", "t", "p", "1")
_ELEMENT = re.compile(r"[1-9][0-9]{0,2}")
_LARGEST = 999_999
_LAST, _EXTENDED = 192, 65
_FIRST_OF_SECONDARY, _FIRST_OF_TERTIARY = 65, 129

# Python's names of code pages; in all of the first ones printable ASCII is what it is in ASCII.
_PAGES = {
    **dict.fromkeys(("ascii", "us_ascii", "646", "utf_8", "utf8", "u8"), "ascii"),
    **dict.fromkeys(("latin_1", "latin1", "iso_8859_1", "iso8859_1", "l1", "8859", "cp819"), "ascii"),
    **dict.fromkeys(("cp1252", "windows_1252", "cp437", "437", "cp850", "850", "iso8859_15", "iso_8859_15"), "ascii"),
    **dict.fromkeys(("cp037", "037", "ibm037", "ibm039", "cp1140", "1140", "ibm1140"), "cp037"),
    **dict.fromkeys(("cp500", "500", "ibm500", "ebcdic_cp_be", "ebcdic_cp_ch"), "cp500"),
    **dict.fromkeys(("cp1047", "1047", "ibm1047"), "cp1047"),
}
_LONGEST_PREFIX = {"binary": 4, "bcd": 3}  # bytes; of text 6


def read(plain: dict[str, Any], name: str, source: str) -> Imported:
    """A dialect from a pyiso8583 spec.

    Args:
        plain: the dict.
        name: of the dialect.
        source: name of the file, for errors.

    Raises:
        SpecError: every problem, with its path.
    """
    findings = Findings(source)
    dialect = _Reader(findings).dialect(Entry(plain, "", findings), name)
    findings.stop()
    return Imported(dialect=dialect, origin="pyiso8583", warnings=tuple(findings.warnings))


class _Reader:
    """One spec."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.version = "1987"

    def dialect(self, root: Entry, name: str) -> Dialect:
        response_code = root.plain.get("39")
        size = response_code.get("max_len") if isinstance(response_code, dict) else 0
        self.version = version_of(size if isinstance(size, int) else 0)
        self.header(root)
        numbers = self.numbers(root)
        elements = {}
        for number in sorted(numbers):
            entry = root.entry(str(number))
            if number == _EXTENDED:
                continue  # the bitmap of 129 to 192, as the second one is encoded
            element = self.element(entry, number) if entry else None
            if element:
                elements[number] = element
        if not elements:
            root.problem("", "the spec has no elements beside type and bitmaps")
        return Dialect(
            name=name,
            version=self.version,
            mti_encoding=self.message_type(root),
            bitmap_encoding=self.bitmap(root, numbers),
            tertiary="contiguous" if numbers and max(numbers) >= _FIRST_OF_TERTIARY else "",
            identification="transmission" if self.version == "1987" else "local",
            elements=elements,
        )

    def numbers(self, root: Entry) -> set[int]:
        numbers = set()
        for key in root.plain:
            if key in _HEAD:
                continue
            if _ELEMENT.fullmatch(key) is None or not 2 <= int(key) <= _LAST:
                root.problem(key, f"the key must be h, t, p, 1 or a number from 2 to {_LAST}")
            else:
                numbers.add(int(key))
        return numbers

    def header(self, root: Entry) -> None:
        entry = root.entry("h")
        size = entry.number("max_len", 0, _LARGEST, default=0) if entry else 0
        if size:
            root.warning("h", "the bytes before the type belong to the link's framing, not to the dialect")

    def message_type(self, root: Entry) -> str:
        entry = root.entry("t")
        if entry is None:
            root.problem("t", "the message type is missing")
            return "ascii"
        return self.packed_or_page(entry, "bcd") or "ascii"

    def bitmap(self, root: Entry, numbers: set[int]) -> str:
        """Encoding of all bitmaps, as the primary one has it."""
        encodings = {}
        for key in ("p", "1"):
            entry = root.entry(key)
            if entry is None:
                if key == "p" or any(number >= _FIRST_OF_SECONDARY for number in numbers):
                    root.problem(key, "the bitmap is missing")
                continue
            page = self.packed_or_page(entry, "binary")
            encodings[key] = "hex" if page == "ascii" else page
        if len(set(encodings.values())) > 1 and all(encodings.values()):
            root.problem("1", "the bitmaps must have one encoding")
        return encodings.get("p") or "hex"

    def packed_or_page(self, entry: Entry, packed: str) -> str:
        """ "b" as `packed`, else the code page; "" with a problem."""
        encoding = entry.text("data_enc")
        return packed if encoding == "b" else self.page(entry, "data_enc", encoding)

    def page(self, entry: Entry, key: str, encoding: str) -> str:
        page = _PAGES.get(re.sub(r"[ -]", "_", encoding.lower()), "")
        if not page and encoding:
            entry.problem(key, f"{shown(encoding)} is no encoding that is known here")
        return page

    def element(self, entry: Entry, number: int) -> Element | None:
        """One element; None with a problem."""
        entry.unknown(_KNOWN)
        prefix_size = entry.number("len_type", 0, 6)
        largest = entry.number("max_len", 1, _LARGEST)
        encoding = entry.text("data_enc")
        prefix = self.prefix(entry, prefix_size) if prefix_size else "ascii"
        count = entry.text("len_count", "bytes")
        if count not in ("bytes", "nibbles"):
            entry.problem("len_count", f"{shown(count)} is neither bytes nor nibbles")
        page = "" if encoding == "b" else self.page(entry, "data_enc", encoding)
        if prefix_size is None or largest is None or not prefix or not (page or encoding == "b"):
            return None
        largest = self.sayable(entry, largest, prefix, prefix_size)
        element = Element(
            number=number,
            name=" ".join(entry.text("desc", "").split()),
            kind="ans",
            encoding=page,
            length_kind=_digits(prefix, prefix_size, largest),
            max_length=largest,
            length_encoding=prefix,
            length_size=prefix_size if prefix == "binary" else 0,
        )
        changes = self.text(number, count, largest) if page else self.packed(entry, number, count, largest, prefix_size)
        fields: dict[str, Any] = {key: getattr(element, key) for key in element.__struct_fields__} | changes
        if prefix_size == 0:
            fields["length_count"] = ""
        return Element(**fields) if fields["max_length"] else None

    def prefix(self, entry: Entry, size: int) -> str:
        """Encoding of the length; "" with a problem."""
        encoding = entry.text("len_enc")
        known = {"b": "binary", "bcd": "bcd"}.get(encoding) or self.page(entry, "len_enc", encoding)
        longest = _LONGEST_PREFIX.get(known, 6)
        if size > longest:
            entry.problem("len_type", f"a length of {size} bytes: the most is {longest}")
            return ""
        return known

    def sayable(self, entry: Entry, largest: int, prefix: str, size: int) -> int:
        """Greatest value of the length."""
        if not size:
            return largest
        most: int = 256**size - 1 if prefix == "binary" else 10 ** (size * (2 if prefix == "bcd" else 1)) - 1
        if largest > most:
            entry.warning("max_len", f"{largest}: the most that its length can say is {most}")
        return min(largest, most)

    def text(self, number: int, count: str, largest: int) -> dict[str, Any]:
        kind = standard_kind(number, self.version)
        changes: dict[str, Any] = {"kind": kind if kind in ("n", "z") else "ans"}
        if count == "nibbles":
            changes |= {"max_length": largest // 2, "length_count": "nibbles"}
        return changes

    def packed(self, entry: Entry, number: int, count: str, largest: int, prefix_size: int) -> dict[str, Any]:
        """Digits in BCD where the standard or a pad says so, else bytes."""
        kind, pad = standard_kind(number, self.version), self.pad(entry)
        nibbles = count == "nibbles"
        odd = nibbles and not prefix_size and largest % 2 == 1
        if odd and not pad:
            entry.problem("max_len", f"{largest} nibbles need a left_pad or a right_pad")
        if kind in ("n", "z") and nibbles and prefix_size and not pad:
            entry.warning(
                "left_pad", "is missing: an odd number of digits, which pyiso8583 refuses, gets a zero in front"
            )
            pad = "left 0"
        if kind in ("n", "z") or (nibbles and pad):  # a pad makes sense for digits only, and tracks have them too
            return {
                "kind": "n" if kind == "n" else "z",
                "encoding": "bcd",
                "max_length": largest if nibbles else largest * 2,
                "length_count": "" if nibbles else "bytes",
                "pad": pad if nibbles else "",
            }
        return {
            "kind": "b",
            "encoding": "binary",
            "max_length": largest // 2 if nibbles else largest,
            "length_count": "digits" if nibbles else "",
        }

    def pad(self, entry: Entry) -> str:
        pads = {side: entry.text(f"{side}_pad", "")[:1].upper() for side in ("left", "right")}
        for side, nibble in pads.items():
            if nibble and nibble not in "0123456789ABCDEF":
                entry.problem(f"{side}_pad", "must be a hexadecimal digit")
        if all(pads.values()):
            entry.warning("right_pad", "is not read: left_pad comes first")
        return next((f"{side} {nibble}" for side, nibble in pads.items() if nibble), "")


def _digits(prefix: str, size: int, largest: int) -> int:
    """Digits of the length, as a dialect counts them."""
    if prefix == "binary":
        return max(2, len(str(largest))) if size else 0
    return size * 2 if prefix == "bcd" else size
