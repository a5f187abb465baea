"""A test for each row of the table of what goes wrong, on real processes; the books agree at the end of each."""

from __future__ import annotations

import os
import signal
import time

import pytest

from console.process_table import descendants
from messages.message import Message
from simulators.acquirer import Card
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
    assert shop.pos.repeat(request).elements[39] == "91", "what the acquirer was told stays"
    shop.agree(timeout_s=20)
    assert shop.acknowledgements(request) == ["00"]


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
