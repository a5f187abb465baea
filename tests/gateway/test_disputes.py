"""A chargeback advice from the switch becomes a dispute, once, and is answered when it is durable."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from gateway.book import book
from messages.exchange import de7, original_data
from messages.message import Message
from tests.gateway.conftest import Gateway
from tests.gateway.fake_switch import FakeSwitch

PAY = {"amount": 1099, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}


def advice(
    original: Message, stan: str, amount_minor: int, mti: str = "0422", changes: dict[str, str] | None = None
) -> Message:
    sent, changes = original.elements, changes or {}
    elements = {
        3: "000000",
        4: f"{amount_minor:012d}",
        7: changes.get("at", de7(datetime.now(UTC))),
        11: stan,
        32: "400001",
        37: sent[37],
        49: changes.get("currency", "978"),
        90: changes.get("original", original_data("0200", sent[11], sent[7], "400001")),
    }
    return Message(mti, elements)


def test_a_chargeback_becomes_a_dispute_once(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create(PAY)
    message = advice(switch.only("0200"), "000777", 600)
    answer = switch.send(message)
    assert (answer.mti, answer.elements[39], answer.elements[11]) == ("0432", "00", "000777")
    repeated = switch.send(Message("0423", message.elements))
    assert (repeated.mti, repeated.elements[39]) == ("0432", "00")
    [event] = client.v1.events.list({"type": "charge.dispute.created"}).data
    assert (event.data.object.amount, event.data.object.charge) == (600, intent.latest_charge)
    dispute = client.v1.disputes.retrieve(event.data.object.id, {"expand": ["charge"]})
    assert (dispute.status, dispute.payment_intent, dispute.charge.disputed) == ("needs_response", intent.id, True)
    [line] = asyncio.run(book(gateway.dsn))
    assert (line.held_minor, line.posted_minor) == (0, 499)


MISFITS: list[tuple[int, dict[str, str], str]] = [
    (1100, {}, "13"),
    (0, {}, "13"),
    (500, {"currency": "840"}, "13"),
    (500, {"currency": "001"}, "30"),
    (500, {"original": "0" * 42}, "30"),
    (500, {"original": original_data("0200", "999999", "0101000000", "400001")}, "25"),
]


def test_a_chargeback_that_fits_nothing_is_answered_with_a_reason(gateway: Gateway, switch: FakeSwitch) -> None:
    gateway.stripe().v1.payment_intents.create(PAY)
    for number, (amount, changes, code) in enumerate(MISFITS):
        answer = switch.send(advice(switch.only("0200"), f"{number + 1:06d}", amount, changes=changes))
        assert (answer.mti, answer.elements[39]) == ("0432", code), changes
    assert gateway.rows("SELECT 1 FROM gateway.disputes") == []


def test_an_echo_is_answered(gateway: Gateway, switch: FakeSwitch) -> None:
    answer = switch.send(Message("0800", {7: de7(datetime.now(UTC)), 11: "000001", 70: "301"}))
    assert (answer.mti, answer.elements[39], answer.elements[70]) == ("0810", "00", "301")


def test_a_chargeback_after_300_days_finds_its_payment(gateway: Gateway, switch: FakeSwitch) -> None:
    gateway.stripe().v1.payment_intents.create(PAY)
    [row] = gateway.rows("SELECT id, stan, transmitted_at FROM gateway.attempts WHERE mti = '0200'")
    paid_at = row["transmitted_at"] - timedelta(days=300)
    gateway.rows(f"UPDATE gateway.attempts SET transmitted_at = '{paid_at.isoformat()}' WHERE id = '{row['id']}'")
    named = original_data("0200", row["stan"], de7(paid_at), "400001")
    answer = switch.send(advice(switch.only("0200"), "000777", 600, changes={"original": named}))
    assert answer.elements[39] == "00"
