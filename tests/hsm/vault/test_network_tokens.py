"""Network tokens: provisioned, paid with once a cryptogram, in their domain, through their life."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import pytest

from hsm.algorithms.clear_keys import ClearAesKey
from hsm.algorithms.token_cryptogram import make_cryptogram
from hsm.commands import HsmRefused, NetworkTokenUse, Screen, Screened
from hsm.engine import Missing, NamedNetworkToken
from hsm.vault.cards import Card, Numbers
from hsm.vault.network_token_rules import CHANGES, TRANSITIONS, next_state
from hsm.vault_commands import (
    ChangeNetworkToken,
    GenerateTokenCryptogram,
    NetworkToken,
    ProvisionNetworkToken,
    ReadNetworkToken,
    TokenCryptogram,
)
from messages.card import luhn_valid
from tests.conftest import Database
from tests.hsm.conftest import execute
from tests.hsm.vault.counter import AMEX, DOMAIN, OTHER, VISA, Counter, at_counter

STATES = ("active", "suspended", "deleted")


async def provisioned(counter: Counter, **restriction: str) -> NetworkToken:
    token: NetworkToken = await counter.ask(
        ProvisionNetworkToken(pan=VISA, domain=DOMAIN, expiry="3012", **restriction)
    )
    return token


async def cryptogram(counter: Counter, token: NetworkToken, /, **changes: Any) -> TokenCryptogram:
    made: TokenCryptogram = await counter.ask(GenerateTokenCryptogram(id=token.id, domain=DOMAIN, **changes))
    return made


async def paid(counter: Counter, dpan: str, cryptogram: bytes, **use: str) -> str:
    """Screen a payment as the service does; returns the card's token, or the code of the refusal."""
    try:
        return (await screened(counter, dpan, cryptogram, **use)).token
    except HsmRefused as refused:
        return refused.code


async def screened(counter: Counter, dpan: str, cryptogram: bytes, **use: str) -> Screened:
    """The answer of the service."""
    request = Screen(pan=dpan, network_token=NetworkTokenUse(cryptogram=cryptogram, **use), leading=11)
    missing: Missing = counter.engine.screen(request)  # type: ignore[assignment]
    card = await counter.vault.find(missing)
    assert isinstance(card, Card)
    return counter.engine.screened(request, card)


def test_a_network_token_pays_as_its_card(database: Database) -> None:
    async def test(counter: Counter) -> None:
        card = await counter.card()
        token = await provisioned(counter)
        assert (token.card, token.state, token.expiry, token.counter) == (card, "active", "3012", 0)
        assert token.dpan.startswith("990001") and len(token.dpan) == 16 and luhn_valid(token.dpan)
        assert token.dpan not in repr(token)
        for number in (1, 2, 3):
            made = await cryptogram(counter, token)
            assert (made.dpan, made.expiry, made.counter) == (token.dpan, "3012", number)
            assert await paid(counter, token.dpan, made.cryptogram) == card
        assert (await counter.ask(ReadNetworkToken(id=token.id, domain=DOMAIN))).counter == 3

    at_counter(database, test)


def test_routing_sees_the_digits_of_the_card_behind_a_network_token(database: Database) -> None:
    async def test(counter: Counter) -> None:
        await counter.card()
        token = await provisioned(counter)
        made = await cryptogram(counter, token)
        answer = await screened(counter, token.dpan, made.cryptogram)
        assert answer.leading == VISA[:11]
        assert token.dpan[:11] not in (answer.leading, answer.bin)

    at_counter(database, test)


def test_the_number_is_told_once_and_kept_encrypted(database: Database) -> None:
    async def test(counter: Counter) -> None:
        token = await provisioned(counter)
        read = await counter.ask(ReadNetworkToken(id=token.id, domain=DOMAIN))
        assert read == msgspec.structs.replace(token, dpan="")
        rows = await asyncio.to_thread(
            execute, database.dsn("cardswitch_vault"), "SELECT n::text AS row FROM vault.network_tokens n"
        )
        assert len(rows) == 1 and token.dpan not in rows[0]["row"]

    at_counter(database, test)


def test_sources_of_a_network_token(database: Database) -> None:
    async def test(counter: Counter) -> None:
        pm = await counter.token(AMEX, expiry="3107")
        card = await counter.card(AMEX)
        for source, expiry in ((pm.id, "3107"), (card, "3107"), (pm.surrogate, "3107")):
            token = await counter.ask(ProvisionNetworkToken(source=source, domain=DOMAIN))
            assert (token.card, token.expiry) == (card, expiry)
        for request, code in (
            (ProvisionNetworkToken(source=pm.id, domain=OTHER), "token_unknown"),
            (ProvisionNetworkToken(source="card_none", domain=DOMAIN), "card_unknown"),
            (ProvisionNetworkToken(source=token.dpan, domain=DOMAIN, expiry="3012"), "token_unknown"),
            (ProvisionNetworkToken(pan=token.dpan, domain=DOMAIN, expiry="3012"), "pan_invalid"),
            (ProvisionNetworkToken(pan=AMEX, source=pm.id, domain=DOMAIN), "malformed"),
            (ProvisionNetworkToken(domain=DOMAIN), "malformed"),
            (ProvisionNetworkToken(source=pm.id, domain=DOMAIN, channel="carrier pigeon"), "malformed"),
            (ProvisionNetworkToken(source=pm.id, domain=DOMAIN, expiry="12/30"), "malformed"),
            (ProvisionNetworkToken(source=card, domain=""), "malformed"),
        ):
            assert await counter.refusal(request) == code

    at_counter(database, test)


def test_a_number_that_is_taken_is_replaced(database: Database) -> None:
    class Repeating(Numbers):
        def __init__(self) -> None:
            super().__init__()
            self.given = ["9900010000000008", "9900010000000008", "9900010000000016"]

        def number(self, leading: str) -> str:
            return self.given.pop(0) if leading == "990001" else super().number(leading)

    async def test(counter: Counter) -> None:
        assert (await provisioned(counter)).dpan == "9900010000000008"
        assert (await provisioned(counter)).dpan == "9900010000000016"

    at_counter(database, test, numbers=Repeating())


@pytest.mark.parametrize(
    "alter",
    [
        lambda made: b"",
        lambda made: bytes(20),
        lambda made: made[:19],
        lambda made: made + b"\0",
        lambda made: b"\2" + made[1:],
        lambda made: made[:4] + bytes([made[4] ^ 2]) + made[5:],  # the counter
        lambda made: made[:5] + bytes([made[5] ^ 1]) + made[6:],  # the unpredictable number
        lambda made: made[:16] + bytes([made[16] ^ 1]) + made[17:],  # the MAC
        lambda made: made[:19] + b"\1",
    ],
)
def test_an_altered_cryptogram_is_invalid_and_uses_nothing_up(database: Database, alter: Any) -> None:
    async def test(counter: Counter) -> None:
        token = await provisioned(counter)
        made = await cryptogram(counter, token)
        assert await paid(counter, token.dpan, alter(made.cryptogram)) == "cryptogram_invalid"
        assert await paid(counter, token.dpan, made.cryptogram) == token.card

    at_counter(database, test)


def test_a_cryptogram_is_of_one_token_and_one_key(database: Database) -> None:
    async def test(counter: Counter) -> None:
        one, other = await provisioned(counter), await provisioned(counter)
        made = await cryptogram(counter, one)
        assert await paid(counter, other.dpan, made.cryptogram) == "cryptogram_invalid"
        forged = make_cryptogram(ClearAesKey(bytes(32)), one.dpan, "3012", 7, bytes(4))
        assert await paid(counter, one.dpan, forged.encode()) == "cryptogram_invalid"
        wrong_date = make_cryptogram(ClearAesKey(counter.keyring.token_cryptogram), one.dpan, "3011", 7, bytes(4))
        assert await paid(counter, one.dpan, wrong_date.encode()) == "cryptogram_invalid"
        right = make_cryptogram(ClearAesKey(counter.keyring.token_cryptogram), one.dpan, "3012", 7, bytes(4))
        assert await paid(counter, one.dpan, right.encode()) == one.card

    at_counter(database, test)


def test_a_payment_without_a_cryptogram_or_of_an_unknown_number(database: Database) -> None:
    async def test(counter: Counter) -> None:
        token = await provisioned(counter)
        with pytest.raises(HsmRefused) as caught:
            counter.engine.screen(Screen(pan=token.dpan))
        assert caught.value.code == "cryptogram_invalid"
        made = await cryptogram(counter, token)
        assert await paid(counter, "9900019999999999", made.cryptogram) == "network_token_unknown"

    at_counter(database, test)


def test_replays_are_refused_and_repeats_of_one_message_are_answered(database: Database) -> None:
    async def test(counter: Counter) -> None:
        token = await provisioned(counter)
        first, second = await cryptogram(counter, token), await cryptogram(counter, token)
        assert await paid(counter, token.dpan, second.cryptogram, used_by="payment 1") == token.card
        assert await paid(counter, token.dpan, second.cryptogram, used_by="payment 1") == token.card
        assert await paid(counter, token.dpan, second.cryptogram, used_by="payment 2") == "cryptogram_replayed"
        assert await paid(counter, token.dpan, second.cryptogram) == "cryptogram_replayed"
        assert await paid(counter, token.dpan, first.cryptogram) == "cryptogram_replayed"  # overtaken
        third = await cryptogram(counter, token)
        assert await paid(counter, token.dpan, third.cryptogram) == token.card
        assert await paid(counter, token.dpan, third.cryptogram) == "cryptogram_replayed"

    at_counter(database, test)


def test_of_many_payments_with_one_cryptogram_one_is_taken(database: Database) -> None:
    async def test(counter: Counter) -> None:
        token = await provisioned(counter)
        made = await cryptogram(counter, token)
        payments = [paid(counter, token.dpan, made.cryptogram, used_by=f"{number}") for number in range(12)]
        results = await asyncio.gather(*payments)
        assert sorted(results) == sorted([token.card, *["cryptogram_replayed"] * 11])

    at_counter(database, test)


def test_the_counter_outlives_the_process(database: Database) -> None:
    token: NetworkToken
    made: TokenCryptogram
    keyrings = []

    async def before(counter: Counter) -> None:
        nonlocal token, made
        keyrings.append(counter.keyring)
        token = await provisioned(counter)
        made = await cryptogram(counter, token)
        assert await paid(counter, token.dpan, made.cryptogram) == token.card

    async def after(counter: Counter) -> None:
        assert await paid(counter, token.dpan, made.cryptogram) == "cryptogram_replayed"
        assert (await cryptogram(counter, token)).counter == made.counter + 1

    at_counter(database, before)
    at_counter(database, after, keyring=keyrings[0])


def test_counters_of_the_requestor_only_rise(database: Database) -> None:
    async def test(counter: Counter) -> None:
        token = await provisioned(counter)
        assert (await cryptogram(counter, token, counter=40, unpredictable=b"abcd")).cryptogram[5:9] == b"abcd"
        for repeated in (40, 39, 1):
            request = GenerateTokenCryptogram(id=token.id, domain=DOMAIN, counter=repeated)
            assert await counter.refusal(request) == "cryptogram_replayed"
        assert (await cryptogram(counter, token)).counter == 41
        assert (await cryptogram(counter, token, counter=2**32 - 1)).counter == 2**32 - 1
        spent = GenerateTokenCryptogram(id=token.id, domain=DOMAIN)
        assert await counter.refusal(spent) == "cryptogram_replayed"
        for wrong in ({"counter": 2**32}, {"counter": -1}, {"unpredictable": b"abc"}):
            request = GenerateTokenCryptogram(id=token.id, domain=DOMAIN, **wrong)
            assert await counter.refusal(request) == "malformed"

    at_counter(database, test)


@pytest.mark.parametrize(
    ("restriction", "use", "allowed"),
    [
        ({}, {}, True),
        ({}, {"merchant": "ANYSHOP", "channel": "pos"}, True),
        ({"merchant": "DEMOSHOP"}, {"merchant": "DEMOSHOP", "channel": "pos"}, True),
        ({"merchant": "DEMOSHOP"}, {"merchant": "OTHERSHOP"}, False),
        ({"merchant": "DEMOSHOP"}, {}, False),
        ({"channel": "ecom"}, {"channel": "ecom", "merchant": "ANYSHOP"}, True),
        ({"channel": "ecom"}, {"channel": "contactless"}, False),
        ({"channel": "ecom"}, {"merchant": "ecom"}, False),
        ({"merchant": "DEMOSHOP", "channel": "ecom"}, {"merchant": "DEMOSHOP", "channel": "ecom"}, True),
        ({"merchant": "DEMOSHOP", "channel": "ecom"}, {"merchant": "DEMOSHOP", "channel": "moto"}, False),
        ({"merchant": "DEMOSHOP", "channel": "ecom"}, {"merchant": "OTHERSHOP", "channel": "ecom"}, False),
    ],
)
def test_domain_restrictions(database: Database, restriction: Any, use: Any, allowed: bool) -> None:
    async def test(counter: Counter) -> None:
        token = await provisioned(counter, **restriction)
        made = await cryptogram(counter, token)
        wanted = token.card if allowed else "domain_restricted"
        assert await paid(counter, token.dpan, made.cryptogram, **use) == wanted
        if not allowed:  # and the cryptogram is still good where it belongs
            assert await paid(counter, token.dpan, made.cryptogram, **restriction) == token.card

    at_counter(database, test)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("change", CHANGES)
def test_life_of_a_network_token(state: str, change: str) -> None:
    if (state, change) in TRANSITIONS:
        assert next_state(state, change) == TRANSITIONS[state, change]
    else:
        with pytest.raises(HsmRefused) as caught:
            next_state(state, change)
        assert caught.value.code == f"network_token_{state}"


def test_nothing_comes_back_from_deleted_and_all_states_are_reached() -> None:
    assert not any(state == "deleted" for state, _ in TRANSITIONS)
    assert {"active", *TRANSITIONS.values()} == set(STATES)
    with pytest.raises(HsmRefused):
        next_state("active", "resurrect")


def test_suspended_and_deleted_tokens_do_not_pay(database: Database) -> None:
    async def test(counter: Counter) -> None:
        token = await provisioned(counter)
        made = await cryptogram(counter, token)

        async def change(what: str) -> NetworkToken:
            changed: NetworkToken = await counter.ask(ChangeNetworkToken(id=token.id, domain=DOMAIN, change=what))
            return changed

        generate = GenerateTokenCryptogram(id=token.id, domain=DOMAIN)
        assert (await change("suspend")).state == "suspended"
        assert await paid(counter, token.dpan, made.cryptogram) == "network_token_suspended"
        assert await counter.refusal(generate) == "network_token_suspended"
        assert (await change("resume")).state == "active"
        assert await paid(counter, token.dpan, made.cryptogram) == token.card
        assert (await change("delete")).state == "deleted"
        assert await paid(counter, token.dpan, made.cryptogram) == "network_token_deleted"
        assert await counter.refusal(generate) == "network_token_deleted"
        again = ChangeNetworkToken(id=token.id, domain=DOMAIN, change="resume")
        assert await counter.refusal(again) == "network_token_deleted"
        owner = database.dsn("owner")
        rows = await asyncio.to_thread(execute, owner, "SELECT ciphertext, nonce FROM vault.network_tokens")
        assert (rows[0]["ciphertext"], rows[0]["nonce"]) == (None, None)

    at_counter(database, test)


def test_a_number_that_is_compared_needs_no_cryptogram_and_uses_nothing_up(database: Database) -> None:
    async def test(counter: Counter) -> None:
        token = await provisioned(counter)
        made = await cryptogram(counter, token)
        request = Screen(pan=token.dpan, compare=True)
        for change in ("", "suspend", "delete"):
            if change:
                await counter.ask(ChangeNetworkToken(id=token.id, domain=DOMAIN, change=change))
            named = counter.engine.screen(request)
            assert isinstance(named, NamedNetworkToken)
            card = await counter.vault.find(named)
            assert card is not None and card.token == token.card
            if not change:
                assert await paid(counter, token.dpan, made.cryptogram) == token.card
        assert await counter.vault.find(NamedNetworkToken(b"n" * 16)) is None

    at_counter(database, test)


def test_tokens_of_another_requestor_are_unknown(database: Database) -> None:
    async def test(counter: Counter) -> None:
        token = await provisioned(counter)
        for request in (
            ReadNetworkToken(id=token.id, domain=OTHER),
            ChangeNetworkToken(id=token.id, domain=OTHER, change="delete"),
            GenerateTokenCryptogram(id=token.id, domain=OTHER),
            ReadNetworkToken(id="nt_none", domain=DOMAIN),
        ):
            assert await counter.refusal(request) == "network_token_unknown"

    at_counter(database, test)


def test_an_expired_token_does_not_pay(database: Database) -> None:
    clock = [datetime(2030, 12, 31, 23, 59, tzinfo=UTC)]

    async def test(counter: Counter) -> None:
        token = await provisioned(counter)
        made = await cryptogram(counter, token)
        assert await paid(counter, token.dpan, made.cryptogram) == token.card
        made = await cryptogram(counter, token)
        clock[0] = datetime(2031, 1, 1, tzinfo=UTC)
        assert await paid(counter, token.dpan, made.cryptogram) == "network_token_expired"
        generate = GenerateTokenCryptogram(id=token.id, domain=DOMAIN)
        assert await counter.refusal(generate) == "network_token_expired"

    at_counter(database, test, numbers=Numbers(now_ms=lambda: int(clock[0].timestamp() * 1000)))


@pytest.mark.parametrize(
    "change",
    [
        "counter = 0",
        "issued = 0",
        "state = 'active'",
    ],
)
def test_the_table_itself_takes_nothing_back(database: Database, change: str) -> None:
    async def test(counter: Counter) -> None:
        token = await provisioned(counter)
        made = await cryptogram(counter, token)
        assert await paid(counter, token.dpan, made.cryptogram) == token.card
        await counter.ask(ChangeNetworkToken(id=token.id, domain=DOMAIN, change="delete"))
        with pytest.raises(asyncpg.CheckViolationError):
            await asyncio.to_thread(
                execute, database.dsn("cardswitch_vault"), f"UPDATE vault.network_tokens SET {change}"
            )

    at_counter(database, test)
