"""moov-io/iso8583's specification in JSON: its object in, a dialect that puts the same bytes on the wire out.

Called by `messages.importers.json_spec`. Field 0 is the message type, field 1 the bitmap; every other field becomes an
element by its type, encoding and prefix (`moov_fields`), one with subfields gets parts (`moov_composites`). The formats
here check more than moov.

Source: moov's package specs (ImportJSON) and its Message as of version 0.23.
"""

from __future__ import annotations

import re
from typing import Any

from messages.dialect import Dialect, Element
from messages.importers import moov_composites, moov_fields
from messages.importers.imported import Findings, Imported
from messages.importers.json_tree import Entry, shown
from messages.importers.standard_kinds import version_of

_TOP = frozenset({"name", "fields"})
_NUMBER = re.compile(r"(?:Field)?0{0,2}([0-9]{1,3})")
_MTI = {"ASCII": "ascii", "BCD": "bcd", "LBCD": "bcd", "EBCDIC": "cp500", "EBCDIC1047": "cp1047"}
_BITMAPS = {"Binary": "binary", "HexToASCII": "hex"}
_ONE_BITMAP, _TWO_BITMAPS = 8, 16  # bytes
_LAST = 192
_PRESENCE = (65, 129)
_FIRST_OF_TERTIARY = 129


def read(plain: dict[str, Any], name: str, source: str) -> Imported:
    """A dialect from a moov spec.

    Args:
        plain: the object.
        name: of the dialect, where the spec has none.
        source: name of the file, for errors.

    Raises:
        SpecError: every problem, with its path.
    """
    findings = Findings(source)
    dialect = _Reader(findings).dialect(Entry(plain, "", findings), name)
    findings.stop()
    return Imported(dialect=dialect, origin="moov", warnings=tuple(findings.warnings))


class _Reader:
    """One spec."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings

    def dialect(self, root: Entry, name: str) -> Dialect:
        root.unknown(_TOP)
        given = " ".join(root.text("name", "").split())
        fields = self.fields(root)
        version = version_of(self.size(fields.get(39)))
        mti, bitmap = self.message_type(root, fields.get(0)), self.bitmap(root, fields.get(1))
        single = 1 in fields and fields[1].plain.get("disableAutoExpand") is True
        both = 1 in fields and self.two_bitmaps(fields[1])
        elements = {}
        for number, entry in sorted(fields.items()):
            if number in _PRESENCE and not both:
                entry.warning("", "is left out: in moov's messages it is the bit that announces a bitmap")
            elif number > (_TWO_BITMAPS if both else _ONE_BITMAP) * 8 and (single or both):
                entry.warning("", "is left out: there is no bitmap that can announce it")
            elif number > 1:
                element = self.element(entry, number, version)
                if element is not None:
                    elements[number] = element
        if not elements:
            root.problem("fields", "there are no fields beside type and bitmap")
        return Dialect(
            name=given if given.isprintable() and 0 < len(given) <= 60 else name,
            version=version,
            mti_encoding=mti,
            bitmap_encoding=bitmap,
            secondary="always" if both else "announced",
            tertiary="contiguous" if elements and max(elements) >= _FIRST_OF_TERTIARY else "",
            identification="transmission" if version == "1987" else "local",
            elements=elements,
        )

    def fields(self, root: Entry) -> dict[int, Entry]:
        fields: dict[int, Entry] = {}
        entry = root.entry("fields")
        if entry is None:
            root.problem("fields", "is missing")
            return fields
        for key, field in entry.entries():
            found = _NUMBER.fullmatch(key)
            if found is None or int(found[1]) > _LAST:
                entry.problem(key, f"the key must be a number from 0 to {_LAST}")
            else:
                fields[int(found[1])] = field
        return fields

    def size(self, response_code: Entry | None) -> int:
        length = response_code.plain.get("length") if response_code else 0
        return length if isinstance(length, int) else 0

    def message_type(self, root: Entry, entry: Entry | None) -> str:
        if entry is None:
            root.problem("fields.0", "the message type is missing")
            return "ascii"
        encoding = moov_fields.encoding_of(entry)
        if encoding and encoding not in _MTI:
            entry.problem("enc", f"{encoding}: a message type is one of {', '.join(_MTI)}")
        prefix = moov_fields.prefix_of(entry)
        if entry.number("length", 4, 4) and prefix is not None and prefix.digits:
            entry.problem("prefix", "a message type has a fixed length")
        return _MTI.get(encoding, "ascii")

    def bitmap(self, root: Entry, entry: Entry | None) -> str:
        if entry is None:
            root.problem("fields.1", "the bitmap is missing")
            return "hex"
        if entry.text("type") != "Bitmap":
            entry.problem("type", "field 1 is the bitmap")
        encoding = moov_fields.encoding_of(entry)
        if encoding and encoding not in _BITMAPS:
            entry.problem("enc", f"{encoding}: a bitmap is one of {', '.join(_BITMAPS)}")
        size = entry.number("length", 0, 24, default=0)
        if size not in (None, 0, _ONE_BITMAP, _TWO_BITMAPS):
            entry.problem("length", f"{size}: a bitmap has 8 bytes, or 16 that are always there")
        return _BITMAPS.get(encoding, "hex")

    def two_bitmaps(self, entry: Entry) -> bool:
        """Whether each message has both; the first versions, whose encodings end so, did not look at this length."""
        encoding = entry.plain.get("enc")
        old = isinstance(encoding, str) and encoding.endswith("Encoder")
        return entry.plain.get("length") == _TWO_BITMAPS and not old

    def element(self, entry: Entry, number: int, version: str) -> Element | None:
        kind = entry.text("type", "")
        if kind == "Composite" or entry.plain.get("subfields"):
            return moov_composites.composite(entry, number, version)
        if kind == "Bitmap":
            entry.problem("type", f"Bitmap: {shown(str(number))} is no place for a bitmap")
            return None
        return moov_fields.primitive(entry, number, version)
