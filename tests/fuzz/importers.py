"""Specifications of others, and our own files: for any content, a dialect that works or a list of problems.

One target for each kind of file: a dialect that comes out can be compiled, written as a file, read again, exported,
and imported again.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path

from messages.codec import Codec
from messages.dialect import Dialect, load_dialect, parse_dialect
from messages.errors import DecodeError, SpecError
from messages.exporters import FORMATS, export
from messages.exporters.dialect_file import text_of
from messages.importers import read_bytes
from tests.fuzz.driver import Target
from tests.fuzz.outcome import decode_word

_SAMPLES = Path(__file__).parents[1] / "messages" / "importers" / "samples"
_LONGEST = 60


def _imported(data: bytes, origin: str) -> str:
    try:
        imported = read_bytes(data, "fuzz", "fuzz", origin)
    except SpecError as error:
        assert str(error).isprintable(), "an error with what could hide in it"
        return _problem(error)
    assert all(warning.isprintable() for warning in imported.warnings)
    return _used(imported.dialect)


def _own(data: bytes) -> str:
    try:
        table = tomllib.loads(data.decode("utf-8", "replace"))
    except tomllib.TOMLDecodeError:
        return "no TOML"
    except RecursionError:
        return "deep"  # of Python's own reader
    try:
        dialect = parse_dialect(table, "fuzz")
    except SpecError as error:
        return _problem(error)
    return _used(dialect)


def _problem(error: SpecError) -> str:
    assert error.problems and all(isinstance(problem, str) and problem for problem in error.problems)
    reason = error.problems[0].partition(": ")[2] or error.problems[0]
    return "".join("N" if letter.isdigit() else letter for letter in reason)[:_LONGEST]


def _used(dialect: Dialect) -> str:
    codec = Codec(dialect)
    for data in (b"", b"0800" + bytes(8), b"08008220000000000000" + b"0" * 40):
        try:
            codec.encode(codec.decode(data))
        except DecodeError as error:
            decode_word(error, data)
    parse_dialect(tomllib.loads(text_of(dialect)), "written")
    for to in FORMATS:
        try:
            exported = export(dialect, to, leave_out=True)
        except SpecError as error:
            _problem(error)
            continue
        if any(key not in ("h", "t", "p", "1", "65") for key in exported.spec.get("fields", exported.spec)):
            _again(exported.spec, to)
    insides = sorted({element.parts.kind for element in dialect.elements.values() if element.parts is not None})
    return f"a dialect of {dialect.version}, {insides}, third bitmap {dialect.tertiary or 'nowhere'}"


def _again(spec: dict[str, object], to: str) -> None:
    try:
        read_bytes(json.dumps(spec).encode(), "again", "again", to)
    except SpecError as error:
        nothing = "there are no fields beside", "the spec has no elements"
        assert any(part in problem for problem in error.problems for part in nothing), error


def _samples(*names: str) -> Callable[[], Iterable[bytes]]:
    return lambda: [(_SAMPLES / name).read_bytes() for name in names]


def _exports() -> Iterable[bytes]:
    for name in ("iso87-ascii", "iso87-bcd"):
        spec = export(load_dialect(name), "pyiso8583", leave_out=True).spec
        keys = ("h", "t", "p", "1", "2", "3", "35", "52", "55", "70", "102")
        yield json.dumps({key: spec[key] for key in keys if key in spec}, indent=1).encode()


def _files() -> Iterable[bytes]:
    yield resources.files("specs").joinpath("iso93-binary.toml").read_bytes()
    for name in ("moov.json", "jpos-nested.xml"):
        yield text_of(load_dialect(str(_SAMPLES / name))).encode()


_XML_WORDS = (
    b"org.jpos.iso.IFB_LLNUM", b"org.jpos.iso.IFA_BITMAP", b'length="', b'id="65"', b"<!DOCTYPE a [",
    b"<!ENTITY x 'y'>",
    b"&x;", b"&#65;", b'pad="true"', b"emitBitmap", b"isofieldpackager", b'thirdBitmapField="65"', b"]]>", b"<!--",
)  # fmt: skip
_JSON_WORDS = (
    b'"Composite"', b'"BerTLVTag"', b'"Binary.LL"', b'"Hex.Fixed"', b'"LBCD"', b'"subfields"', b'"tag"', b'"bitmap"',
    b'"StringsByHex"', b'"length": 0', b"null", b"true", b"{}", b"[]", b"1e9", b'"129"', b'"len_count": "nibbles"',
    b'"left_pad": "F"', b'"cp500"', b'"b"', b'"bcd"', b'"len_type": 2',
)  # fmt: skip
_TOML_WORDS = (
    b'"ans...999"', b'"b 64"', b"parts = { kind = ", b'"ber-tlv"', b'"cp1047"', b"length_size", b"rows = true",
    b"[rules.0100]",
    b'tertiary = "element"', b"fill", b'"left 0"', b"when = 22",
)  # fmt: skip

JPOS = Target("jpos", lambda data: _imported(data, "jpos"), _samples("jpos-classes.xml", "jpos-nested.xml"), _XML_WORDS)
MOOV = Target("moov", lambda data: _imported(data, "moov"), _samples("moov.json"), _JSON_WORDS)
PYISO8583 = Target("pyiso8583", lambda data: _imported(data, "pyiso8583"), _exports, _JSON_WORDS)
OWN = Target("dialect", _own, _files, _TOML_WORDS)
TARGETS = {target.name: target for target in (JPOS, MOOV, PYISO8583, OWN)}
