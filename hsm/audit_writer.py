"""Writes the audit trail: user, key, command and outcome of each use; never data.

The service records each use, the listener flushes before an answer leaves: no answer without its record in the kernel's
hands. One hash a flush chains the records; every second the chain is sealed with the token's HMAC and synced to disk.
While the trail cannot be written (a full disk) `failure` says why, commands are refused, and the next attempt that
succeeds ends it. The format stands in `hsm.audit`. Called on the loop's thread.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import shutil
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
import structlog

from hsm.audit import CHAIN_START, HEAD, Head, Previous, Seal, head_bytes, seal_bytes, segments
from hsm.callers import Peer
from hsm.errors import AuditError, TokenError
from messages.trace import is_trace_id

log = structlog.get_logger(__name__)

SEGMENT_BYTES = 64 << 20
SEAL_EVERY_S = 1.0
_RETRY_EVERY_S = 0.1
_MAX_LINES_CACHED = 4096
_ENCODE = msgspec.json.Encoder().encode
_CLOSING = re.compile(rb'^\{"chain":"([0-9a-f]{64})","n":(\d+)\}\n', re.MULTILINE)


class AuditState(msgspec.Struct, frozen=True):
    """State of the trail: number of the last record, chain, and the reason if it cannot be written."""

    records: int = 0
    segment: int = 0
    chain: str = ""
    failure: str = ""


class AuditWriter:
    """The trail's open end; a new segment each start and each `segment_bytes`.

    Args:
        directory: `state/hsm/audit`, made where it is not there.
        seal: HMAC of the token's key `audit-1`; None: not sealed, until `seal` is set.
        now_us: microseconds since 1970.
        write: as os.write.
    Raises:
        AuditError: the directory or the end of the trail cannot be read or written.
    Attributes:
        failure: why the trail cannot be written, or empty.
    """

    def __init__(
        self,
        directory: Path,
        seal: Seal | None = None,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self.failure = ""
        self.seal = seal
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._now_us = now_us
        self._write = write
        self._lines: list[str] = []
        self._unwritten = b""
        self._sealed = b""  # the chain that the last seal is of
        self._head: Head | None = None  # for head.json, of the last seal
        self._settling = Lock()
        self._packing: asyncio.Task[None] | None = None
        self._descriptor = -1
        self._size = 0
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            previous = _last_segment(directory)
            self._number = previous.n
            self._chain = bytes.fromhex(previous.chain)
            self._open(previous)
        except OSError as error:
            raise AuditError(f"{directory}: {error.strerror or error}") from None

    @property
    def state(self) -> AuditState:
        return AuditState(self._number, self._segment, self._chain.hex(), self.failure)

    def record(
        self, peer: Peer, command: str, keys: str, outcome: str, trace_id: str, officers: tuple[str, ...] = ()
    ) -> None:
        """Take down one use.

        Args:
            command: its tag.
            keys: names with versions, `zpk-pos/1 zpk-alpha/2`; of keys of this HSM only.
            officers: whose signatures the use had, the proposer first.
        """
        kind = (command, keys, outcome, officers)
        beginning = peer.lines.get(kind)
        if beginning is None:
            beginning = _beginning(peer, kind)
        if trace_id and not is_trace_id(trace_id):
            trace_id = "-"  # any value of a caller may be data
        self._number = number = self._number + 1
        self._lines.append(f'{beginning}{number},"t":{self._now_us()},"trace":"{trace_id}"}}\n')

    def flush(self) -> None:
        """Write what was recorded.

        Raises:
            AuditError: it cannot be written; it is kept and tried again.
        """
        if self._lines:
            self._add("".join(self._lines).encode())
            self._lines.clear()
        if self._unwritten:
            self._write_out()

    def retry(self) -> None:
        """Look whether the trail can be written again; then `failure` is empty.

        Raises:
            AuditError: it cannot.
        """
        self.sync()
        if self.failure:
            log.info("audit_back")
            self.failure = ""

    def sync(self) -> None:
        """Write what was recorded and wait for the disk: for what must not be forgotten, changes of keys.

        Raises:
            AuditError: it cannot be.
        """
        self.flush()
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._failed(error) from None

    def end_block(self) -> None:
        """Seal the chain, open the next segment where this one is long enough, sync, and say so in head.json.

        Raises:
            AuditError: it cannot be written.
            TokenError: the token does not seal.
        """
        self._seal_block()
        try:
            self._settle()
        except OSError as error:
            raise self._failed(error) from None

    async def keep(self) -> None:
        """Do so every second, and try again while the trail cannot be written; runs until cancelled."""
        self._pack()
        while True:
            await asyncio.sleep(_RETRY_EVERY_S if self.failure else SEAL_EVERY_S)
            try:
                if self.failure:
                    self.retry()
                if self._seal_block():
                    # Two waits for the disk; on the loop's thread payments would wait with them.
                    await asyncio.to_thread(self._settle)
            except AuditError:
                continue  # said already, and `failure` keeps commands away
            except OSError as error:
                self._failed(error)
            except TokenError as error:
                log.warning("audit_not_sealed", reason=str(error))

    def close(self) -> None:
        """Write and seal the rest; nothing can be recorded afterwards."""
        try:
            self.end_block()
        except (AuditError, TokenError) as error:
            log.error("audit_not_closed", reason=str(error))
        with self._settling:  # a thread of `keep` may still be at it
            os.close(self._descriptor)
            self._descriptor = -1

    def _seal_block(self) -> bool:
        """Write and seal what was recorded; return whether there was anything."""
        self.flush()
        if self._chain == self._sealed:
            return False
        if self.seal is not None:
            seal = self.seal(seal_bytes(self._chain, self._number)).hex()
            self._add(_ENCODE({"seal": seal, "n": self._number, "t": self._now_us()}) + b"\n")
            self._write_out()
            self._head = self._sealed_head(self.seal)
        self._sealed = self._chain
        if self._size >= self._segment_bytes:
            self._rotate()
        return True

    def _add(self, lines: bytes) -> None:
        """Put a block behind what is to be written."""
        self._chain = sha256(self._chain + lines).digest()
        self._unwritten += b'%b{"chain":"%b","n":%d}\n' % (lines, self._chain.hex().encode(), self._number)

    def _write_out(self) -> None:
        try:
            while self._unwritten:
                written = self._write(self._descriptor, self._unwritten)
                self._size += written
                self._unwritten = self._unwritten[written:]
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> AuditError:
        reason = f"the audit cannot be written: {error.strerror or error}"
        if not self.failure:
            log.error("audit_failed", reason=reason)
        self.failure = reason
        return AuditError(reason)

    def _open(self, previous: Previous) -> None:
        self._segment = previous.segment + 1
        path = self._directory / f"{self._segment:06d}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._size = 0
        opening = {"segment": self._segment, "t": self._now_us(), "previous": previous}
        self._add(_ENCODE(opening) + b"\n")

    def _rotate(self) -> None:
        before = self._descriptor
        try:
            os.fdatasync(before)  # the next segment names its last record: it must not outlive it
            self._open(Previous(self._segment, self._chain.hex(), self._number))
        except OSError as error:
            raise self._failed(error) from None
        os.close(before)
        self._write_out()
        self._pack()

    def _sealed_head(self, seal: Seal) -> Head:
        chain = self._chain.hex()
        return Head(self._segment, self._number, chain, seal(head_bytes(self._segment, self._number, chain)).hex())

    def _settle(self) -> None:
        """Sync the segment, then write head.json, which names its last seal; in any thread.

        The head is taken first: the record that it names is in this descriptor, or in a segment that was synced as it
            ended.

        Raises:
            OSError: the segment cannot be synced.
        """
        with self._settling:
            head = self._head
            os.fdatasync(self._descriptor)
            if head is not None:
                self._write_head(head)

    def _write_head(self, head: Head) -> None:
        temporary = self._directory / f"{HEAD}.new"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_ENCODE(head))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._directory / HEAD)
        except OSError as error:
            # The trail itself is whole; the next second tries again.
            log.warning("audit_head_not_written", reason=error.strerror or str(error))

    def _pack(self) -> None:
        """Compress the segments before this one, in a thread."""
        if self._packing is None or self._packing.done():
            self._packing = asyncio.create_task(asyncio.to_thread(pack_segments, self._directory, self._segment))


def pack_segments(directory: Path, below: int) -> None:
    """Compress the segments before number `below`; one that cannot be, now, stays as it is."""
    for number, path in segments(directory):
        if number >= below or path.suffix == ".gz":
            continue
        packed = path.with_name(path.name + ".gz")
        temporary = packed.with_name(packed.name + ".new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as target:
                with path.open("rb") as source, gzip.GzipFile("", "wb", 3, target, 0) as stream:
                    shutil.copyfileobj(source, stream, 1 << 18)
                target.flush()
                os.fsync(target.fileno())
            temporary.replace(packed)
            path.unlink()
        except OSError as error:
            log.warning("audit_not_packed", file=path.name, reason=error.strerror or str(error))


def _beginning(peer: Peer, kind: tuple[str, str, str, tuple[str, ...]]) -> str:
    command, keys, outcome, officers = kind
    if len(peer.lines) >= _MAX_LINES_CACHED:
        peer.lines.clear()
    said: dict[str, Any] = {
        "caller": peer.caller.name,
        "uid": peer.uid,
        "pid": peer.pid,
        "command": command,
        "keys": keys.split(),
        **({"officers": officers} if officers else {}),
        "outcome": outcome,
    }
    peer.lines[kind] = beginning = _ENCODE(said).decode()[:-1] + ',"n":'
    return beginning


def _last_segment(directory: Path) -> Previous:
    """Return how the trail ends on disk, by the last line that closes a block.

    A segment without one was cut off as it was opened: no answer has left on its account. It is set aside.
    """
    for number, path in reversed(segments(directory)):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        closings = list(_CLOSING.finditer(content))
        if closings:
            last = closings[-1]
            torn = content[last.end() :]
            digest = sha256(torn).hexdigest() if torn else ""
            return Previous(number, last[1].decode(), int(last[2]), len(torn), digest)
        path.rename(path.with_name(f"{path.name}.{time.time_ns()}.cut"))
        log.warning("audit_segment_set_aside", file=path.name, bytes=len(content))
    return Previous(0, CHAIN_START.hex(), 0)
