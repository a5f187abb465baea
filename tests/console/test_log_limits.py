"""The lines that a process writes are bounded a second, in length and on disk, for any traffic of strangers."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from console.log_files import LogFile, cut, turn
from console.log_limits import MAX_TEXT, SAMPLED, TOTAL, LineLimit, kind_of, shorten
from console.logging import configure

PAN = "4242424242424242"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure("test", stream=stream)
    yield stream
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# Events that strangers can cause in each process: event, fields.
FLOODS = {
    "switch: no message": ("undecodable", {"link": "pos", "error": "DE 4 expected 12 digits"}),
    "switch: wrong MAC": ("mac_refused", {"link": "pos", "reason": "mac_invalid"}),
    "switch: connections": ("connected", {"link": "pos", "peer": "198.51.100.7:1"}),
    "switch: handshakes": ("handshake_failed", {"link": "pos", "error": "no certificate"}),
    "hsm: another user": ("caller_refused", {"caller": "switch", "reason": "another user"}),
    "hsm: refused commands": ("hsm_command", {"command": "screen", "caller": "switch", "outcome": "mac_invalid"}),
    "tokenizer: no key": ("tokenizer_request", {"kind": "token", "status": 401}),
    "gateway: no key": ("request", {"route": "/v1/charges", "status": 401}),
    "gateway: no message": ("not a message", {"link": "gateway", "error": "no MTI"}),
    "simulators: no message": ("undecodable", {"issuer": "alpha", "error": "no MTI"}),
}


@pytest.mark.parametrize(("event", "fields"), FLOODS.values(), ids=FLOODS)
def test_lines_that_strangers_cause_are_sampled_and_counted(
    stream: io.StringIO, event: str, fields: dict[str, Any]
) -> None:
    log = structlog.get_logger("test")
    for _ in range(5_000):
        log.info(event, **fields)
    log.warning("innocent", link="other")
    lines = _lines(stream)
    flood = [line for line in lines if line["event"] == event]
    assert SAMPLED.burst <= len(flood) <= SAMPLED.burst + 100
    assert lines[-1]["event"] == "innocent"


def test_a_line_says_how_many_of_its_kind_were_left_out_before_it() -> None:
    now = [0.0]
    limit = LineLimit(clock=lambda: now[0], report_s=0)
    line = {"event": "undecodable", "link": "pos"}
    written = 0
    for _ in range(1_000):
        with contextlib.suppress(structlog.DropEvent):
            limit(None, "error", dict(line))
            written += 1
    assert written == SAMPLED.burst
    now[0] = 1.0
    assert limit(None, "error", dict(line))["left_out"] == 1_000 - written


def test_a_flood_that_has_ended_is_reported_without_a_further_line() -> None:
    reports: list[dict[str, Any]] = []
    limit = LineLimit(report=lambda **fields: reports.append(fields), clock=lambda: 0.0, report_s=3600)
    for _ in range(200):
        with contextlib.suppress(structlog.DropEvent):
            limit(None, "error", {"event": "undecodable", "link": "pos"})
    limit.report()
    limit.report()
    assert reports == [{"count": 200 - SAMPLED.burst, "most": {"undecodable pos": 200 - SAMPLED.burst}}]


def test_all_lines_of_a_process_together_are_bounded(stream: io.StringIO) -> None:
    log = structlog.get_logger("test")
    for number in range(3 * int(TOTAL.burst)):
        log.info(f"event {number}")
    assert len(_lines(stream)) <= TOTAL.burst + TOTAL.per_s * 5


def test_traffic_that_is_served_has_a_line_each(stream: io.StringIO) -> None:
    log = structlog.get_logger("test")
    for _ in range(1_500):
        log.info("request", route="/v1/charges", status=200)
    assert len(_lines(stream)) == 1_500


def test_what_libraries_log_is_bounded_too(stream: io.StringIO) -> None:
    for number in range(1_000):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received. %d", number % 2)
    assert len(_lines(stream)) <= 2 * SAMPLED.burst + 100


def test_a_long_value_is_shortened_before_it_is_masked(stream: io.StringIO) -> None:
    structlog.get_logger("test").error(
        "x", text="a" * 1_000_000, many=list(range(100_000)), table={"k" * 999: "v" * 9999}
    )
    assert len(stream.getvalue()) < 4 * MAX_TEXT


@pytest.mark.parametrize("at", range(len(PAN)))
def test_no_part_of_a_card_number_is_left_at_the_end_of_a_shortened_value(at: int) -> None:
    text = "x" * (MAX_TEXT - at) + PAN + "y" * 100
    assert "42" not in shorten(None, "info", {"event": text})["event"]


def test_a_kind_takes_little_memory_whatever_a_peer_writes() -> None:
    assert len(str(kind_of({"event": "x" * 100_000, "link": "y" * 100_000, "status": ["z" * 100_000]}))) < 300


def test_a_log_file_is_begun_again_when_it_is_full(tmp_path: Path) -> None:
    path = tmp_path / "log" / "switch-0.jsonl"
    file = LogFile(path, max_bytes=1_000, keep=2)
    for number in range(100):
        file.write(f"{number:099d}\n")
    file.close()
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name, f"{path.name}.1", f"{path.name}.2"]
    assert all(entry.stat().st_size <= 1_000 for entry in path.parent.iterdir())
    assert path.read_text().splitlines()[-1] == f"{99:099d}"


def test_two_writers_of_a_file_go_on_with_the_same_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.log_files.LOOK_S", 0.0)
    path = tmp_path / "switch-0.jsonl"
    lines, events = LogFile(path, 500, 50), LogFile(path, 500, 50)
    for number in range(40):
        lines.write(f"line {number:03d}\n")
        events.write_bytes(f"event {number:03d}\n".encode())
    written = sorted(line for entry in tmp_path.iterdir() for line in entry.read_text().splitlines())
    assert len(written) == 80
    path.rename(tmp_path / "moved")
    lines.write("after\n")
    assert path.read_text() == "after\n"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_log_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        file = LogFile(tmp_path / "state" / "log" / "x.jsonl")
        file.write("x\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state" / "log" / "x.jsonl").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state" / "log").stat().st_mode) == 0o700


def test_what_a_process_prints_is_cut_and_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "gateway.err"
    with path.open("ab") as printing:
        printing.write(b"a" * 10_000 + b"the end")
        printing.flush()
        assert cut(path, max_bytes=1_000, kept=7)
        printing.write(b"goes on")
    assert path.read_bytes() == b"goes on"
    assert (tmp_path / "gateway.err.1").read_bytes() == b"the end"
    assert not cut(path, max_bytes=1_000)


def test_the_oldest_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for number in range(5):
        path.write_text(str(number))
        turn(path, 2)
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"x.1": "4", "x.2": "3"}
