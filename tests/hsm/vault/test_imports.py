"""Cards in bulk: the same card gives the same token, from any sender, any number of times."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from hsm.engine import data_keys_used
from hsm.vault_commands import (
    CardNumber,
    DeleteCard,
    Detokenize,
    ImportCards,
    ImportedCard,
    ImportedCards,
    ResolveToken,
)
from hsm.wire import MAX_FRAME_BYTES, encode_body
from tests.conftest import Database
from tests.hsm.conftest import execute
from tests.hsm.vault.counter import AMEX, DOMAIN, MASTERCARD, OTHER, VISA, Counter, at_counter, opened

CARDS = (CardNumber(VISA, "3012"), CardNumber(AMEX, "3107"), CardNumber(MASTERCARD, "2911"))


def test_cards_without_a_domain_get_card_tokens(database: Database) -> None:
    async def test(counter: Counter) -> None:
        answer: ImportedCards = await counter.ask(ImportCards(cards=CARDS))
        assert [card.last4 for card in answer.cards] == ["4242", "0005", "4444"]
        assert [card.bin for card in answer.cards] == ["42424242", "378282", "55555555"]
        assert all(card.token.startswith("card_") and len(card.fingerprint) == 16 for card in answer.cards)
        for card, given in zip(answer.cards, CARDS, strict=True):
            found = await counter.ask(Detokenize(id=card.token, purpose="migration"))
            assert (found.pan, found.expiry) == (given.pan, given.expiry)
        assert await counter.ask(ImportCards(cards=CARDS)) == answer

    at_counter(database, test)


def test_cards_of_a_merchant_get_tokens_of_his(database: Database) -> None:
    async def test(counter: Counter) -> None:
        answer: ImportedCards = await counter.ask(ImportCards(cards=CARDS, domain=DOMAIN))
        for card, given in zip(answer.cards, CARDS, strict=True):
            assert card.token.startswith("pm_")
            token = await counter.ask(ResolveToken(id=card.token, domain=DOMAIN))
            assert (token.last4, token.expiry) == (given.pan[-4:], given.expiry)
        assert await counter.ask(ImportCards(cards=CARDS, domain=DOMAIN)) == answer
        other: ImportedCards = await counter.ask(ImportCards(cards=CARDS, domain=OTHER))
        assert not {card.token for card in other.cards} & {card.token for card in answer.cards}
        renewed = await counter.ask(ImportCards(cards=(CardNumber(VISA, "3312"),), domain=DOMAIN))
        assert renewed.cards[0].token != answer.cards[0].token  # the card that replaces it has another expiry

    at_counter(database, test)


def test_a_card_twice_in_a_batch_is_one_card(database: Database) -> None:
    async def test(counter: Counter) -> None:
        for domain in ("", DOMAIN):
            answer: ImportedCards = await counter.ask(ImportCards(cards=(CARDS[0], CARDS[1], CARDS[0]), domain=domain))
            assert answer.cards[0] == answer.cards[2] != answer.cards[1]

    at_counter(database, test)


@pytest.mark.parametrize("domain", ["", DOMAIN])
def test_the_audit_names_the_keys_of_all_cards(database: Database, domain: str) -> None:
    async def test(counter: Counter) -> None:
        await counter.card(MASTERCARD)
        data_keys_used.set("")
        await counter.ask(ImportCards(cards=CARDS, domain=domain))  # the last is known: it takes a fingerprint only
        assert data_keys_used.get() == "fingerprint/1 pan/1"

    at_counter(database, test)


def test_a_bad_card_is_refused_alone(database: Database) -> None:
    async def test(counter: Counter) -> None:
        bad = (
            CardNumber("4242", "3012"),
            CardNumber("9900001234567890", "3012"),
            CardNumber("9900011234567890", "3012"),
            CardNumber(VISA, "12/30"),
            CardNumber(VISA, "3013"),
            CardNumber(VISA, ""),
        )
        for domain in ("", DOMAIN):
            answer: ImportedCards = await counter.ask(ImportCards(cards=(*bad, CARDS[0]), domain=domain))
            assert [card.refused for card in answer.cards] == [*["pan_invalid"] * 3, *["malformed"] * 3, ""]
            assert answer.cards[0] == ImportedCard(refused="pan_invalid")
            assert answer.cards[-1].last4 == "4242"

    at_counter(database, test)


def test_two_imports_of_the_same_cards_at_once(database: Database) -> None:
    cards = tuple(CardNumber(f"40000000{number:08d}", "3012") for number in range(100))

    async def test(counter: Counter) -> None:
        async with opened(database, keyring=counter.keyring) as other:
            answers = await asyncio.gather(
                counter.ask(ImportCards(cards=cards, domain=DOMAIN)),
                other.ask(ImportCards(cards=cards[::-1], domain=DOMAIN)),
                counter.ask(ImportCards(cards=cards, domain=OTHER)),
            )
        assert answers[0].cards == answers[1].cards[::-1]
        found = await asyncio.to_thread(
            execute, database.dsn("owner"), "SELECT count(*) AS cards, count(DISTINCT card) FROM vault.tokens"
        )
        assert (found[0]["cards"], found[0]["count"]) == (200, 100)

    at_counter(database, test)


def test_a_card_that_another_process_erased_is_stored_anew(database: Database) -> None:
    async def test(counter: Counter) -> None:
        old = await counter.card()
        async with opened(database, keyring=counter.keyring) as other:
            await other.ask(DeleteCard(id=old, reason="import_error", by="ada"))
        answer: ImportedCards = await counter.ask(ImportCards(cards=CARDS, domain=DOMAIN))
        assert (await counter.ask(ResolveToken(id=answer.cards[0].token, domain=DOMAIN))).last4 == "4242"

    at_counter(database, test)


def test_a_batch_has_a_limit_and_fits_a_frame(database: Database) -> None:
    cards = tuple(CardNumber(f"40000000000{number:08d}", "3012") for number in range(501))

    async def test(counter: Counter) -> None:
        assert await counter.refusal(ImportCards(cards=cards)) == "malformed"
        assert await counter.refusal(ImportCards(cards=cards[:1], domain="x" * 101)) == "malformed"
        request = ImportCards(cards=cards[:500], domain="x" * 100)
        answer = await counter.ask(request)
        assert len(encode_body(request)) < MAX_FRAME_BYTES // 2
        assert len(encode_body(answer)) < MAX_FRAME_BYTES - 100
        assert await counter.ask(ImportCards(cards=())) == ImportedCards(())

    at_counter(database, test)


def test_numbers_are_in_no_repr() -> None:
    for shown in (repr(CARDS[0]), repr(ImportCards(cards=CARDS)), str(CARDS)):
        assert VISA not in shown
    assert msgspec.msgpack.decode(encode_body(ImportCards(cards=CARDS)))["cards"][0] == [VISA, "3012"]
