"""Begin + decide pairs a second that the journal makes durable: `python -m console.bench.ledger`.

Callers each loop begin → decide on one `PostgresJournal`, as the switch does, on an embedded server of its own with
fsync on. Prints pairs/s, p50 and p99 of a pair, the sizes of the sets and the CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime, timedelta

import msgspec
import trio

from console.bench.state import bench_state, migrated_server
from console.database_roles import LEDGER
from ledger.config import FeesConfig, fee_schedule
from ledger.journal import Decision, Intent, Journal, Kind, Outcome
from ledger.lifecycle import Event
from ledger.posting import postings
from ledger.writer import open_journal


class LedgerBench(msgspec.Struct, frozen=True):
    """Figures of one run."""

    pairs_per_s: float
    p50_ms: float
    p99_ms: float
    pairs: int
    callers: int
    cards: int
    cpu_s: float


async def bench_journal(journal: Journal, seconds: float, callers: int, cards: int) -> LedgerBench:
    """Run `callers` loops for `seconds`; a third are purchases, the rest authorizations."""
    fees = fee_schedule(FeesConfig(fixed_minor={"EUR": 30}))
    started, until = time.perf_counter(), trio.current_time() + seconds
    run = f"{time.time_ns():x}"
    times: list[float] = []

    async def caller(name: int) -> None:
        number = 0
        while trio.current_time() < until:
            number += 1
            at = time.perf_counter()
            intent = _intent(f"{run}|{name}|{number}", (name * 7919 + number * 104_729) % cards, number % 3 == 0)
            begun = await journal.begin(intent)
            event = Event.PURCHASED if intent.kind is Kind.PURCHASE else Event.AUTHORIZED
            lines = postings(
                event, amount_minor=intent.amount_minor, currency="EUR", issuer="alpha", merchant="SHOP", fees=fees
            )
            await journal.decide(
                Outcome(
                    intent_id=begun.stored.intent_id,
                    decision=Decision.APPROVED,
                    response_code="00",
                    auth_code="123456",
                    answer={37: intent.rrn, 38: "123456", 39: "00"},
                    postings=lines,
                )
            )
            times.append(time.perf_counter() - at)

    cpu = time.process_time()
    async with trio.open_nursery() as nursery:
        for name in range(callers):
            nursery.start_soon(caller, name)
    elapsed = time.perf_counter() - started
    times.sort()
    return LedgerBench(
        pairs_per_s=round(len(times) / elapsed, 1),
        p50_ms=round(times[len(times) // 2] * 1000, 2),
        p99_ms=round(times[len(times) * 99 // 100] * 1000, 2),
        pairs=len(times),
        callers=callers,
        cards=cards,
        cpu_s=round(time.process_time() - cpu, 2),
    )


def _intent(key: str, card: int, purchase: bool) -> Intent:
    now = datetime.now(UTC)
    return Intent(
        key=f"pos|0100|20260301120000|{key}",
        kind=Kind.PURCHASE if purchase else Kind.AUTHORIZATION,
        link="pos",
        mti="0100",
        processing_code="000000",
        transmitted_at=now,
        created_at=now,
        deadline_at=now + timedelta(seconds=3),
        trace_id=key,
        token=f"card_{card}",
        fingerprint=(card * 0x9E37_79B9_7F4A_7C15 % 2**64).to_bytes(8, "big") * 2,
        masked_pan="424242******4242",
        amount_minor=1_234,
        currency="EUR",
        merchant="SHOP",
        terminal="TERM0001",
        mcc="5411",
        country="DE",
        acquirer_id="1234",
        rrn="000000000001",
        stan="000001",
        issuer="alpha",
    )


def main() -> None:
    """Run on a server of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--callers", type=int, default=256)
    parser.add_argument("--cards", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--max-set", type=int, default=1024)
    arguments = parser.parse_args()
    with bench_state() as state, migrated_server(state) as server:

        async def run() -> LedgerBench:
            sizes = {"connections": arguments.connections, "max_set": arguments.max_set}
            async with open_journal(server.dsn(LEDGER), **sizes) as journal:
                await bench_journal(journal, 1.0, arguments.callers, arguments.cards)
                return await bench_journal(journal, arguments.seconds, arguments.callers, arguments.cards)

        print(json.dumps(msgspec.to_builtins(trio.run(run))))


if __name__ == "__main__":
    main()
