"""Fields of a jPOS packager: tags in, elements out; used for the fields of a message and for those inside of them.

An unknown class, an invalid length, an attribute that changes bytes in a way that no element says: each is
a problem with the line of its tag.
"""

from __future__ import annotations

import msgspec

from messages.dialect import Element
from messages.importers.imported import Findings
from messages.importers.jpos_classes import BITMAPS, CLASSES, FILLED, INCLUSIVE, NOTHING, TAGGED, FieldClass
from messages.importers.xml_tree import Node

_TAGS = ("isofield", "isofieldpackager")
_IGNORED = ("property", "isovalidator", "isofieldvalidator")
_PACKAGES = ("org.jpos.iso.", "org.jpos.iso.packager.", "org.jpos.tlv.packager.", "org.jpos.tlv.packager.bertlv.")
_LARGEST = 999_999


class Field(msgspec.Struct):
    """One tag: the number that it has among its neighbours, its class and its length."""

    node: Node
    number: int
    java_class: str
    name: str
    length: int

    @property
    def where(self) -> str:
        return f"line {self.node.line}"

    @property
    def description(self) -> str:
        return " ".join(self.node.attributes.get("name", "").split())

    @property
    def trim(self) -> bool:
        return self.node.attributes.get("trim", "").lower() == "true"

    @property
    def left(self) -> bool:
        """pad="true": an odd number of digits gets its zero in front."""
        return self.node.attributes.get("pad", "").lower() == "true"


def short_name(java_class: str) -> str:
    """A class of jPOS without its Java package; the whole name of any other."""
    package, dot, name = java_class.rpartition(".")
    return name if package + dot in _PACKAGES else java_class


class FieldReader:
    """Reads tags of one file; every problem goes to its findings."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings

    def fields(self, node: Node, path: str) -> dict[int, Field]:
        """The fields right below a tag by their id; of two with one id the later one, as in jPOS."""
        fields: dict[int, Field] = {}
        for child in node.children:
            if child.tag not in _TAGS:
                if child.tag not in _IGNORED:
                    self.findings.problem(f"line {child.line}", f"there is no tag <{child.tag[:60]}> in a packager")
                continue
            field = self.field(child)
            if field is not None:
                if field.number in fields:
                    self.findings.warning(
                        field.where, f"field {path}{field.number} is there twice: the last one counts, as in jPOS"
                    )
                fields[field.number] = field
        return fields

    def field(self, node: Node) -> Field | None:
        where = f"line {node.line}"
        java_class = node.attributes.get("class", "").strip()
        if not java_class:
            self.findings.problem(where, f"<{node.tag}> has no class")
        number = self.number(node, "id", 0, _LARGEST)
        length = self.number(node, "length", 0, _LARGEST)
        if "params" in node.attributes:
            self.findings.problem(where, f"{java_class}: params is not supported")
        if node.attributes.get("inclusive", "").lower() == "true":
            self.findings.problem(where, f"{java_class}: inclusive: a length that counts itself is not supported")
        if number is None or length is None or not java_class:
            return None
        return Field(node=node, number=number, java_class=java_class, name=short_name(java_class), length=length)

    def number(self, node: Node, attribute: str, smallest: int, largest: int) -> int | None:
        text = node.attributes.get(attribute, "").strip()
        if text.isascii() and text.isdigit() and len(text) < 8 and smallest <= int(text) <= largest:
            return int(text)
        what = "has no" if attribute not in node.attributes else "has a wrong"
        self.findings.problem(
            f"line {node.line}", f"<{node.tag}> {what} {attribute}: a number from {smallest} to {largest}"
        )
        return None

    def known(self, field: Field) -> bool:
        """Whether its class is one of the table; a problem where it is not."""
        tables = (CLASSES, FILLED, NOTHING, BITMAPS, TAGGED, INCLUSIVE)
        if any(field.name in table for table in tables):
            return True
        self.findings.problem(field.where, f"{field.java_class} is no field class that is known here")
        return False

    def element(self, field: Field, number: int, track: bool = False) -> Element | None:
        """An element of a class in `CLASSES`; None, and a problem, where its length is not one."""
        row = CLASSES[field.name]
        largest = self.largest(field, row)
        if not largest:
            return None
        return Element(
            number=number,
            name=field.description,
            kind="z" if track and row.kind == "n" else row.kind,
            encoding=row.encoding,
            length_kind=max(2, len(str(largest))) if row.size else row.digits,
            max_length=largest,
            length_encoding=row.prefix,
            length_size=row.size,
            length_count=row.count,
            pad=_pad(row, field.left),
            fill=row.fill,
        )

    def filled(self, field: Field, row: FieldClass) -> Element | None:
        """A length and a value that is filled behind it, as one text of fixed size."""
        largest = self.largest(field, row)
        if not largest:
            return None
        self.findings.warning(
            field.where, f"{field.java_class}: the value keeps its {row.digits} digits of length and what fills it"
        )
        return Element(
            number=field.number,
            name=field.description,
            kind=row.kind,
            encoding=row.encoding,
            length_kind=0,
            max_length=row.digits + largest,
            length_encoding="ascii",
        )

    def largest(self, field: Field, row: FieldClass) -> int:
        """The length that the field may have; 0, and a problem, where it is none."""
        if field.length == 0:
            self.findings.problem(field.where, f"{field.java_class}: a length of 0")
        elif row.most and field.length > row.most:
            self.findings.warning(
                field.where, f"{field.java_class}: a length of {field.length}: the most that it can say is {row.most}"
            )
            return row.most
        return field.length


def _pad(row: FieldClass, left: bool) -> str:
    if not row.odd:
        return ""
    return "left 0" if left and row.count != "bytes" else f"right {row.odd}"
