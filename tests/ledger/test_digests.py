"""ledger.digests: the digests of seals without any function of the database, and what `verify` does not believe."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from console.database_roles import AUDITOR, OWNER
from ledger.digests import recompute, use_settings
from ledger.seal import GENESIS, seal
from tests.conftest import Database
from tests.ledger.store import connected
from tests.ledger.test_verify import after_a_day, verify

# PostgreSQL stores no NUL, and no half of a pair.
TEXT = st.one_of(
    st.sampled_from(["", " ", ",", '"', '""', "\\", "\\\\", "(", ")", "a,b", 'a"b\\', "NULL", "\n", "ü€😀", "'", ";"]),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12),
)
MOMENTS = st.datetimes(
    datetime(1, 1, 3),
    datetime(9999, 12, 29),
    timezones=st.sampled_from([UTC]),
)
BIG = st.integers(0, 2**63 - 1)
OPTIONAL_TEXT = st.none() | TEXT
INTENT = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["purchase", "late_approval", "refund"]),
        **dict.fromkeys(
            (
                "link",
                "mti",
                "processing_code",
                "trace_id",
                "token",
                "currency",
                "merchant",
                "terminal",
                "mcc",
                "country",
                "acquirer_id",
                "rrn",
                "stan",
                "issuer",
                "card_country",
                "stated",
            ),
            TEXT,
        ),
        **dict.fromkeys(("transmitted_at", "created_at", "deadline_at"), MOMENTS),
        "fingerprint": st.binary(max_size=40),
        "masked_pan": st.sampled_from(["", "424242******4242"]),
        "amount_minor": BIG,
        "final": st.booleans(),
        "original_key": OPTIONAL_TEXT,
        "reference_issuer": OPTIONAL_TEXT,
        "reference_at": st.none() | MOMENTS,
        "reference_stan": OPTIONAL_TEXT,
        "cashback_minor": BIG,
        "local_time": st.sampled_from(["", "0301120000"]),
    }
)
OUTCOME = st.fixed_dictionaries(
    {
        "decision": st.sampled_from(["approved", "declined", "reversed"]),
        **dict.fromkeys(("response_code", "auth_code", "reason"), TEXT),
        "answer": st.sampled_from(["{}", '{"37": "a, \\"b\\""}', '{ "39" : "00" }', '["\\u00fc"]']),
        "original_id": st.none() | BIG,
        "decided_at": MOMENTS,
        "amount_minor": st.none() | BIG,
    }
)
LINE = st.tuples(
    st.integers(1, 9), st.sampled_from(["pending", "posted"]), st.sampled_from(["EUR", 'A"B', "a,b"]), BIG.filter(bool)
)
PAYMENT = st.tuples(OUTCOME, st.none() | INTENT, st.lists(LINE, max_size=4))


async def insert(connection: Any, table: str, row: dict[str, Any]) -> None:
    names, places = ", ".join(row), ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await connection.execute(
        f"INSERT INTO ledger.{table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({places})", *row.values()
    )


async def fill(owner: Any, payments: list[tuple[dict[str, Any], dict[str, Any] | None, list[Any]]]) -> None:
    """As its owner would: payments with and without an intent, lines with and without an account, a gap in `seq`."""
    await owner.execute("SET session_replication_role = replica")
    await owner.execute("TRUNCATE ledger.intents, ledger.outcomes, ledger.postings, ledger.accounts")
    for number in (1, 2, 3):
        name = ("issuer:alpha:receivable", 'merchant:a"b,(c)\\:pending', "")[number - 1]
        await insert(owner, "accounts", {"id": number, "name": name, "type": "asset"})
    for number, (outcome, intent, lines) in enumerate(payments, 1):
        await insert(owner, "outcomes", {"intent_id": number, "seq": 2 * number, **outcome})
        if intent is not None:
            await insert(owner, "intents", {"id": number, "key": f"key {number}", **intent})
        for line, (account, layer, currency, amount) in enumerate(lines):
            where = {"intent_id": number, "line": line, "account_id": account}
            await insert(owner, "postings", where | {"layer": layer, "currency": currency, "amount_minor": amount})


@pytest.mark.parametrize("version", [1, 2])
def test_digests_of_any_rows_are_those_of_the_sealer(database: Database, version: int) -> None:
    # Each example fills a database: a failing one is shown as it is, because shrinking it would take minutes.
    @settings(max_examples=15, phases=(Phase.generate,), suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(PAYMENT, max_size=6))
    def check(payments: list[tuple[dict[str, Any], dict[str, Any] | None, list[Any]]]) -> None:
        async def run() -> None:
            async with connected(database.dsn(OWNER)) as owner, connected(database.dsn(AUDITOR)) as auditor:
                await fill(owner, payments)
                previous, seals = GENESIS, []
                for first, last in ((1, 3), (4, 5), (6, 6), (9, 30)):
                    rows, digest = await owner.fetchrow(
                        "SELECT * FROM ledger.digest($1, $2, $3, $4)", previous, first, last, version
                    )
                    seals.append(
                        {"from_seq": first, "to_seq": last, "version": version, "rows": rows, "digest": digest}
                    )
                    previous = digest
                await auditor.execute("SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'")
                await use_settings(auditor)
                async with auditor.transaction():
                    found = await recompute(auditor, GENESIS, seals)
                assert [(one.rows, one.digest) for one in found] == [(row["rows"], row["digest"]) for row in seals]

        asyncio.run(run())

    check()


def test_seals_of_both_versions_are_recomputed(database: Database) -> None:
    async def check(_: dict[str, str]) -> None:
        async with connected(database.dsn(OWNER)) as owner, connected(database.dsn(AUDITOR)) as auditor:
            previous = await owner.fetchrow("SELECT * FROM ledger.digest($1, 1, 4, 1::smallint)", GENESIS)
            await owner.execute("INSERT INTO ledger.seals VALUES (1, 1, 4, $1, $2, now(), 1)", *previous)
            await seal(owner, max_rows=3)
            report = await verify(auditor)
            assert report.whole, report
            await owner.execute("UPDATE ledger.seals SET version = 2 WHERE number = 1")
            assert not (await verify(auditor)).whole
            await owner.execute("ALTER TABLE ledger.seals DROP CONSTRAINT seals_version_check")
            await owner.execute("UPDATE ledger.seals SET version = 7 WHERE number = 1")
            report = await verify(auditor)
            assert [check.problems for check in report.checks if check.problems] == [
                ["seal 1 (outcomes 1 to 4): there is no version 7 of seals"]
            ]

    after_a_day(database, check)


# A digest that repeats what is stored: the owner's way to change sealed rows unseen, were it asked.
LYING_DIGEST = """
DROP FUNCTION ledger.digest(bytea, bigint, bigint, smallint);
CREATE FUNCTION ledger.digest(p_previous bytea, p_from bigint, p_to bigint, p_version smallint)
RETURNS TABLE (rows bigint, digest bytea) LANGUAGE sql STABLE AS
$$ SELECT s.rows, s.digest FROM ledger.seals s WHERE s.from_seq = p_from $$;
GRANT EXECUTE ON FUNCTION ledger.digest(bytea, bigint, bigint, smallint) TO PUBLIC;
"""


def test_a_digest_function_that_its_owner_has_replaced_hides_nothing(database: Database) -> None:
    async def check(_: dict[str, str]) -> None:
        async with connected(database.dsn(OWNER)) as owner, connected(database.dsn(AUDITOR)) as auditor:
            await seal(owner, max_rows=5)
            await owner.execute(LYING_DIGEST)
            assert (await verify(auditor)).whole
            await owner.execute("SET session_replication_role = replica")
            await owner.execute("UPDATE ledger.intents SET merchant = 'MINE' WHERE id = 1")
            assert {check.name for check in (await verify(auditor)).checks if check.problems} == {"seals"}

    after_a_day(database, check)


# Functions and operators that would be found before those of the system, under the search path of a role or session.
LYING_NAMES = """
CREATE SCHEMA lies;
GRANT USAGE ON SCHEMA lies TO PUBLIC;
CREATE FUNCTION lies.never(bigint, numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT false $$;
CREATE OPERATOR lies.<> (LEFTARG = bigint, RIGHTARG = numeric, FUNCTION = lies.never);
CREATE FUNCTION lies.never(numeric, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT false $$;
CREATE OPERATOR lies.<> (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = lies.never);
CREATE FUNCTION lies.string_agg(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'x' $$;
"""


def test_a_search_path_of_its_owner_changes_no_check(database: Database) -> None:
    async def check(_: dict[str, str]) -> None:
        async with connected(database.dsn(OWNER)) as owner, connected(database.dsn(AUDITOR)) as auditor:
            await owner.execute(LYING_NAMES)
            await owner.execute("SET session_replication_role = replica")
            await owner.execute("UPDATE ledger.postings SET amount_minor = amount_minor + 1 WHERE intent_id = 1")
            await auditor.execute("SET search_path = lies, pg_catalog")
            wrong = {check.name for check in (await verify(auditor)).checks if check.problems}
            assert wrong >= {"balance", "outcome-balance"}

    after_a_day(database, check)
