"""`cardswitch spec check|import|export`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from console import cli
from console.config import load_config
from messages.dialect import load_dialect

SAMPLES = Path(__file__).parents[1] / "messages" / "importers" / "samples"
MOOV = str(SAMPLES / "moov.json")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.run(["spec", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_link_may_speak_a_packager(tmp_path: Path) -> None:
    """The path is relative to the configuration."""
    (tmp_path / "theirs").mkdir()
    shutil.copy(SAMPLES / "jpos-nested.xml", tmp_path / "theirs" / "acquirer.xml")
    ours = (Path(__file__).parents[2] / "specs" / "cardswitch.toml").read_text()
    head, mark, rest = ours.partition("[[acquirer]]")
    changed = re.sub(r'dialect = "[^"]*"', 'dialect = "theirs/acquirer.xml"', rest, count=1)
    (tmp_path / "cardswitch.toml").write_text(head + mark + changed)
    link = load_config(tmp_path / "cardswitch.toml", state=tmp_path / "state").acquirer[0]
    assert load_dialect(link.dialect).name == "acquirer"


def test_check_lists_what_is_wrong_with_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('name = "bad"\n[encoding]\n')
    status, out, _ = run(capsys, "check", "iso87-ascii", str(bad), MOOV)
    assert status == 1
    assert "iso87-ascii: iso87-ascii (cardswitch), ISO 8583:1987, type in ascii, bitmap in hex, 126 elements" in out
    assert f"{bad}: " in out
    assert "[elements] is missing or empty" in out
    assert "one of each (moov)" in out
    assert run(capsys, "check", "iso87-ascii", MOOV)[0] == 0


def test_check_without_a_name_lists_the_dialects_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "check")
    assert status == 0
    names = [line.partition(":")[0] for line in out.splitlines()]
    assert names == ["iso2003-ascii", "iso87-ascii", "iso87-bcd", "iso87-ebcdic", "iso93-ascii", "iso93-binary"]


def test_check_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "check", MOOV, "no-such", "--json")
    good, bad = json.loads(out)["files"]
    assert status == 1
    assert (good["ok"], good["origin"], good["elements"], good["problems"]) == (True, "moov", 23, [])
    assert good["composites"] == [43, 48, 55, 62, 124, 125]
    assert (bad["ok"], bad["file"]) == (False, "no-such")
    assert bad["problems"]


def test_what_import_writes_is_the_same_dialect(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = run(capsys, "import", MOOV)
    assert (status, err) == (0, "")
    (tmp_path / "a.toml").write_text(out)
    status, _, _ = run(capsys, "import", MOOV, "--output", str(tmp_path / "b.toml"))
    assert status == 0
    assert (tmp_path / "b.toml").read_text() == out
    mine, theirs = load_dialect(str(tmp_path / "a.toml")), load_dialect(MOOV)
    assert [element.format for element in mine.elements.values()] == [
        element.format for element in theirs.elements.values()
    ]
    assert json.loads(run(capsys, "import", MOOV, "--json")[1])["toml"] == out


def test_import_does_not_overwrite(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("mine")
    status, _, err = run(capsys, "import", MOOV, "--output", str(tmp_path / "mine.toml"))
    assert status == 2
    assert "exists already" in err
    assert (tmp_path / "mine.toml").read_text() == "mine"


@pytest.mark.parametrize("to", ["pyiso8583", "moov"])
def test_what_export_prints_import_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path, to: str) -> None:
    status, out, _ = run(capsys, "export", "iso87-ascii", "--to", to, "--leave-out")
    assert status == 0
    (tmp_path / "theirs.json").write_text(out)
    status, checked, _ = run(capsys, "check", str(tmp_path / "theirs.json"), "--json")
    assert status == 0
    assert json.loads(checked)["files"][0]["origin"] == to


def test_export_lists_what_cannot_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "export", "iso87-bcd", "--to", "moov")
    assert (status, out) == (1, "")
    assert err.startswith("cardswitch: iso87-bcd cannot be said in moov")
    assert "\n  elements.35: moov has no signs or separators in BCD\n" in err
    assert "--leave-out" in err
    status, out, _ = run(capsys, "export", "iso87-bcd", "--to", "moov", "--leave-out", "--json")
    assert status == 0
    assert "35" not in json.loads(out)["spec"]["fields"]
    assert any("it is left out" in warning for warning in json.loads(out)["warnings"])


@pytest.mark.parametrize("name", ["iso87-ascii", "/somewhere/mine.toml"])
def test_our_own_dialects_need_no_import(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert cli.run(["spec", "import", name]) == 2
    assert "is a dialect of ours already" in capsys.readouterr().err
