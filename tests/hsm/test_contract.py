"""Answers of every HSM, compared for the one in memory and the real process over its socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from hsm.algorithms.mac import generate_mac
from hsm.algorithms.pinblock import decrypt_pin_block, encrypt_pin_block
from hsm.commands import Dispatch, GenerateMac, HsmRefused, MacCheck, Screen, VerifyMac
from hsm.keys.exchange import load_party_keys
from hsm.software import SoftwareHsm, software_keys
from hsm.trio_client import open_hsm
from hsm.vault_commands import ResolveToken, Tokenize
from messages.card import luhn_valid
from tests.hsm.conftest import KEYS, HsmProcess

VISA, MASTERCARD, AMEX = "4242424242424242", "5555555555554444", "378282246310005"


@dataclass
class Subject:
    """An HSM under test, and the clear keys that the other parties hold."""

    hsm: Any
    keys: dict[str, bytes]

    async def refusal(self, work: Awaitable[object]) -> str:
        with pytest.raises(HsmRefused) as caught:
            await work
        return caught.value.code

    def pin_dispatch(self, token: str, **changes: Any) -> Dispatch:
        block = encrypt_pin_block("1234", VISA, self.keys["zpk-pos"])
        fields: dict[str, Any] = {"pin_block": block, "pin_key_in": "zpk-pos", "pin_key_out": "zpk-alpha"}
        return Dispatch(token=token, **(fields | changes))


Run = Callable[[Callable[[Subject], Awaitable[None]]], None]


@pytest.fixture(params=["memory", "process"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs an async test against one of the two."""

    @asynccontextmanager
    async def memory() -> AsyncIterator[Subject]:
        keys = software_keys(KEYS)
        yield Subject(SoftwareHsm(keys), {name: key.value for name, key in keys.items()})

    @asynccontextmanager
    async def process() -> AsyncIterator[Subject]:
        server: HsmProcess = request.getfixturevalue("hsm_process")
        exchange = server.state / "exchange"
        async with open_hsm(server.socket) as hsm:
            yield Subject(hsm, load_party_keys(exchange, "pos") | load_party_keys(exchange, "alpha"))

    opened = memory if request.param == "memory" else process

    def runner(test: Callable[[Subject], Awaitable[None]]) -> None:
        async def main() -> None:
            async with opened() as subject:
                await test(subject)

        trio.run(main)

    return runner


def test_screen_knows_a_card_again(run: Run) -> None:
    async def test(subject: Subject) -> None:
        first = await subject.hsm.screen(Screen(pan=VISA, expiry="3012"))
        assert first.token.startswith("card_") and len(first.token) == 27
        assert len(first.fingerprint) == 16
        assert (first.masked_pan, first.bin) == ("424242******4242", "42424242")
        assert await subject.hsm.screen(Screen(pan=VISA)) == first
        other = await subject.hsm.screen(Screen(pan=MASTERCARD))
        assert other.token != first.token and other.fingerprint != first.fingerprint

    run(test)


def test_short_numbers_show_six_and_four(run: Run) -> None:
    async def test(subject: Subject) -> None:
        answer = await subject.hsm.screen(Screen(pan=AMEX))
        assert (answer.masked_pan, answer.bin) == ("378282*****0005", "378282")
        assert (await subject.hsm.screen(Screen(pan="400000000002"))).masked_pan == "400000**0002"

    run(test)


def test_screen_without_card_checks_only_the_mac(run: Run) -> None:
    async def test(subject: Subject) -> None:
        mac = generate_mac(subject.keys["zak-pos"], b"message")
        answer = await subject.hsm.screen(Screen(mac=MacCheck("zak-pos", b"message", mac)))
        assert answer.token == ""

    run(test)


def test_a_mac_is_verified_alone(run: Run) -> None:
    async def test(subject: Subject) -> None:
        mac = generate_mac(subject.keys["zak-pos"], b"message")
        await subject.hsm.verify_mac(VerifyMac(check=MacCheck("zak-pos", b"message", mac)))
        for wrong in (bytes(8), mac[:3], b"", mac[:7] + bytes([mac[7] ^ 1]), mac + b"\0"):
            check = MacCheck("zak-pos", b"message", wrong)
            assert await subject.refusal(subject.hsm.verify_mac(VerifyMac(check=check))) == "mac_invalid"

    run(test)


def test_wrong_mac_is_refused_before_anything_else(run: Run) -> None:
    async def test(subject: Subject) -> None:
        mac = generate_mac(subject.keys["zak-pos"], b"message")
        for wrong in (bytes(8), mac[:3], b"", mac[:7] + bytes([mac[7] ^ 1]), mac + b"\0"):
            for pan in (VISA, "no card number"):
                check = MacCheck("zak-pos", b"message", wrong)
                assert await subject.refusal(subject.hsm.screen(Screen(pan=pan, mac=check))) == "mac_invalid"
        right = MacCheck("zak-pos", b"message", mac[:4])
        assert await subject.refusal(subject.hsm.screen(Screen(pan="no card number", mac=right))) == "pan_invalid"

    run(test)


def test_generated_mac_is_that_of_the_other_party(run: Run) -> None:
    async def test(subject: Subject) -> None:
        answer = await subject.hsm.mac(GenerateMac(key="zak-pos", data=b"message"))
        assert answer.mac == generate_mac(subject.keys["zak-pos"], b"message")

    run(test)


@pytest.mark.parametrize(
    "pan", ["", "42424242424", "4" * 20, "4242-4242-4242", "４２４２４２４２４２４２４２４２", "9900001234567890"]
)
def test_pans_that_are_none(run: Run, pan: str) -> None:
    async def test(subject: Subject) -> None:
        if pan:
            assert await subject.refusal(subject.hsm.screen(Screen(pan=pan))) == "pan_invalid"
        assert await subject.refusal(subject.hsm.tokenize(Tokenize(pan=pan, expiry="3012"))) == "pan_invalid"

    run(test)


def test_surrogate_leads_to_the_same_card(run: Run) -> None:
    async def test(subject: Subject) -> None:
        known = await subject.hsm.tokenize(Tokenize(pan=VISA, expiry="3012"))
        assert known.surrogate.startswith("990000") and len(known.surrogate) == 16 and luhn_valid(known.surrogate)
        by_surrogate = await subject.hsm.screen(Screen(pan=known.surrogate, surrogate=True))
        assert by_surrogate == await subject.hsm.screen(Screen(pan=VISA))
        for unknown in ("9900000000000000", VISA):
            refused = subject.hsm.screen(Screen(pan=unknown, surrogate=True))
            assert await subject.refusal(refused) == "card_unknown"

    run(test)


def test_a_card_that_is_compared_is_not_stored(run: Run) -> None:
    async def test(subject: Subject) -> None:
        for pan in (VISA, AMEX, "5200828282828210"):
            compared = await subject.hsm.screen(Screen(pan=pan, compare=True))
            assert compared.token == compared.bin == ""
            known = await subject.hsm.screen(Screen(pan=pan))
            assert (compared.fingerprint, compared.masked_pan) == (known.fingerprint, known.masked_pan)
        stored = await subject.hsm.tokenize(Tokenize(pan=VISA, expiry="3012"))
        by_surrogate = await subject.hsm.screen(Screen(pan=stored.surrogate, surrogate=True, compare=True))
        assert by_surrogate.fingerprint == (await subject.hsm.screen(Screen(pan=VISA))).fingerprint
        refused = subject.hsm.screen(Screen(pan="9900000000000000", surrogate=True, compare=True))
        assert await subject.refusal(refused) == "card_unknown"
        for none in ("42424242424", "4242-4242-4242", stored.surrogate):
            assert await subject.refusal(subject.hsm.screen(Screen(pan=none, compare=True))) == "pan_invalid"

    run(test)


def test_a_compared_card_waits_for_its_mac(run: Run) -> None:
    async def test(subject: Subject) -> None:
        check = MacCheck("zak-pos", b"message", bytes(8))
        assert await subject.refusal(subject.hsm.screen(Screen(pan=VISA, mac=check, compare=True))) == "mac_invalid"

    run(test)


@pytest.mark.parametrize(
    ("asked", "told"), [(0, ""), (6, "424242"), (9, "424242424"), (11, VISA[:11]), (16, VISA[:11])]
)
def test_leading_digits_are_told_where_they_are_asked_for(run: Run, asked: int, told: str) -> None:
    async def test(subject: Subject) -> None:
        known = await subject.hsm.tokenize(Tokenize(pan=VISA, expiry="3012"))
        by_number = await subject.hsm.screen(Screen(pan=VISA, leading=asked))
        by_surrogate = await subject.hsm.screen(Screen(pan=known.surrogate, surrogate=True, leading=asked))
        assert (by_number.leading, by_surrogate.leading) == (told, told)
        assert VISA[:7] not in repr(by_number)

    run(test)


def test_leading_digits_of_a_card_seen_for_the_first_time(run: Run) -> None:
    async def test(subject: Subject) -> None:
        assert (await subject.hsm.screen(Screen(pan="5105105105105100", leading=11))).leading == "51051051051"

    run(test)


def test_dispatch_gives_pan_and_expiry(run: Run) -> None:
    async def test(subject: Subject) -> None:
        card = await subject.hsm.screen(Screen(pan=AMEX, expiry="3107"))
        answer = await subject.hsm.dispatch(Dispatch(token=card.token))
        assert (answer.pan, answer.pin_block) == (AMEX, b"")
        assert answer.expiry in ("3107", "")  # the test before this one may have stored the card without
        assert await subject.refusal(subject.hsm.dispatch(Dispatch(token="card_none"))) == "card_unknown"

    run(test)


def test_pin_goes_from_one_zone_to_the_other(run: Run) -> None:
    async def test(subject: Subject) -> None:
        card = await subject.hsm.screen(Screen(pan=VISA))
        answer = await subject.hsm.dispatch(subject.pin_dispatch(card.token))
        assert decrypt_pin_block(answer.pin_block, VISA, subject.keys["zpk-alpha"]) == "1234"

    run(test)


def test_broken_pin_blocks_are_refused(run: Run) -> None:
    async def test(subject: Subject) -> None:
        card = await subject.hsm.screen(Screen(pan=VISA))
        other_card = encrypt_pin_block("1234", "4000000000009995", subject.keys["zpk-pos"])
        other_key = encrypt_pin_block("1234", VISA, subject.keys["zpk-alpha"])
        for block in (other_card, other_key, bytes(7), bytes(16), b"x"):
            wanted = subject.pin_dispatch(card.token, pin_block=block)
            assert await subject.refusal(subject.hsm.dispatch(wanted)) == "pin_block_invalid"

    run(test)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"pin_key_in": "zak-pos"}, "key_usage"),
        ({"pin_key_out": "zak-pos"}, "key_usage"),
        ({"pin_key_in": "none"}, "key_unknown"),
        ({"pin_key_out": ""}, "key_unknown"),
    ],
)
def test_pin_translation_needs_pin_keys(run: Run, changes: dict[str, Any], code: str) -> None:
    async def test(subject: Subject) -> None:
        card = await subject.hsm.screen(Screen(pan=VISA))
        assert await subject.refusal(subject.hsm.dispatch(subject.pin_dispatch(card.token, **changes))) == code

    run(test)


@pytest.mark.parametrize(("key", "code"), [("zpk-pos", "key_usage"), ("none", "key_unknown"), ("", "key_unknown")])
def test_macs_need_mac_keys(run: Run, key: str, code: str) -> None:
    async def test(subject: Subject) -> None:
        assert await subject.refusal(subject.hsm.mac(GenerateMac(key=key, data=b"x"))) == code
        check = MacCheck(key, b"x", bytes(8))
        assert await subject.refusal(subject.hsm.screen(Screen(pan=VISA, mac=check))) == code

    run(test)


def test_tok_pays_once_and_pm_again_and_again(run: Run) -> None:
    async def test(subject: Subject) -> None:
        hsm = subject.hsm
        tok = await hsm.tokenize(Tokenize(pan=VISA, expiry="3012", kind="tok"))
        pm = await hsm.tokenize(Tokenize(pan=VISA, expiry="3111", kind="pm"))
        assert tok.id.startswith("tok_") and pm.id.startswith("pm_")
        assert (tok.surrogate, tok.fingerprint, tok.last4) == (pm.surrogate, pm.fingerprint, "4242")
        assert (tok.expiry, pm.expiry) == ("3012", "3111")
        assert not (await hsm.resolve(ResolveToken(id=tok.id))).used
        assert (await hsm.resolve(ResolveToken(id=tok.id, consume=True, used_by="pi_1"))).used
        assert (await hsm.resolve(ResolveToken(id=tok.id, consume=True, used_by="pi_1"))).surrogate == tok.surrogate
        for used_by in ("pi_2", ""):
            again = hsm.resolve(ResolveToken(id=tok.id, consume=True, used_by=used_by))
            assert await subject.refusal(again) == "token_used"
        for _ in range(2):
            assert (await hsm.resolve(ResolveToken(id=pm.id, consume=True))).expiry == "3111"
        assert await subject.refusal(hsm.resolve(ResolveToken(id="tok_none"))) == "token_unknown"

    run(test)


def test_tok_becomes_a_pm_once(run: Run) -> None:
    async def test(subject: Subject) -> None:
        tok = await subject.hsm.tokenize(Tokenize(pan=VISA, expiry="3012", kind="tok"))
        pm = await subject.hsm.tokenize(Tokenize(source=tok.id, kind="pm"))
        assert pm.id.startswith("pm_") and (pm.surrogate, pm.expiry) == (tok.surrogate, tok.expiry)
        assert (await subject.hsm.resolve(ResolveToken(id=pm.id))).surrogate == tok.surrogate
        assert await subject.refusal(subject.hsm.tokenize(Tokenize(source=tok.id, kind="pm"))) == "token_used"
        assert await subject.refusal(subject.hsm.tokenize(Tokenize(source="tok_x", kind="pm"))) == "token_unknown"

    run(test)


@pytest.mark.parametrize("request_", [Tokenize(pan=VISA, expiry="3013"), Tokenize(pan=VISA, expiry="12/30")])
def test_tokenize_wants_a_date(run: Run, request_: Tokenize) -> None:
    async def test(subject: Subject) -> None:
        assert await subject.refusal(subject.hsm.tokenize(request_)) == "malformed"

    run(test)


def test_many_at_once_on_new_cards(run: Run) -> None:
    async def test(subject: Subject) -> None:
        answers: dict[str, set[str]] = {}

        async def screen(pan: str) -> None:
            answers.setdefault(pan, set()).add((await subject.hsm.screen(Screen(pan=pan))).token)

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(screen, f"400000{number % 100:010d}")
        assert all(len(tokens) == 1 for tokens in answers.values())
        assert len({token for tokens in answers.values() for token in tokens}) == 100

    run(test)
