"""Dialects as files: a written one is read again as the same dialect."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages.composites.spec import Composite
from messages.dialect import Dialect, Element, load_dialect, parse_dialect
from messages.exporters.dialect_file import text_of
from messages.importers import read
from tests.messages.importers.foreign import dialect

SAMPLES = sorted((Path(__file__).parents[1] / "importers" / "samples").iterdir())


def again(written: Dialect) -> Dialect:
    return parse_dialect(tomllib.loads(text_of(written, "one\ntwo")), "again")


def comparable(of: Dialect) -> Dialect:
    """Without what means nothing: the encoding of a length that is none."""
    return msgspec.structs.replace(of, elements={key: _element(part) for key, part in of.elements.items()})


def _element(of: Element) -> Element:
    parts = of.parts
    if parts is not None:
        inner = {key: _element(part) for key, part in parts.parts.items()}
        options = {
            "positional": ("rows",),
            "ber-tlv": (),
            "tag-text": ("tag_size", "tag_encoding", "length_size", "length_encoding"),
            "bitmapped": ("bitmap_size", "bitmap_encoding"),
        }[parts.kind]
        parts = Composite(kind=parts.kind, parts=inner, **{key: getattr(parts, key) for key in options})
    return msgspec.structs.replace(
        of,
        number=0 if of.name.startswith("element") else of.number,
        length_encoding=of.length_encoding if of.length_kind else "",
        length_count=of.length_count if of.length_kind else "",
        pad=of.pad if of.encoding == "bcd" and of.kind != "x+n" else "",
        parts=parts,
    )


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_written_is_read_again(seed: int) -> None:
    ours = dialect(random.Random(seed))
    assert comparable(again(ours)) == comparable(ours)


@pytest.mark.parametrize("name", ["iso87-ascii", "iso87-bcd"])
def test_our_own_files_say_the_same_when_written_again(name: str) -> None:
    ours = load_dialect(name)
    assert comparable(again(ours)) == comparable(ours)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_what_is_imported_can_become_a_file(path: Path) -> None:
    ours = read(path).dialect
    assert comparable(again(ours)) == comparable(ours)


def test_names_cannot_break_out_of_their_quotes() -> None:
    part = Element(
        number=2, name='a"\n\\ \x7f €\U0001f4b3', kind="n", encoding="ascii", length_kind=2, max_length=19,
        length_encoding="ascii",
    )  # fmt: skip
    ours = Dialect(name='"x"', mti_encoding="ascii", bitmap_encoding="hex", elements={2: part})
    assert again(ours).elements[2].name == 'a"?\\ ? €\U0001f4b3'
    assert again(ours).name == '"x"'
