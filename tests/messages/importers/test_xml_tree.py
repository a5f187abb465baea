"""XML of others: lines are right, nothing is fetched, no entity expands, and everything has a limit."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from messages.errors import SpecError
from messages.importers.xml_tree import parse

LAUGHS = (
    '<!DOCTYPE a [<!ENTITY l0 "lol">'
    + "".join(f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 12))
    + "]><a>&l11;</a>"
)
REFUSED: dict[str, tuple[str, str]] = {
    "billion laughs": (LAUGHS, "line 1: uses the entity 'l0'; entities are never expanded"),
    "laughs that are not used": ('<!DOCTYPE a [\n<!ENTITY b "lol">]><a/>', "line 2: declares the entity 'b'"),
    "a file": ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "line 1: uses the entity 'b'"),
    "a file that is not used": (
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a/>',
        "line 1: declares the entity 'b'",
    ),
    "in an attribute": ('<!DOCTYPE a SYSTEM "a.dtd">\n<a b="&c;"/>', "line 2: uses the entity 'c'"),
    "of a parameter": ('<!DOCTYPE a [<!ENTITY % b SYSTEM "http://x/"> %b;]><a/>', "declares the entity 'b'"),
    "defaults": ('<!DOCTYPE a [<!ATTLIST a b CDATA "c">]><a/>', "the document type gives the attribute 'b' a default"),
    "UTF-16": ("\ufeff<a/>", "is in UTF-16"),
    "another encoding": ('<?xml version="1.0" encoding="cp1252"?><a/>', "its encoding is none of UTF-8"),
    "depth": ("<a>" * 13 + "</a>" * 13, "is nested more than 12 deep"),
    "tags": ("<a>" + "<b/>" * 20_001 + "</a>", "has more than 20000 tags"),
    "a long attribute": (f'<a b="{"x" * 5000}"/>', "an attribute is longer than 4096 characters"),
    "half": ("<a>\n<b>", "line 2: is not XML: "),
    "two roots": ("<a/><b/>", "line 1: is not XML: "),
    "nothing": ("<!-- -->", "is not XML: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_harm_is_refused_with_its_line(name: str) -> None:
    text, expected = REFUSED[name]
    data = text.encode("utf-16-le" if name == "UTF-16" else "utf-8")
    started = time.monotonic()
    with pytest.raises(SpecError) as caught:
        parse(data, "x.xml")
    assert expected in caught.value.problems[0]
    assert time.monotonic() - started < 1


def test_a_document_type_is_not_fetched(tmp_path: Path) -> None:
    """A type that would refuse the document, and one that is not there, make no difference."""
    (tmp_path / "a.dtd").write_text('<!ENTITY c "read"><!ELEMENT a EMPTY>')
    for system in (f"file://{tmp_path}/a.dtd", str(tmp_path / "a.dtd"), "http://127.0.0.1:1/a.dtd", "none"):
        root = parse(f'<!DOCTYPE a SYSTEM "{system}"><a><b/></a>'.encode(), "x.xml")
        assert [child.tag for child in root.children] == ["b"]


def test_lines_attributes_and_character_references() -> None:
    root = parse(b'<?xml version="1.0"?>\n<a xmlns="urn:x">\n  <b\n c="&lt;&#65;&amp;"/>\n</a><!-- &x; -->', "x.xml")
    assert (root.tag, root.line) == ("a", 2)
    assert [(child.tag, child.line, child.attributes) for child in root.children] == [("b", 3, {"c": "<A&"})]
