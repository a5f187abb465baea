"""`cardswitch decode` and `encode`: every form of bytes, files with bad lines, and JSON that gives the bytes back."""

from __future__ import annotations

import base64
import errno
import functools
import io
import json
import random
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console import cli, message_input
from console.message_view import as_plain, elements_of, message_from_json
from messages.codec import Codec
from messages.composites.tree import build
from messages.dialect import Dialect, load_dialect
from messages.errors import MessagesError
from messages.message import Message
from tests.messages.importers import foreign

SPECS = sorted(path.stem for path in (Path(__file__).parents[2] / "specs").glob("iso*.toml"))
SAMPLES = Path(__file__).parents[1] / "messages" / "importers" / "samples"
CHIP = {"9F26": "0102030405060708", "9F27": "80", "82": "1800", "5A": "4242424242424242", "99": "1234"}
MESSAGE: dict[str, Any] = {
    "mti": "0100",
    "elements": {
        "2": "4242424242424242",
        "3": {"1": "00", "2": "20", "3": "00"},
        "4": "000000012300",
        "11": "000001",
        "37": "000000000001",
        "55": CHIP,
    },
}


loaded = functools.cache(load_dialect)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.run(list(arguments))
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def encoded() -> bytes:
    dialect = loaded("iso87-ascii")
    return Codec(dialect).encode(message_from_json(json.dumps(MESSAGE), dialect))


def decoded(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status, out, err = run(capsys, "decode", "--json", "--unmasked", *arguments)
    assert (status, err) == (0, "")
    return json.loads(out)


def test_hex_base64_and_raw_say_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: bytes
) -> None:
    (tmp_path / "raw").write_bytes(encoded)
    (tmp_path / "text").write_text(base64.b64encode(encoded).decode())
    assert decoded(capsys, encoded.hex()) == MESSAGE
    assert decoded(capsys, "--base64", base64.b64encode(encoded).decode()) == MESSAGE
    assert decoded(capsys, "--base64", "--file", str(tmp_path / "text")) == MESSAGE
    assert decoded(capsys, "--raw", str(tmp_path / "raw")) == MESSAGE
    assert decoded(capsys, "--raw", "--file", str(tmp_path / "raw")) == MESSAGE
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(encoded)))
        assert decoded(capsys, "--raw", "-") == MESSAGE


def test_what_was_copied_from_a_screen_is_one_message(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, encoded: bytes
) -> None:
    in_rows = "\r\n".join(textwrap.wrap(encoded.hex(" "), 48))
    assert decoded(capsys, in_rows) == MESSAGE
    assert decoded(capsys, "--base64", base64.encodebytes(encoded).decode()) == MESSAGE
    (tmp_path / "wrapped").write_bytes(base64.encodebytes(encoded))
    status, _, err = run(capsys, "decode", "--base64", "--file", str(tmp_path / "wrapped"))
    assert status == 1
    assert all("base64 -w 0" in line for line in err.splitlines()[:-1])
    (tmp_path / "rows").write_text(in_rows)
    assert "; each line is one message" in run(capsys, "decode", "--file", str(tmp_path / "rows"))[2]


def test_a_file_that_breaks_off_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.BytesIO):
        def readline(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(message_input, "open", lambda *_: Broken(), raising=False)
    status, _, err = run(capsys, "decode", "--file", str(tmp_path / "trace.hex"))
    assert (status, err.count("\n"), "trace.hex cannot be read (Input/output error)" in err) == (2, 1, True), err


def test_raw_bytes_may_be_the_argument_itself(capsys: pytest.CaptureFixture[str]) -> None:
    message = {"mti": "0800", "elements": {"11": "000001"}}
    assert decoded(capsys, "--raw", "08000020000000000000000001") == message


def test_encode_writes_each_form(capsysbinary: pytest.CaptureFixture[bytes], encoded: bytes) -> None:
    for option, expected in {
        "--raw": encoded,
        "--base64": base64.b64encode(encoded) + b"\n",
        "--json": b'{"hex":"' + encoded.hex().upper().encode() + b'"}\n',
    }.items():
        assert cli.run(["encode", json.dumps(MESSAGE), option]) == 0
        assert capsysbinary.readouterr().out == expected


def test_a_file_with_bad_lines_goes_on_and_ends_with_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, encoded: bytes
) -> None:
    file = tmp_path / "messages.hex"
    file.write_text(f"{encoded.hex()}\n\nzz\n{encoded.hex()}00\n{encoded.hex()}\n")
    status, out, err = run(capsys, "decode", "--file", str(file), "--json", "--unmasked")
    assert status == 1
    assert [json.loads(line) for line in out.splitlines()] == [MESSAGE, MESSAGE]
    first, second, last = err.splitlines()
    assert first.startswith("cardswitch: line 3 is not hex; give pairs of hex digits, or say --base64 or --raw")
    assert second.startswith("cardswitch: line 4, dialect iso87-ascii: message at byte ")
    assert last == "cardswitch: 2 of 4 messages failed"
    assert "4242424242424242" not in err


def test_bytes_that_encode_would_not_make_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Hexadecimal in small letters is read, and written in capitals: the one way in which bytes are not unique."""
    upper = b"0800" + b"0020000000000001" + b"000001" + b"0123456789ABCDEF"
    lower = b"0800" + b"0020000000000001" + b"000001" + b"0123456789abcdef"
    (tmp_path / "in").write_text(f"{upper.hex()}\n{lower.hex()}\n")
    status, out, err = run(capsys, "decode", "--file", str(tmp_path / "in"), "--json", "--unmasked")
    first, second = out.splitlines()
    assert (status, first) == (1, second)
    assert err.splitlines()[0].startswith("cardswitch: line 2 is read, but encode makes other bytes of it")
    assert run(capsys, "decode", "--file", str(tmp_path / "in"), "--json")[0] == 0


def test_errors_of_a_file_have_a_limit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "in").write_text("zz\n" * 500)
    status, _, err = run(capsys, "decode", "--file", str(tmp_path / "in"))
    assert status == 1
    assert len(err.splitlines()) == 202
    assert err.splitlines()[-1] == "cardswitch: 500 of 500 messages failed"


def test_a_bar_shows_how_far_a_large_file_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: bytes
) -> None:
    (tmp_path / "in").write_text(f"{encoded.hex()}\n" * 600)
    plain = run(capsys, "decode", "--file", str(tmp_path / "in"), "--json")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    status, out, err = run(capsys, "decode", "--file", str(tmp_path / "in"), "--json")
    assert (status, out) == plain[:2]
    assert (plain[2], "messages" in err, "%" in err) == ("", True, True)


def test_encode_reads_what_decode_printed_of_a_whole_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, encoded: bytes
) -> None:
    (tmp_path / "in.hex").write_text(f"{encoded.hex().upper()}\n" * 300)
    status, out, _ = run(capsys, "decode", str(tmp_path / "in.hex"), "--json", "--unmasked")
    assert status == 0
    (tmp_path / "out.json").write_text(out)
    status, again, _ = run(capsys, "encode", str(tmp_path / "out.json"))
    assert (status, again) == (0, f"{encoded.hex().upper()}\n" * 300)


def test_a_bad_line_of_json_is_told_by_its_number(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good = json.dumps(MESSAGE)
    (tmp_path / "in.json").write_text(f'{good}\n{{"mti": "0100"}}\n{good.replace("0100", "01X0")}\n')
    status, out, err = run(capsys, "encode", str(tmp_path / "in.json"))
    assert (status, len(out.splitlines())) == (1, 1)
    assert err.splitlines()[0].startswith("cardswitch: line 2: Object missing required field `elements`")
    assert err.splitlines()[1].startswith("cardswitch: line 3, dialect iso87-ascii: MTI")


def test_parts_are_masked_by_tag_unless_asked(capsys: pytest.CaptureFixture[str], encoded: bytes) -> None:
    _, out, _ = run(capsys, "decode", encoded.hex(), "--json")
    chip = json.loads(out)["elements"]["55"]
    assert chip["82"] == "1800"
    assert chip["5A"] == "********"
    assert chip["99"] == "****"
    _, table, _ = run(capsys, "decode", encoded.hex())
    assert "4242424242424242" not in table
    assert "55.82" in table
    assert "Interchange" in table
    _, clear, _ = run(capsys, "decode", encoded.hex(), "--unmasked")
    assert "4242424242424242" in clear


def test_what_one_version_has_for_harmless_is_hidden_where_the_dialect_is_of_another() -> None:
    """DE 49 is a currency in 1987 and a card verification value in 2003."""
    message = Message("0100", {4: "000000012300", 49: "123"})
    assert elements_of(message)[49] == "123"
    assert elements_of(message, version="2003") == {4: "000000012300", 49: "***"}


def test_an_inside_that_is_out_of_shape_stays_flat(capsys: pytest.CaptureFixture[str]) -> None:
    broken = {"mti": "0100", "elements": {"11": "000001", "55": "9F2608AABB"}}
    status, out, _ = run(capsys, "encode", json.dumps(broken))
    assert status == 0
    assert decoded(capsys, out.strip()) == broken


BAD: dict[str, tuple[list[str], str]] = {
    "two forms": (["decode", "3030", "--raw", "--base64"], "--raw and --base64 exclude each other"),
    "two sources": (["decode", "3030", "--file", "x"], "give one of them"),
    "no base64": (["decode", "--base64", "MDgw"[:3]], "message 1 is not base64"),
    "raw and JSON": (["encode", "{}", "--raw", "--json"], "--raw and --json exclude each other"),
    "an element twice": (["encode", '{"mti":"0100","elements":{"3":"000000","03":"200000"}}'], "DE 3 is there twice"),
    "nothing": (["decode", "--raw", "--file", "/dev/null"], "the input is empty"),
    "no file": (["decode", "--file", "/no/such"], "neither a message nor a readable file"),
    "a folder": (["decode", "--file", "/"], "neither a message nor a readable file"),
    "parts of an element without any": (["encode", '{"mti":"0100","elements":{"11":{"1":"0"}}}'], "DE 11 must be text"),
    "a number": (["encode", '{"mti":"0100","elements":{"11":1}}'], "DE 11 must be text"),
    "a part that is none": (["encode", '{"mti":"0100","elements":{"3":{"1":"XX"}}}'], "3.1: "),
    "bytes of a tag that are none": (["encode", '{"mti":"0100","elements":{"55":{"9F02":"0"}}}'], "55.9F02: "),
    "deep": (["encode", '{"mti":"0100","elements":{"55":' + "[" * 9999 + "]" * 9999 + "}}"], "message 1"),
    "a list that is none": (["encode", '{"mti":"0100","elements":{"55":[7]}}'], "55: part 1 of the list"),
    "a newline behind raw bytes": (
        ["decode", "--raw", "08000020000000000000000001\n"],
        "a newline at its end included",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_are_one_line_with_status_2(capsys: pytest.CaptureFixture[str], name: str) -> None:
    arguments, expected = BAD[name]
    status, out, err = run(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert expected in err


def test_a_line_has_a_limit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_input, "LONGEST", 100)
    (tmp_path / "long").write_text("30" * 51)
    status, _, err = run(capsys, "decode", "--file", str(tmp_path / "long"))
    assert status == 2
    assert "line 1 is longer than" in err


def random_message(chance: random.Random, dialect: Dialect) -> Message:
    numbers = chance.sample(list(dialect.elements), min(len(dialect.elements), chance.choice((1, 5, 12))))
    elements = {number: foreign.value(chance, _plain(chance, dialect, number)) for number in sorted(numbers)}
    return Message(f"{chance.randrange(10_000):04d}", elements)


def _plain(chance: random.Random, dialect: Dialect, number: int) -> Any:
    """The element, or now and then without its parts, so that its inside is noise."""
    element = dialect.elements[number]
    whole = element.parts is not None and (element.parts.rows or not element.parts.parts or not _fits(chance, element))
    return msgspec.structs.replace(element, parts=None) if whole or chance.random() < 0.2 else element


def _fits(chance: random.Random, element: Any) -> bool:
    try:
        value = build(element, foreign.tree(chance, element.parts))
    except MessagesError:
        return False
    return bool(element.length_kind > 0 or len(value) == element.characters)


def assert_json_gives_the_bytes_back(dialect: Dialect, chance: random.Random) -> None:
    codec = Codec(dialect)
    given_message = random_message(chance, dialect)
    try:
        data = codec.encode(given_message)
    except MessagesError:
        return  # an inside that is as long as the element may not be
    text = json.dumps(as_plain(codec.decode(data), True, dialect))
    assert codec.encode(message_from_json(text, dialect)) == data


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_json_gives_the_bytes_back_in_every_dialect_of_ours(name: str, seed: int) -> None:
    assert_json_gives_the_bytes_back(loaded(name), random.Random(seed))


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_json_gives_the_bytes_back_in_any_dialect(seed: int) -> None:
    chance = random.Random(seed)
    assert_json_gives_the_bytes_back(foreign.dialect(chance), chance)


@pytest.mark.parametrize("spec", [*SPECS, str(SAMPLES / "moov.json")])
def test_the_commands_give_the_bytes_back(capsys: pytest.CaptureFixture[str], tmp_path: Path, spec: str) -> None:
    chance = random.Random(7)
    codec = Codec(load_dialect(spec))
    lines: list[str] = []
    while len(lines) < 20:
        try:
            lines.append(codec.encode(random_message(chance, codec.dialect)).hex().upper())
        except MessagesError:
            continue
    (tmp_path / "in.hex").write_text("\n".join(lines))
    status, out, _ = run(capsys, "decode", "--file", str(tmp_path / "in.hex"), "--json", "--unmasked", "--spec", spec)
    assert status == 0
    (tmp_path / "out.json").write_text(out)
    status, again, _ = run(capsys, "encode", "--file", str(tmp_path / "out.json"), "--spec", spec)
    assert (status, again.split()) == (0, lines)
