"""XML as a small tree with line numbers: bytes of a file in, `Node` out; called by the importer of jPOS packagers.

The file comes from somebody else. No document type is ever fetched; entities are refused where they are declared and
where they are used, so none can expand; size, depth and number of tags have limits.

Source: XML 1.0, 4.1 (references), 4.4.8 (a reference in an attribute that a document type may declare is skipped
without a word by parsers that do not read it, therefore the search of our own).
"""

from __future__ import annotations

import re
from typing import NoReturn
from xml.parsers import expat

import msgspec

from messages.errors import SpecError

LARGEST = 4 << 20  # bytes of a file
_DEEPEST = 12
_MOST_TAGS = 20_000
_LONGEST_VALUE = 4096  # characters of an attribute

_ENCODINGS = ("utf-8", "us-ascii", "ascii", "iso-8859-1", "latin-1")
_OUTSIDE = re.compile(rb"<!--.*?-->|<!\[CDATA\[.*?\]\]>", re.DOTALL)
_REFERENCE = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9A-Fa-f]+);)([A-Za-z_:][-A-Za-z0-9._:]{0,60})?")


class Node(msgspec.Struct):
    """A tag: its name without a name space, its attributes, the line where it starts, from 1."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Node] = []


class _RefusedError(Exception):
    """Ends the parser from inside a handler."""


def parse(data: bytes, source: str) -> Node:
    """The root of an XML file.

    Args:
        data: the whole file, in UTF-8, ASCII or ISO 8859-1.
        source: its name, for errors.

    Raises:
        SpecError: no XML, an entity, or more than the limits allow; with the line.
    """
    if len(data) > LARGEST:
        raise SpecError(source, [f"is larger than {LARGEST >> 20} MiB"])
    _refuse_references(data, source)
    builder = _Builder()
    parser = builder.parser
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise SpecError(source, [f"line {error.lineno}: is not XML: {expat.ErrorString(error.code)}"]) from None
    except _RefusedError as refusal:
        raise SpecError(source, [f"line {parser.CurrentLineNumber}: {refusal}"]) from None
    if builder.root is None:
        raise SpecError(source, ["is not XML: there is no tag"])
    return builder.root


def _refuse_references(data: bytes, source: str) -> None:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:64]:
        raise SpecError(source, ["is in UTF-16 or UTF-32: save it in UTF-8"])
    shown = _OUTSIDE.sub(lambda match: b"\n" * match[0].count(b"\n"), data)
    problems = []
    for match in _REFERENCE.finditer(shown):
        line = shown.count(b"\n", 0, match.start()) + 1
        name = (match[1] or b"").decode("ascii")
        problems.append(f"line {line}: uses the entity {name!r}; entities are never expanded")
        if len(problems) == 20:
            break
    if problems:
        raise SpecError(source, problems)


class _Builder:
    """Handlers of one parse."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[Node] = []
        self._tags = 0
        parser = self.parser = expat.ParserCreate(namespace_separator=" ")
        parser.specified_attributes = True  # defaults of a document type could make a small file large
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.XmlDeclHandler = self._declaration
        parser.EntityDeclHandler = self._entity
        parser.AttlistDeclHandler = self._attribute_list
        parser.ExternalEntityRefHandler = self._reference
        parser.SkippedEntityHandler = self._reference

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._tags += 1
        if self._tags > _MOST_TAGS:
            raise _RefusedError(f"has more than {_MOST_TAGS} tags")
        if len(self._open) == _DEEPEST:
            raise _RefusedError(f"is nested more than {_DEEPEST} deep")
        if any(len(value) > _LONGEST_VALUE for value in attributes.values()):
            raise _RefusedError(f"an attribute is longer than {_LONGEST_VALUE} characters")
        node = Node(tag.rpartition(" ")[2], attributes, self.parser.CurrentLineNumber)
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)

    def _end(self, tag: str) -> None:
        self._open.pop()

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise _RefusedError("its encoding is none of UTF-8, US-ASCII and ISO-8859-1: save it in UTF-8")

    def _entity(self, name: str, *rest: object) -> NoReturn:
        raise _RefusedError(f"declares the entity {name[:60]!r}; entities are never expanded")

    def _attribute_list(self, tag: str, name: str, kind: str, default: str | None, required: int) -> None:
        if default is not None:
            raise _RefusedError(f"the document type gives the attribute {name[:60]!r} a default: write it at the tags")

    def _reference(self, *rest: object) -> NoReturn:
        raise _RefusedError("uses an entity; entities are never expanded")
