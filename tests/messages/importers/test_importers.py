"""The content of a file decides its kind; for any content, only documented errors come out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from messages.dialect import load_dialect
from messages.errors import SpecError
from messages.importers import read, read_bytes
from messages.importers.xml_tree import LARGEST

SAMPLES = Path(__file__).parent / "samples"
WRONG = {
    "no JSON": (b"MTI=0100", "is neither XML"),
    "no UTF-8": (b'{"fields": "\xff"}', "is not JSON"),
    "no object": (b"[]", "is no JSON object"),
    "nothing": (b"", "is empty"),
    "UTF-16": ("<isopackager/>".encode("utf-16"), "save it in UTF-8"),
    "an object of something else": (b'{"elements": {}}', "is neither a specification of moov-io/iso8583"),
    "deep": (b'{"fields":' * 30 + b"1" + b"}" * 30, "is nested more than 24 deep"),
    "very deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "is nested more than 24 deep"),
    "deep in a list": (b'{"a":' + b"[" * 30 + b"]" * 30 + b"}", "is nested more than 24 deep"),
    "no XML": (b"<isopackager", "is not XML"),
    "large": (b" " * (LARGEST + 1), "is larger than 4 MiB"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_of_no_kind_are_refused(name: str) -> None:
    data, expected = WRONG[name]
    with pytest.raises(SpecError, match=expected):
        read_bytes(data, "x", "x")


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load_dialect(str(tmp_path / "none.xml"))
    with pytest.raises(SpecError, match="cannot be read"):
        read(str(tmp_path))


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    file = tmp_path / "packager.json"
    file.write_bytes(b"\xef\xbb\xbf <other/>")
    with pytest.raises(SpecError, match="the root of a jPOS packager"):
        load_dialect(str(file))


@pytest.mark.parametrize("name", ["PACKAGER.XML", "packager", "packager.cfg", "Spec.JSON"])
def test_a_file_of_any_name_is_read(tmp_path: Path, name: str) -> None:
    data = (SAMPLES / ("moov.json" if name.endswith("JSON") else "jpos-nested.xml")).read_bytes()
    (tmp_path / name).write_bytes(data)
    assert load_dialect(str(tmp_path / name)).elements == read_bytes(data, "x", "x").dialect.elements


def test_problems_are_in_the_order_of_the_file() -> None:
    far, short = '<isofield id="200" length="3" class="IFA_NUMERIC"/>', '<isofield id="4"/>'
    lines = ["<isopackager>", far, short, "</isopackager>"]
    with pytest.raises(SpecError) as caught:
        read_bytes("\n".join(lines).encode(), "x", "x")
    numbers = [int(problem.split(":")[0].removeprefix("line ")) for problem in caught.value.problems]
    assert numbers == sorted(numbers)
    assert set(numbers) == {1, 2, 3}


def test_the_name_of_a_file_becomes_that_of_the_dialect(tmp_path: Path) -> None:
    file = tmp_path / "my acquirer (v2).json"
    text = '{"data_enc": "ascii", "len_enc": "ascii", "len_type": 0, "max_len": %d}'
    spec = ", ".join(f'"{key}": {text % size}' for key, size in {"t": 4, "p": 16, "1": 16, "11": 6}.items())
    file.write_text("{" + spec + "}")
    assert load_dialect(str(file)).name == "my-acquirer-v2"
