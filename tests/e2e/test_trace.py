"""One trace id follows a payment through every process and into the journal."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from simulators.acquirer import Card
from tests.e2e.merchant import Merchant, trace_id_of
from tests.e2e.shop import Shop

pytestmark = pytest.mark.xdist_group("e2e")

PAN = "5555555555554444"
VISA = Card("4242424242424242", pin="1234")


def events_of(shop: Shop, process: str, trace_id: str) -> list[dict[str, Any]]:
    """The events of a process that carry the trace id in its field."""
    file = shop.system.config.log_path / f"{process}.jsonl"
    events = [json.loads(line) for line in file.read_text().splitlines() if trace_id in line]
    return [event for event in events if event.get("trace_id") == trace_id]


def wait_for_events(shop: Shop, processes: list[str], trace_id: str) -> dict[str, list[dict[str, Any]]]:
    """Events by group of processes ("switch-*": any worker); logs are written a moment after the answer."""
    deadline = time.monotonic() + 5.0
    while True:
        found = {process: events_of(shop, process, trace_id) for process in processes}
        found["switch"] = [event for name in found if name.startswith("switch-") for event in found[name]]
        missing = [name for name, events in found.items() if not events and not name.startswith("switch-")]
        if not missing:
            return found
        assert time.monotonic() < deadline, f"{trace_id} is not in the logs of {missing}"
        time.sleep(0.05)


def workers(shop: Shop) -> list[str]:
    return [f"switch-{number}" for number in range(shop.system.config.switch.workers)]


def test_a_merchants_request_id_is_in_every_process_and_in_the_journal(shop: Shop, merchant: Merchant) -> None:
    intent = merchant.pay(PAN, 1_301)
    trace_id = trace_id_of(intent)
    found = wait_for_events(shop, ["gateway", "tokenizer", "hsm", "issuer-beta", *workers(shop)], trace_id)
    [request] = [event for event in found["gateway"] if event["event"] == "request"]
    assert request["request_id"] == f"req_{trace_id}"
    assert request["route"] == "/v1/payment_intents"
    [payment] = [event for event in found["switch"] if event["event"] == "payment"]
    assert payment["response_code"] == "00"
    assert {event["command"] for event in found["hsm"]} >= {"Dispatch", "ResolveToken"}
    [answered] = found["issuer-beta"]
    assert (answered["mti"], answered["response_code"]) == ("0200", "00")
    [row] = shop.sql("SELECT kind, link, amount_minor FROM ledger.intents WHERE trace_id = $1", trace_id)
    assert (row["kind"], row["link"], row["amount_minor"]) == ("purchase", "gateway", 1_301)


def test_a_payment_with_pin_at_the_till_gets_a_trace_id_from_the_switch(shop: Shop) -> None:
    request, _ = shop.pos.buy(VISA, 1_302)
    [row] = shop.sql("SELECT trace_id FROM ledger.intents WHERE key = $1", request.key)
    assert len(row["trace_id"]) == 32
    wait_for_events(shop, ["hsm", "issuer-alpha", *workers(shop)], row["trace_id"])


def test_each_call_has_a_trace_id_of_its_own(shop: Shop, merchant: Merchant) -> None:
    held = merchant.pay(PAN, 1_303, capture_method="manual")
    captured = merchant.stripe.v1.payment_intents.capture(held.id)
    first, second = trace_id_of(held), trace_id_of(captured)
    assert first != second
    kinds = {
        row["trace_id"]: row["kind"]
        for row in shop.sql("SELECT trace_id, kind FROM ledger.intents WHERE trace_id = ANY($1)", [first, second])
    }
    assert kinds == {first: "authorization", second: "capture"}
    wait_for_events(shop, ["gateway", "issuer-beta", *workers(shop)], second)
    shop.agree()
