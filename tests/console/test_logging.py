"""Logs hold no card data, for any input."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from console.log_files import end_of, turn
from console.logging import HIDDEN, configure, mask_event, masked_text, masked_value, tail
from messages.card_numbers import holds
from tests.card_number_cases import WITH_CARD_NUMBER

PAN = "4242424242424242"


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure("test", stream=stream)
    yield stream
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


@given(st.text(), st.from_regex(r"[0-9]{12,19}", fullmatch=True), st.text())
def test_no_long_number_survives(before: str, pan: str, after: str) -> None:
    if not (len(pan) == 14 and pan.startswith("20")):
        assert pan not in masked_text(f"{before}{pan}{after}")


@pytest.mark.parametrize(
    "text",
    [PAN, f"pan={PAN}.", "4242 4242 4242 4242", "4242-4242-4242-4242", PAN.encode().hex(), PAN.encode("cp037").hex(),
     f"0100{PAN.encode().hex()}"],
)  # fmt: skip
def test_card_numbers_are_masked_however_they_are_written(text: str) -> None:
    masked = masked_text(text)
    assert HIDDEN in masked
    assert "4242" not in masked
    assert "3432" not in masked


@pytest.mark.parametrize("name", WITH_CARD_NUMBER)
def test_no_log_holds_a_card_number_in_any_spelling(name: str, stream: io.StringIO) -> None:
    text = WITH_CARD_NUMBER[name]
    structlog.get_logger().info(text, note=text, deep=[{text: text}], raw=text.encode())
    logging.getLogger("library").warning("about %s", text)
    written = stream.getvalue()
    assert len(written.splitlines()) == 2
    assert not any(holds(line) for line in written.splitlines())


def test_a_time_without_separators_stays() -> None:
    assert masked_text("pos|0100|20261122154908|000001") == "pos|0100|20261122154908|000001"
    assert masked_text("20269922154908") == HIDDEN


@pytest.mark.parametrize("name", ["pan", "pin", "pin_block", "track2", "cvc", "webhook_secret", "dsn", "PASSWORD"])
def test_fields_with_sensitive_names_are_masked(name: str) -> None:
    assert masked_value("x", name) == HIDDEN


def test_values_inside_others_are_masked() -> None:
    event = {"event": "x", "data": [{"deep": (PAN, {PAN: 1})}, b"secret"], "number": int(PAN), "ratio": 0.5}
    text = json.dumps(mask_event(None, "info", event))
    assert "4242" not in text
    assert "secret" not in text
    assert '"ratio": 0.5' in text


def test_trace_ids_stay_but_do_not_smuggle() -> None:
    trace_id = "12345678901abc12345678901a4b5c6d"
    assert masked_value(trace_id, "trace_id") == trace_id
    assert masked_value(PAN.encode().hex(), "trace_id") == HIDDEN
    assert masked_value(PAN, "trace_id") == HIDDEN
    assert PAN not in masked_value(f"a{PAN}b", "trace_id")
    assert masked_value("424242******4242", "masked_pan") == "424242******4242"


def test_what_cannot_be_masked_is_withheld() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(PAN)

    assert mask_event(None, "info", {"event": PAN, "thing": Broken()}) == {
        "event": "log event withheld: it could not be masked",
        "level": "error",
    }


def test_events_are_json_lines_with_process_and_time(stream: io.StringIO) -> None:
    structlog.get_logger().info("authorized", trace_id="ab" * 16, masked_pan="424242******4242")
    event = json.loads(stream.getvalue())
    assert event["process"] == "test"
    assert event["level"] == "info"
    assert event["trace_id"] == "ab" * 16
    assert event["timestamp"].endswith("Z")


def test_library_logs_and_tracebacks_take_the_same_way(stream: io.StringIO) -> None:
    try:
        raise ValueError(f"bad card {PAN}")
    except ValueError:
        logging.getLogger("library").exception("failed for %s", PAN)
    event = json.loads(stream.getvalue())
    assert event["level"] == "error"
    assert "ValueError" in event["exception"]
    assert PAN not in stream.getvalue()


def test_a_log_file_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "log" / "x.jsonl"
    sink = configure("x", file)
    structlog.get_logger().warning("one")
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()
    sink.close()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line)["event"] for line in tail(file)] == ["one"]


def test_the_lines_since_a_moment(tmp_path: Path) -> None:
    file = tmp_path / "x.err"
    nothing_yet = end_of(file)
    file.write_text("before\n")
    moment = end_of(file)
    assert tail(file, since=moment) == []
    assert tail(file, since=nothing_yet) == ["before"]
    with file.open("a") as stream:
        stream.write("after\nand after\n")
    assert tail(file, since=moment) == ["after", "and after"]
    assert tail(file, 1, since=moment) == ["and after"]
    assert tail(file) == ["before", "after", "and after"]


def test_the_lines_since_a_moment_of_a_file_that_was_renamed_or_cut(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("before, and long enough\n")
    moment = end_of(file)
    turn(file, 1)
    file.write_text("in another file that is longer than the one before it\n")
    assert tail(file, since=moment) == ["in another file that is longer than the one before it"]
    moment = end_of(file)
    os.truncate(file, 0)
    with file.open("a") as stream:
        stream.write("cut\n")
    assert tail(file, since=moment) == ["cut"]


def test_a_full_disk_ends_nobodys_work(tmp_path: Path) -> None:
    (tmp_path / "full.log").symlink_to("/dev/full")
    sink = configure("x", tmp_path / "full.log")
    for _ in range(3):
        structlog.get_logger().error("something_went_wrong")
        logging.getLogger("a.library").error("and here")
    with pytest.raises(OSError, match="No space left"):
        sink.write("the disk is full\n")
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()
    with contextlib.suppress(OSError):
        sink.close()
