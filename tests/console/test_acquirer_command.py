"""`cardswitch sim acquirer`: scenario and command line, what is printed, what it returns, what it says is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from console.cli import run
from simulators.book import read_book
from simulators.testing import IssuerSimulator, start_issuer

KEYS = 'pin_key = "zpk"\n[test_keys]\nzpk = "0123456789ABCDEFFEDCBA9876543210"\n'
CARDS = '[[card]]\npan = "4242424242424242"\npin = "1234"\n'


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def issuer() -> Iterator[IssuerSimulator]:
    keys = {"zpk": "0123456789ABCDEFFEDCBA9876543210"}
    default = {"balance_minor": 10_000_000}
    with start_issuer({"name": "pos", "pin_key": "zpk", "test_keys": keys, "default": default}) as issuer:
        yield issuer


def scenario(tmp_path: Path, issuer: IssuerSimulator, more: str = "") -> str:
    path = tmp_path / "pos.toml"
    path.write_text(f'name = "pos"\ndial = "{issuer.address}"\ntimeout_s = 0.3\n{KEYS}{CARDS}{more}')
    return str(path)


def test_json_has_counts_percentiles_and_the_book(
    tmp_path: Path, issuer: IssuerSimulator, capsys: pytest.CaptureFixture[str]
) -> None:
    book = tmp_path / "pos.jsonl"
    file = scenario(tmp_path, issuer)
    arguments = ["sim", "acquirer", "--scenario", file, "--count", "30", "--rate", "0", "--book", str(book), "--json"]
    assert run([*arguments, "--seed", "3", "--concurrency", "2", "--seconds", "20"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["requests"], told["unsettled"], told["book"]) == (30, 0, str(book))
    assert sum(row["count"] for row in told["kinds"]) == told["total"]["count"] == 30
    assert told["total"]["p50_ms"] > 0
    assert len(read_book(book)) == told["lines"]


def test_people_get_a_table(tmp_path: Path, issuer: IssuerSimulator, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "acquirer", "--scenario", scenario(tmp_path, issuer), "--count", "20", "--rate", "0"]) == 0
    out = capsys.readouterr().out
    assert "p99" in out and "purchase" in out and "20 requests in" in out
    assert "4242424242424242" not in out


def test_what_has_no_end_is_status_1(
    tmp_path: Path, issuer: IssuerSimulator, capsys: pytest.CaptureFixture[str]
) -> None:
    file = scenario(tmp_path, issuer)
    path = Path(file)
    path.write_text(path.read_text().replace("timeout_s = 0.3", "timeout_s = 0.05\nattempts = 3"))
    issuer.fault(kind="silence", mti=["*"])
    mix = "".join(f"{name} = 0\n" for name in ("pre_authorization", "refund", "balance_inquiry", "administrative"))
    path.write_text(path.read_text() + f"[mix]\n{mix}reconciliation = 0\n")
    assert run(["sim", "acquirer", "--scenario", file, "--count", "1", "--rate", "0", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["unanswered"], told["unsettled"]) == (1, 1)


def test_ctrl_c_ends_a_run_with_its_report_and_book(tmp_path: Path, issuer: IssuerSimulator) -> None:
    book = tmp_path / "pos.jsonl"
    limits = ["--count", "1000", "--seconds", "60", "--rate", "20", "--book", str(book)]
    command = [sys.executable, "-m", "console.cli", "sim", "acquirer", "--scenario", scenario(tmp_path, issuer)]
    process = subprocess.Popen([*command, *limits], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while issuer.count("0200") + issuer.count("0100") == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in err) == (0, False), err
    assert " requests in " in out
    assert "stopping once what was sent has its end" in err
    assert book.exists()


def test_a_file_is_replayed(tmp_path: Path, issuer: IssuerSimulator, capsys: pytest.CaptureFixture[str]) -> None:
    day = tmp_path / "day.jsonl"
    day.write_text('{"mti": "0800", "elements": {"32": "1", "70": "301"}}\n')
    assert run(["sim", "acquirer", "--scenario", scenario(tmp_path, issuer), "--replay", str(day), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == {"00": 1}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "neither a link nor a scenario"),
        (["nowhere"], 2, "there is no acquirer link 'nowhere'; use one of pos"),
        (["--scenario", "none.toml"], 2, "No such file"),
        (["--scenario", "BROKEN"], 2, "2 errors; correct the file:\n  colour"),
        (["--scenario", "GOOD", "--count", "0"], 2, "count"),
        (["--scenario", "GOOD"], 1, "no connection with 127.0.0.1:1"),
        (
            ["--scenario", "GOOD", "--replay", "none.jsonl"],
            1,
            "none.jsonl: No such file or directory; correct",
        ),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
) -> None:
    files = {"BROKEN": 'name = "a|b"\ncolour = 1\n', "GOOD": 'name = "pos"\ndial = "127.0.0.1:1"\ntimeout_s = 0.1\n'}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    given = [str(tmp_path / argument) if argument in files else argument for argument in arguments]
    assert run(["sim", "acquirer", *given, "--state", str(tmp_path / "state")]) == status
    assert said in capsys.readouterr().err
