"""Is the ledger whole? A connection goes in, problems come out; `cardswitch ledger verify` prints them.

The journal is walked in stretches: the rules of `ledger.checks` for the outcomes of a stretch, the digests of its seals
and the MACs of those. A stretch is one snapshot, so writers go on and no snapshot is held for long. With `since` the
walk begins after the last seal that a former run has verified; nothing before that is looked at again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec

from ledger.checks import CHECKS, SETTLED, Check
from ledger.digests import Recomputed, recompute, use_settings
from ledger.seal import GENESIS
from ledger.table_checks import COUNTS, TABLE_CHECKS, TABLE_SETTINGS

MAX_PROBLEMS = 20  # listed for each check
STRETCH = 20_000  # outcomes, or intents, looked at in one snapshot
# A stretch is looked up by index, row for row, however long the tables are: a plan that reads a table whole for each
# stretch would take ten times as long for twice the journal.
_SETTINGS = """
SET LOCAL jit = off; SET LOCAL work_mem = '64MB';
SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off
"""

_SEALS = """
SELECT s.number, s.from_seq, s.to_seq, s.rows, s.digest, s.version, m.mac
  FROM ledger.seals s LEFT JOIN ledger.seal_macs m ON m.number = s.number
 WHERE s.number > $1 AND s.to_seq <= $2
 ORDER BY s.number
"""
_HORIZON = """
SELECT COALESCE((SELECT max(number) FROM ledger.seals), 0) AS seals,
       COALESCE((SELECT to_seq FROM ledger.seals ORDER BY number DESC LIMIT 1), 0) AS sealed,
       COALESCE((SELECT seq FROM ledger.outcomes ORDER BY seq DESC LIMIT 1), 0) AS outcomes,
       COALESCE((SELECT max(id) FROM ledger.intents), 0) AS intents,
       GREATEST(COALESCE((SELECT max(intent_id) FROM ledger.postings), 0),
                COALESCE((SELECT max(id) FROM ledger.intents), 0)) AS last_intent,
       COALESCE((SELECT max(up_to) FROM ledger.floors WHERE name = 'undecided'), 0) AS decided,
       u.unsealed, u.first_unsealed, extract(epoch FROM clock_timestamp() - u.oldest)::float8 AS oldest_s,
       extract(epoch FROM u.newest - clock_timestamp())::float8 AS ahead_s
  FROM (SELECT count(*) AS unsealed, min(seq) AS first_unsealed, min(decided_at) AS oldest, max(decided_at) AS newest
          FROM ledger.outcomes
         WHERE seq > COALESCE((SELECT to_seq FROM ledger.seals ORDER BY number DESC LIMIT 1), 0)) u
"""
# The next stretch begins at a row, however far apart ids are.
_NEXT_INTENT = """
SELECT LEAST((SELECT min(id) FROM ledger.intents WHERE id > $1),
             (SELECT min(intent_id) FROM ledger.postings WHERE intent_id > $1))
"""
_NEXT_OUTCOME = "SELECT min(seq) FROM ledger.outcomes WHERE seq > $1"
_STRETCH_COUNTS = """
SELECT count(*) AS outcomes, COALESCE(sum((SELECT count(*) FROM ledger.postings p WHERE p.intent_id = o.intent_id)), 0)
       AS postings
  FROM ledger.outcomes o WHERE seq > $1 AND seq <= $2
"""


class TokenSeals(msgspec.Struct, frozen=True):
    """The token's word on the chain.

    Args:
        wrong: positions of the claims that are not its MACs.
        first: number of the first seal that it signed; 0: none yet.
        number: of the last one.
        digest: of the last one.
        problem: why it signs nothing any more; empty: it does.
    """

    wrong: tuple[int, ...] = ()
    first: int = 0
    number: int = 0
    digest: bytes = b""
    problem: str = ""


Claim = tuple[int, bytes, bytes]
"""Number, digest and MAC of a seal."""

AskToken = Callable[[Sequence[Claim]], Awaitable[TokenSeals]]
"""Has the token check at most `hsm.ledger_seals.MAX_CLAIMS` claims."""


class Verified(msgspec.Struct, frozen=True):
    """The point up to which a former run has found the ledger whole; its caller keeps it, outside of the database.

    Args:
        number, digest, to_seq: of the last seal.
        intent_id: all intents up to this one were decided and looked at.
        outcomes, postings: number of outcomes that all runs have verified since the first outcome.
    """

    number: int
    digest: bytes
    to_seq: int
    intent_id: int
    outcomes: int
    postings: int
    at: datetime


class CheckResult(msgspec.Struct, frozen=True):
    """A check with its findings; whole where `problems` is empty. `settled` are those that were settled elsewhere."""

    name: str
    says: str
    problems: list[str]
    settled: list[str] = []


class Report(msgspec.Struct, frozen=True):
    """All checks, and how much was looked at.

    Args:
        checked: outcomes that this run has looked at; the others were by former ones.
        unsealed: outcomes after the last seal, which the hash chain does not cover yet.
        head: number of the last seal.
        digest: of the last seal, hex, "" if there is none: keep it elsewhere and compare.
        mac: of the last seal, hex, "" if it has none yet.
        token_asked: whether the MACs were checked.
        since: number of the seal after which this run began.
        verified: the point up to which the ledger is whole, for the next run; None where it is not.
    """

    checks: list[CheckResult]
    intents: int
    outcomes: int
    postings: int
    checked: int
    seals: int
    unsealed: int
    head: int
    digest: str
    mac: str
    token_asked: bool
    since: int
    verified: Verified | None

    @property
    def whole(self) -> bool:
        """True where no check found anything."""
        return not any(check.problems for check in self.checks)


SEALS = ("seals", "nothing that was sealed was altered, deleted or inserted")
MACS = ("seal-macs", "every seal is one that the token made, and none is missing")
UNSEALED = ("unsealed", "outcomes are sealed soon")


async def verify(
    connection: Any,
    *,
    now: datetime,
    since: Verified | None = None,
    ask_token: AskToken | None = None,
    noted: tuple[int, str] | None = None,
    settled: Collection[str] = (),
    max_unsealed_s: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Run every check, from the first outcome or from where `since` ended.

    Args:
        connection: asyncpg, role cardswitch_auditor or owner; reads only, writers go on meanwhile.
        now: for `Report.verified`.
        ask_token: None: the MACs of the seals are not looked at.
        noted: number and digest (hex) of a seal that was noted elsewhere, to compare.
        settled: findings about fees that were settled outside of the books, word for word: they are no problems. A
            payment that has changed since has other sums, and so another finding.
        max_unsealed_s: age from which an outcome without a seal is a problem; None: that is not looked at.
        progress: called with outcomes looked at and outcomes there are.
    """
    return await _Walk(connection, since, ask_token, frozenset(settled), max_unsealed_s, progress).run(now, noted)


class _Walk:
    """One verification: its findings so far, and its place in the chain."""

    def __init__(
        self,
        connection: Any,
        since: Verified | None,
        ask_token: AskToken | None,
        settled: frozenset[str],
        max_unsealed_s: float | None,
        progress: Callable[[int, int], None],
    ) -> None:
        self._connection = connection
        self._since = since
        self._ask_token = ask_token
        self._progress = progress
        self._max_unsealed_s = max_unsealed_s
        self._says = {check.name: check.says for check in (*CHECKS, *TABLE_CHECKS)} | dict((COUNTS, SEALS, MACS))
        if max_unsealed_s is not None:
            self._says[UNSEALED[0]] = UNSEALED[1]
        self._problems: dict[str, list[str]] = {name: [] for name in self._says}
        self._settled = settled
        self._found_settled: list[str] = []
        self._number = since.number if since else 0
        self._to_seq = since.to_seq if since else 0
        self._digest = since.digest if since else GENESIS
        self._mac = b""
        self._outcomes = since.outcomes if since else 0
        self._postings = since.postings if since else 0
        self._checked = 0
        self._token = TokenSeals()

    async def run(self, now: datetime, noted: tuple[int, str] | None) -> Report:
        if self._ask_token is not None:
            self._token = await self._ask_token(())
        await use_settings(self._connection)
        horizon = await self._connection.fetchrow(_HORIZON)
        self._check_unsealed(horizon)
        await self._check_start()
        await self._check_tables()
        await self._walk_intents(horizon)
        start = self._to_seq
        while self._to_seq < horizon["sealed"]:
            await self._stretch_of_seals(horizon["sealed"])
            self._progress(self._to_seq - start, horizon["outcomes"] - start)
        sealed = (self._number, self._digest, self._to_seq, self._outcomes, self._postings)
        await self._check_counts()
        await self._walk_unsealed(horizon["outcomes"], start)
        await self._check_end(noted)
        whole = not any(self._problems.values())
        verified = Verified(*sealed[:3], horizon["decided"], *sealed[3:], now) if whole and sealed[0] else None
        return Report(
            checks=[
                CheckResult(name, self._says[name], found, self._found_settled if name == SETTLED else [])
                for name, found in self._problems.items()
            ],
            intents=await self._connection.fetchval("SELECT count(*) FROM ledger.intents"),
            outcomes=self._outcomes,
            postings=self._postings,
            checked=self._checked,
            seals=await self._connection.fetchval("SELECT count(*) FROM ledger.seals"),
            unsealed=self._outcomes - sealed[3],
            head=sealed[0],
            digest=sealed[1].hex() if sealed[0] else "",
            mac=self._mac.hex(),
            token_asked=self._ask_token is not None,
            since=self._since.number if self._since else 0,
            verified=verified or (self._since if whole else None),
        )

    async def _check_start(self) -> None:
        """The seal that a former run ended with must be there, as it was."""
        if self._since is None:
            return
        row = await self._seal(self._since.number)
        if row is None or row["digest"] != self._since.digest:
            when = f"{self._since.at:%Y-%m-%d %H:%M}"
            self._problem(SEALS[0], f"seal {self._since.number} is not the one that was verified on {when}")
        elif row["mac"] is not None:
            self._mac = row["mac"]

    async def _check_end(self, noted: tuple[int, str] | None) -> None:
        """The token's last seal, and one that was noted, must be in the chain."""
        token = self._token
        if token.problem:
            self._problem(MACS[0], token.problem)
        if token.number:
            row = await self._seal(token.number)
            if row is None:
                self._problem(
                    MACS[0],
                    f"the token has sealed up to seal {token.number}, the ledger ends with seal {self._number}: "
                    "it was cut off, or restored from a backup (cardswitch hsm accept-ledger-head)",
                )
            elif row["digest"] != token.digest:
                self._problem(MACS[0], f"seal {token.number} is not the one that the token sealed last")
        if noted is not None:
            row = await self._seal(noted[0])
            if row is None or row["digest"].hex() != noted[1]:
                self._problem(SEALS[0], f"seal {noted[0]} has not the digest that was noted")

    def _check_unsealed(self, horizon: Any) -> None:
        limit_s = self._max_unsealed_s
        if limit_s is None or not horizon["unsealed"]:
            return
        rows = f"{horizon['unsealed']} outcomes from number {horizon['first_unsealed']} on have no seal"
        if horizon["oldest_s"] > limit_s:
            self._problem(
                UNSEALED[0],
                f"{rows}, the oldest is {horizon['oldest_s']:.0f} s old: see `the ledger could not be sealed` in the"
                " log of the switch's worker 0; a switch that was stopped seals them when it starts",
            )
        if horizon["ahead_s"] > limit_s:
            self._problem(UNSEALED[0], f"{rows}, the newest is decided {horizon['ahead_s']:.0f} s from now")

    async def _check_tables(self) -> None:
        """The rules that are about tables as a whole, wherever a walk begins."""
        for check in TABLE_CHECKS:
            async with _Snapshot(self._connection, TABLE_SETTINGS):
                for row in await self._connection.fetch(f"{check.sql} LIMIT {MAX_PROBLEMS}"):
                    self._problem(check.name, row[0])

    async def _check_counts(self) -> None:
        """The outcomes of the seals are all that there are up to the last seal."""
        there = await self._connection.fetchval("SELECT count(*) FROM ledger.outcomes WHERE seq <= $1", self._to_seq)
        if there != self._outcomes:
            before = "" if self._since is None else ", those before the last verification included"
            self._problem(
                COUNTS[0], f"{there} outcomes up to number {self._to_seq}, the seals cover {self._outcomes}{before}"
            )

    async def _walk_intents(self, horizon: Any) -> None:
        low, last = self._since.intent_id if self._since else 0, horizon["last_intent"]
        checks = [check for check in CHECKS if check.by_intent]
        while low < last:
            first = await self._connection.fetchval(_NEXT_INTENT, low)
            low = low if first is None else first - 1
            high = min(low + STRETCH, last)
            async with self._snapshot():
                await self._run(checks, low, high)
            low = high

    async def _walk_unsealed(self, last: int, start: int) -> None:
        """The outcomes after the last seal."""
        low = self._to_seq
        while low < last:
            high = min(low + STRETCH, last)
            async with self._snapshot():
                found = await self._stretch(low, high)
            if not found:
                first = await self._connection.fetchval(_NEXT_OUTCOME, high)
                high = last if first is None else first - 1
            low = high
            self._progress(low - start, last - start)

    async def _stretch_of_seals(self, sealed: int) -> None:
        """The seals whose outcomes fit into one stretch, at least one seal, and these outcomes."""
        async with self._snapshot():
            to_seq = await self._connection.fetchval(
                "SELECT COALESCE(max(to_seq) FILTER (WHERE to_seq <= $2), min(to_seq)) FROM ("
                " SELECT to_seq FROM ledger.seals WHERE to_seq > $1 AND to_seq <= $3 ORDER BY number LIMIT 500) s",
                *(self._to_seq, self._to_seq + STRETCH, sealed),
            )
            to_seq = sealed if to_seq is None else to_seq
            rows = await self._connection.fetch(_SEALS, self._number, to_seq)
            low = self._to_seq
            found = await recompute(self._connection, self._digest, rows)
            for row, recomputed in zip(rows, found, strict=True):
                self._check_seal(row, recomputed)
            await self._stretch(low, to_seq)
        self._to_seq = to_seq
        await self._check_macs(rows)

    def _check_seal(self, row: Any, found: Recomputed) -> None:
        if row["number"] != self._number + 1 or row["from_seq"] != self._to_seq + 1:
            self._problem(SEALS[0], f"seal {row['number']} does not follow seal {self._number}")
        where = f"seal {row['number']} (outcomes {row['from_seq']} to {row['to_seq']})"
        if not found.digest:
            self._problem(SEALS[0], f"{where}: there is no version {row['version']} of seals")
        elif found.rows != row["rows"]:
            self._problem(SEALS[0], f"{where}: {row['rows']} outcomes were sealed, {found.rows} are there")
        elif found.digest != row["digest"]:
            self._problem(SEALS[0], f"{where}: an intent, outcome or posting was altered, deleted or inserted")
        # Go on from the stored digest, so that one broken link is reported once.
        self._number, self._to_seq, self._digest = row["number"], row["to_seq"], row["digest"]
        self._mac = row["mac"] or b""

    async def _check_macs(self, rows: Sequence[Any]) -> None:
        if self._ask_token is None:
            return
        for row in rows:
            if row["mac"] is None and 0 < self._token.first <= row["number"] <= self._token.number:
                self._problem(MACS[0], f"seal {row['number']} has no MAC, the token made one")
        claims = [(row["number"], row["digest"], row["mac"]) for row in rows if row["mac"] is not None]
        if claims:
            answer = await self._ask_token(claims)
            for at in answer.wrong:
                self._problem(MACS[0], f"seal {claims[at][0]} has a MAC that the token did not make")

    async def _stretch(self, low: int, high: int) -> int:
        """The rules for the outcomes of one stretch; returns how many there are."""
        await self._run([check for check in CHECKS if not check.by_intent], low, high)
        counts = await self._connection.fetchrow(_STRETCH_COUNTS, low, high)
        self._outcomes += counts["outcomes"]
        self._checked += counts["outcomes"]
        self._postings += int(counts["postings"])
        return int(counts["outcomes"])

    async def _run(self, checks: Sequence[Check], low: int, high: int) -> None:
        for check in checks:
            room = MAX_PROBLEMS - len(self._problems[check.name])
            if room:
                room += len(self._settled) if check.name == SETTLED else 0  # these take no place of others
                for row in await self._connection.fetch(f"{check.sql} LIMIT {room}", low, high):
                    self._problem(check.name, row[0])

    def _problem(self, name: str, text: str) -> None:
        found = self._problems[name]
        if name == SETTLED and text in self._settled:
            if text not in self._found_settled:
                self._found_settled.append(text)
            return
        if len(found) < MAX_PROBLEMS and text not in found:
            found.append(text)

    async def _seal(self, number: int) -> Any:
        return await self._connection.fetchrow(
            "SELECT s.digest, m.mac FROM ledger.seals s LEFT JOIN ledger.seal_macs m ON m.number = s.number"
            " WHERE s.number = $1",
            number,
        )

    def _snapshot(self) -> _Snapshot:
        return _Snapshot(self._connection)


class _Snapshot:
    """A transaction that reads one state of the database."""

    def __init__(self, connection: Any, settings: str = _SETTINGS) -> None:
        self._connection = connection
        self._settings = settings
        self._transaction = connection.transaction(isolation="repeatable_read", readonly=True)

    async def __aenter__(self) -> None:
        await self._transaction.start()
        await self._connection.execute(self._settings)

    async def __aexit__(self, *_: object) -> None:
        await self._transaction.rollback()
