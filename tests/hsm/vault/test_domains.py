"""Token domains and detokenization."""

from __future__ import annotations

import asyncio

import pytest
import trio

from hsm.commands import HsmRefused
from hsm.software import SoftwareHsm
from hsm.vault.desk import PURPOSES
from hsm.vault_commands import Detokenize, Detokenized, ResolveToken, Tokenize
from tests.conftest import Database
from tests.hsm.vault.counter import AMEX, DOMAIN, OTHER, VISA, Counter, at_counter


def test_a_token_of_another_merchant_is_unknown(database: Database) -> None:
    async def test(counter: Counter) -> None:
        for kind in ("tok", "pm"):
            token = await counter.token(kind=kind)
            for domain in (OTHER, "", "acct_one "):
                for consume in (False, True):
                    resolve = ResolveToken(id=token.id, domain=domain, consume=consume)
                    assert await counter.refusal(resolve) == "token_unknown"
            found = await counter.ask(ResolveToken(id=token.id, domain=DOMAIN, consume=True))
            assert (found.surrogate, found.last4) == (token.surrogate, "4242")

    at_counter(database, test)


def test_tokens_without_a_domain_are_of_no_merchant(database: Database) -> None:
    async def test(counter: Counter) -> None:
        token = await counter.token(domain="")
        assert await counter.refusal(ResolveToken(id=token.id, domain=DOMAIN)) == "token_unknown"
        assert (await counter.ask(ResolveToken(id=token.id))).id == token.id

    at_counter(database, test)


def test_an_exchange_keeps_the_domain(database: Database) -> None:
    async def test(counter: Counter) -> None:
        tok = await counter.token(kind="tok")
        stolen = Tokenize(source=tok.id, kind="pm", domain=OTHER)
        assert await counter.refusal(stolen) == "token_unknown"
        pm = await counter.ask(Tokenize(source=tok.id, kind="pm", domain=DOMAIN))
        assert (await counter.ask(ResolveToken(id=pm.id, domain=DOMAIN))).expiry == "3012"
        assert await counter.refusal(ResolveToken(id=pm.id, domain=OTHER)) == "token_unknown"
        assert await counter.refusal(Tokenize(source=tok.id, kind="pm", domain=DOMAIN)) == "token_used"
        assert await counter.refusal(Tokenize(source=tok.id, domain=DOMAIN)) == "malformed"

    at_counter(database, test)


def test_merchants_share_the_surrogate_of_a_card(database: Database) -> None:
    async def test(counter: Counter) -> None:
        one, other = await counter.token(domain=DOMAIN), await counter.token(domain=OTHER)
        assert one.surrogate == other.surrogate and one.id != other.id

    at_counter(database, test)


def test_the_hsm_in_memory_has_the_same_domains() -> None:
    async def test() -> None:
        hsm = SoftwareHsm()
        tok = await hsm.tokenize(Tokenize(pan=VISA, expiry="3012", kind="tok", domain=DOMAIN))
        for refused in (
            hsm.resolve(ResolveToken(id=tok.id, domain=OTHER)),
            hsm.tokenize(Tokenize(source=tok.id, kind="pm", domain=OTHER)),
            hsm.resolve(ResolveToken(id=tok.id, consume=True)),
        ):
            with pytest.raises(HsmRefused) as caught:
                await refused
            assert caught.value.code == "token_unknown"
        pm = await hsm.tokenize(Tokenize(source=tok.id, kind="pm", domain=DOMAIN))
        assert (await hsm.resolve(ResolveToken(id=pm.id, domain=DOMAIN))).surrogate == tok.surrogate
        with pytest.raises(HsmRefused) as caught:
            await hsm.resolve(ResolveToken(id=pm.id, domain=OTHER))
        assert caught.value.code == "token_unknown"

    trio.run(test)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_detokenize_gives_number_and_expiry(database: Database, purpose: str) -> None:
    async def test(counter: Counter) -> None:
        await counter.card(AMEX, "2912")
        token = await counter.token(AMEX, expiry="3107")
        card = await counter.card(AMEX)
        for name, domain, expiry in (
            (token.id, DOMAIN, "3107"),
            (card, "", "2912"),
            (token.surrogate, "", "2912"),
        ):
            answer = await counter.ask(Detokenize(id=name, domain=domain, purpose=purpose))
            assert answer == Detokenized(AMEX, expiry)
            assert AMEX not in repr(answer)

    at_counter(database, test)


@pytest.mark.parametrize(
    ("name", "domain", "purpose", "code"),
    [
        ("pm", OTHER, "dispute", "token_unknown"),
        ("pm", "", "dispute", "token_unknown"),
        ("surrogate", DOMAIN, "dispute", "token_unknown"),
        ("card_none", "", "dispute", "card_unknown"),
        ("9900009999999999", "", "dispute", "card_unknown"),
        ("pm", DOMAIN, "curiosity", "malformed"),
        ("pm", DOMAIN, "", "malformed"),
    ],
)
def test_detokenize_refuses(database: Database, name: str, domain: str, purpose: str, code: str) -> None:
    async def test(counter: Counter) -> None:
        token = await counter.token()
        named = {"pm": token.id, "surrogate": token.surrogate}.get(name, name)
        assert await counter.refusal(Detokenize(id=named, domain=domain, purpose=purpose)) == code

    at_counter(database, test)


def test_a_tok_pays_once_among_many_that_ask(database: Database) -> None:
    async def test(counter: Counter) -> None:
        tok = await counter.token(kind="tok")
        asked = [
            counter.ask(ResolveToken(id=tok.id, domain=DOMAIN, consume=True, used_by=f"pi_{number}"))
            for number in range(8)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(not isinstance(answer, HsmRefused) for answer in answers) == 1

    at_counter(database, test)
