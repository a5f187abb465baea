"""jPOS packagers: the XML of a GenericPackager in, a dialect that puts the same bytes on the wire out.

Called by `messages.importers` for files that start with a tag. Field 0 is the message type, field 1 the bitmap; every
other field becomes an element by its class (`jpos_classes`), a nested packager becomes parts (`jpos_composites`).
The formats here check more than jPOS: a field of a numeric class is digits.

Source: org.jpos.iso.packager.GenericPackager and ISOBasePackager of jPOS 3 (attributes, bitmaps, order of fields).
"""

from __future__ import annotations

from messages.dialect import Dialect, Element
from messages.importers import jpos_composites
from messages.importers.imported import Findings, Imported
from messages.importers.jpos_classes import BITMAPS, CLASSES, FILLED, INCLUSIVE, NOTHING, TAGGED
from messages.importers.jpos_fields import Field, FieldReader
from messages.importers.xml_tree import Node, parse

_MTI = {"IFA_NUMERIC": "ascii", "IF_CHAR": "ascii", "IFB_NUMERIC": "bcd", "IFE_NUMERIC": "cp1047", "IFE_CHAR": "cp1047"}
_VERSIONS = {2: "1987", 3: "1993", 4: "2003"}  # length of DE 39: an 2, n 3, n 4
_EXTENDED = 65  # announces a third bitmap
_FIRST_OF_SECONDARY, _FIRST_OF_TERTIARY, _LAST = 65, 129, 192


def read(data: bytes, name: str, source: str) -> Imported:
    """A dialect from a packager.

    Args:
        data: the XML.
        name: of the dialect.
        source: name of the file, for errors.

    Raises:
        SpecError: every problem, with its line.
    """
    root = parse(data, source)
    findings = Findings(source)
    if root.tag != "isopackager":
        findings.problem(f"line {root.line}", "the root of a jPOS packager is <isopackager>")
        findings.stop()
    dialect = _Reader(findings).dialect(root, name)
    findings.stop()
    assert dialect is not None
    return Imported(dialect=dialect, origin="jpos", warnings=tuple(findings.warnings))


class _Reader:
    """One file."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.fields = FieldReader(findings)
        self.unannounced: list[Field] = []

    def dialect(self, root: Node, name: str) -> Dialect | None:
        fields = self.fields.fields(root, "")
        self.packager(root)
        mti = self.message_type(root, fields.get(0))
        bitmap, room = self.bitmap(root, fields.get(1))
        tertiary = self.third_bitmap(root, fields, room)
        elements = {}
        for number, field in sorted(fields.items()):
            if number > 1 and self.reachable(field, room, tertiary):
                element = self.element(field)
                if element is not None:
                    elements[number] = element
        self.left_out(root)
        if not elements:
            self.findings.problem(f"line {root.line}", "the packager has no fields beside type and bitmap")
        if self.findings.problems:
            return None
        version = _VERSIONS.get(elements[39].max_length, "1987") if 39 in elements else "1987"
        return Dialect(
            name=name,
            version=version,
            mti_encoding=mti,
            bitmap_encoding=bitmap,
            tertiary=tertiary,
            identification="transmission" if version == "1987" else "local",
            elements=elements,
        )

    def packager(self, root: Node) -> None:
        """Attributes of the whole."""
        where = f"line {root.line}"
        header = root.attributes.get("headerLength", "0")
        if header != "0":
            self.findings.warning(
                where,
                f"headerLength {header}: the bytes before the type belong to the link's framing, not to the dialect",
            )
        if root.attributes.get("emitBitmap", "true").lower() == "false":
            self.findings.problem(where, 'emitBitmap="false": messages without a bitmap are no ISO 8583')
        if root.attributes.get("bitmapField", "1") != "1":
            self.findings.problem(where, "bitmapField: the bitmap of a message is field 1")
        if root.attributes.get("firstField", "2") not in ("1", "2"):
            self.findings.problem(where, "firstField: the first field of a message is 2")

    def message_type(self, root: Node, field: Field | None) -> str:
        if field is None:
            self.findings.problem(f"line {root.line}", 'the message type is missing: <isofield id="0" …>')
        elif field.name not in _MTI:
            self.findings.problem(
                field.where, f"{field.java_class}: a message type is one of {', '.join(sorted(_MTI))}"
            )
        elif field.length != 4:
            self.findings.problem(field.where, f"{field.java_class}: a message type has 4 digits")
        else:
            return _MTI[field.name]
        return ""

    def bitmap(self, root: Node, field: Field | None) -> tuple[str, int]:
        """Encoding of the bitmap, and how many bytes it may have."""
        if field is None:
            self.findings.problem(f"line {root.line}", 'the bitmap is missing: <isofield id="1" …>')
        elif field.name not in BITMAPS:
            self.findings.problem(
                field.where,
                f"{field.java_class}: field 1 is the bitmap, one of {', '.join(sorted(BITMAPS))}; "
                "where it is none, as in ANSI X9.2, messages are not those of ISO 8583",
            )
        elif field.length < 8:
            self.findings.problem(field.where, f"{field.java_class}: a bitmap has 8, 16 or 24 bytes")
        else:
            return BITMAPS[field.name], field.length
        return "", 24

    def third_bitmap(self, root: Node, fields: dict[int, Field], room: int) -> str:
        third = root.attributes.get("thirdBitmapField")
        if third is None:
            return "contiguous" if room >= 24 and any(number >= _FIRST_OF_TERTIARY for number in fields) else ""
        field = fields.get(_EXTENDED)
        if third != str(_EXTENDED) or field is None or field.name not in BITMAPS:
            self.findings.problem(
                f"line {root.line}", f"thirdBitmapField {third}: a third bitmap is field {_EXTENDED}, of a bitmap class"
            )
        return "element"

    def reachable(self, field: Field, room: int, tertiary: str) -> bool:
        """Whether a bitmap of this packager can announce the field."""
        number = field.number
        if number > _LAST:
            self.findings.problem(field.where, f"there is no element {number}, the last is {_LAST}")
        elif number == _EXTENDED:
            if not tertiary:
                self.findings.warning(field.where, "DE 65 is left out: it announces a third bitmap, and there is none")
        elif (number >= _FIRST_OF_SECONDARY and room < 16) or (number >= _FIRST_OF_TERTIARY and not tertiary):
            self.unannounced.append(field)
        else:
            return True
        return False

    def element(self, field: Field) -> Element | None:
        """One element of the message."""
        known = self.fields.known(field)
        parts = None
        if field.node.tag == "isofieldpackager":
            parts = jpos_composites.inside(field, self.fields)
        if not known:
            return None
        if field.name in INCLUSIVE or field.name in TAGGED:
            self.findings.problem(field.where, f"{field.java_class} stands inside of nested packagers only")
        elif field.name in BITMAPS:
            self.findings.problem(field.where, f"{field.java_class}: a bitmap in the place of a field")
        elif field.name in NOTHING:
            self.findings.warning(field.where, f"DE {field.number} is left out: {field.java_class} has no bytes")
        elif field.length == 0 and field.name in CLASSES and not CLASSES[field.name].digits + CLASSES[field.name].size:
            self.findings.warning(field.where, f"DE {field.number} is left out: a length of 0 has no bytes")
        elif field.trim:
            self.findings.problem(field.where, 'trim="true": a fixed field that may be shorter has no end')
        elif field.name in FILLED:
            return self.fields.filled(field, FILLED[field.name])
        elif field.name in CLASSES:
            element = self.fields.element(field, field.number, track=field.number in (35, 36))
            return jpos_composites.with_parts(element, parts, field, self.findings) if element else None
        return None

    def left_out(self, root: Node) -> None:
        """Parts of the file that are not read, in one warning for all of a kind."""
        if self.unannounced:
            first, last = self.unannounced[0], self.unannounced[-1]
            numbers = f"DE {first.number}" + (f" to {last.number}" if first is not last else "")
            self.findings.warning(first.where, f"{numbers}: left out, there is no bitmap that can announce it")
        count = _count(root, "isofieldvalidator") + _count(root, "isovalidator")
        if count:
            self.findings.warning("", f"{count} validators are not read: values are checked by their formats")


def _count(node: Node, tag: str) -> int:
    return (node.tag == tag) + sum(_count(child, tag) for child in node.children)
