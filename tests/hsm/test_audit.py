"""The audit trail: its records, and that nothing in it can be changed, removed, reordered or cut off unnoticed."""

from __future__ import annotations

import asyncio
import errno
import gzip
import hmac
import json
import os
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from hsm.audit import AuditReport, read_records, segments, verify_audit
from hsm.audit_writer import AuditWriter, pack_segments
from hsm.callers import Caller, Peer
from hsm.errors import AuditError, TokenError
from tests.hsm.conftest import until

PEER = Peer(Caller("switch", "hsm.sock", frozenset(), frozenset()), 1000, 1000, 4711)
TRACE = "0123456789abcdef" * 2


def seal(data: bytes) -> bytes:
    return hmac.digest(b"the token's key", data, "sha256")


def other_seal(data: bytes) -> bytes:
    return hmac.digest(b"another key", data, "sha256")


def writer(directory: Path, **options: object) -> AuditWriter:
    ticks = count(1_700_000_000_000_000, 1000)
    return AuditWriter(directory, seal, now_us=lambda: next(ticks), **options)  # type: ignore[arg-type]


def written(directory: Path, blocks: int = 4, records: int = 5) -> Path:
    """Make a trail of blocks of records, each sealed, and return its segment."""
    audit = writer(directory)
    for block in range(blocks):
        for number in range(records):
            audit.record(PEER, "dispatch", f"zpk-pos/{block + 1}", "ok" if number else "key_usage", TRACE)
        audit.end_block()
    audit.close()
    return directory / "000001.jsonl"


def told(report: AuditReport) -> str:
    return "\n".join(str(problem) for problem in report.problems)


def test_a_record_says_who_what_which_and_how(tmp_path: Path) -> None:
    audit = writer(tmp_path)
    audit.record(PEER, "dispatch", "zpk-pos/1 zpk-alpha/2 pan/1", "ok", TRACE)
    audit.record(PEER, "mac", "unknown", "key_unknown", "")
    audit.close()
    first, second = read_records(tmp_path)
    assert first == {
        "caller": "switch",
        "uid": 1000,
        "pid": 4711,
        "command": "dispatch",
        "keys": ["zpk-pos/1", "zpk-alpha/2", "pan/1"],
        "outcome": "ok",
        "n": 1,
        "t": first["t"],
        "trace": TRACE,
    }
    assert (second["n"], second["keys"], second["outcome"], second["trace"]) == (2, ["unknown"], "key_unknown", "")


@pytest.mark.parametrize(
    "trace_id", ["4242424242424242", "a" * 33, 'x","n":9', "PIN 1234", "12345678901234567890123456789012"]
)
def test_what_is_no_trace_id_is_not_written(tmp_path: Path, trace_id: str) -> None:
    audit = writer(tmp_path)
    audit.record(PEER, "mac", "", "ok", trace_id)
    audit.close()
    assert [record["trace"] for record in read_records(tmp_path)] == ["-"]
    assert trace_id not in (tmp_path / "000001.jsonl").read_text()


def test_a_whole_trail_verifies(tmp_path: Path) -> None:
    written(tmp_path)
    for check in (seal, None):
        report = verify_audit(tmp_path, check)
        assert report.ok, told(report)
        assert (report.records, report.last_record, report.segments, report.unsealed) == (20, 20, 1, 0)


def test_a_trail_goes_on_after_a_restart(tmp_path: Path) -> None:
    for start in range(1, 4):
        audit = writer(tmp_path)
        assert (audit.state.records, audit.state.segment) == (start - 1, start)
        audit.record(PEER, "mac", "zak-pos/1", "ok", "")
        audit.close()
    report = verify_audit(tmp_path, seal)
    assert report.ok and (report.segments, report.records, report.last_record) == (3, 3, 3)


def test_without_the_token_nobody_makes_a_trail_up(tmp_path: Path) -> None:
    written(tmp_path)
    assert verify_audit(tmp_path, None).ok
    assert "the seal is not that of the token" in told(verify_audit(tmp_path, other_seal))


def test_what_comes_after_the_last_seal_is_counted(tmp_path: Path) -> None:
    audit = writer(tmp_path)
    audit.end_block()
    audit.record(PEER, "mac", "", "ok", "")
    audit.flush()
    report = verify_audit(tmp_path, seal)
    assert report.ok and report.unsealed == 1
    audit.close()


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def record_lines(lines: list[bytes]) -> list[int]:
    return [index for index, line in enumerate(lines) if line.startswith(b'{"caller"')]


def changed(lines: list[bytes]) -> int:
    at = record_lines(lines)[7]
    lines[at] = lines[at].replace(b'"outcome":"ok"', b'"outcome":"no"')
    return at


def removed(lines: list[bytes]) -> int:
    at = record_lines(lines)[7]
    del lines[at]
    return at


def removed_first(lines: list[bytes]) -> int:
    at = record_lines(lines)[0]
    del lines[at]
    return at


def removed_last(lines: list[bytes]) -> int:
    at = record_lines(lines)[-1]
    del lines[at]
    return at


def reordered(lines: list[bytes]) -> int:
    at = record_lines(lines)[7]
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    return at


def added(lines: list[bytes]) -> int:
    at = record_lines(lines)[7]
    lines.insert(at, lines[at])
    return at


def renumbered(lines: list[bytes]) -> int:
    """Remove a record and number those after it anew."""
    first, *rest = record_lines(lines)[7:10]
    for at in rest:
        number = json.loads(lines[at])["n"]
        lines[at] = lines[at].replace(b'"n":%d' % number, b'"n":%d' % (number - 1))
    del lines[first]
    return first


def no_seal(lines: list[bytes]) -> int:
    at = next(index for index, line in enumerate(lines) if line.startswith(b'{"seal"'))
    del lines[at]
    return at


def no_chain(lines: list[bytes]) -> int:
    at = next(index for index, line in enumerate(lines) if line.startswith(b'{"chain"') and index > 5)
    del lines[at]
    return at


def blocks_swapped(lines: list[bytes]) -> int:
    closings = [index for index, line in enumerate(lines) if line.startswith(b'{"chain"')]
    one, two, three = closings[2], closings[3], closings[4]
    lines[one + 1 : three + 1] = lines[two + 1 : three + 1] + lines[one + 1 : two + 1]
    return one + 1


def garbage(lines: list[bytes]) -> int:
    at = record_lines(lines)[7]
    lines[at] = b"\xff\xfe\n"
    return at


TAMPERINGS = [
    changed, removed, removed_first, removed_last, reordered, added, renumbered, no_seal, no_chain, blocks_swapped,
    garbage,
]  # fmt: skip


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
@pytest.mark.parametrize("check", [seal, None], ids=["sealed", "chain"])
def test_tampering_is_found_and_placed(
    tmp_path: Path, tamper: Callable[[list[bytes]], int], check: Callable[[bytes], bytes] | None
) -> None:
    path = written(tmp_path)
    lines = lines_of(path)
    at = tamper(lines) + 1
    path.write_bytes(b"".join(lines))
    report = verify_audit(tmp_path, check)
    assert not report.ok
    first = report.problems[0]
    assert first.file == "000001.jsonl" and first.first_line <= at + 1 and at - 1 <= first.last_line, told(report)
    # It is reported at its place, and not for all that follows.
    assert len(report.problems) <= 4, told(report)


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.9, 0.99])
def test_a_cut_trail_is_found(tmp_path: Path, kept: float) -> None:
    path = written(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert not verify_audit(tmp_path, seal).ok


def test_a_trail_cut_at_the_end_of_a_block_is_found(tmp_path: Path) -> None:
    path = written(tmp_path)
    lines = lines_of(path)
    for end in [index for index, line in enumerate(lines) if line.startswith(b'{"chain"')][:-1]:
        path.write_bytes(b"".join(lines[: end + 1]))
        assert "the trail was cut off or replaced: record 20" in told(verify_audit(tmp_path, seal))


def test_a_made_up_head_is_found(tmp_path: Path) -> None:
    path = written(tmp_path)
    lines = lines_of(path)
    end = [index for index, line in enumerate(lines) if line.startswith(b'{"chain"')][2]
    path.write_bytes(b"".join(lines[: end + 1]))
    closing = json.loads(lines[end])
    sealed = json.loads(next(line for line in lines if line.startswith(b'{"seal"')))["seal"]
    head = {"segment": 1, "n": closing["n"], "chain": closing["chain"], "seal": sealed}
    (tmp_path / "head.json").write_text(json.dumps(head))
    assert "head.json: the seal is not that of the token" in told(verify_audit(tmp_path, seal))
    (tmp_path / "head.json").unlink()
    assert "head.json: it cannot be read" in told(verify_audit(tmp_path, seal))


def three_segments(directory: Path) -> None:
    for _ in range(3):
        audit = writer(directory)
        for _ in range(3):
            audit.record(PEER, "mac", "zak-pos/1", "ok", "")
        audit.close()


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("000002.jsonl", "segments 2 to 2 are missing before it"),
        ("000003.jsonl", "the trail was cut off or replaced"),
    ],
)
def test_a_missing_segment_is_found(tmp_path: Path, gone: str, said: str) -> None:
    three_segments(tmp_path)
    (tmp_path / gone).unlink()
    assert said in told(verify_audit(tmp_path, seal))


def test_the_oldest_segments_may_be_moved_away(tmp_path: Path) -> None:
    three_segments(tmp_path)
    (tmp_path / "000001.jsonl").unlink()
    report = verify_audit(tmp_path, seal)
    assert report.ok, told(report)
    assert (report.first_segment, report.records, report.last_record) == (2, 6, 9)


def test_an_exchanged_segment_is_found(tmp_path: Path) -> None:
    three_segments(tmp_path / "one")
    three_segments(tmp_path / "two")
    audit = writer(tmp_path / "two")
    audit.record(PEER, "mac", "other/1", "ok", "")
    audit.close()
    (tmp_path / "two" / "000004.jsonl").rename(tmp_path / "one" / "000003.jsonl")
    assert "000003.jsonl:1: it opens segment 4" in told(verify_audit(tmp_path / "one", seal))


def test_segments_are_compressed_and_read_alike(tmp_path: Path) -> None:
    three_segments(tmp_path)
    before = list(read_records(tmp_path))
    pack_segments(tmp_path, 3)
    assert [path.name for _, path in segments(tmp_path)] == ["000001.jsonl.gz", "000002.jsonl.gz", "000003.jsonl"]
    assert list(read_records(tmp_path)) == before
    assert verify_audit(tmp_path, seal).ok
    path = tmp_path / "000001.jsonl.gz"
    content = gzip.decompress(path.read_bytes()).replace(b'"ok"', b'"no"', 1)
    path.write_bytes(gzip.compress(content))
    assert not verify_audit(tmp_path, seal).ok
    path.write_bytes(b"no gzip")
    assert "000001.jsonl.gz: it cannot be read" in told(verify_audit(tmp_path, seal)).replace(":1:", ":")


def test_a_segment_ends_when_it_is_long_enough(tmp_path: Path) -> None:
    async def test() -> None:
        audit = writer(tmp_path, segment_bytes=2000)
        for _ in range(30):
            audit.record(PEER, "mac", "zak-pos/1", "ok", "")
            audit.end_block()
            await asyncio.sleep(0)
        audit.close()

    asyncio.run(test())
    report = verify_audit(tmp_path, seal)
    assert report.ok, told(report)
    assert report.segments >= 5 and report.records == 30
    assert (tmp_path / "000001.jsonl.gz").exists()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Synced and renamed files, in order: their names."""
    done: list[str] = []
    fdatasync, fsync, replace = os.fdatasync, os.fsync, Path.replace

    def name(descriptor: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name

    def data_synced(descriptor: int) -> None:
        fdatasync(descriptor)
        done.append(name(descriptor))

    def file_synced(descriptor: int) -> None:
        fsync(descriptor)
        done.append(name(descriptor))

    def replaced(path: Path, target: Path) -> Path:
        done.append(f"{path.name} replaces {target.name}")
        return replace(path, target)

    monkeypatch.setattr("hsm.audit_writer.os.fdatasync", data_synced)
    monkeypatch.setattr("hsm.audit_writer.os.fsync", file_synced)
    monkeypatch.setattr(Path, "replace", replaced)
    return done


def test_the_head_outlives_no_record_that_it_names(tmp_path: Path, synced: list[str]) -> None:
    audit = writer(tmp_path)
    audit.record(PEER, "mac", "zak-pos/1", "ok", "")
    audit.end_block()
    assert synced == ["000001.jsonl", "head.json.new", "head.json.new replaces head.json"]
    audit.close()


def test_a_segment_outlives_none_before_it(tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    audit = writer(tmp_path, segment_bytes=1)
    monkeypatch.setattr(audit, "_pack", lambda: None)

    def full(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    audit.record(PEER, "mac", "zak-pos/1", "ok", "")
    with monkeypatch.context() as patched:
        patched.setattr("hsm.audit_writer.os.fdatasync", full)
        with pytest.raises(AuditError, match="Input/output error"):
            audit.end_block()
    assert audit.failure and not (tmp_path / "000002.jsonl").exists()
    audit.retry()
    synced.clear()
    audit.record(PEER, "mac", "zak-pos/1", "ok", "")
    audit.end_block()
    assert synced[:2] == ["000001.jsonl", "000002.jsonl"]
    audit.close()
    assert verify_audit(tmp_path, seal).ok


def test_the_keeper_waits_for_no_disk_on_the_loops_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsm.audit_writer.SEAL_EVERY_S", 0.01)
    threads: list[threading.Thread] = []
    monkeypatch.setattr("hsm.audit_writer.os.fdatasync", lambda _: threads.append(threading.current_thread()))
    monkeypatch.setattr("hsm.audit_writer.os.fsync", lambda _: threads.append(threading.current_thread()))

    async def test() -> None:
        audit = writer(tmp_path)
        keeper = asyncio.create_task(audit.keep())
        audit.record(PEER, "mac", "zak-pos/1", "ok", "")
        await until(lambda: (tmp_path / "head.json").exists())
        assert len(threads) >= 2 and threading.main_thread() not in threads
        keeper.cancel()
        audit.close()

    asyncio.run(test())
    assert verify_audit(tmp_path, seal).records == 1


def test_a_write_that_was_cut_off_is_told_from_tampering(tmp_path: Path) -> None:
    path = written(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"caller":"switch","uid":1')
    report = verify_audit(tmp_path, seal)
    assert "the last block is not closed" in told(report)
    writer(tmp_path).close()  # the next start says what was there
    assert verify_audit(tmp_path, seal).ok
    with path.open("ab") as file:
        file.write(b"more")
    assert not verify_audit(tmp_path, seal).ok


def test_a_segment_that_was_cut_off_when_it_was_opened_is_set_aside(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "000002.jsonl").write_bytes(b'{"segm')
    audit = writer(tmp_path)
    assert audit.state.segment == 2
    audit.close()
    assert verify_audit(tmp_path, seal).ok


class Disk:
    """A disk with so many bytes left."""

    def __init__(self, free: int) -> None:
        self.free = free

    def write(self, descriptor: int, data: bytes) -> int:
        if not self.free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = os.write(descriptor, data[: self.free])
        self.free -= done
        return done


def test_a_full_disk_is_said_and_got_over(tmp_path: Path) -> None:
    disk = Disk(10_000)
    audit = writer(tmp_path, write=disk.write)
    audit.record(PEER, "mac", "zak-pos/1", "ok", "")
    audit.flush()
    disk.free = 70  # in the middle of a record
    audit.record(PEER, "mac", "zak-pos/1", "ok", "")
    with pytest.raises(AuditError, match="the audit cannot be written: No space left on device"):
        audit.flush()
    assert audit.failure == "the audit cannot be written: No space left on device"
    with pytest.raises(AuditError):
        audit.retry()
    disk.free = 10_000
    audit.retry()
    assert audit.failure == ""
    audit.close()
    report = verify_audit(tmp_path, seal)
    assert report.ok, told(report)
    assert report.records == 2


def test_the_keeper_seals_and_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsm.audit_writer.SEAL_EVERY_S", 0.01)
    monkeypatch.setattr("hsm.audit_writer._RETRY_EVERY_S", 0.01)
    disk = Disk(10_000)

    async def test() -> None:
        audit = writer(tmp_path, write=disk.write)
        keeper = asyncio.create_task(audit.keep())
        audit.record(PEER, "mac", "zak-pos/1", "ok", "")
        await until(lambda: (tmp_path / "head.json").exists())
        disk.free = 0
        audit.record(PEER, "mac", "zak-pos/1", "ok", "")
        await until(lambda: bool(audit.failure))
        disk.free = 10_000
        await until(lambda: not audit.failure)
        keeper.cancel()
        audit.close()

    asyncio.run(test())
    assert verify_audit(tmp_path, seal).records == 2


def test_without_the_token_it_is_written_and_sealed_later(tmp_path: Path) -> None:
    audit = writer(tmp_path)

    def lost(_: bytes) -> bytes:
        raise TokenError("the token is away")

    audit.seal = lost
    audit.record(PEER, "mac", "", "unavailable", "")
    with pytest.raises(TokenError):
        audit.end_block()
    report = verify_audit(tmp_path, None)
    assert (report.records, report.last_record) == (1, 1)
    audit.seal = seal
    audit.close()
    assert verify_audit(tmp_path, seal).unsealed == 0


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    path = written(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == (directory / "head.json").stat().st_mode & 0o777 == 0o600


def test_no_trail_is_no_proof(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(AuditError, match="there is no audit trail"):
            verify_audit(place, seal)


def test_a_record_is_cheap(tmp_path: Path) -> None:
    """Far above what it takes (3 µs), so that a busy machine passes and a mistake of an order does not."""
    audit = writer(tmp_path)
    best = 1.0
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(20):
            for _ in range(50):
                audit.record(PEER, "dispatch", "zpk-pos/1 zpk-alpha/1 pan/1", "ok", TRACE)
            audit.flush()
        best = min(best, (time.perf_counter() - started) / 1000)
    audit.close()
    assert best < 30e-6
