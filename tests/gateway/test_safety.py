"""Nothing is charged twice and nothing is forgotten: silence, lost links, dead processes, in front of real rows."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
import stripe

from console.database_roles import GATEWAY, OWNER
from gateway.book import GatewayLine, book
from messages.exchange import original_data, pairing_key
from messages.message import Message
from tests.conftest import Database
from tests.gateway.conftest import Gateway
from tests.gateway.fake_switch import HANG_UP, SILENCE, FakeSwitch, eventually
from tests.gateway.stubs import SECRET, Sink

PAY = {"amount": 1099, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}


def once(first: str, *mtis: str) -> Callable[[Message], str]:
    """`first` for the first message of each of those types, then approval."""
    left = set(mtis)

    def rule(message: Message) -> str:
        if message.mti in left:
            left.discard(message.mti)
            return first
        return "00"

    return rule


def standing(gateway: Gateway) -> list[tuple[int, int, bool]]:
    lines: list[GatewayLine] = asyncio.run(book(gateway.dsn))
    assert all(line.link == "gateway" and line.currency == "EUR" for line in lines)
    return [(line.held_minor, line.posted_minor, line.settled) for line in lines]


def one_key(messages: list[Message]) -> bool:
    return len({pairing_key(message) for message in messages}) == 1


def test_silence_is_answered_by_a_repeat_with_the_same_key(gateway: Gateway, switch: FakeSwitch) -> None:
    switch.rule = once(SILENCE, "0200")
    intent = gateway.stripe().v1.payment_intents.create(PAY)
    assert intent.status == "succeeded"
    assert switch.mtis() == ["0200", "0201"]
    assert one_key([message for message in switch.received if message.mti.startswith("02")])
    assert standing(gateway) == [(0, 1099, True)]


def test_a_lost_link_is_answered_by_a_repeat_on_the_other(gateway: Gateway, switch: FakeSwitch) -> None:
    switch.rule = once(HANG_UP, "0100")
    intent = gateway.stripe().v1.payment_intents.create({**PAY, "capture_method": "manual"})
    assert intent.status == "requires_capture"
    assert switch.mtis() == ["0100", "0101"]
    assert one_key([message for message in switch.received if message.mti.startswith("01")])
    assert standing(gateway) == [(1099, 0, True)]


def test_no_answer_at_all_is_reversed_until_acknowledged(gateway: Gateway, switch: FakeSwitch) -> None:
    silent = {"0200", "0201", "0420"}
    switch.rule = lambda message: SILENCE if message.mti in silent else "00"
    with pytest.raises(stripe.CardError) as declined:
        gateway.stripe().v1.payment_intents.create(PAY)
    assert (declined.value.code, declined.value.error.payment_intent.status) == (
        "processing_error",
        "requires_payment_method",
    )
    assert standing(gateway)[0][:2] == (0, 0)
    eventually(lambda: standing(gateway) == [(0, 0, True)])
    assert switch.mtis() == ["0200", "0201", "0201", "0420", "0421"]
    first, reversal = switch.only("0200").elements, switch.only("0420").elements
    assert reversal[90] == original_data("0200", first[11], first[7], "400001")
    assert (reversal[4], reversal[2]) == (first[4], first[2])


def test_the_late_approval_of_a_reversed_payment_books_nothing(gateway: Gateway, switch: FakeSwitch) -> None:
    switch.rule = lambda message: SILENCE if message.mti in ("0200", "0201") else "00"
    with pytest.raises(stripe.CardError):
        gateway.stripe().v1.payment_intents.create(PAY)
    late = switch.only("0200").elements
    echoed = {number: late[number] for number in (3, 4, 7, 11, 32, 37, 41, 42, 49)}
    switch._call(switch._send(Message("0210", {**echoed, 38: "LATE00", 39: "00"})))
    eventually(lambda: standing(gateway) == [(0, 0, True)])
    assert gateway.rows("SELECT state FROM gateway.attempts WHERE kind = 'purchase'") == [{"state": "reversed"}]


def test_an_answer_that_leaves_doubt_is_reversed(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    answers = {"0200": "96", "0420": "00"}
    switch.rule = lambda message: answers[message.mti]
    with pytest.raises(stripe.CardError) as declined:
        client.v1.payment_intents.create(PAY)
    assert declined.value.code == "processing_error"
    eventually(lambda: switch.mtis() == ["0200", "0420"])
    answers |= {"0200": "91"}
    with pytest.raises(stripe.CardError) as declined:
        client.v1.payment_intents.create(PAY)
    assert declined.value.error.decline_code == "issuer_not_available"
    assert switch.mtis() == ["0200", "0420", "0200"]  # nothing was sent before, so nothing can be in force
    answers |= {"0200": SILENCE, "0201": "91"}
    with pytest.raises(stripe.CardError):
        client.v1.payment_intents.create(PAY)
    eventually(lambda: switch.mtis()[3:] == ["0200", "0201", "0420"])
    eventually(lambda: standing(gateway) == [(0, 0, True)] * 3)


def test_a_capture_is_repeated_until_it_is_taken(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    intent = client.v1.payment_intents.create({**PAY, "capture_method": "manual"})
    answers = iter([SILENCE, "96", SILENCE, SILENCE, "00"])

    def rule(message: Message) -> str:
        answer = next(answers)
        switch.answers.pop(("0220", message.elements[7], message.elements[11]), None)
        return answer

    switch.rule = rule
    real_answers = switch.answers
    switch.answers = type("Forgetful", (dict,), {"get": lambda *_: None})()  # 96 is no answer to keep
    captured = client.v1.payment_intents.capture(intent.id)
    switch.answers = real_answers
    assert captured.status == "succeeded"
    assert switch.mtis() == ["0100", "0220", "0221", "0221", "0221", "0221"]
    assert one_key([message for message in switch.received if message.mti.startswith("022")])
    assert standing(gateway) == [(0, 1099, True)]


def test_processing_while_a_capture_is_on_its_way(gateway: Gateway, switch: FakeSwitch) -> None:
    gateway.stop()
    gateway.start(request_timeout_s=0.3)
    gateway.wait_ready()
    client = gateway.stripe()
    intent = client.v1.payment_intents.create({**PAY, "capture_method": "manual"})
    switch.rule = lambda _: SILENCE
    assert client.v1.payment_intents.capture(intent.id).status == "processing"
    assert standing(gateway) == [(1099, 0, False)]
    for action in ("capture", "cancel", "confirm"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            getattr(client.v1.payment_intents, action)(intent.id)
        assert refused.value.code == "payment_intent_unexpected_state"
    switch.rule = lambda _: "00"
    eventually(lambda: client.v1.payment_intents.retrieve(intent.id).status == "succeeded")
    assert standing(gateway) == [(0, 1099, True)]


def test_the_book_follows_refunds_and_cancellations(gateway: Gateway) -> None:
    client = gateway.stripe()
    paid = client.v1.payment_intents.create(PAY)
    client.v1.refunds.create({"payment_intent": paid.id, "amount": 99})
    held = client.v1.payment_intents.create({**PAY, "capture_method": "manual"})
    partly = client.v1.payment_intents.create({**PAY, "capture_method": "manual"})
    client.v1.payment_intents.capture(partly.id, {"amount_to_capture": 1000, "final_capture": False})
    assert standing(gateway) == [(0, 1099, True), (0, -99, True), (1099, 0, True), (99, 1000, True)]
    client.v1.payment_intents.cancel(held.id)
    client.v1.payment_intents.capture(partly.id, {"amount_to_capture": 1})
    assert standing(gateway) == [(0, 1099, True), (0, -99, True), (0, 0, True), (0, 1001, True)]


def test_without_a_link_work_is_refused_at_once_and_the_key_stays_free(gateway: Gateway, switch: FakeSwitch) -> None:
    client = gateway.stripe()
    switch.hang_up()
    eventually(lambda: gateway.get("/readyz").status_code == 503)
    assert gateway.get("/readyz").json() == {"ready": False, "database": True, "link": False, "tokenizer": True}
    started = time.monotonic()
    with pytest.raises(stripe.APIError) as refused:
        client.v1.payment_intents.create(PAY, {"idempotency_key": "k"})
    assert refused.value.http_status == 503
    assert time.monotonic() - started < 1
    assert client.v1.payment_intents.list().data == []
    switch.listen()
    gateway.wait_ready()
    assert client.v1.payment_intents.create(PAY, {"idempotency_key": "k"}).status == "succeeded"


def test_lost_database_sessions_are_replaced(
    gateway: Gateway, switch: FakeSwitch, database: Database, sink: Callable[..., Sink]
) -> None:
    receiver = sink()
    client = gateway.stripe()
    client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["payment_intent.succeeded"]})
    switch.rule = lambda _: SILENCE
    paying = threading.Thread(target=lambda: gateway.post("/v1/payment_intents", {**PAY, "confirm": "true"}))
    paying.start()
    eventually(lambda: switch.mtis())
    asyncio.run(_end_sessions(database.dsn(OWNER), GATEWAY))
    switch.rule = lambda _: "00"
    paying.join(10)
    eventually(lambda: gateway.get("/readyz").status_code == 200)
    eventually(lambda: standing(gateway) == [(0, 1099, True)])
    assert client.v1.payment_intents.create(PAY).status == "succeeded"
    eventually(lambda: len(receiver.calls) == 2)


async def _end_sessions(dsn: str, role: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role)
    finally:
        await connection.close()


SERVE = """
import asyncio, msgspec, sys
from gateway.config import GatewayConfig
from gateway.server import serve_gateway
config, options = msgspec.json.decode(sys.argv[1], type=tuple[GatewayConfig, dict[str, str]])
asyncio.run(serve_gateway(config, **options, ready=lambda url: print(url, flush=True)))
"""


def start_process(gateway: Gateway) -> subprocess.Popen[str]:
    """The gateway as a process of its own, which can be killed."""
    options = {
        "dsn": gateway.dsn,
        "switch_address": gateway.switch.address,
        "dialect": "iso87-ascii",
        "tokenizer_url": gateway.tokens.url,
        "internal_secret": SECRET,
    }
    arguments = msgspec.json.encode((gateway.config, options)).decode()
    process = subprocess.Popen([sys.executable, "-c", SERVE, arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("http://"):
            gateway.url = line.strip()
            gateway.wait_ready()
            return process
    raise AssertionError("the process did not start")


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=5)


@pytest.mark.parametrize("answered", [True, False], ids=["switch had approved", "switch had received nothing of it"])
def test_a_killed_process_goes_on_after_its_restart_and_charges_once(
    idle_gateway: Gateway, switch: FakeSwitch, answered: bool
) -> None:
    gateway = idle_gateway
    gateway.config = msgspec.structs.replace(gateway.config, claim_s=60.0)  # not waited for: a dead holder is seen
    process = start_process(gateway)
    switch.rule = lambda _: SILENCE
    failures: list[Any] = []

    def pay() -> None:
        try:
            gateway.post(
                "/v1/payment_intents",
                {**PAY, "confirm": "true"},
                headers={"Idempotency-Key": "order-1"},
            )
        except httpx.HTTPError as error:
            failures.append(error)

    merchant = threading.Thread(target=pay)
    merchant.start()
    eventually(lambda: switch.mtis())
    kill(process)
    merchant.join(10)
    assert failures, "the merchant must have been cut off"
    first = switch.received[-1]
    if answered:
        key = ("0200", first.elements[7], first.elements[11])
        switch.answers[key] = "00"
    switch.rule = lambda message: "00"
    before = len(switch.received)
    gateway.start()
    gateway.wait_ready()
    client = gateway.stripe()
    intent = eventually(lambda: _retry(client))
    assert intent.status == "succeeded"
    assert [item.id for item in client.v1.payment_intents.list()] == [intent.id]
    repeats = [message for message in switch.received[before:] if not message.mti.startswith("08")]
    assert {message.mti for message in repeats} == {"0201"}
    assert one_key([first, *repeats])
    assert standing(gateway) == [(0, 1099, True)]


def _retry(client: stripe.StripeClient) -> Any:
    try:
        return client.v1.payment_intents.create({**PAY}, {"idempotency_key": "order-1"})
    except stripe.APIError as error:
        assert (error.http_status, error.error.code) == (409, "idempotency_key_in_use")
        return None


def test_reversals_survive_a_restart(gateway: Gateway, switch: FakeSwitch) -> None:
    switch.rule = lambda _: SILENCE
    with pytest.raises(stripe.CardError):
        gateway.stripe().v1.payment_intents.create(PAY)
    gateway.stop()
    assert standing(gateway) == [(0, 0, False)]
    switch.rule = lambda _: "00"
    gateway.start()
    eventually(lambda: standing(gateway) == [(0, 0, True)])
    assert switch.mtis()[-1] == "0421"
