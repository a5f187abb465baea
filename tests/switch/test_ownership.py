"""Permitted changes of a payment: its link, its acquirer, its merchant; and the issuer that it was routed to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import pytest
import trio

from ledger.journal import Intent, Kind
from messages.exchange import original_data
from messages.message import Message
from messages.mti import repeat_mti
from switch.config import switch_config
from switch.stages.ownership import names_other_acquirer, owner_problem
from tests.simulation.world import TABLE, World
from tests.switch.desk import in_world, purchase, surrogate, told
from tests.switch.test_message_set import Till

# Changes of the payment of acquirer 10001, merchant DEMOSHOP: type, type of the original, further elements.
CHANGES: dict[str, tuple[str, str, Mapping[str, str]]] = {
    "reversal": ("0400", "0200", {"de4": "000000005000"}),
    "reversal_advice": ("0420", "0200", {"de4": "000000005000"}),
    "repeated_reversal": ("0401", "0200", {"de4": "000000005000"}),
    "void": ("0400", "0100", {"de4": "000000005000"}),
    "reduction": ("0420", "0100", {"de4": "000000005000", "de95": "000000001000".ljust(42, "0")}),
    "capture": ("0220", "0100", {"de3": ""}),
    "increment": ("0100", "0100", {}),
    "refund": ("0200", "0200", {"de3": "200000"}),
    "refund_advice": ("0220", "0200", {"de3": "200000", "de39": "00"}),
}


async def _original(world: World, mti: str) -> Message:
    message = purchase("000001", mti=mti, de4="000000005000")
    answer = await told(world, message, "pos")
    assert answer is not None and answer.elements[39] == "00"
    return message


def _change(name: str, original: Message, institution: str = "10001", **changes: str) -> Message:
    mti, _, more = CHANGES[name]
    given = original.elements
    reference = original_data(original.mti, given[11], given[7], institution)
    return purchase("000002", **{"mti": mti, "de4": "000000001000", "de90": reference, **more, **changes})


async def _code(world: World, message: Message, link: str = "pos") -> str:
    answer = await told(world, message, link)
    return answer.elements[39] if answer is not None else ""


def _untouched(world: World, minor: int = 5_000) -> None:
    assert sum(line.posted_minor + line.held_minor for line in world.journal.book()) == minor
    assert all(kind is not Kind.TOMBSTONE for kind in (i.kind for i in world.journal._intents.values()))


@pytest.mark.parametrize("name", CHANGES)
def test_an_acquirer_may_not_change_the_payment_of_another_on_its_link(name: str) -> None:
    async def script(world: World) -> None:
        original = await _original(world, CHANGES[name][1])
        assert await _code(world, _change(name, original, de32="20002")) == "58"
        await trio.sleep(5.0)
        _untouched(world)

    in_world(script)


@pytest.mark.parametrize("name", CHANGES)
def test_a_message_without_acquirer_may_not_change_the_payment_of_one(name: str) -> None:
    """DE 41 alone: whether DE 90 names the acquirer, or the terminal has its digits."""

    async def script(world: World) -> None:
        original = await _original(world, CHANGES[name][1])
        assert await _code(world, _change(name, original, de32="")) == "58"
        _untouched(world)
        posing = _change(name, original, "", de32="", de41="10001   ", de11="000003")
        assert await _code(world, posing) == "25"  # the terminal's own keys hold no such payment
        await trio.sleep(5.0)
        assert sum(line.posted_minor + line.held_minor for line in world.journal.book()) == 5_000

    in_world(script)


@pytest.mark.parametrize(("sender", "problem"), [("0010001", ""), ("", "other_acquirer"), ("20002", "other_acquirer")])
def test_a_payment_is_changed_by_its_own_acquirer_only(sender: str, problem: str) -> None:
    at = datetime(2026, 3, 14, tzinfo=UTC)
    paid = Intent(
        key="pos|1", kind=Kind.PURCHASE, link="pos", mti="0200", processing_code="000000", transmitted_at=at,
        created_at=at, deadline_at=at, issuer="alpha", acquirer_id="10001", trace_id="",
    )  # fmt: skip
    assert owner_problem(msgspec.structs.replace(paid, kind=Kind.REVERSAL, acquirer_id=sender), paid) == problem


@pytest.mark.parametrize("name", CHANGES)
def test_a_merchant_may_not_change_the_payment_of_another_of_its_acquirer(name: str) -> None:
    async def script(world: World) -> None:
        original = await _original(world, CHANGES[name][1])
        assert await _code(world, _change(name, original, de42="OTHERSHOP".ljust(15))) == "58"
        await trio.sleep(5.0)
        _untouched(world)

    in_world(script)


@pytest.mark.parametrize("name", CHANGES)
def test_the_acquirer_and_merchant_of_a_payment_may_change_it(name: str) -> None:
    async def script(world: World) -> None:
        original = await _original(world, CHANGES[name][1])
        assert await _code(world, _change(name, original, de32="0010001")) == "00"

    in_world(script)


@pytest.mark.parametrize("name", ["reversal", "reversal_advice", "void", "capture", "increment"])
def test_the_acquirer_may_change_a_payment_without_naming_its_merchant(name: str) -> None:
    async def script(world: World) -> None:
        original = await _original(world, CHANGES[name][1])
        assert await _code(world, _change(name, original, de42="", de41="OTHERTML")) == "00"

    in_world(script)


def test_a_link_may_not_change_the_payment_of_another_link() -> None:
    async def script(world: World) -> None:
        original = await _original(world, "0200")
        for name in ("reversal", "refund"):
            card = surrogate(world)
            assert await _code(world, _change(name, original, de2=card), "gateway") in ("25", "58")
        assert world.journal.book()[0].posted_minor == 5_000

    in_world(script)


def test_a_reversal_takes_no_place_of_a_payment_of_another_acquirer_that_has_not_come() -> None:
    async def script(world: World) -> None:
        later = purchase("000001", de4="000000005000")
        assert await _code(world, _change("reversal_advice", later, de32="20002")) == "58"
        assert await _code(world, later) == "00"

    in_world(script)


@pytest.mark.parametrize("mti", ["0200", "0100"])
def test_a_repeat_of_another_acquirer_does_not_get_the_stored_answer(mti: str) -> None:
    """Digits of a terminal in the place of the acquirer's are another key: its repeat is a payment of its own."""

    async def script(world: World) -> None:
        original = purchase("000001", mti=mti, de41="10001   ")
        assert await _code(world, original) == "00"
        posing = Message(repeat_mti(mti), dict(original.elements))
        del posing.elements[32]
        answer = await told(world, posing, "pos")
        assert answer is not None and len(world.journal.book()) == 2
        stored = [outcome.auth_code for outcome in world.journal._outcomes.values()]
        assert answer.elements[38] == stored[1] != stored[0]
        other = Message(repeat_mti(mti), {**original.elements, 32: "20002"})
        second = await told(world, other, "pos")
        assert second is not None and second.elements.get(38) != "" and len(world.journal.book()) == 3

    in_world(script)


def test_a_repeat_of_another_terminal_does_not_get_the_stored_answer() -> None:
    async def script(world: World) -> None:
        original = await _original(world, "0200")
        other = Message("0201", {**original.elements, 41: "TERM0002"})
        assert await _code(world, other) == "94"

    in_world(script)


def test_an_issuer_may_not_charge_back_the_payment_of_another_issuer() -> None:
    """With the very numbers that the other one was asked with; the rightful issuer may."""

    async def script(world: World) -> None:
        paid = await Till(world).paid()
        message = world.issuers["alpha"].issuer.chargeback(
            world.issuers["alpha"].issuer.entries.entries()[0].key, world.clock.now(), 1_000
        )
        worker = world.workers[0][0]
        told, reason = await worker.issuer_requests._told(worker.lines["beta"], message, "")
        assert (told[39], reason) == ("25", "original_unknown")
        assert paid.posted_minor == 5_000 == world.journal.book()[0].posted_minor
        told, reason = await worker.issuer_requests._told(worker.lines["alpha"], message, "")
        assert (told[39], reason) == ("00", "chargeback")

    in_world(script)


@pytest.mark.parametrize("kind", [Kind.CHARGEBACK, Kind.LATE_APPROVAL])
@pytest.mark.parametrize(("issuer", "problem"), [("alpha", ""), ("beta", "other_issuer"), ("", "other_issuer")])
def test_what_an_issuer_starts_is_held_against_the_link_that_the_payment_was_routed_to(
    kind: Kind, issuer: str, problem: str
) -> None:
    at = datetime(2026, 3, 14, tzinfo=UTC)
    paid = Intent(
        key="pos|1", kind=Kind.PURCHASE, link="pos", mti="0200", processing_code="000000", transmitted_at=at,
        created_at=at, deadline_at=at, issuer=issuer, acquirer_id="10001", trace_id="",
    )  # fmt: skip
    disputed = msgspec.structs.replace(paid, kind=kind, link="alpha", acquirer_id="")
    assert owner_problem(disputed, paid) == problem


def test_versions_of_1993_are_held_to_the_same() -> None:
    rows = [row if row["name"] != "pos" else {**row, "dialect": "iso93-ascii"} for row in TABLE["acquirer"]]

    async def script(world: World) -> None:
        for name in ("reversal", "refund", "void", "capture"):
            original = purchase("000001", mti=CHANGES[name][1], de4="000000005000", de22="051", de12="092653")
            original.elements[11] = f"{len(world.journal.book()) + 10:06d}"
            original.elements[13] = "0314"
            assert await _code(world, original) == "00", name
            foreign = _change(name, original, de32="20002")
            foreign.elements[11] = f"{len(world.journal.book()) + 50:06d}"
            assert await _code(world, foreign) == "58", name

    in_world(script, config=switch_config({**TABLE, "acquirer": rows}))


@pytest.mark.parametrize(
    ("institution", "sender", "other"),
    [
        ("10001", "10001", False), ("10001", "00010001", False), ("", "10001", False), ("", "", False),
        ("10001", "10002", True), ("10001", "", True), ("10001", "100010", True),
    ],
)  # fmt: skip
def test_names_other_acquirer(institution: str, sender: str, other: bool) -> None:
    elements = {90: original_data("0200", "000001", "0314092653", institution), 32: sender}
    assert names_other_acquirer(elements) is other
