"""Permissions of a link: each one by an example inside and outside, repeats, and the settings of a file."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from messages.exchange import original_data
from messages.mask import masked
from messages.message import Message
from switch.config import switch_config
from switch.errors import ConfigError
from switch.links.permissions import REFUSALS, Permissions, Permitted, Refusal
from tests.simulation.world import TABLE, World
from tests.switch.desk import in_world, purchase, told
from tests.switch.outage import heard
from tests.switch.test_issuer_requests import ruled
from tests.switch.test_message_set import Till

LEAST: dict[str, Any] = {
    "messages": ["0100", "0200", "0220", "04*"],
    "processing_codes": ["00", "200000"],
    "merchants": ["DEMOSHOP", "CHAIN*"],
    "acquirer_ids": ["10001", "20000-20099"],
    "currencies": ["EUR", "JPY"],
    "amounts_minor": {"EUR": 5_000, "JPY": 900_000},
}


def table(side: str = "acquirer", name: str = "pos", **permissions: Any) -> dict[str, Any]:
    rows = [row if row["name"] != name else {**row, "permissions": permissions} for row in TABLE[side]]
    return {**TABLE, side: rows}


INSIDE: list[dict[str, str]] = [
    {},
    {"de4": "000000005000"},
    {"de32": "00010001"},
    {"de32": "20050"},
    {"de42": "CHAIN042".ljust(15)},
    {"de4": "000000900000", "de49": "392"},
    {"mti": "0100"},
]
OUTSIDE: list[tuple[dict[str, str], str, str, str]] = [
    ({"mti": "0120"}, "58", "message_not_permitted", "type not permitted"),
    ({"mti": "0220", "de39": "00"}, "58", "forced_not_permitted", "forced not permitted"),
    ({"mti": "0220", "de3": "200000", "de39": "00"}, "58", "forced_not_permitted", "forced not permitted"),
    ({"de32": "10002"}, "58", "acquirer_not_permitted", "DE 32 not permitted"),
    ({"de32": "20100"}, "58", "acquirer_not_permitted", "DE 32 not permitted"),
    ({"de32": ""}, "58", "acquirer_not_permitted", "DE 32 not permitted"),
    ({"de42": "OTHERSHOP".ljust(15)}, "58", "merchant_not_permitted", "DE 42 not permitted"),
    ({"de3": "010000"}, "57", "processing_code_not_permitted", "DE 3 not permitted"),
    ({"de3": "200010"}, "57", "processing_code_not_permitted", "DE 3 not permitted"),
    ({"de49": "840"}, "57", "currency_not_permitted", "DE 49 not permitted"),
    ({"de4": "000000005001"}, "57", "amount_not_permitted", "DE 4 above the limit"),
    ({"de4": "000000900001", "de49": "392"}, "57", "amount_not_permitted", "DE 4 above the limit"),
]


@pytest.mark.parametrize("code", ["310000", "330000"])
def test_naming_a_payment_is_no_way_around_the_merchants_of_a_link(code: str) -> None:
    """An inquiry and a verification change nothing, so DE 90 does not replace a merchant."""

    async def script(world: World) -> None:
        named = original_data("0200", "000009", "0314092653", "10001")
        message = purchase(mti="0100", de3=code, de4="", de42="", de90=named)
        answer = await told(world, message, "pos")
        assert answer is not None and answer.elements[39] == "58"
        assert world.counted("declines", "merchant_not_permitted") == 1

    in_world(script, config=switch_config(table(**{**LEAST, "processing_codes": ["31", "33"]})))


@pytest.mark.parametrize("changes", INSIDE)
def test_what_is_permitted_is_served(changes: dict[str, str]) -> None:
    async def script(world: World) -> None:
        answer = await told(world, purchase(**changes), "pos")
        assert answer is not None and answer.elements[39] == "00"

    in_world(script, config=switch_config(table(**LEAST)))


@pytest.mark.parametrize(("changes", "code", "reason", "text"), OUTSIDE)
def test_what_is_not_permitted_is_refused_with_its_reason(
    changes: dict[str, str], code: str, reason: str, text: str
) -> None:
    async def script(world: World) -> None:
        answer = await told(world, purchase(**changes), "pos")
        assert answer is not None
        assert (answer.elements[39], answer.elements[44].rstrip()) == (code, text)
        assert world.counted("declines", reason) == 1
        assert world.journal.book() == [] and not world.journal._intents

    in_world(script, config=switch_config(table(**LEAST)))


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.reason)
def test_the_reason_of_a_refusal_fits_into_de_44_and_is_shown_whole(refusal: Refusal) -> None:
    assert len(refusal.detail) <= 25
    assert masked(Message("0210", {44: refusal.detail}))[44] == refusal.detail


def test_a_repeat_cannot_do_what_its_request_may_not() -> None:
    async def script(world: World) -> None:
        message = purchase(de42="OTHERSHOP".ljust(15))
        for mti in ("0201", "0200", "0201"):
            answer = await told(world, Message(mti, message.elements), "pos")
            assert answer is not None and answer.elements[39] == "58"
        assert sum(line.posted_minor for line in world.journal.book()) == 0

    in_world(script, config=switch_config(table(**LEAST)))


def test_a_repeat_of_what_was_permitted_gets_its_stored_answer() -> None:
    """The permission was taken away in between: "not permitted" would hide a payment that is booked."""

    async def script(world: World) -> None:
        message = purchase()
        assert (await told(world, message, "pos")).elements[39] == "00"  # type: ignore[union-attr]
        for worker in world.every_worker:
            worker.ports["pos"].permitted = Permitted(Permissions(merchants=()))
        again = await told(world, Message("0201", message.elements), "pos")
        assert again is not None and again.elements[39] == "00"
        refused = await told(world, purchase("000002"), "pos")
        assert refused is not None and refused.elements[39] == "58"

    in_world(script)


def test_what_changes_a_payment_is_held_to_that_payment() -> None:
    """Reversals and captures of permitted payments pass, under any later limit of amount and merchant."""

    async def script(world: World) -> None:
        held = purchase("000001", mti="0100", de4="000000009000")
        assert (await told(world, held, "pos")).elements[39] == "00"  # type: ignore[union-attr]
        for worker in world.every_worker:
            worker.ports["pos"].permitted = Permitted(Permissions(merchants=(), amounts_minor={"EUR": 1}))
        given = held.elements
        reference = original_data("0100", given[11], given[7], "10001")
        capture = purchase("000002", mti="0220", de3="", de4="000000004000", de60="P", de90=reference)
        assert (await told(world, capture, "pos")).elements[39] == "00"  # type: ignore[union-attr]
        void = purchase("000003", mti="0400", de4="000000009000", de90=reference)
        assert (await told(world, void, "pos")).elements[39] == "00"  # type: ignore[union-attr]

    in_world(script)


@pytest.mark.parametrize("captured", [False, True])
def test_increments_do_not_take_a_payment_above_the_limit(captured: bool) -> None:
    """50.00 in all; a part that is captured counts on."""

    async def script(world: World) -> None:
        held = purchase("000001", mti="0100", de4="000000003000")
        assert (await told(world, held, "pos")).elements[39] == "00"  # type: ignore[union-attr]
        reference = original_data("0100", held.elements[11], held.elements[7], "10001")
        if captured:
            capture = purchase("000002", mti="0220", de3="", de4="000000001000", de60="P", de90=reference)
            assert (await told(world, capture, "pos")).elements[39] == "00"  # type: ignore[union-attr]
        asked = heard(world, "alpha")
        for stan, amount, code in (("000003", 2_001, "57"), ("000004", 1_500, "00"), ("000005", 501, "57")):
            more = purchase(stan, mti="0100", de4=f"{amount:012d}", de90=reference)
            answer = await told(world, more, "pos")
            assert answer is not None and answer.elements[39] == code
            assert (answer.elements.get(44, "").rstrip() == "DE 4 above the limit") is (code == "57")
        assert world.counted("declines", "amount_not_permitted") == 2
        assert [message.elements[4] for message in asked if message.mti == "0100"] == ["000000001500"]

    in_world(script, config=switch_config(table(**LEAST)))


def test_of_increments_at_the_same_moment_those_within_the_limit_are_taken() -> None:
    """The issuer has approved both; the later one in the journal is undone there."""

    async def script(world: World) -> None:
        held = purchase("000001", mti="0100", de4="000000003000")
        assert (await told(world, held, "pos")).elements[39] == "00"  # type: ignore[union-attr]
        reference = original_data("0100", held.elements[11], held.elements[7], "10001")
        codes: list[str] = []

        async def more(stan: str) -> None:
            answer = await told(world, purchase(stan, mti="0100", de4="000000001500", de90=reference), "pos")
            assert answer is not None
            codes.append(answer.elements[39])

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(more, f"{number + 2:06d}")
        assert sorted(codes) == ["00", "91", "91"]
        await trio.sleep(10.0)
        [entry] = world.issuers["alpha"].issuer.book()
        assert entry.held_minor == 4_500

    in_world(script, config=switch_config(table(**LEAST)))


def test_without_its_mac_nobody_learns_what_is_permitted() -> None:
    async def script(world: World) -> None:
        client = world.clients["pos"]
        wire = await world.network.dial("pos:1", 3.0)
        form = world.config.acquirers[0].framed(client.acquirer.codec.dialect)
        await wire.send(form.encode(client.acquirer.codec.encode(purchase(de42="OTHERSHOP".ljust(15)))))
        [frame] = form.decoder().receive(await wire.receive())
        assert client.acquirer.codec.decode(frame).elements[39] == "63"
        wire.close()

    in_world(script, config=switch_config(table(**LEAST)))


@pytest.mark.parametrize(("messages", "code"), [(["0422"], "00"), (["0302"], "58"), ([], "58"), (["04*"], "00")])
def test_an_issuer_sends_what_its_link_may(messages: list[str], code: str) -> None:
    async def script(world: World) -> None:
        await Till(world).paid()
        issuer = world.issuers["alpha"].issuer
        message = issuer.chargeback(issuer.entries.entries()[0].key, world.clock.now(), 1_000)
        assert (await ruled(world, message))[0] == code

    in_world(script, config=switch_config(table("issuer", "alpha", messages=messages)))


@pytest.mark.parametrize("mti", ["0100", "0200", "0220", "0400", "0420", "0120", "0322", "0402", "0220"])
def test_an_issuer_may_send_nothing_that_an_acquirer_sends(mti: str) -> None:
    async def script(world: World) -> None:
        assert await ruled(world, purchase(mti=mti)) == ("12", "unknown_mti")

    in_world(script)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("acquirer", {"messages": ["0422"]}, "messages: '0422' is none of"),
    ("acquirer", {"messages": ["0201"]}, "messages: '0201' is none of"),
    ("acquirer", {"messages": ["09*"]}, "messages: '09*' is none of"),
    ("acquirer", {"processing_codes": ["0"]}, "must be two or six digits"),
    ("acquirer", {"merchants": ["A*B"]}, "* only at the end"),
    ("acquirer", {"merchants": ["*"]}, "must be 1–15 characters"),
    ("acquirer", {"acquirer_ids": ["20-10"]}, "two of them with - between"),
    ("acquirer", {"acquirer_ids": ["1" * 12]}, "must be 1–11 digits"),
    ("acquirer", {"currencies": ["978"]}, "'978' is no currency"),
    ("acquirer", {"amounts_minor": {"EUX": 1}}, "'EUX' is no currency"),
    ("acquirer", {"currencies": ["EUR"], "amounts_minor": {"EUR": -1}}, "EUR = -1 must be 0 to"),
    ("acquirer", {"amounts_minor": {"EUR": 1}}, "amounts_minor has no limit for AED, AFN, ALL, AMD, ANG and "),
    ("acquirer", {"currencies": ["EUR", "HUF"], "amounts_minor": {"EUR": 1}}, "no limit for HUF, which the link may"),
    ("issuer", {"messages": ["0200"]}, "messages: '0200' is none of"),
    ("issuer", {"messages": ["0422"], "merchants": ["A"]}, "of an issuer there are messages only"),
]


@pytest.mark.parametrize(("side", "permissions", "problem"), WRONG)
def test_wrong_permissions_are_named(side: str, permissions: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        switch_config(table(side, "pos" if side == "acquirer" else "alpha", **permissions))
    assert any(problem in line for line in raised.value.problems), raised.value.problems


def test_all_wrong_permissions_are_listed_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        switch_config(table(messages=["x"], processing_codes=["x"], currencies=["x"], acquirer_ids=["x"]))
    assert len([line for line in raised.value.problems if line.startswith("acquirer[pos].permissions.")]) == 4
