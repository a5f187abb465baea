"""A test for each row of the table of what goes wrong, on real processes; the books agree at the end of each."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.request

import pytest

from console.process_table import descendants
from messages.message import Message
from messages.mti import repeat_mti
from simulators.acquirer import Card
from simulators.acquirer.book import Request
from tests.e2e.shop import Shop
from tests.e2e.terminal import utcnow

pytestmark = pytest.mark.xdist_group("e2e")

VISA = Card("4242424242424242")
WITH_PIN = Card("4242424242424242", pin="1234")
MASTERCARD = Card("5555555555554444")


def test_the_same_request_again_gets_the_stored_answer(shop: Shop) -> None:
    request = shop.pos.acquirer.purchase(VISA, 2_100, "EUR", utcnow())
    shop.pos.send(request.message)
    first = shop.pos.receive_raw()
    shop.pos.acquirer.receive(shop.pos.acquirer.decode(first), utcnow())
    shop.pos.send(request.message)
    assert shop.pos.receive_raw() == first, "the same bytes again get the same bytes"
    shop.pos.send(Message("0201", request.message.elements))
    assert shop.pos.receive_raw() == first, "0201 is answered like 0200"
    assert shop.standing(request) == (0, 2_100)
    shop.agree()


def test_a_repeat_on_another_connection_and_worker_waits_for_the_outcome(shop: Shop) -> None:
    shop.fault("alpha", kind="delay", name="slow", amount_minor=2_101, delay_s=0.6, count=1)
    request = shop.pos.acquirer.purchase(VISA, 2_101, "EUR", utcnow())
    shop.pos.send(request.message)
    with shop.another_connection() as other:
        other.send(Message("0201", request.message.elements))
        assert other.receive().elements[39] == "00"
    assert shop.pos.answer_of(request).elements[39] == "00"
    assert shop.standing(request) == (0, 2_101)
    shop.agree()


def answer_bytes(shop: Shop, request: Request, *, repeated: bool = False) -> bytes:
    """The switch's message for a request, as bytes; the acquirer gets it, too."""
    mti = repeat_mti(request.message.mti) if repeated else request.message.mti
    shop.pos.send(Message(mti, request.message.elements))
    data = shop.pos.receive_raw()
    shop.pos.acquirer.receive(shop.pos.acquirer.decode(data), utcnow())
    return data


def test_the_stored_answer_outlives_all_workers_and_each_of_them_gives_it(shop: Shop) -> None:
    paid = shop.pos.acquirer.purchase(VISA, 2_110, "EUR", utcnow())
    held = shop.pos.acquirer.authorization(MASTERCARD, 2_111, "EUR", utcnow())
    first = [answer_bytes(shop, paid), answer_bytes(shop, held)]
    back = shop.pos.acquirer.reversal(held, utcnow(), advice=True)
    first.append(answer_bytes(shop, back))
    workers = [f"switch-{number}" for number in range(shop.system.config.switch.workers)]
    dead = {name: shop.system.pid(name) for name in workers}
    for pid in dead.values():
        os.kill(pid, signal.SIGKILL)
    for name, pid in dead.items():
        shop.system.wait_child(name, other_than=pid)
    for stopped in workers:  # the other one answers; none has anything in memory
        pid = shop.system.pid(stopped)
        os.kill(pid, signal.SIGSTOP)
        try:
            again = None
            while again is None:  # the kernel may give a new connection to the one that sleeps
                shop.pos.reconnect()
                shop.pos.timeout_s = 1.0
                try:
                    again = [answer_bytes(shop, request, repeated=True) for request in (paid, held, back)]
                except (TimeoutError, ConnectionError):
                    continue
        finally:
            shop.pos.timeout_s = 10.0
            os.kill(pid, signal.SIGCONT)
        assert again == first
    assert [shop.standing(request) for request in (paid, held)] == [(0, 2_110), (0, 0)]
    shop.agree(timeout_s=20)


def sent(shop: Shop, mti: str) -> int:
    """Number of stored advices of this type that all workers have sent to alpha."""
    total = 0
    for name, url in shop.system.addresses().items():
        if name.startswith("metrics"):
            with urllib.request.urlopen(url, timeout=5) as page:
                lines = page.read().decode().splitlines()
            total += sum(
                int(float(line.rsplit(" ", 1)[1]))
                for line in lines
                if "advices_sent" in line and '"alpha"' in line and f'"{mti}"' in line
            )
    return total


def test_the_reversal_is_stored_before_the_answer_leaves_and_repeated_as_0421(shop: Shop) -> None:
    before = sent(shop, "0420"), sent(shop, "0421")
    for mti in ("0200", "0420"):
        shop.fault("alpha", kind="silence", name=f"dead {mti}", mti=[mti], amount_minor=2_210, count=1, booked=False)
    request, answer = shop.pos.buy(VISA, 2_210)
    assert answer.elements[39] == "91"
    advices = shop.sql(
        """SELECT a.mti, a.link FROM ledger.intents i JOIN ledger.outcomes o ON o.intent_id = i.id
             JOIN ledger.advices a ON a.intent_id = o.intent_id WHERE i.key = $1""",
        request.key,
    )
    assert advices == [{"mti": "0420", "link": "alpha"}], "it was there when the answer came"
    shop.agree(timeout_s=20)
    assert shop.acknowledgements(request) == ["00"]
    assert (sent(shop, "0420"), sent(shop, "0421")) == (before[0] + 1, before[1] + 1)


def test_a_silent_issuer_is_answered_for_and_reversed_until_it_acknowledges(shop: Shop) -> None:
    shop.fault("alpha", kind="silence", name="dead", amount_minor=2_200, count=1)
    shop.fault("alpha", kind="silence", name="deaf", mti=["0420"], amount_minor=2_200, count=1, booked=False)
    request, answer = shop.pos.buy(VISA, 2_200)
    assert answer.elements[39] == "91"
    shop.agree(timeout_s=20)
    assert shop.acknowledgements(request) == ["00"]
    assert shop.issuer_stats("alpha")["counts"]["fault silence"] >= 2, "the first 0420 was lost, so it was repeated"


def test_a_late_approval_is_reversed_once(shop: Shop) -> None:
    shop.fault("beta", kind="late", name="late", amount_minor=2_300, delay_s=shop.deadline_s("beta") + 0.5, count=1)
    request, answer = shop.pos.buy(MASTERCARD, 2_300)
    assert answer.elements[39] == "91"
    time.sleep(1.0)  # the approval comes in here
    assert shop.pos.repeat(request).elements[39] == "91", "the acquirer's answer stays"
    shop.agree(timeout_s=20)
    assert shop.acknowledgements(request) == ["00"]


def test_what_the_death_of_all_workers_leaves_without_an_outcome_is_reversed_at_its_issuer(shop: Shop) -> None:
    shop.fault("alpha", kind="delay", name="slow", amount_minor=2_310, delay_s=0.9, count=1)
    request = shop.pos.acquirer.purchase(VISA, 2_310, "EUR", utcnow())
    dead = {name: shop.system.pid(name) for name in ("switch-0", "switch-1")}
    shop.pos.send(request.message)
    open_intents = "SELECT i.id FROM ledger.intents i LEFT JOIN ledger.outcomes o ON o.intent_id = i.id"
    while not shop.sql(f"{open_intents} WHERE i.key = $1 AND o.intent_id IS NULL", request.key):
        time.sleep(0.02)
    time.sleep(0.3)  # the issuer has it, and thinks
    for pid in dead.values():
        os.kill(pid, signal.SIGKILL)
    for name, pid in dead.items():
        shop.system.wait_child(name, other_than=pid)
    shop.pos.reconnect()
    assert shop.pos.repeat(request).elements[39] != "00"
    shop.agree(timeout_s=20)
    assert shop.acknowledgements(request) == ["00"]
    assert shop.standing(request) == (0, 0)


def test_an_issuer_that_is_down_is_declined_at_once_and_comes_back(shop: Shop) -> None:
    pid = shop.system.pid("issuer-beta")
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    began = time.monotonic()
    _, answer = shop.pos.buy(MASTERCARD, 2_400)
    assert answer.elements[39] == "91"
    assert time.monotonic() - began < 1.0
    assert shop.pos.buy(VISA, 2_401)[1].elements[39] == "00", "the other issuer is not affected"
    shop.system.wait_child("issuer-beta", other_than=pid)
    shop.until_approved(MASTERCARD, 2_402)
    shop.agree()


def test_without_the_ledger_nothing_is_authorized_and_work_goes_on_afterwards(shop: Shop) -> None:
    pid = shop.system.pid("postgresql")
    # All of the server at once: its children would go on serving, and truthfully, until they find their parent dead.
    for process in (pid, *descendants(pid)):
        os.kill(process, signal.SIGKILL)
    began = time.monotonic()
    _, answer = shop.pos.buy(VISA, 2_500)
    assert answer.elements[39] in ("91", "96")
    assert time.monotonic() - began < 8.0
    shop.system.wait_child("postgresql", other_than=pid)
    shop.until_approved(VISA, 2_501)
    shop.agree(timeout_s=30)


def test_without_the_hsm_nothing_is_authorized_and_work_goes_on_afterwards(shop: Shop) -> None:
    pid = shop.system.pid("hsm")
    os.kill(pid, signal.SIGKILL)
    _, answer = shop.pos.buy(WITH_PIN, 2_600)
    assert answer.elements[39] in ("91", "96")
    shop.system.wait_child("hsm", other_than=pid)
    shop.until_approved(WITH_PIN, 2_601)
    shop.agree(timeout_s=30)


def test_bytes_that_are_no_message_do_not_cost_the_link(shop: Shop) -> None:
    shop.pos.send_raw(b"GET / HTTP/1.1")
    whole = shop.pos.acquirer.encode(shop.stranger().purchase(VISA, 2_700, "EUR", utcnow()).message)
    shop.pos.send_raw(whole[:60])  # header and DE 2, then cut off
    _, answer = shop.pos.buy(VISA, 2_701)
    assert answer.elements[39] == "00"
    shop.agree()


def undecodable(shop: Shop) -> list[dict[str, object]]:
    """The error events of both workers about bytes that are no message."""
    lines: list[dict[str, object]] = []
    for number in range(shop.system.config.switch.workers):
        text = (shop.system.config.log_path / f"switch-{number}.jsonl").read_text()
        lines += [json.loads(line) for line in text.splitlines() if '"undecodable"' in line]
    return lines


def test_bytes_that_are_no_message_are_told_without_a_card_number_and_answered_where_a_header_was(shop: Shop) -> None:
    before = len(undecodable(shop))
    request = shop.stranger().purchase(VISA, 2_710, "EUR", utcnow())
    whole = shop.pos.acquirer.encode(request.message)
    spoiled = whole.replace(request.message.elements[49].encode(), b"9\xff9", 1)  # the bytes after DE 7 and DE 11
    assert spoiled != whole
    shop.pos.send_raw(spoiled)
    answer = shop.pos.acquirer.codec.decode(shop.pos.receive_raw())
    assert (answer.mti, answer.elements[39]) == ("0210", "30")
    assert answer.elements[11] == request.message.elements[11]
    shop.pos.send_raw(b"4242424242424242=30121011234567890000")
    assert shop.pos.buy(VISA, 2_711)[1].elements[39] == "00", "the connection stays"
    deadline = time.monotonic() + 5
    while len(events := undecodable(shop)[before:]) < 2:
        assert time.monotonic() < deadline, "there is no event"
        time.sleep(0.1)
    assert len(events) == 2
    for event in events:
        assert event["link"] == "pos" and event["error"]
        assert re.match(r"\d+ bytes(, MTI 0200)?\n0000  [na.x ]+", str(event["dump"])), (
            "the class of each byte, no more"
        )
        text = json.dumps(event)
        assert VISA.pan not in text and VISA.pan.encode().hex() not in text and "424242" not in text
    assert shop.entries(request) == []
    shop.agree()


@pytest.mark.parametrize(
    ("number", "value", "code"),
    [
        (4, "000000000000", "13"),
        (49, "000", "30"),
        (3, "990000", "12"),
        (42, None, "30"),
        (49, None, "30"),
    ],
)
def test_what_cannot_be_processed_is_declined_with_its_reason(
    shop: Shop, number: int, value: str | None, code: str
) -> None:
    answer = shop.send_spoiled(number, value)
    assert answer.elements[39] == code


def test_an_unknown_message_type_is_answered_as_an_invalid_transaction(shop: Shop) -> None:
    answer = shop.send_spoiled(0, "0340")
    assert (answer.mti, answer.elements[39]) == ("0350", "12")


def test_a_wrong_mac_is_refused_before_anything_is_booked(shop: Shop) -> None:
    request = shop.pos.acquirer.purchase(VISA, 2_800, "EUR", utcnow())
    data = shop.pos.acquirer.encode(request.message)
    shop.pos.send_raw(data[:-1] + (b"0" if data[-1:] != b"0" else b"1"))
    answer = shop.pos.answer_of(request)
    assert answer.elements[39] == "63"
    assert shop.entries(request) == []
    shop.agree()


def test_lost_framing_closes_the_link_and_nothing_else(shop: Shop) -> None:
    with shop.another_connection() as other:
        other.send_bytes(b"\xff\xff" + b"x" * 100)
        assert other.receive_raw() == b""
    assert shop.pos.buy(VISA, 2_900)[1].elements[39] == "00"
    shop.agree()


def test_a_reversal_that_overtakes_its_original_wins(shop: Shop) -> None:
    original = shop.pos.acquirer.purchase(VISA, 3_100, "EUR", utcnow())
    _, answer = shop.pos.reverse(original)
    assert answer.elements[39] in ("00", "25")
    late = shop.pos.exchange(original)
    assert late.elements[39] != "00", "the original came after its reversal"
    shop.agree()
