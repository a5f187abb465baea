"""Seals under a key of the token: the owner of the database can recompute the chain, and cannot make its MACs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from console.database_roles import AUDITOR, LEDGER, OWNER
from hsm.commands import HsmRefused
from hsm.ledger_seals import LedgerWitness
from ledger.errors import SealNotSigned
from ledger.journal import Kind
from ledger.seal import GENESIS, SealToSign, add_macs
from ledger.seal import seal as make_seals
from ledger.sealing import REMINDER_S, Sealing
from ledger.verify import AskToken, Claim, Report, TokenSeals, Verified, verify
from ledger.writer import open_journal
from tests.conftest import Database
from tests.ledger.store import connected
from tests.ledger.test_verify import day, pay

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Token:
    """A witness over a key that the database does not have, as the switch and the auditor reach it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.witness = LedgerWitness(directory, lambda data: hmac.digest(b"of the token", data, hashlib.sha256))

    async def sign(self, seal: SealToSign) -> bytes:
        try:
            mac, head = self.witness.sign(seal.number, seal.digest, seal.previous, seal.previous_mac)
        except HsmRefused as error:
            raise SealNotSigned(str(error)) from None
        self.witness.storing(head)()
        self.witness.head = head
        return mac

    async def last_signed(self) -> int:
        return self.witness.head.number if self.witness.head else 0

    async def ask(self, claims: Sequence[Claim]) -> TokenSeals:
        head, wrong = self.witness.head, self.witness.wrong(claims)
        if head is None:
            return TokenSeals(wrong, problem=self.witness.problem)
        return TokenSeals(wrong, head.first, head.number, head.digest, self.witness.problem)


class Books:
    """A ledger after a day of payments, and the connections to it."""

    def __init__(self, owner: Any, auditor: Any, token: Token) -> None:
        self.owner, self.auditor, self.token = owner, auditor, token

    async def close(self, max_rows: int = 5) -> None:
        """Seal, and have the token sign."""
        await make_seals(self.owner, max_rows=max_rows)
        await add_macs(self.owner, self.token)

    async def verify(self, since: Verified | None = None, ask: AskToken | None = None, **options: Any) -> Report:
        return await verify(self.auditor, now=NOW, since=since, ask_token=ask or self.token.ask, **options)

    async def wrong(self, since: Verified | None = None) -> set[str]:
        report = await self.verify(since)
        return {check.name for check in report.checks if check.problems}

    async def said(self) -> str:
        """All problems as one text."""
        report = await self.verify()
        return "\n".join(problem for check in report.checks for problem in check.problems)

    async def recompute(self, since: int = 1) -> None:
        """As the owner: alter a row, and make the chain fit it again, seal by seal."""
        await self.owner.execute("SET session_replication_role = replica")
        await self.owner.execute("UPDATE ledger.intents SET merchant = 'MINE' WHERE id = 1")
        previous = GENESIS
        for row in await self.owner.fetch("SELECT * FROM ledger.seals ORDER BY number"):
            digest = await self.owner.fetchval(
                "SELECT digest FROM ledger.digest($1, $2, $3, $4)",
                *(previous, row["from_seq"], row["to_seq"], row["version"]),
            )
            await self.owner.execute("UPDATE ledger.seals SET digest = $1 WHERE number = $2", digest, row["number"])
            previous = digest


def with_books(
    database: Database, directory: Path, script: Callable[[Books], Coroutine[Any, Any, None]], *, signed: bool = True
) -> None:
    """A ledger whose first payment is sealed and signed (or nothing, where not `signed`), and a day after it."""

    async def run(work: Callable[[Books], Coroutine[Any, Any, None]]) -> None:
        async with connected(database.dsn(OWNER)) as owner, connected(database.dsn(AUDITOR)) as auditor:
            await work(Books(owner, auditor, Token(directory)))

    more(database)()
    if signed:
        asyncio.run(run(Books.close))
    trio.run(one_day, database)
    asyncio.run(run(script))


async def one_day(database: Database) -> None:
    async with open_journal(database.dsn(LEDGER)) as journal:
        await day(journal)


def more(database: Database) -> Callable[[], None]:
    async def live() -> None:
        async with open_journal(database.dsn(LEDGER)) as journal:
            await pay(journal, Kind.PURCHASE, 700)

    return lambda: trio.run(live)


def test_a_signed_ledger_is_whole_and_says_its_head(database: Database, tmp_path: Path) -> None:
    async def script(books: Books) -> None:
        await books.close()
        report = await books.verify()
        assert report.whole, report
        assert (report.head, report.unsealed) == (report.seals, 0)
        assert len(report.digest) == len(report.mac) == 64 and report.token_asked
        assert (await books.verify(noted=(report.head, report.digest))).whole
        for noted in ((report.head, "0" * 64), (report.head + 1, report.digest)):
            assert not (await books.verify(noted=noted)).whole

    with_books(database, tmp_path, script)


def test_a_chain_that_its_owner_has_recomputed_is_found_by_its_macs(database: Database, tmp_path: Path) -> None:
    async def script(books: Books) -> None:
        await books.close()
        await books.recompute()
        without = await verify(books.auditor, now=NOW)
        assert without.whole and not without.token_asked, "the chain alone says nothing: that is why there are MACs"
        assert await books.wrong() == {"seal-macs"}
        said = await books.said()
        for number in (1, 2, without.head):
            assert f"seal {number} has a MAC that the token did not make" in said
        assert f"seal {without.head} is not the one that the token sealed last" in said

    with_books(database, tmp_path, script)


def test_macs_that_were_taken_away_are_missed(database: Database, tmp_path: Path) -> None:
    async def script(books: Books) -> None:
        await books.close()
        await books.recompute()
        await books.owner.execute("DELETE FROM ledger.seal_macs")
        assert await books.wrong() == {"seal-macs"}
        assert "seal 2 has no MAC, the token made one" in await books.said()

    with_books(database, tmp_path, script)


def test_seals_and_payments_that_were_cut_off_at_the_end_are_missed(database: Database, tmp_path: Path) -> None:
    async def script(books: Books) -> None:
        await books.close()
        await books.owner.execute("SET session_replication_role = replica")
        to_seq = await books.owner.fetchval("SELECT max(to_seq) FROM ledger.seals WHERE number < 3")
        for sql in (
            "DELETE FROM ledger.advices WHERE intent_id IN (SELECT intent_id FROM ledger.outcomes WHERE seq > $1)",
            "DELETE FROM ledger.postings WHERE intent_id IN (SELECT intent_id FROM ledger.outcomes WHERE seq > $1)",
            "DELETE FROM ledger.intents WHERE id IN (SELECT intent_id FROM ledger.outcomes WHERE seq > $1)",
            "DELETE FROM ledger.outcomes WHERE seq > $1",
            "DELETE FROM ledger.seals WHERE to_seq > $1",
        ):
            await books.owner.execute(sql, to_seq)
        await books.owner.execute("DELETE FROM ledger.seal_macs WHERE number > 2")
        assert (await verify(books.auditor, now=NOW)).whole
        assert await books.wrong() == {"seal-macs"}

    with_books(database, tmp_path, script)


def test_a_rewritten_chain_gets_no_further_macs(database: Database, tmp_path: Path) -> None:
    async def script(books: Books) -> None:
        await books.close()
        signed = await books.owner.fetchval("SELECT count(*) FROM ledger.seal_macs")
        await books.recompute()
        await asyncio.to_thread(more(database))
        await make_seals(books.owner)
        with pytest.raises(SealNotSigned, match="does not follow"):
            await add_macs(books.owner, books.token)
        await books.owner.execute("DELETE FROM ledger.seal_macs")
        with pytest.raises(SealNotSigned):
            await add_macs(books.owner, books.token)
        assert signed > 2 and await books.owner.fetchval("SELECT count(*) FROM ledger.seal_macs") == 0

    with_books(database, tmp_path, script)


def test_a_restored_ledger_goes_on_once_an_officer_accepts_its_head(database: Database, tmp_path: Path) -> None:
    async def script(books: Books) -> None:
        await books.close()
        await books.owner.execute("SET session_replication_role = replica")
        await books.owner.execute("DELETE FROM ledger.seals WHERE number > 2")
        await books.owner.execute("DELETE FROM ledger.seal_macs WHERE number > 2")
        await make_seals(books.owner)
        with pytest.raises(SealNotSigned, match="restored from a backup"):
            await add_macs(books.owner, books.token)
        digest = await books.owner.fetchval("SELECT digest FROM ledger.seals WHERE number = 2")
        books.token.witness.head = books.token.witness.accepted(2, digest)
        await add_macs(books.owner, books.token)
        assert await books.wrong() == set()

    with_books(database, tmp_path, script)


def test_an_empty_ledger_under_a_token_that_has_signed_another_is_not_signed(
    database: Database, tmp_path: Path
) -> None:
    async def script(books: Books) -> None:
        books.token.witness.head = books.token.witness.accepted(1_000, b"a" * 32)
        with pytest.raises(SealNotSigned, match="the token has signed up to seal 1000, the ledger ends with seal"):
            await books.close()

    with_books(database, tmp_path, script, signed=False)


def test_a_ledger_from_before_macs_is_covered_by_its_first_one(database: Database, tmp_path: Path) -> None:
    async def script(books: Books) -> None:
        await make_seals(books.owner, max_rows=5)
        assert await books.wrong() == set(), "seals without MACs, and a token that has made none"
        assert await add_macs(books.owner, books.token) == 1
        assert books.token.witness.head is not None and books.token.witness.head.first > 1
        assert await books.wrong() == set()
        await books.recompute()
        assert await books.wrong() == {"seal-macs"}

    with_books(database, tmp_path, script, signed=False)


def test_a_lost_answer_is_asked_for_again_and_gives_the_same_mac(database: Database, tmp_path: Path) -> None:
    async def script(books: Books) -> None:
        await make_seals(books.owner, max_rows=5)
        made: list[bytes] = []

        class Lossy(Token):
            async def sign(self, seal: SealToSign) -> bytes:
                made.append(await super().sign(seal))
                raise SealNotSigned("no answer in time")

        with pytest.raises(SealNotSigned):
            await add_macs(books.owner, Lossy(tmp_path))
        books.token = Token(tmp_path)
        await asyncio.to_thread(more(database))
        await books.close()
        assert made[0] in {row["mac"] for row in await books.owner.fetch("SELECT mac FROM ledger.seal_macs")}
        assert await books.wrong() == set()

    with_books(database, tmp_path, script, signed=False)


@pytest.mark.parametrize("after", [1, 3])
def test_a_token_that_goes_away_among_many_seals_goes_on_later(database: Database, tmp_path: Path, after: int) -> None:
    """A backlog: seals signed before the token went, or before its answer was lost, are stored."""

    async def script(books: Books) -> None:
        await make_seals(books.owner, max_rows=2)

        class Tired(Token):
            signed = 0

            async def sign(self, seal: SealToSign) -> bytes:
                mac = await super().sign(seal)
                self.signed += 1
                if self.signed > after:
                    raise SealNotSigned("no answer in time")
                return mac

        with pytest.raises(SealNotSigned, match="no answer"):
            await add_macs(books.owner, Tired(tmp_path))
        assert await books.owner.fetchval("SELECT count(*) FROM ledger.seal_macs") == 1 + after
        books.token = Token(tmp_path)
        assert await add_macs(books.owner, books.token) > 1
        assert await books.wrong() == set()

    with_books(database, tmp_path, script)


def test_a_token_that_refuses_is_said_again_and_measured(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """New seals go on. Somebody who looks in the night sees since when there are no MACs."""
    now = 1_000.0

    class Refusing(Token):
        async def sign(self, seal: SealToSign) -> bytes:
            raise SealNotSigned("ledger_rewound")

    async def script(books: Books) -> None:
        nonlocal now
        sealing = Sealing("", 1.0, 1.0, lambda: contextlib.nullcontext(books.token), lambda: now)
        await sealing.seal(books.owner, books.token)
        assert sealing.behind_s() == {"seals": 0.0, "macs": 0.0} and not caplog.records
        await asyncio.to_thread(more(database))
        refusing, before = Refusing(tmp_path), await books.owner.fetchval("SELECT count(*) FROM ledger.seals")
        for _ in range(int(2 * REMINDER_S)):
            now += 1.0
            await sealing.seal(books.owner, refusing)
        assert await books.owner.fetchval("SELECT count(*) FROM ledger.seals") == before + 1
        assert sealing.behind_s() == {"seals": 0.0, "macs": 2 * REMINDER_S}
        assert [record.getMessage()[-27:] for record in caplog.records] == [
            "MAC is 1 s old: ledger_rewound"[-27:],
            "MAC is 301 s old: ledger_rewound"[-27:],
        ]
        await sealing.seal(books.owner, books.token)
        assert sealing.behind_s() == {"seals": 0.0, "macs": 0.0}

    with_books(database, tmp_path, script)


def test_the_next_verification_begins_where_the_last_one_ended(database: Database, tmp_path: Path) -> None:
    async def script(books: Books) -> None:
        await books.close()
        first = await books.verify()
        assert first.verified is not None and first.checked == first.outcomes
        await asyncio.to_thread(more(database))
        await books.close()
        second = await books.verify(first.verified)
        assert second.whole and second.checked == 1 and second.since == first.head
        everything = await books.verify()
        for field in ("intents", "outcomes", "postings", "seals", "head", "digest", "mac"):
            assert getattr(second, field) == getattr(everything, field), field
        await books.owner.execute("SET session_replication_role = replica")
        await books.owner.execute("UPDATE ledger.outcomes SET response_code = '05' WHERE intent_id = 1")
        assert await books.wrong(second.verified) == set(), "an older row is the matter of --all"
        assert await books.wrong() == {"seals"}
        await books.owner.execute("UPDATE ledger.seals SET digest = sha256('x') WHERE number = $1", second.head)
        assert await books.wrong(second.verified) == {"seals", "seal-macs"}

    with_books(database, tmp_path, script)


def test_a_new_payment_on_an_old_one_is_checked_with_the_whole_payment(database: Database, tmp_path: Path) -> None:
    async def script(books: Books) -> None:
        await books.close()
        first = await books.verify()
        await books.owner.execute("SET session_replication_role = replica")
        number = await books.owner.fetchval("SELECT max(id) + 1 FROM ledger.intents")
        capture = await books.owner.fetchval("SELECT id FROM ledger.intents WHERE kind = 'capture'")
        # A second capture of a hold that was captured already, as nobody but the owner could book it.
        await books.owner.execute(
            "INSERT INTO ledger.intents SELECT (jsonb_populate_record(i, jsonb_build_object('id', $1::bigint, 'key',"
            " 'planted'))).* FROM ledger.intents i WHERE id = $2",
            *(number, capture),
        )
        await books.owner.execute(
            "INSERT INTO ledger.outcomes (intent_id, decision, response_code, auth_code, reason, answer, original_id,"
            " original_seq) SELECT $1, decision, response_code, auth_code, reason, answer, original_id, 2"
            " FROM ledger.outcomes WHERE intent_id = $2",
            *(number, capture),
        )
        await books.owner.execute(
            "INSERT INTO ledger.postings SELECT $1, line, account_id, layer, currency, amount_minor"
            " FROM ledger.postings WHERE intent_id = $2",
            *(number, capture),
        )
        await books.close()
        assert await books.wrong(first.verified) >= {"captures"}

    with_books(database, tmp_path, script)


@pytest.mark.parametrize(
    "alter", [lambda data: data[:-2] + b"x}", lambda data: data.replace(b"1", b"2"), lambda _: b"{"]
)
def test_a_head_file_that_was_altered_stops_the_signing_and_is_said(
    tmp_path: Path, alter: Callable[[bytes], bytes]
) -> None:
    token = Token(tmp_path)
    asyncio.run(token.sign(SealToSign(1, b"a" * 32, GENESIS, b"")))
    file = tmp_path / "ledger_head.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert Token(tmp_path).witness.head == token.witness.head
    file.write_bytes(alter(file.read_bytes()))
    again = Token(tmp_path)
    assert "ledger_head.json" in again.witness.problem
    with pytest.raises(SealNotSigned, match="accept-ledger-head"):
        asyncio.run(again.sign(SealToSign(2, b"b" * 32, b"a" * 32, b"")))


def test_the_token_signs_each_number_once_and_in_order(tmp_path: Path) -> None:
    token = Token(tmp_path)
    first = asyncio.run(token.sign(SealToSign(1, b"a" * 32, GENESIS, b"")))
    second = asyncio.run(token.sign(SealToSign(2, b"b" * 32, b"a" * 32, first)))
    assert asyncio.run(token.sign(SealToSign(2, b"b" * 32, b"a" * 32, first))) == second
    for number, digest, previous in (
        (1, b"a", GENESIS),
        (2, b"x", b"a" * 32),
        (3, b"c", b"x" * 32),
        (4, b"d", b"b" * 32),
    ):
        with pytest.raises(SealNotSigned, match="does not follow"):
            asyncio.run(token.sign(SealToSign(number, digest[:1] * 32, previous, b"")))
    # Another HSM with the same token goes on from a MAC that it can check.
    (tmp_path / "other").mkdir()
    other = Token(tmp_path / "other")
    asyncio.run(other.sign(SealToSign(1, b"a" * 32, GENESIS, b"")))
    asyncio.run(other.sign(SealToSign(3, b"c" * 32, b"b" * 32, second)))
