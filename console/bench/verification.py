"""Duration of `ledger verify`: `python -m console.bench.verification --outcomes 1000000`.

An embedded server of its own is filled by SQL with purchases of three lines, four in five approved, and sealed. One in
`--reversed-in` had no answer, and its issuer has acknowledged the reversal: 1 in 20 is a bad day. The rules about
advices are timed by themselves, too. The walk is timed from the first outcome, and once more after one outcome in a
hundred was added. The token is a key in memory. Prints one line of JSON; needs 1.3 KB of disk an outcome.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import resource
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from console.bench.state import bench_state, migrated_server
from console.database_roles import AUDITOR, OWNER
from console.postgresql import EmbeddedPostgres
from hsm.ledger_seals import LedgerWitness
from ledger.seal import SealToSign, add_macs, seal
from ledger.table_checks import TABLE_CHECKS, TABLE_SETTINGS
from ledger.verify import Claim, Report, TokenSeals, Verified, verify

_BATCH = 250_000
# As a switch writes them, but for the triggers: one statement a table and batch.
_FILL = (
    """INSERT INTO ledger.intents (id, key, kind, link, mti, processing_code, transmitted_at, created_at, deadline_at,
       trace_id, token, fingerprint, masked_pan, amount_minor, currency, merchant, terminal, mcc, country, acquirer_id,
       rrn, stan, issuer, card_country, final)
       SELECT n, format('pos|0200|20260301120000|%s', n), 'purchase', 'pos', '0200', '000000', t, t, t, md5(n::text),
       format('card_%s', n % 100000), sha256(int8send(n % 100000)), '424242******4242', 1000 + n % 9000, 'EUR',
       'SHOP' || n % 500, 'TERM0001', '5411', 'DE', '10001', lpad(n::text, 12, '0'), lpad((n % 1000000)::text, 6, '0'),
       'alpha', 'DE', false
       FROM (SELECT n, '2026-03-01T12:00Z'::timestamptz + n * interval '1 ms' AS t FROM generate_series($1::bigint, $2)
       AS n) r""",
    """INSERT INTO ledger.outcomes (intent_id, decision, response_code, auth_code, reason, answer)
       SELECT n, CASE WHEN n % :every = 0 THEN 'reversed' WHEN n % 5 = 0 THEN 'declined' ELSE 'approved' END,
       CASE WHEN n % :every = 0 THEN '91' WHEN n % 5 = 0 THEN '51' ELSE '00' END, '123456',
       '', '{"37":"000000000001","38":"123456","39":"00"}' FROM generate_series($1::bigint, $2) AS n""",
    """INSERT INTO ledger.postings (intent_id, line, account_id, layer, currency, amount_minor)
       SELECT n, l, l, 'posted', 'EUR',
       CASE l WHEN 1 THEN 1000 + n % 9000 WHEN 2 THEN 30 - (1000 + n % 9000) ELSE -30 END
       FROM generate_series($1::bigint, $2) AS n CROSS JOIN generate_series(1, 3) AS l
       WHERE n % 5 <> 0 AND n % :every <> 0""",
    """WITH stored AS (
       INSERT INTO ledger.advices (intent_id, link, mti, elements, token)
       SELECT n, 'alpha', '0420', '{"4":"000000001000","7":"0301120000","11":"000001","90":"0200000001"}',
       format('card_%s', n % 100000) FROM generate_series($1::bigint, $2) AS n WHERE n % :every = 0 RETURNING id)
       INSERT INTO ledger.acknowledgements (advice_id, response_code) SELECT id, '00' FROM stored""",
)
_ACCOUNTS = """INSERT INTO ledger.accounts (name, type) VALUES ('issuer:alpha:receivable', 'asset'),
    ('merchant:SHOP:pending', 'liability'), ('platform:revenue', 'income')"""


class _Token:
    """A witness with a key in memory, as `ledger.seal` and `ledger.verify` ask it."""

    def __init__(self, directory: Path) -> None:
        self._witness = LedgerWitness(directory, lambda data: hmac.digest(b"of the bench", data, hashlib.sha256))

    async def last_signed(self) -> int:
        return self._witness.head.number if self._witness.head is not None else 0

    async def sign(self, seal: SealToSign) -> bytes:
        mac, self._witness.head = self._witness.sign(seal.number, seal.digest, seal.previous, seal.previous_mac)
        return mac

    async def ask(self, claims: Sequence[Claim]) -> TokenSeals:
        head = self._witness.head
        wrong = self._witness.wrong(claims)
        return TokenSeals(wrong, head.first, head.number, head.digest) if head is not None else TokenSeals(wrong)


async def measure(server: EmbeddedPostgres, directory: Path, outcomes: int, every: int) -> dict[str, Any]:
    """Fill, seal, verify, add a hundredth, verify the rest; returns seconds and counts.

    Args:
        every: one in so many outcomes is reversed, and its advice acknowledged.
    """
    owner: Any = await asyncpg.connect(server.dsn(OWNER))
    auditor: Any = await asyncpg.connect(server.dsn(AUDITOR))
    token = _Token(directory)
    figures: dict[str, float] = {"outcomes": outcomes}
    try:
        await owner.execute("SET session_replication_role = replica")
        await owner.execute(_ACCOUNTS)
        figures["fill_s"] = await _timed(_fill(owner, 1, outcomes, every))
        figures["seal_s"] = await _timed(_seal(owner, token))
        await owner.execute("VACUUM (ANALYZE)")
        for check in TABLE_CHECKS:
            if check.name in ("advices", "acknowledgements", "floors"):
                async with auditor.transaction():
                    await auditor.execute(TABLE_SETTINGS)
                    figures[f"{check.name}_s"] = await _timed(auditor.fetch(check.sql))
        report, figures["verify_all_s"] = await _verified(auditor, token, None)
        more = outcomes // 100
        await _fill(owner, outcomes + 1, outcomes + more, every)
        await _seal(owner, token)
        later, figures["verify_s"] = await _verified(auditor, token, report.verified)
        assert report.whole and later.whole and later.checked == more, "the ledger of the bench is whole"
        return {**figures, "added": more, "seals": later.seals, "lines": later.postings}
    finally:
        await owner.close()
        await auditor.close()


async def _fill(owner: Any, first: int, last: int, every: int) -> None:
    for low in range(first, last + 1, _BATCH):
        for statement in _FILL:
            await owner.execute(statement.replace(":every", str(every)), low, min(low + _BATCH - 1, last))
        print(f"\r{min(low + _BATCH - 1, last):,} outcomes", end="", file=sys.stderr, flush=True)


async def _seal(owner: Any, token: _Token) -> None:
    await seal(owner)
    await add_macs(owner, token)


async def _verified(auditor: Any, token: _Token, since: Verified | None) -> tuple[Report, float]:
    started = time.perf_counter()
    report = await verify(auditor, now=datetime.now(UTC), since=since, ask_token=token.ask)
    return report, round(time.perf_counter() - started, 2)


async def _timed(work: Any) -> float:
    started = time.perf_counter()
    await work
    return round(time.perf_counter() - started, 2)


def main() -> None:
    """Measure on a server of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outcomes", type=int, default=1_000_000)
    parser.add_argument("--reversed-in", type=int, default=20, metavar="N", help="one outcome in N has an advice")
    arguments = parser.parse_args()
    with bench_state() as state, migrated_server(state) as server:
        figures = asyncio.run(measure(server, state, arguments.outcomes, arguments.reversed_in))
    figures["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(file=sys.stderr)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
