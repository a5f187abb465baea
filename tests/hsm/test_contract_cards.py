"""Answers of every HSM to commands on PINs, card values and chips, in memory and in the process alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import trio

from console.bench.hsm_commands import EXPIRY, KEYS, MESSAGE, PARTY, PIN, BenchCard, Requests
from console.postgresql import EmbeddedPostgres
from hsm.algorithms.clear_keys import ClearAesKey, ClearTdesKey
from hsm.algorithms.mac import generate_mac
from hsm.algorithms.pinblock import open_pin
from hsm.card_commands import (
    CardValue,
    ChangePin,
    GenerateCardValue,
    GeneratePinReference,
    Ibm3624,
    ProtectScript,
    TranslatePin,
    VerifyCardValue,
    VerifyCryptogram,
    VerifyPin,
    VisaPvv,
)
from hsm.commands import Dispatch, HsmRefused, MacTemplate, Screen
from hsm.config import HsmConfig
from hsm.keys.exchange import load_party_keys
from hsm.software import SoftwareHsm, software_keys
from hsm.trio_client import open_hsm
from tests.hsm.conftest import HsmProcess, new_database

PAN, SHORT, LONG = "4242424242424242", "4000000000006", "6304000000000000003"


@dataclass
class Subject:
    """An HSM under test, the clear keys, a card, and the right requests over it by command."""

    hsm: Any
    keys: dict[str, bytes]
    card: BenchCard
    requests: dict[str, Any]

    async def refused(self, request: Any) -> str:
        with pytest.raises(HsmRefused) as caught:
            await self.hsm.ask(request)
        return caught.value.code


Run = Callable[[Callable[[Subject], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def card_process(postgresql_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HsmProcess]:
    process = HsmProcess(
        tmp_path_factory.mktemp("hsm"),
        new_database(postgresql_server),
        HsmConfig(dual_control=False, keys=KEYS, cached_cards=2),
    )
    yield process
    assert process.stop() == 0, process.log


@pytest.fixture(params=["memory", "process"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs an async test against one of the two."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[Any, dict[str, bytes]]]:
        if request.param == "memory":
            keys = software_keys(KEYS)
            yield SoftwareHsm(keys), {name: key.value for name, key in keys.items()}
        else:
            server: HsmProcess = request.getfixturevalue("card_process")
            async with open_hsm(server.socket) as hsm:
                yield hsm, load_party_keys(server.state / "exchange", PARTY)

    def runner(test: Callable[[Subject], Awaitable[None]]) -> None:
        async def main() -> None:
            async with opened() as (hsm, keys):
                card = BenchCard(PAN, (await hsm.screen(Screen(pan=PAN, expiry=EXPIRY))).token)
                commands = Requests(keys, [card]).commands([], [])
                requests = {command.name: command.requests[0] for command in commands if command.requests}
                await test(Subject(hsm, keys, card, requests))

        trio.run(main)

    return runner


def test_right_requests_are_answered(run: Run) -> None:
    async def test(subject: Subject) -> None:
        for name, request in subject.requests.items():
            answer = await subject.hsm.ask(request)
            assert getattr(answer, "verified", True), name

    run(test)


def test_one_composite_command_is_as_three(run: Run) -> None:
    async def test(subject: Subject) -> None:
        answer = await subject.hsm.dispatch(subject.requests["dispatch"])
        zpk = ClearTdesKey(subject.keys["zpk-out"])
        assert answer.pan == PAN and open_pin(0, answer.pin_block, PAN, zpk) == PIN
        text = answer.pin_block.hex().upper().encode()
        sent = MESSAGE[:20] + PAN.encode() + MESSAGE[36:100] + text + MESSAGE[116:]
        assert len(sent) == len(MESSAGE) and answer.mac == generate_mac(subject.keys["zak"], sent)

    run(test)


@pytest.mark.parametrize(
    ("pan", "encoding", "field"),
    [
        (PAN, "ascii", PAN.encode()),
        (PAN, "ebcdic", bytes(0xF0 + int(digit) for digit in PAN)),
        (PAN, "bcd", bytes.fromhex(PAN)),
        (SHORT, "bcd", bytes.fromhex("0" + SHORT)),
        (LONG, "bcd", bytes.fromhex("0" + LONG)),
        (LONG, "ascii", LONG.encode()),
    ],
)
def test_numbers_go_under_the_mac_in_any_encoding(run: Run, pan: str, encoding: str, field: bytes) -> None:
    async def test(subject: Subject) -> None:
        token = (await subject.hsm.screen(Screen(pan=pan))).token
        for at in (0, 7, 64 - len(field)):
            template = MacTemplate(key="zak", data=bytes(64), pan_at=at, pan_encoding=encoding)
            answer = await subject.hsm.dispatch(Dispatch(token=token, mac=template))
            data = bytes(at) + field + bytes(64 - at - len(field))
            assert answer.mac == generate_mac(subject.keys["zak"], data) and not answer.pin_block

    run(test)


@pytest.mark.parametrize(
    "template",
    [
        MacTemplate(key="zak", data=bytes(15), pan_at=0),
        MacTemplate(key="zak", data=bytes(64), pan_at=49),
        MacTemplate(key="zak", data=bytes(64), pan_at=0, pan_encoding="utf-16"),
        MacTemplate(key="zak", data=bytes(64), pin_at=60),
        MacTemplate(key="zak", data=bytes(64), pin_at=49, pin_hex=True),
    ],
)
def test_templates_whose_holes_do_not_fit(run: Run, template: MacTemplate) -> None:
    async def test(subject: Subject) -> None:
        wrong = msgspec.structs.replace(subject.requests["dispatch"], mac=template)
        assert await subject.refused(wrong) == "malformed"
        no_pin = Dispatch(token=subject.card.token, mac=MacTemplate(key="zak", data=bytes(64), pin_at=0))
        assert await subject.refused(no_pin) == "malformed"
        other = Dispatch(token=subject.card.token, mac=MacTemplate(key="zpk-out", data=bytes(64)))
        assert await subject.refused(other) == "key_usage"

    run(test)


@pytest.mark.parametrize(
    "name",
    ["translate_pin_0_0", "verify_pin_pvv", "card_value", "verify_card_value", "verify_cryptogram", "protect_script"],
)
def test_a_card_is_named_once(run: Run, name: str) -> None:
    async def test(subject: Subject) -> None:
        replace = msgspec.structs.replace
        by_token = subject.requests[name]
        by_pan = replace(by_token, token="", pan=PAN)
        assert type(await subject.hsm.ask(by_pan)) is type(await subject.hsm.ask(by_token))
        assert await subject.refused(replace(by_token, pan=PAN)) == "malformed"
        assert await subject.refused(replace(by_token, token="")) == "malformed"
        assert await subject.refused(replace(by_token, token="card_none")) == "card_unknown"
        for pan in ("42424242424", "4" * 20, "4242 4242 4242", "9900001234567890"):
            assert await subject.refused(replace(by_pan, pan=pan)) == "pan_invalid"

    run(test)


def test_a_card_that_left_the_cache_is_found_again(run: Run) -> None:
    async def test(subject: Subject) -> None:
        for other in ("5555555555554444", "4000000000000002", "378282246310005"):
            await subject.hsm.screen(Screen(pan=other))
        assert (await subject.hsm.verify_pin(subject.requests["verify_pin_pvv"])).verified
        for other in ("5555555555554444", "4000000000000002", "378282246310005"):
            await subject.hsm.screen(Screen(pan=other))
        assert (await subject.hsm.dispatch(subject.requests["dispatch"])).pan == PAN

    run(test)


@pytest.mark.parametrize("formats", [(0, 0), (1, 0), (3, 0), (0, 4), (4, 0), (4, 4)])
def test_translated_pins_open(run: Run, formats: tuple[int, int]) -> None:
    async def test(subject: Subject) -> None:
        request: TranslatePin = subject.requests[f"translate_pin_{formats[0]}_{formats[1]}"]
        answer = await subject.hsm.translate_pin(request)
        value = subject.keys[request.key_out]
        key = ClearAesKey(value) if formats[1] == 4 else ClearTdesKey(value)
        assert open_pin(formats[1], answer.pin_block, PAN, key) == PIN

    run(test)


@pytest.mark.parametrize("name", ["translate_pin_dukpt", "translate_pin_dukpt_aes"])
def test_dukpt_pins_open(run: Run, name: str) -> None:
    async def test(subject: Subject) -> None:
        request: TranslatePin = subject.requests[name]
        answer = await subject.hsm.translate_pin(request)
        value = subject.keys[request.key_out]
        key = ClearAesKey(value) if request.format_out == 4 else ClearTdesKey(value)
        assert open_pin(request.format_out, answer.pin_block, PAN, key) == PIN
        wrong = msgspec.structs.replace(request.pin, ksn=request.pin.ksn[:-1] + b"\x07")
        assert await subject.refused(msgspec.structs.replace(request, pin=wrong)) == "pin_block_invalid"

    run(test)


def test_forbidden_translations_are_refused(run: Run) -> None:
    async def test(subject: Subject) -> None:
        for name in ("translate_pin_0_0", "translate_pin_3_0", "translate_pin_4_0"):
            wrong = msgspec.structs.replace(subject.requests[name], format_out=1)
            assert await subject.refused(wrong) == "pin_translation_forbidden"

    run(test)


def test_pins_are_changed(run: Run) -> None:
    async def test(subject: Subject) -> None:
        for name, empty in (("verify_pin_pvv", {"pvv": ""}), ("verify_pin_3624", {"offset": ""})):
            verify: VerifyPin = subject.requests[name]
            token = subject.card.token
            made = await subject.hsm.pin_reference(
                GeneratePinReference(
                    pin=verify.pin, method=msgspec.structs.replace(verify.method, **empty), token=token
                )
            )
            known = verify.method.pvv if isinstance(verify.method, VisaPvv) else verify.method.offset
            assert made.verified and made.value == known
            changed = await subject.hsm.change_pin(
                ChangePin(old=verify.pin, new=verify.pin, method=verify.method, token=token)
            )
            assert changed.verified and changed.value == known
            other = "0000" if known != "0000" else "0001"
            method: VisaPvv | Ibm3624 = (
                msgspec.structs.replace(verify.method, pvv=other)
                if isinstance(verify.method, VisaPvv)
                else msgspec.structs.replace(verify.method, offset=other)
            )
            wrong = ChangePin(old=verify.pin, new=verify.pin, method=method, token=token)
            refused = await subject.hsm.change_pin(wrong)
            assert not refused.verified and not refused.value
            assert not (await subject.hsm.verify_pin(msgspec.structs.replace(verify, method=method))).verified

    run(test)


def test_card_values_verify(run: Run) -> None:
    async def test(subject: Subject) -> None:
        for kind in (
            CardValue(kind="cvv", key="cvk", expiry=EXPIRY, service_code="201"),
            CardValue(kind="cvv2", key="cvk", expiry=EXPIRY),
            CardValue(kind="icvv", key="cvk", expiry=EXPIRY),
        ):
            made = await subject.hsm.card_value(GenerateCardValue(card_value=kind, token=subject.card.token))
            check = VerifyCardValue(card_value=kind, value=made.value, token=subject.card.token)
            assert (await subject.hsm.verify_card_value(check)).verified
            other = f"{(int(made.value) + 1) % 1000:03d}"
            wrong = msgspec.structs.replace(check, value=other)
            assert not (await subject.hsm.verify_card_value(wrong)).verified

    run(test)


def test_cryptograms_are_answered_and_wrong_ones_are_not(run: Run) -> None:
    async def test(subject: Subject) -> None:
        for name, length in (("verify_cryptogram", 4), ("verify_cryptogram_10", 8)):
            request: VerifyCryptogram = subject.requests[name]
            answer = await subject.hsm.verify_cryptogram(request)
            assert answer.verified and len(answer.arpc) == length
            wrong = msgspec.structs.replace(request, data=request.data[:-1] + b"\xff")
            refused = await subject.hsm.verify_cryptogram(wrong)
            assert not refused.verified and not refused.arpc

    run(test)


def test_scripts_are_protected(run: Run) -> None:
    async def test(subject: Subject) -> None:
        request: ProtectScript = subject.requests["protect_script"]
        answer = await subject.hsm.protect_script(request)
        assert len(answer.mac) == 8 and answer.data and answer.data != request.confidential
        assert answer == await subject.hsm.protect_script(request)

    run(test)
