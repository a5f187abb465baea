"""Cards that are erased, and the chain that proves it."""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import Any

import asyncpg
import msgspec
import pytest

from hsm.commands import HsmRefused, Screen
from hsm.engine import NewCard, UnknownToken
from hsm.vault.cards import Card, Numbers
from hsm.vault.deletions import REASONS, chained
from hsm.vault_commands import (
    DeleteCard,
    DeletionProof,
    Detokenize,
    GenerateTokenCryptogram,
    ProveDeletion,
    ProvisionNetworkToken,
    ReadNetworkToken,
    ResolveToken,
    Tokenize,
)
from tests.conftest import Database
from tests.hsm.conftest import execute, until
from tests.hsm.vault.counter import AMEX, DOMAIN, MASTERCARD, OTHER, SEAL_KEY, VISA, Counter, at_counter, opened
from tests.hsm.vault.test_network_tokens import paid

PANS = (VISA, MASTERCARD, AMEX, "4000000000000002", "4000000000009995")


def deletion(name: str, reason: str = "data_subject_request", by: str = "officer ada") -> DeleteCard:
    return DeleteCard(id=name, reason=reason, by=by)


async def rows(database: Database, sql: str, *arguments: Any, role: str = "owner") -> list[Any]:
    return await asyncio.to_thread(execute, database.dsn(role), sql, *arguments)


def test_everything_of_the_card_is_gone_and_the_proof_says_what(database: Database) -> None:
    async def test(counter: Counter) -> None:
        card = await counter.card()
        tokens = [await counter.token(kind="tok"), await counter.token(), await counter.token(domain=OTHER)]
        dpan = await counter.ask(ProvisionNetworkToken(pan=VISA, domain=DOMAIN, merchant="SHOP", expiry="3012"))
        made = await counter.ask(GenerateTokenCryptogram(id=dpan.id, domain=DOMAIN))
        bystander = await counter.card(MASTERCARD)
        proof: DeletionProof = await counter.ask(deletion(card))
        record = json.loads(proof.record)
        assert record["deleted_at"][-1] == "Z" and len(record.pop("deleted_at")) == 24
        assert len(record.pop("ids")) == 64
        assert record == {
            "number": 1,
            "card": card,
            "surrogate": tokens[0].surrogate,
            "tokens": 3,
            "network_tokens": 1,
            "reason": "data_subject_request",
            "by": "officer ada",
        }
        for request, code in (
            *((ResolveToken(id=token.id, domain=DOMAIN), "token_unknown") for token in tokens),
            (Detokenize(id=card, purpose="dispute"), "card_unknown"),
            (Detokenize(id=tokens[0].surrogate, purpose="dispute"), "card_unknown"),
            (GenerateTokenCryptogram(id=dpan.id, domain=DOMAIN), "network_token_deleted"),
        ):
            assert await counter.refusal(request) == code
        assert await paid(counter, dpan.dpan, made.cryptogram) == "network_token_deleted"
        left = await counter.ask(ReadNetworkToken(id=dpan.id, domain=DOMAIN))
        assert (left.state, left.card, left.merchant, left.expiry) == ("deleted", "", "", "")
        found = await rows(database, "SELECT token FROM vault.cards")
        assert [row["token"] for row in found] == [bystander]
        assert not await rows(database, "SELECT 1 FROM vault.tokens")
        assert (await counter.ask(Detokenize(id=bystander, purpose="dispute"))).pan == MASTERCARD

    at_counter(database, test)


@pytest.mark.parametrize("name", ["card", "surrogate", "tok", "pm"])
def test_any_name_of_the_card_will_do_before_and_after(database: Database, name: str) -> None:
    async def test(counter: Counter) -> None:
        tok = await counter.token(kind="tok")
        pm = await counter.token(domain=OTHER)
        names = {"card": await counter.card(), "surrogate": tok.surrogate, "tok": tok.id, "pm": pm.id}
        proof = await counter.ask(deletion(names[name]))
        for other in names.values():
            assert await counter.ask(deletion(other)) == proof  # the same again, and no second record
            assert (await counter.ask(ProveDeletion(id=other))).record == proof.record
        assert len(await rows(database, "SELECT 1 FROM vault.deletions")) == 1

    at_counter(database, test)


def test_the_cache_has_forgotten_the_card(database: Database) -> None:
    async def test(counter: Counter) -> None:
        card = await counter.card()
        held = counter.cards.by_token(card)
        assert held is not None and not isinstance(counter.engine.screen(Screen(pan=VISA)), NewCard)
        await counter.ask(deletion(card))
        counter.cards.add(held)  # an answer of the database that was under way meanwhile
        assert counter.cards.by_token(card) is None
        assert counter.cards.by_surrogate(held.surrogate) is None
        assert isinstance(counter.engine.screen(Screen(pan=VISA)), NewCard)
        assert await counter.vault.find(UnknownToken(card)) is None

    at_counter(database, test)


def test_the_same_number_later_is_a_new_card(database: Database) -> None:
    async def test(counter: Counter) -> None:
        before = await counter.token()
        old = await counter.card()
        await counter.ask(deletion(old))
        after = await counter.token()
        new = await counter.card()
        assert new != old and after.surrogate != before.surrogate
        assert after.fingerprint == before.fingerprint  # so the ledger can still see that it is the same card
        await counter.ask(deletion(new))
        assert len(await rows(database, "SELECT 1 FROM vault.deletions")) == 2

    at_counter(database, test)


def test_the_surrogate_of_an_erased_card_is_never_given_again(database: Database) -> None:
    class Repeating(Numbers):
        def __init__(self) -> None:
            super().__init__()
            self.given = ["9900000000000009", "9900000000000009", "9900000000000017"]

        def number(self, leading: str) -> str:
            return self.given.pop(0)

    async def test(counter: Counter) -> None:
        first = await counter.token()
        assert first.surrogate == "9900000000000009"
        await counter.ask(deletion(first.surrogate))
        assert (await counter.token(MASTERCARD)).surrogate == "9900000000000017"

    at_counter(database, test, numbers=Repeating())


def test_a_token_that_is_made_while_its_card_is_erased(database: Database) -> None:
    async def test(counter: Counter) -> None:
        async with opened(database, keyring=counter.keyring) as other:
            card = await counter.card()
            await other.card()
            await other.ask(deletion(card))
            assert counter.cards.by_token(card) is not None  # this process does not know of it
            token = await counter.token()  # a new card, made at once
            assert (await counter.ask(ResolveToken(id=token.id, domain=DOMAIN))).last4 == "4242"
            assert await counter.card() != card

    at_counter(database, test)


def test_a_payment_that_comes_while_its_card_is_erased_makes_a_new_one(database: Database) -> None:
    async def test(counter: Counter) -> None:
        old = await counter.card()
        counter.cards.drop(old)
        candidate = counter.engine.screen(Screen(pan=VISA))
        assert isinstance(candidate, NewCard)
        owner: Any = await asyncpg.connect(database.dsn("owner"))
        try:
            async with owner.transaction():
                await owner.execute("DELETE FROM vault.cards")
                storing = counter.vault.find(candidate)

                async def waits() -> bool:  # for this transaction
                    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"
                    return bool(await owner.fetchval(waiting, database.name))

                await until(waits)
        finally:
            await owner.close()
        assert await storing == candidate.candidate
        assert counter.cards.by_fingerprint(candidate.candidate.fingerprint) == candidate.candidate

    at_counter(database, test)


def test_an_exchange_that_comes_while_its_card_is_erased_waits_for_the_erasure(database: Database) -> None:
    async def test(counter: Counter) -> None:
        card = await counter.card()
        token = await counter.token(kind="tok")
        owner: Any = await asyncpg.connect(database.dsn("owner"))
        try:
            async with owner.transaction():
                await owner.execute("SELECT vault.begin_erasure($1)", card)
                exchange = asyncio.ensure_future(counter.refusal(Tokenize(source=token.id, kind="pm", domain=DOMAIN)))

                async def waits() -> bool:  # for this transaction
                    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"
                    return bool(await owner.fetchval(waiting, database.name))

                await until(waits)
                await owner.execute("DELETE FROM vault.tokens WHERE card = $1", card)
                await owner.execute("DELETE FROM vault.cards WHERE token = $1", card)
        finally:
            await owner.close()
        assert await exchange == "token_unknown"

    at_counter(database, test)


def test_an_exchange_of_a_used_token_issues_nothing(database: Database) -> None:
    async def test(counter: Counter) -> None:
        token = await counter.token(kind="tok")
        exchange = Tokenize(source=token.id, kind="pm", domain=DOMAIN)
        await counter.ask(exchange)
        assert await counter.refusal(exchange) == "token_used"
        assert len(await rows(database, "SELECT id FROM vault.tokens")) == 2

    at_counter(database, test)


def test_many_deletions_at_once_are_one_chain(database: Database) -> None:
    async def test(counter: Counter) -> None:
        cards = [await counter.card(f"40000000{number:08d}") for number in range(20)]
        tokens = [await counter.token(f"40000000{number:08d}") for number in range(20)]
        async with opened(database, keyring=counter.keyring) as other:
            await asyncio.gather(
                *(counter.ask(deletion(card)) for card in cards), *(other.ask(deletion(token.id)) for token in tokens)
            )
        proof = await counter.ask(ProveDeletion(id=cards[7]))
        assert (proof.chained, proof.problems) == (20, ())

    at_counter(database, test)


@pytest.mark.parametrize("reason", REASONS)
def test_reasons(database: Database, reason: str) -> None:
    async def test(counter: Counter) -> None:
        proof = await counter.ask(deletion(await counter.card(), reason))
        assert json.loads(proof.record)["reason"] == reason

    at_counter(database, test)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"reason": "because"}, "malformed"),
        ({"reason": ""}, "malformed"),
        ({"by": ""}, "malformed"),
        ({"by": "x" * 101}, "malformed"),
        ({"by": "ada\n"}, "malformed"),
        ({"by": "holder of 4242 4242 4242 4242"}, "malformed"),
        ({"id": "card_none"}, "card_unknown"),
        ({"id": "pm_none"}, "card_unknown"),
        ({"id": "9900001234567890"}, "card_unknown"),
        ({"id": ""}, "card_unknown"),
        ({"id": VISA}, "card_unknown"),
    ],
)
def test_refusals_erase_nothing(database: Database, changes: dict[str, str], code: str) -> None:
    async def test(counter: Counter) -> None:
        card = await counter.card()
        assert await counter.refusal(msgspec.structs.replace(deletion(card), **changes)) == code
        assert (await counter.ask(Detokenize(id=card, purpose="dispute"))).pan == VISA
        assert await counter.refusal(ProveDeletion(id=card)) == "card_unknown"

    at_counter(database, test)


def test_the_proof_can_be_checked_by_hand(database: Database) -> None:
    async def test(counter: Counter) -> None:
        first = await counter.ask(deletion(await counter.card()))
        second = await counter.ask(deletion(await counter.card(MASTERCARD)))
        assert (first.previous, second.previous) == ("00" * 32, first.digest)
        for proof in (first, second):
            digest = chained(bytes.fromhex(proof.previous), proof.record)
            assert digest.hex() == proof.digest
            seal = hmac.digest(SEAL_KEY, b"cardswitch vault deletion 1\0" + digest, "sha256")
            assert seal.hex() == proof.seal

    at_counter(database, test)


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        ("UPDATE vault.deletions SET record = replace(record, 'ada', 'eve') WHERE number = 2", "record 2 was changed"),
        ("DELETE FROM vault.deletions WHERE number = 2", "record 2 is missing"),
        ("UPDATE vault.deletions SET surrogate = '9900000000000000' WHERE number = 2", "record 2 differs from"),
        ("UPDATE vault.deletions SET erased = '{}' WHERE number = 2", "record 2 differs from"),
        ("UPDATE vault.deletions SET seal = sha256('x') WHERE number = 3", "record 3: the seal"),
        ("UPDATE vault.deletions SET seal = sha256('x') WHERE number = 1", "record 1: the seal"),
        (
            """UPDATE vault.deletions SET record = replace(record, 'ada', 'eve'),
               digest = sha256(previous || convert_to(replace(record, 'ada', 'eve'), 'UTF8')) WHERE number = 3""",
            "record 3: the seal",
        ),
        ("UPDATE vault.deletions SET record = '{}', digest = sha256(previous || '{}') WHERE number = 3", "be read"),
    ],
)
def test_a_chain_that_was_tampered_with(database: Database, tamper: str, problem: str) -> None:
    async def test(counter: Counter) -> None:
        cards = []
        for pan in PANS[:3]:
            await counter.token(pan)
            cards.append(await counter.card(pan))
            await counter.ask(deletion(cards[-1]))
        assert (await counter.ask(ProveDeletion(id=cards[0]))).problems == ()
        await rows(database, tamper)
        proof = await counter.ask(ProveDeletion(id=cards[0]))
        assert any(problem in found for found in proof.problems), proof.problems

    at_counter(database, test)


def test_no_digit_of_the_card_stays_in_its_record(database: Database) -> None:
    async def test(counter: Counter) -> None:
        token = await counter.token(PANS[4])
        await counter.ask(deletion(token.id))
        (row,) = await rows(database, "SELECT d::text AS row FROM vault.deletions d")
        for gone in (token.id, token.fingerprint, PANS[4][:6]):
            assert gone not in row["row"]

    at_counter(database, test)


def test_a_broken_seal_erases_nothing(database: Database) -> None:
    async def test(counter: Counter) -> None:
        card = await counter.card()

        def broken(data: bytes) -> bytes:
            raise HsmRefused("key_unknown", "no seal today")

        handlers = counter.handlers_with(broken)
        with pytest.raises(HsmRefused):
            await handlers[DeleteCard](deletion(card))
        assert (await counter.ask(Detokenize(id=card, purpose="dispute"))).pan == VISA
        assert isinstance(await counter.vault.find(UnknownToken(card)), Card)

    at_counter(database, test)


@pytest.mark.parametrize(
    "record",
    [
        '{{"number": 1, "card": "{card}", "surrogate": "{surrogate}", "tokens": 0, "network_tokens": 0}}',
        '{{"number": 2, "card": "{card}", "surrogate": "{surrogate}", "tokens": 1, "network_tokens": 0}}',
        '{{"number": 1, "card": "{card}", "surrogate": "9900000000000000", "tokens": 1, "network_tokens": 0}}',
        '{{"number": 1, "card": "card_none", "surrogate": "{surrogate}", "tokens": 0, "network_tokens": 0}}',
    ],
)
def test_the_database_erases_only_what_the_record_says(database: Database, record: str) -> None:
    async def test(counter: Counter) -> None:
        token = await counter.token()
        card = await counter.card()
        text = record.format(card=card, surrogate=token.surrogate)
        sql = "SELECT vault.erase_card($1, '{}', sha256('x'))"
        with pytest.raises(asyncpg.CheckViolationError):
            await rows(database, sql, text, role="cardswitch_vault")
        assert (await counter.ask(Detokenize(id=card, purpose="dispute"))).pan == VISA

    at_counter(database, test)
