"""Nested jPOS packagers: the parts of a field, as a `Composite`; called by the importer for each of them.

A field inside of which is something that no composite says still travels: its outer class alone decides its bytes. It
becomes an element without parts, with a warning. A packager that jPOS does not have is a problem.

Source: the pack and unpack methods of jPOS's packagers, named at each function.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from messages.composites.spec import Composite
from messages.dialect import Element
from messages.importers.imported import Findings
from messages.importers.jpos_classes import BITMAPS, CLASSES, FILLED, NOTHING, TAGGED
from messages.importers.jpos_fields import Field, FieldReader

_Fields = dict[int, Field]
_DECIMAL_MAPPERS = {
    "org.jpos.iso.packager.TTDecimalTagMapper": 2,
    "org.jpos.iso.packager.TTTDecimalTagMapper": 3,
}
_BITS = 64
_DATASET_TAG, _DATASET_LENGTH = 1, 2  # bytes


class _FlatError(Exception):
    """The inside is nothing that a composite says; the text says why."""


def inside(field: Field, reader: FieldReader) -> Composite | None:
    """The inside of a nested packager; None where it travels whole, with a warning, or where there is a problem."""
    packager = field.node.attributes.get("packager", "").strip()
    fields = reader.fields(field.node, f"{field.number}.")
    known = [reader.known(inner) for inner in fields.values()]
    make = _PACKAGERS.get(packager)
    if make is None and packager not in _WHOLE:
        reader.findings.problem(field.where, f"{packager or 'no packager'} is no packager that is known here")
        return None
    nested = {number: inside(inner, reader) for number, inner in fields.items() if inner.node.tag == "isofieldpackager"}
    if not all(known):
        return None
    try:
        if make is None:
            raise _FlatError("its fields have tags inside of their lengths, or none that can be found")
        if field.node.attributes.get("headerLength", "0") != "0":
            raise _FlatError("a header before its fields")
        return make(field, fields, _Parts(reader, nested))
    except _FlatError as reason:
        reader.findings.warning(
            field.where, f"field {field.number} travels whole, {_short(packager)} is not taken apart: {reason}"
        )
        return None


def with_parts(element: Element, parts: Composite | None, field: Field, findings: Findings) -> Element:
    """The element with its inside; text that has binary parts becomes a binary element of the same bytes."""
    if parts is None or element.kind == "b" or _is_text(parts):
        return msgspec.structs.replace(element, parts=parts)
    if element.kind == "ans" and element.encoding == "ascii" and element.length_count == "":
        return msgspec.structs.replace(element, kind="b", encoding="binary", fill="", parts=parts)
    findings.warning(
        field.where, f"field {field.number} travels whole: {field.java_class} would change the bytes of its parts"
    )
    return element


class _Parts:
    """Makes parts of fields, with the insides of those that are nested themselves."""

    def __init__(self, reader: FieldReader, nested: dict[int, Composite | None]) -> None:
        self.reader = reader
        self.nested = nested

    def part(self, field: Field, number: int) -> Element:
        if field.trim:
            raise _FlatError(f"its field {field.number} may be shorter than it is")
        if field.name in FILLED or field.name in BITMAPS or field.name not in CLASSES:
            raise _FlatError(f"{field.java_class} as its field {field.number}")
        element = self.reader.element(field, number)
        if element is None:
            raise _FlatError(f"the length of its field {field.number}")
        return with_parts(element, self.nested.get(field.number), field, self.reader.findings)

    def tagged(self, field: Field, number: int) -> tuple[int, Element]:
        """Length digits and part of a class with a tag."""
        row = CLASSES[TAGGED[field.name][1]]
        inner = msgspec.structs.replace(field, name=TAGGED[field.name][1])
        return row.digits, self.part(inner, number)


def _is_text(composite: Composite) -> bool:
    """Whether all of it is ASCII, so that it may stand in text."""
    if composite.kind == "ber-tlv" or composite.tag_encoding != "ascii" or composite.length_encoding != "ascii":
        return False
    if composite.kind == "bitmapped" and composite.bitmap_encoding != "hex":
        return False
    return all(
        part.encoding in ("ascii", "hex")
        and (not part.length_kind or part.length_encoding == "ascii")
        and (part.parts is None or _is_text(part.parts))
        for part in composite.parts.values()
    )


def _bit_parts(fields: _Fields, parts: _Parts, skip: int) -> dict[str, Element]:
    chosen = {number: field for number, field in sorted(fields.items()) if number > skip}
    return {str(number): parts.part(field, number) for number, field in chosen.items() if field.name not in NOTHING}


def _subfields(field: Field, fields: _Fields, parts: _Parts) -> Composite:
    """GenericSubFieldPackager and a GenericPackager inside: a bitmap and what it announces, or one after the other."""
    attributes = field.node.attributes
    if attributes.get("emitBitmap", "true").strip().lower() != "true":
        first = attributes.get("firstField", "").strip()
        start = int(first) if first.isdigit() and len(first) < 4 else _first(fields)
        return _in_a_row({number: inner for number, inner in fields.items() if number >= start}, parts)
    place = attributes.get("bitmapField", "1").strip()
    bitmap = fields.get(int(place)) if place in ("0", "1") else None
    if bitmap is None or bitmap.name not in BITMAPS:
        raise _FlatError("no bitmap where jPOS looks for it")
    return _announced(bitmap, fields, parts)


def _first(fields: _Fields) -> int:
    """The first position in jPOS by default."""
    if (0 in fields and fields[0].node.tag == "isofieldpackager") or set(fields) == {0}:
        return 0
    return 2 if 1 in fields and fields[1].name in BITMAPS else 1


def _announced(bitmap: Field, fields: _Fields, parts: _Parts) -> Composite:
    encoding = BITMAPS[bitmap.name]
    if encoding not in ("binary", "hex"):
        raise _FlatError(f"{bitmap.java_class} inside of a field")
    last = max(fields)
    size = bitmap.length
    if size > 8:  # grows by bit 1, which then announces no field
        if last > _BITS or any(number == 1 for number in fields if number != bitmap.number):
            raise _FlatError(f"a bitmap that may have {size} bytes")
        size = 8
    if last > size * 8:
        raise _FlatError(f"a bitmap of {size} bytes for {last} fields")
    return Composite(
        kind="bitmapped",
        parts=_bit_parts(fields, parts, bitmap.number),
        bitmap_size=size,
        bitmap_encoding=encoding,
    )


def _base1(field: Field, fields: _Fields, parts: _Parts) -> Composite:
    """Base1SubFieldPackager: field 0 is a bitmap of 64 bits."""
    bitmap = fields.get(0)
    if bitmap is None or bitmap.name != "Base1_BITMAP126" or max(fields) > _BITS:
        raise _FlatError("no bitmap of 64 bits as its field 0")
    return Composite(kind="bitmapped", parts=_bit_parts(fields, parts, 0), bitmap_size=8, bitmap_encoding="binary")


def _in_a_row(fields: _Fields, parts: _Parts, field: Field | None = None) -> Composite:
    chosen = {
        number: inner
        for number, inner in sorted(fields.items())
        if inner.name not in NOTHING and not (inner.length == 0 and inner.name in CLASSES)
    }
    if not chosen:
        raise _FlatError("no fields")
    places = enumerate(chosen.values(), 1)  # with any ids in jPOS
    return Composite(kind="positional", parts={str(place): parts.part(inner, place) for place, inner in places})


def _ctc(field: Field, fields: _Fields, parts: _Parts) -> Composite:
    """CTCSubFieldPackager: its fields one after the other."""
    return _in_a_row(fields, parts)


def _tagged_fields(field: Field, fields: _Fields, parts: _Parts) -> Composite:
    """GenericTaggedFieldsPackager: tag, length, value; a mapper says which tag a field has."""
    attributes = field.node.attributes
    sizes = [attributes.get(name, "").strip() for name in ("tagSize", "lenSize")]
    if not all(size in ("1", "2", "3", "4", "5") for size in sizes):
        raise _FlatError("no tagSize and lenSize")
    tag_size, length_size = int(sizes[0]), int(sizes[1])
    if attributes.get("swapTagAndLen", "").lower() == "true":
        raise _FlatError("lengths come before tags")
    mapper = attributes.get("tagMapper", "").strip()
    if _DECIMAL_MAPPERS.get(mapper) != tag_size:
        parts.reader.findings.warning(
            field.where,
            f"field {field.number}: {mapper or 'no tagMapper'} is Java code: its tags are kept without names",
        )
        return Composite(kind="tag-text", tag_size=tag_size, length_size=length_size)
    named: dict[str, Element] = {}
    for number, inner in sorted(fields.items()):
        if inner.name not in TAGGED or TAGGED[inner.name][0] != tag_size:
            raise _FlatError(f"{inner.java_class} among tags of {tag_size} characters")
        digits, part = parts.tagged(inner, len(named) + 1)
        if digits != length_size:
            raise _FlatError(f"lengths of {digits} and {length_size} digits")
        if number < 10**tag_size:
            named[f"{number:0{tag_size}d}"] = part
    return Composite(kind="tag-text", parts=named, tag_size=tag_size, length_size=length_size)


def _tagged_sequence(field: Field, fields: _Fields, parts: _Parts) -> Composite:
    """TaggedSequencePackager: tokens are tags; # means all other tags."""
    tag_size = len(field.node.attributes.get("token", ""))
    named: dict[str, Element] = {}
    sizes = set()
    for _, inner in sorted(fields.items()):
        if inner.name not in TAGGED or TAGGED[inner.name][0]:
            raise _FlatError(f"{inner.java_class} before its tags")
        token = inner.node.attributes.get("token", "")
        digits, part = parts.tagged(inner, len(named) + 1)
        sizes.add((len(token), digits))
        if token.strip("#"):
            named[token] = part
    if len(sizes) != 1 or tag_size != min(sizes)[0] or not 1 <= tag_size <= 8:
        raise _FlatError("tags or lengths of different sizes")
    return Composite(kind="tag-text", parts=named, tag_size=tag_size, length_size=min(sizes)[1])


def _ber_tlv(field: Field, fields: _Fields, parts: _Parts) -> Composite:
    """BERTLVBinaryPackager and ICCDataPackager."""
    return Composite(kind="ber-tlv")


def _datasets(field: Field, fields: _Fields, parts: _Parts) -> Composite:
    """DatasetPackager: an identifier, a length, a dataset; the content of a dataset is not split."""
    return Composite(
        kind="tag-text",
        tag_size=_DATASET_TAG,
        tag_encoding="binary",
        length_size=_DATASET_LENGTH,
        length_encoding="binary",
    )


_ISO, _TLV = "org.jpos.iso.packager.", "org.jpos.tlv.packager."

_PACKAGERS: dict[str, Callable[[Field, _Fields, _Parts], Composite]] = {
    f"{_ISO}GenericSubFieldPackager": _subfields,
    f"{_ISO}GenericPackager": _subfields,
    f"{_ISO}Base1SubFieldPackager": _base1,
    f"{_ISO}CTCSubFieldPackager": _ctc,
    f"{_ISO}GenericTaggedFieldsPackager": _tagged_fields,
    f"{_TLV}TaggedSequencePackager": _tagged_sequence,
    f"{_TLV}bertlv.BERTLVBinaryPackager": _ber_tlv,
    f"{_TLV}bertlv.DefaultICCBERTLVPackager": _ber_tlv,
    f"{_ISO}ICCDataPackager": _ber_tlv,
    f"{_ISO}DatasetPackager": _datasets,
}

# Packagers of jPOS whose fields travel whole.
_WHOLE = frozenset(
    {
        f"{_ISO}EuroSubFieldPackager",
        f"{_ISO}GICCSubFieldPackager",
        f"{_ISO}CTCSubElementPackager",
        f"{_ISO}MasterCardEBCDICSubFieldPackager",
        f"{_TLV}bertlv.BERTLVAsciiHexPackager",
        f"{_TLV}bertlv.BERTLVEbcdicHexPackager",
        f"{_TLV}BinaryHexTaggedSequencePackager",
    }
)


def _short(packager: str) -> str:
    return packager.rpartition(".")[2]
