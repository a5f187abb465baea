"""Reversals of messages that have not arrived: the payments that they end, and those of others that they must not."""

from __future__ import annotations

import msgspec
import pytest

from messages.exchange import original_data
from messages.message import Message
from messages.mti import repeat_mti
from tests.simulation.world import World
from tests.switch.desk import in_world, purchase, told

UNNAMED = ["", "000"]  # DE 32 of a sender that does not name its institution
DIGITS = "10001"  # an acquirer id, or a terminal id
TERMINAL = DIGITS.ljust(8)


def _reversal(stan: str, original: Message, **changes: str) -> Message:
    given = original.elements
    reference = original_data(original.mti, given[11], given[7], given.get(32, ""))
    return purchase(stan, **{"mti": "0420", "de90": reference, **changes})


async def _code(world: World, message: Message) -> str:
    answer = await told(world, message, "pos")
    assert answer is not None
    return answer.elements[39]


@pytest.mark.parametrize("unnamed", UNNAMED)
def test_a_terminal_cannot_reverse_the_coming_payment_of_the_acquirer_with_its_digits(unnamed: str) -> None:
    async def script(world: World) -> None:
        paid = purchase("000001", de32=DIGITS)
        reference = original_data("0200", paid.elements[11], paid.elements[7], "")
        stranger = purchase("000002", mti="0420", de32=unnamed, de41=TERMINAL, de42="", de90=reference)
        assert await _code(world, stranger) == "25"
        assert await _code(world, paid) == "00"

    in_world(script)


@pytest.mark.parametrize("unnamed", UNNAMED)
def test_a_terminal_cannot_take_the_key_of_the_acquirer_with_its_digits(unnamed: str) -> None:
    async def script(world: World) -> None:
        assert await _code(world, purchase("000001", de32=unnamed, de41=TERMINAL)) == "00"
        assert await _code(world, purchase("000001", de32=DIGITS)) == "00"

    in_world(script)


@pytest.mark.parametrize("sender", [{"de32": DIGITS}, {"de32": "", "de41": TERMINAL}, {"de32": ""}])
def test_each_reversal_of_an_unknown_original_is_25_and_the_payment_12(sender: dict[str, str]) -> None:
    async def script(world: World) -> None:
        paid = purchase("000001", **sender)
        for stan in ("000002", "000003", "000004"):
            assert await _code(world, _reversal(stan, paid, **sender)) == "25"
        assert await _code(world, paid) == "12"
        [stone] = [intent for intent in world.journal._intents.values() if intent.kind == "tombstone"]
        assert (stone.acquirer_id, stone.terminal) == (paid.elements.get(32, ""), paid.elements[41].strip())

    in_world(script)


def _as_written_before(world: World) -> None:
    """Keys without the mark of terminals, as earlier versions wrote them."""
    journal = world.journal
    for number, intent in journal._intents.items():
        journal._intents[number] = msgspec.structs.replace(intent, key=intent.key.replace("|#", "|"))
    journal._keys = {key.replace("|#", "|"): number for key, number in journal._keys.items()}


def test_repeats_and_reversals_find_what_a_terminal_sent_before_keys_had_marks() -> None:
    async def script(world: World) -> None:
        sender = {"de32": "", "de41": TERMINAL}
        paid = purchase("000001", **sender)
        assert await _code(world, paid) == "00"
        _as_written_before(world)
        assert await _code(world, Message(repeat_mti(paid.mti), paid.elements)) == "00"
        assert len(world.journal._intents) == 1
        assert await _code(world, _reversal("000002", paid, **sender)) == "00"
        assert world.journal._outcomes[2].reason == "reverse_purchase"

    in_world(script)


def test_what_an_acquirer_sent_before_keys_had_marks_is_not_a_terminals() -> None:
    async def script(world: World) -> None:
        paid = purchase("000001", de32=DIGITS)
        assert await _code(world, paid) == "00"
        reference = original_data("0200", paid.elements[11], paid.elements[7], "")
        stranger = purchase("000002", mti="0420", de32="", de41=TERMINAL, de90=reference)
        assert await _code(world, stranger) == "25"

    in_world(script)
