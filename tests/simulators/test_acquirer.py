"""The acquirer's core: messages, MACs, the table of states, and what its book says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hsm.algorithms.mac import generate_mac
from hsm.algorithms.pinblock import decrypt_pin_block
from messages.exchange import original_data
from messages.message import Message
from messages.mti import response_mti
from simulators.acquirer import Acquirer, AcquirerProfile, Card
from simulators.acquirer.book import FINAL, TRANSITIONS, Event, Request, State
from simulators.errors import MacError
from tests.simulators.samples import NOW, PAN, ZPK

CARD = Card(PAN, pin="1234")
ZAK = bytes(range(16))
LATER = NOW + timedelta(seconds=5)


def acquirer(dialect: str = "iso87-ascii", **keys: bytes) -> Acquirer:
    return Acquirer(AcquirerProfile(link="pos", dialect=dialect, trace_element=63), pin_key=ZPK, **keys)


def answer(core: Acquirer, sent: Message, code: str) -> list[Request]:
    echoed = {number: sent.elements[number] for number in (7, 11, 32, 41)}
    return list(core.receive(Message(response_mti(sent.mti), {**echoed, 39: code}), NOW).settled)


def book(core: Acquirer) -> list[tuple[int, int, bool]]:
    return [(line.held_minor, line.posted_minor, line.settled) for line in core.book()]


def test_a_request_has_what_a_switch_needs() -> None:
    core = acquirer()
    request = core.purchase(CARD, 1234, "EUR", NOW, terminal="T2", merchant="SHOP")
    elements = request.message.elements
    assert request.key == "pos|0200|20260304050607|000001|10001"
    assert (elements[4], elements[7], elements[11], elements[49]) == ("000000001234", "0304050607", "000001", "978")
    assert (elements[41], elements[42], elements[43][-2:]) == ("T2      ", "SHOP".ljust(15), "DE")
    assert elements[37] == "606305000001"  # year's last digit, day of the year, hour, STAN
    assert decrypt_pin_block(bytes.fromhex(elements[52]), PAN, ZPK) == "1234"
    assert len(elements[63]) == 32
    assert PAN not in repr(request) + repr(CARD) + repr(request.message)


def test_stans_go_around_without_zero() -> None:
    core = Acquirer(AcquirerProfile(link="pos", first_stan=999_999))
    stans = [core.purchase(Card(PAN), 1, "EUR", NOW).message.elements[11] for _ in range(2)]
    assert stans == ["999999", "000001"]


@pytest.mark.parametrize("dialect", ["iso87-ascii", "iso87-bcd"])
def test_messages_carry_a_mac_in_their_last_element(dialect: str) -> None:
    core = acquirer(dialect, mac_key=ZAK)
    paid = core.purchase(CARD, 1, "EUR", NOW)
    for message, element in ((paid.message, 64), (core.reversal(paid, NOW).message, 128)):
        data = core.encode(message)
        decoded = core.decode(data)
        assert max(decoded.elements) == element
        covered, mac = core.codec.mac_input(data)
        assert mac == generate_mac(ZAK, covered)
        broken = core.codec.replace_mac(data, bytes(8))
        with pytest.raises(MacError, match="wrong MAC"):
            core.decode(broken)
    with pytest.raises(MacError, match="without a MAC"):
        core.decode(core.codec.encode(paid.message))
    assert core.decode(core.codec.encode(core.echo(NOW))).mti == "0800"


def test_answers_make_the_book() -> None:
    core = acquirer()
    held, paid = core.authorization(CARD, 900, "EUR", NOW), core.purchase(CARD, 500, "EUR", NOW)
    assert book(core) == [(0, 0, False), (0, 0, False)]
    assert answer(core, held.message, "00") == [held]
    assert answer(core, paid.message, "51") == [paid]
    assert book(core) == [(900, 0, True), (0, 0, True)]
    capture = core.capture(held, 300, NOW, final=False)
    assert book(core)[0] == (900, 0, False)
    assert answer(core, capture.message, "96") == []
    assert core.overdue(capture, LATER).mti == "0221"
    assert answer(core, capture.message, "00") == [capture]
    assert book(core)[0] == (600, 300, True)
    assert answer(core, core.capture(held, 200, NOW).message, "00")
    assert book(core)[0] == (0, 500, True)
    refund = core.refund(CARD, 100, NOW, held)
    assert refund.message.elements[3] == "200000"
    assert refund.message.elements[90] == original_data("0100", "000001", "0304050607", "10001")
    answer(core, refund.message, "00")
    assert book(core)[-1] == (0, -100, True)


def test_a_void_keeps_what_was_captured() -> None:
    core = acquirer()
    held = core.authorization(CARD, 900, "EUR", NOW)
    answer(core, held.message, "00")
    answer(core, core.capture(held, 300, NOW, final=False).message, "00")
    answer(core, core.reversal(held, NOW).message, "00")
    assert book(core) == [(0, 300, True)]


def test_a_refused_void_changes_nothing() -> None:
    core = acquirer()
    paid = core.purchase(CARD, 900, "EUR", NOW)
    answer(core, paid.message, "00")
    assert answer(core, core.reversal(paid, NOW).message, "12")
    assert book(core) == [(0, 900, True)]


def test_no_answer_is_repeated_then_reversed_until_acknowledged() -> None:
    core = acquirer()
    request = core.authorization(CARD, 900, "EUR", NOW)
    repeat = core.overdue(request, LATER)
    assert (repeat.mti, repeat.elements) == ("0101", request.message.elements)
    reversal = core.overdue(request, LATER)
    assert reversal.mti == "0420"
    assert reversal.elements[90] == original_data("0100", "000001", "0304050607", "10001")
    assert core.overdue(request, LATER).mti == "0421"
    assert core.overdue(request, LATER).elements == reversal.elements
    assert answer(core, request.message, "00") == []  # too late
    assert answer(core, reversal, "96") == []
    assert book(core) == [(0, 0, False)]
    assert answer(core, reversal, "25") == [request.reversal, request]
    assert (request.state, book(core)) == (State.REVERSED, [(0, 0, True)])


def test_a_refused_reversal_of_something_unknown_stays_open() -> None:
    core = Acquirer(AcquirerProfile(link="pos", repeats=0))
    request = core.authorization(Card(PAN), 900, "EUR", NOW)
    answer(core, core.overdue(request, LATER), "12")
    assert (request.state, book(core)) == (State.UNRESOLVED, [(0, 0, False)])


def test_a_second_answer_changes_nothing() -> None:
    core = acquirer()
    paid = core.purchase(CARD, 900, "EUR", NOW)
    answer(core, paid.message, "00")
    assert answer(core, paid.message, "05") == []
    assert book(core) == [(0, 900, True)]


def test_final_states_are_left_by_undoing_only() -> None:
    assert {(state, event) for state, event in TRANSITIONS if state in FINAL} == {(State.APPROVED, Event.UNDONE)}


def test_a_chargeback_is_booked_once_and_answered_each_time() -> None:
    core = acquirer()
    paid = core.purchase(CARD, 900, "EUR", NOW)
    answer(core, paid.message, "00")
    elements = {4: "000000000400", 7: "0304050700", 11: "000077", 32: "10001", 49: "978"}
    elements[90] = original_data("0200", "000001", "0304050607", "10001")
    for mti in ("0422", "0423"):
        [reply] = core.receive(Message(mti, elements), NOW).answers
        assert (reply.mti, reply.elements[39], reply.elements[11]) == ("0432", "00", "000077")
    assert book(core) == [(0, 500, True)]
    for data, code in ((original_data("0200", "000009", "0304050607", ""), "25"), ("", "30")):
        elements = {**elements, 11: f"{int(elements[11]) + 1:06d}", 90: data}
        [reply] = core.receive(Message("0422", elements), NOW).answers
        assert reply.elements[39] == code


def test_the_switch_may_ask_for_an_echo() -> None:
    [reply] = acquirer().receive(Message("0800", {7: "0304050607", 11: "000001", 70: "301"}), NOW).answers
    assert (reply.mti, reply.elements[39], reply.elements[70]) == ("0810", "00", "301")
