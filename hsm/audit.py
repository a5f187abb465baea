"""The audit trail as it lies on disk, and the check that nothing in it was changed, removed, reordered or cut off.

A directory of segments `NNNNNN.jsonl` (older ones `.jsonl.gz`) with `head.json` goes in, a report or the records come
out. Written by `hsm.audit_writer`; called by `cardswitch hsm audit`. A segment is a list of blocks, each some lines
and one that closes it:

    {"segment":2,"t":…,"previous":{…}}                         opens a segment and says how the one before ended
    {"caller":"switch",…,"outcome":"ok","n":17,"t":…,"trace":…}  one use
    {"seal":"…","n":17,"t":…}                                  HMAC of the chain so far, by the token's key `audit-1`
    {"chain":"…","n":17}                                       closes the block: SHA-256(chain before it, lines)

Records are numbered over all segments, times are microseconds since 1970. An attacker with the disk but not the token
can invent a chain, not a seal; records after the last seal (a second) count as unsealed.
"""

from __future__ import annotations

import gzip
import hmac
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from hsm.errors import AuditError

CHAIN_START = bytes(32)
HEAD = "head.json"
_SEGMENT = re.compile(r"(\d{6,})\.jsonl(\.gz)?")
_MAX_PROBLEMS = 100
_MAX_LINE_BYTES = 65_536
# Why they are told apart: a seal taken from a segment must not do as the one of head.json.
_SEAL, _HEAD_SEAL = b"cardswitch audit seal", b"cardswitch audit head"

MAX_CLAIMS = 500

Seal = Callable[[bytes], bytes]


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """A seal as it stands in the trail: the sealed record, and the HMAC in hex."""

    data: bytes
    seal: str


CheckClaims = Callable[[Sequence[Claim]], Sequence[int]]
"""Returns the positions of the claims that are wrong; at most MAX_CLAIMS are given."""


class Previous(msgspec.Struct, frozen=True):
    """The end of the segment before: its number, chain (hex) and last record.

    `torn` and `torn_sha256`: bytes behind its last block where a write was cut off, and their SHA-256.
    """

    segment: int
    chain: str
    n: int
    torn: int = 0
    torn_sha256: str = ""


class Head(msgspec.Struct, frozen=True):
    """`head.json`: the least extent of the trail, so that a shorter one is noticed."""

    segment: int
    n: int
    chain: str
    seal: str


class AuditProblem(msgspec.Struct, frozen=True):
    """A fault with its file, from which line to which (from 1; 0: the file as a whole)."""

    file: str
    first_line: int
    last_line: int
    reason: str

    def __str__(self) -> str:
        lines = f":{self.first_line}" if self.first_line else ""
        if self.last_line != self.first_line:
            lines += f"-{self.last_line}"
        return f"{self.file}{lines}: {self.reason}"


class AuditReport(msgspec.Struct):
    """The findings of `verify_audit`.

    `chain` and `last_record` are worth writing down elsewhere: a trail that no longer has them was cut. `sealed` says
    that seals were checked, `unsealed` how many records come after the last one. `first_segment` is not 1 where
    older ones were moved away.
    """

    first_segment: int = 0
    segments: int = 0
    records: int = 0
    last_record: int = 0
    chain: str = ""
    sealed: bool = False
    unsealed: int = 0
    problems: list[AuditProblem] = msgspec.field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


def seal_bytes(chain: bytes, number: int) -> bytes:
    """Return what a seal is the HMAC of."""
    return b"%b\0%b%d" % (_SEAL, chain, number)


def head_bytes(segment: int, number: int, chain: str) -> bytes:
    """Return what the seal of `head.json` is the HMAC of."""
    return b"%b\0%d\0%d\0%b" % (_HEAD_SEAL, segment, number, chain.encode())


def is_sealed_text(data: bytes) -> bool:
    """Whether `data` is what a seal of the trail is of, and nothing else that the key could be asked about."""
    return data.startswith((_SEAL + b"\0", _HEAD_SEAL + b"\0"))


def wrong_claims(seal: Seal, claims: Sequence[Claim]) -> tuple[int, ...]:
    """Return the positions of the claims that are not seals of the key behind `seal`."""
    return tuple(at for at, claim in enumerate(claims) if not _same(seal(claim.data), claim.seal))


def segments(directory: Path) -> list[tuple[int, Path]]:
    """Return the segments in order; of one that is there twice (compression was cut off) the plain one."""
    found: dict[int, Path] = {}
    for path in sorted(directory.iterdir(), reverse=True):
        match = _SEGMENT.fullmatch(path.name)
        if match:
            found[int(match[1])] = path
    return sorted(found.items())


def read_records(directory: Path) -> Iterator[dict[str, Any]]:
    """Return the records of all segments, the oldest first, in their stored form; nothing is checked.

    Raises:
        AuditError: a segment cannot be read.
    """
    for _, path in segments(directory):
        for line in _lines(path):
            if line.startswith(b'{"caller"'):
                try:
                    yield msgspec.json.decode(line, type=dict[str, Any])
                except msgspec.DecodeError:
                    raise AuditError(f"{path.name}: a record cannot be read") from None


def verify_audit(directory: Path, seal: Seal | None = None, *, check_claims: CheckClaims | None = None) -> AuditReport:
    """Check every block of every segment against the chain, and the seals where `seal` is given.

    Args:
        directory: `state/hsm/audit`.
        seal: the HMAC of the token's key `audit-1`; without it a trail that was made up as a whole passes.
        check_claims: instead of `seal`, a verifier of seals.
    Raises:
        AuditError: there is no trail.
    """
    if not directory.is_dir() or not (found := segments(directory)):
        raise AuditError(f"{directory}: there is no audit trail")
    if seal is not None:
        check_claims = partial(wrong_claims, seal)
    check = _Check(directory, check_claims)
    for number, path in found:
        check.segment(number, path)
    check.end()
    return check.report


class _Check:
    """Walks the segments; after a problem it goes on from the trail's own values, so that each is reported once."""

    def __init__(self, directory: Path, check_claims: CheckClaims | None) -> None:
        self.report = AuditReport(sealed=check_claims is not None)
        self._check_claims = check_claims
        self._claims: list[tuple[Claim, str, int, int]] = []  # with file, line and record
        self._file, self._line, self._number = "", 0, 0
        self._chain: bytes | None = None  # None: where the first segment starts is not known
        self._tail: tuple[bytes, int, int] = (b"", 0, 0)  # of a segment, behind its last block: bytes, lines
        self._record = 0
        self._sealed_record = 0
        self._head = self._read_head(directory)
        self._head_seen = self._head is None

    def segment(self, number: int, path: Path) -> None:
        report = self.report
        if not report.segments:
            report.first_segment = number
        elif number != self._number + 1:
            self._problem(0, f"segments {self._number + 1} to {number - 1} are missing before it", file=path.name)
        report.segments += 1
        self._file, self._line, self._number = path.name, 0, number
        try:
            self._blocks(path)
        except AuditError as error:
            self._problem(self._line, str(error))

    def end(self) -> None:
        tail, first, last = self._tail
        if tail:
            self._problem(first, "the last block is not closed: records were cut off, or the machine stopped", last)
        if not self._head_seen:
            assert self._head is not None
            reached = f"record {self._head.n} in segment {self._head.segment} had been written"
            self._problem(0, f"the trail was cut off or replaced: {reached}", file=HEAD)
        self.report.last_record = self._record
        self.report.chain = (self._chain or CHAIN_START).hex()
        self._settle()
        self.report.unsealed = self._record - self._sealed_record if self._check_claims is not None else 0

    def _blocks(self, path: Path) -> None:
        block: list[bytes] = []
        start, opened = 1, False
        for line in _lines(path):
            self._line += 1
            if not opened:
                opened = True
                self._opening(line)
            if not line.startswith(b'{"chain"'):
                block.append(line)
                if len(block) > 1_000_000:
                    raise AuditError("a block does not end")
                continue
            self._close(block, line, start)
            block, start = [], self._line + 1
        self._tail = (b"".join(block), start, self._line)

    def _opening(self, line: bytes) -> None:
        """Hold the first line of a segment against the end of the one before."""
        tail, first, last = self._tail
        self._tail = (b"", 0, 0)
        try:
            said = msgspec.json.decode(line, type=dict[str, Any])
            previous = msgspec.convert(said.get("previous"), Previous)
            chain = bytes.fromhex(previous.chain)
        except (msgspec.MsgspecError, ValueError):
            self._problem(1, "the segment has no opening line")
            self._chain = self._chain or CHAIN_START
            return
        if said.get("segment") != self._number:
            self._problem(1, f"it opens segment {said.get('segment')}")
        if self._chain is None:
            self._record = self._sealed_record = previous.n
            if self._number == 1 and chain != CHAIN_START:
                self._problem(1, "the first segment follows another")
        else:
            torn = sha256(tail).hexdigest() if tail else ""
            if (chain, previous.n) != (self._chain, self._record) or previous.segment != self._number - 1:
                self._problem(1, f"it follows record {previous.n} of segment {previous.segment}, not what is before it")
            elif (previous.torn, previous.torn_sha256) != (len(tail), torn):
                self._problem(1, f"{len(tail)} bytes lie behind the last block before it, lines {first}-{last}")
        self._chain, self._record = chain, previous.n

    def _close(self, block: list[bytes], closing: bytes, start: int) -> None:
        before = self._chain or CHAIN_START
        chain = sha256(before)
        for line in block:
            chain.update(line)
        try:
            said = msgspec.json.decode(closing, type=dict[str, Any])
            claimed, number = bytes.fromhex(said["chain"]), int(said["n"])
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError):
            self._problem(self._line, "the line that closes a block cannot be read")
            claimed, number = chain.digest(), -1
        found = len(self.report.problems)
        for offset, line in enumerate(block):
            self._content(line, start + offset, before)
        if number not in (self._record, -1):
            self._problem(start, f"the block ends with record {self._record}, not {number}", self._line)
        if not hmac.compare_digest(chain.digest(), claimed) and len(self.report.problems) == found:
            self._problem(start, "a record was changed, or a block removed before it", self._line)
        self._chain = claimed
        if number != -1:
            self._record = number
        if self._head is not None and (self._head.segment, self._head.chain) == (self._number, claimed.hex()):
            self._head_seen = True

    def _content(self, line: bytes, at: int, before: bytes) -> None:
        try:
            said = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            self._problem(at, "it is no record")
            return
        if "caller" in said:
            self.report.records += 1
            if said.get("n") != self._record + 1:
                self._problem(at, f"record {said.get('n')} follows record {self._record}: removed or out of order")
            self._record = said["n"] if isinstance(said.get("n"), int) else self._record + 1
        elif "seal" in said:
            self._claim(seal_bytes(before, self._record), said["seal"], self._file, at, self._record)
        elif "segment" not in said and "note" not in said:
            self._problem(at, "it is no record")

    def _read_head(self, directory: Path) -> Head | None:
        try:
            head = msgspec.json.decode((directory / HEAD).read_bytes(), type=Head)
        except (OSError, msgspec.DecodeError):
            self._problem(0, "it cannot be read: whether the trail was cut off is not known", file=HEAD)
            return None
        said = head_bytes(head.segment, head.n, head.chain)
        self._claim(said, head.seal, HEAD, 0, 0)
        return head

    def _claim(self, data: bytes, seal: object, file: str, line: int, record: int) -> None:
        if self._check_claims is None:
            return
        self._claims.append((Claim(data, seal if isinstance(seal, str) else ""), file, line, record))
        if len(self._claims) >= MAX_CLAIMS:
            self._settle()

    def _settle(self) -> None:
        """Have the seals checked that were found so far."""
        if self._check_claims is None or not self._claims:
            return
        wrong = set(self._check_claims([claim for claim, *_ in self._claims]))
        for at, (_, file, line, record) in enumerate(self._claims):
            if at in wrong:
                self._problem(line, "the seal is not that of the token", file=file)
            else:
                self._sealed_record = max(self._sealed_record, record)
        self._claims.clear()

    def _problem(self, line: int, reason: str, last_line: int = 0, file: str = "") -> None:
        if len(self.report.problems) < _MAX_PROBLEMS:
            self.report.problems.append(AuditProblem(file or self._file, line, last_line or line, reason))


def _lines(path: Path) -> Iterator[bytes]:
    """Return the lines with their ends; the last may have none."""
    if path.suffix != ".gz" and not path.exists():
        path = path.with_name(path.name + ".gz")  # compressed since the directory was read
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(_MAX_LINE_BYTES):
                yield line
    except (OSError, EOFError, zlib.error) as error:
        raise AuditError(f"it cannot be read: {error}") from None


def _same(made: bytes, said: object) -> bool:
    return isinstance(said, str) and said.isascii() and hmac.compare_digest(made.hex(), said)
