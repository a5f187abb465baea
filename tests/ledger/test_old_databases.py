"""Databases of earlier schemas, filled as the switch of that time filled them: their advices verify clean and are sent.

The rows have the forms that those versions stored, without lines. A database of schema N has the messages that the
versions of schema N could serve.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import trio

from console.database_roles import AUDITOR, LEDGER, OWNER
from console.migration import migrate, migrations
from console.postgresql import EmbeddedPostgres
from ledger.checks import CHECKS
from ledger.seal import seal
from ledger.table_checks import TABLE_CHECKS
from ledger.writer import open_journal
from tests.conftest import Database, _execute
from tests.ledger.samples import NOW
from tests.ledger.store import connected
from tests.ledger.test_verify import verify

_numbers = itertools.count(1)
NEWEST = max(int(file.name[:4]) for file in migrations(("ledger",)))

# First schema; intent; outcome; advices as (link, type, token), in the order of their numbers.
ROWS: list[tuple[int, dict[str, Any], dict[str, Any] | None, list[tuple[str, str, str]]]] = [
    # 0100 and 0200 without an answer in time, recovered by another worker, and one to which no link was found
    (1, {"id": 1, "kind": "authorization"}, {"decision": "reversed", "reason": "issuer_timeout"},
     [("alpha", "0420", "card_a")]),
    (1, {"id": 2, "kind": "purchase", "mti": "0200"}, {"decision": "reversed", "reason": "recovered"},
     [("alpha", "0420", "card_a")]),
    (1, {"id": 3, "kind": "purchase", "mti": "0201", "issuer": "", "token": "card_b"},
     {"decision": "declined", "reason": "no_route"}, []),
    # a hold of nothing (an account verification) that is reversed; a declined request; one that is still open
    (1, {"id": 4, "kind": "authorization", "amount_minor": 0}, {"decision": "approved", "reason": ""}, []),
    (1, {"id": 5, "kind": "reversal", "mti": "0400", "issuer": "", "token": "", "original_key": "k4"},
     {"decision": "approved", "reason": "void", "original_id": 4, "original_seq": 1}, [("alpha", "0420", "card_a")]),
    (1, {"id": 6, "kind": "purchase", "mti": "0200"}, {"decision": "declined", "reason": "issuer"}, []),
    (1, {"id": 7, "kind": "purchase", "mti": "0200"}, None, []),
    # a reversal before the answer: it closes the request; a reversal of what was never heard of, with its tombstone
    (1, {"id": 8, "kind": "purchase", "mti": "0200"}, {"decision": "reversed", "reason": "reversed_by_acquirer"},
     [("alpha", "0420", "card_a")]),
    (1, {"id": 9, "kind": "reversal", "mti": "0400", "issuer": "", "token": "", "original_key": "k8"},
     {"decision": "approved", "reason": "already_reversed"}, []),
    (1, {"id": 10, "kind": "reversal", "mti": "0420", "issuer": "", "token": "", "original_key": "k11"},
     {"decision": "declined", "reason": "original_unknown"}, []),
    (1, {"id": 11, "kind": "tombstone", "issuer": "", "token": ""},
     {"decision": "declined", "reason": "reversed_before_arrival"}, []),
    # a capture; a chargeback, which its issuer names by DE 7 and DE 11
    (1, {"id": 21, "kind": "capture", "mti": "0220", "issuer": "", "token": "", "original_key": "k4"},
     {"decision": "approved", "reason": "capture", "original_id": 4, "original_seq": 2}, [("alpha", "0220", "card_a")]),
    (1, {"id": 22, "kind": "chargeback", "mti": "0422", "link": "alpha", "token": "", "reference_issuer": "alpha",
         "reference_at": NOW + timedelta(seconds=6), "reference_stan": "000007"},
     {"decision": "approved", "reason": "chargeback", "original_id": 6, "original_seq": 1}, [("pos", "0422", "")]),
    # advices of decisions made elsewhere, one without a route; stand-in, once after silence
    (3, {"id": 12, "kind": "authorization", "mti": "0120", "amount_minor": 0},
     {"decision": "approved", "reason": "account_verification"}, [("alpha", "0120", "card_a")]),
    (3, {"id": 13, "kind": "purchase", "mti": "0220"}, {"decision": "approved", "reason": "declined_elsewhere",
     "amount_minor": 0}, [("alpha", "0220", "card_a")]),
    (3, {"id": 14, "kind": "purchase", "mti": "0220", "issuer": "", "token": "card_b"},
     {"decision": "declined", "reason": "no_route"}, []),
    (3, {"id": 15, "kind": "purchase", "mti": "0200"}, {"decision": "declined", "reason": "stand_in_floor"},
     [("alpha", "0220", "card_a")]),
    (3, {"id": 16, "kind": "authorization", "mti": "0101", "amount_minor": 0},
     {"decision": "approved", "reason": "stand_in"}, [("alpha", "0420", "card_a"), ("alpha", "0121", "card_a")]),
    (3, {"id": 17, "kind": "inquiry", "mti": "0100"}, {"decision": "reversed", "reason": "issuer_timeout"}, []),
    (3, {"id": 18, "kind": "increment", "mti": "0100", "original_key": "k4"},
     {"decision": "reversed", "reason": "issuer_timeout"}, [("alpha", "0420", "card_a")]),
    # an approval after a decline
    (8, {"id": 19, "kind": "late_approval", "mti": "0210", "token": "", "link": "alpha"},
     {"decision": "approved", "reason": "approved_after_decline"}, [("alpha", "0420", "card_a")]),
    (8, {"id": 20, "kind": "late_approval", "mti": "0210", "token": "", "link": "alpha"},
     {"decision": "declined", "reason": "approved_already"}, []),
]  # fmt: skip


def intent_row(fields: dict[str, Any]) -> dict[str, Any]:
    at = NOW + timedelta(seconds=fields["id"])
    return {
        "key": f"k{fields['id']}", "link": "pos", "mti": "0100", "processing_code": "000000", "transmitted_at": at,
        "created_at": at, "deadline_at": at, "trace_id": f"t{fields['id']}", "token": "card_a", "fingerprint": b"",
        "masked_pan": "424242******4242", "amount_minor": 100, "currency": "EUR", "merchant": "SHOP",
        "terminal": "TERM0001", "mcc": "5411", "country": "DE", "acquirer_id": "1", "rrn": "", "stan": "000001",
        "issuer": "alpha", "card_country": "", "final": True, **fields,
    }  # fmt: skip


async def insert(owner: Any, table: str, row: dict[str, Any]) -> None:
    places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await owner.execute(f"INSERT INTO ledger.{table} ({', '.join(row)}) VALUES ({places})", *row.values())


async def fill(dsn: str, schema: int) -> None:
    """Make the database as it was at `schema`, fill it, and bring it to the present one."""
    files = migrations()
    old = [file for file in files if file.package == "ledger" and int(file.name[:4]) <= schema]
    await migrate(dsn, {}, old)
    async with connected(dsn) as owner:
        for first, intent, outcome, advices in ROWS:
            if first > schema:
                continue
            await insert(owner, "intents", intent_row(intent))
            if outcome is None:
                continue
            decided = {"response_code": "00", "auth_code": "", "answer": "{}", **outcome, "intent_id": intent["id"]}
            await insert(owner, "outcomes", decided)
            for link, mti, token in advices:
                elements = json.dumps({4: "000000000100", 7: "0301120000", 11: "000001"})
                row = {"intent_id": intent["id"], "link": link, "mti": mti, "elements": elements, "token": token}
                await insert(owner, "advices", row)
    await migrate(dsn, {}, files)


@pytest.fixture(params=[2, 4, 6, 8, NEWEST])
def old_database(request: pytest.FixtureRequest, postgresql_server: EmbeddedPostgres) -> Iterator[Database]:
    """A database that was made at an earlier schema and brought to the present one."""
    name = f"old_{next(_numbers)}"
    _execute(postgresql_server, f"CREATE DATABASE {name}")
    asyncio.run(fill(postgresql_server.dsn(OWNER, name), request.param))
    yield Database(postgresql_server, name)
    _execute(postgresql_server, f"DROP DATABASE {name} WITH (FORCE)")


def test_an_old_database_verifies_clean_and_its_advices_are_sent(old_database: Database) -> None:
    async def check() -> int:
        async with connected(old_database.dsn(OWNER)) as owner, connected(old_database.dsn(AUDITOR)) as auditor:
            await seal(owner)
            report = await verify(auditor)
            assert report.whole, {check.name: check.problems for check in report.checks if check.problems}
            return int(await owner.fetchval("SELECT count(*) FROM ledger.advices"))

    async def waiting() -> list[str]:
        async with open_journal(old_database.dsn(LEDGER)) as journal:
            found = [await journal.advices(link, 0, 100) for link in ("alpha", "pos")]
            return [advice.refusal for advices in found for advice in advices]

    stored = asyncio.run(check())
    assert stored >= 4 and trio.run(waiting) == [""] * stored


MANIPULATED = [
    ("DELETE FROM ledger.advices WHERE intent_id = 2", "advices-stored", "intent 2: its purchase reversed has no"),
    ("UPDATE ledger.advices SET mti = '0422' WHERE intent_id = 1", "advices-stored", "intent 1: its authorization"),
    ("UPDATE ledger.advices SET token = 'card_b' WHERE intent_id = 1", "advices", "the outcome of intent 1 calls for"),
    ("UPDATE ledger.advices SET link = 'beta' WHERE intent_id = 5", "advices", "the outcome of intent 5 calls for"),
    ("INSERT INTO ledger.advices (intent_id, link, mti, elements, token) VALUES (6, 'alpha', '0420', '{}', 'card_a')",
     "advices", "the outcome of intent 6 calls for none"),
    ("INSERT INTO ledger.advices (intent_id, link, mti, elements, token) VALUES (7, 'alpha', '0420', '{}', 'card_a')",
     "advices", "the outcome of intent 7 calls for none"),
]  # fmt: skip


def test_a_manipulated_old_database_does_not_verify(old_database: Database) -> None:
    queries = {check.name: f"{check.sql} LIMIT 20" for check in (*CHECKS, *TABLE_CHECKS)}

    async def run() -> None:
        async with connected(old_database.dsn(OWNER)) as owner:
            for sql, name, text in MANIPULATED:
                stretch = (0, 1_000) if name == "advices-stored" else ()
                assert await owner.fetch(queries[name], *stretch) == []
                transaction = owner.transaction()
                await transaction.start()
                await owner.execute(sql)
                found = await owner.fetch(queries[name], *stretch)
                await transaction.rollback()
                assert len(found) == 1 and text in found[0][0], (sql, found)

    asyncio.run(run())
