"""The network's rules: the issuer of each card, signed on or not, away or not, and the settlement."""

from __future__ import annotations

import pytest

from messages.message import Message
from messages.mti import response_mti
from simulators.errors import SimulatorError
from simulators.faults import FaultRule
from simulators.issuer import Disconnect, Send
from simulators.issuer.accounts import AccountRule
from simulators.issuer.book import IssuerBook
from simulators.issuer.core import REQUESTS
from simulators.network import MemberScenario, Network, NetworkScenario
from simulators.network.core import ANSWERS
from tests.simulators.samples import CVK, IMK, NOW, ZPK, about, answer, chip_data, request, standing, told

VISA, DEBIT, MASTER = "4242424242424242", "4000056655665556", "5555555555554444"
NORTH = MemberScenario(name="north", prefixes=("4",), default=AccountRule(balance_minor=10_000))
DEBITS = MemberScenario(name="debits", prefixes=("400005",), default=AccountRule(balance_minor=500), pin_tries=1)
SOUTH = MemberScenario(name="south", prefixes=("51", "55"), default=AccountRule(balance_minor=2_000))


def network(
    *members: MemberScenario, signed_on: bool = True, book: IssuerBook | None = None, **changes: object
) -> Network:
    values: dict[str, object] = {"name": "scheme", "pin_key": "zpk", "trace_element": 63, **changes}
    made = Network(
        NetworkScenario(**values, issuer=members or (NORTH, DEBITS, SOUTH)),  # type: ignore[arg-type]
        {"zpk": ZPK, "cvk": CVK, "imk": IMK},
        book=book,
    )
    if signed_on:
        assert told(made, management("001")) == "00"
    return made


def management(code: str, **elements: str) -> Message:
    """`elements`: e<number>."""
    more = {int(name[1:]): value for name, value in elements.items()}
    return Message("0800", {7: "0304050607", 11: "900000", 70: code, **more})


def paid(core: Network, stan: int, pan: str, amount: int, **changes: str) -> Message:
    message = request(stan, amount, "0200", e2=pan, **changes)
    assert told(core, message) == "00"
    return message


def test_the_longest_prefix_says_whose_card_it_is() -> None:
    core = network()
    assert told(core, request(1, 900, e2=VISA)) == "00"
    assert told(core, request(2, 900, e2=DEBIT)) == "51"  # debits has 5.00, north would have 100.00
    assert told(core, request(3, 900, e2=MASTER)) == "00"
    assert [line.member for line in core.book()] == ["north", "debits", "south"]
    assert {line.link for line in core.book()} == {"scheme"}
    assert told(core, request(4, 900, e2="378282246310005")) == ANSWERS["no such issuer"] == "15"
    assert core.transactions == 3


def test_payments_need_a_sign_on_and_end_with_a_sign_off() -> None:
    core = network(signed_on=False)
    for mti in sorted(set(REQUESTS) - {"0500", "0520", "0600", "0620", "0800", "0820"}):
        assert told(core, about(request(1), 2, mti)) == ANSWERS["not signed on"], mti
    assert told(core, management("301")) == "00"
    assert core.transactions == 0
    told(core, management("001"))
    assert told(core, request(1)) == "00"
    told(core, management("002"))
    assert told(core, request(2)) == "91"
    assert told(network(signed_on=False, needs_sign_on=False), request(1)) == "00"


def test_pins_are_verified_by_the_issuer_under_the_key_of_the_link() -> None:
    core = network()
    block = core.keys.pin_block("1234", DEBIT)[0].hex().upper()
    wrong = core.keys.pin_block("4321", DEBIT)[0].hex().upper()
    assert told(core, request(1, 100, e2=DEBIT, e52=block)) == "00"
    assert told(core, request(2, 100, e2=DEBIT, e52=wrong)) == "55"
    assert told(core, request(3, 100, e2=DEBIT, e52=block)) == "75"


def test_each_issuer_has_keys_of_its_own() -> None:
    chip = MemberScenario(name="chip", prefixes=("4",), default=AccountRule(), cryptogram_key="imk")
    stripe = MemberScenario(name="stripe", prefixes=("5",), default=AccountRule(), card_value_key="cvk")
    core = network(chip, stripe)
    assert 55 in answer(core, request(1, e55=chip_data()))
    assert told(core, request(2, e55=chip_data()[:-2] + "FF")) == "82"
    assert 55 not in answer(core, request(3, e2=MASTER, e55=chip_data(pan=MASTER)))
    assert told(core, request(4, e2=MASTER, e14="3012", e48="9203000")) == "82"


def test_advices_find_the_issuer_of_their_original_without_a_card_number() -> None:
    core = network()
    first, second = paid(core, 1, VISA, 700), paid(core, 2, MASTER, 900)
    assert told(core, about(second, 3, "0420", e2="")) == "00"
    assert standing_of(core) == [("north", 700), ("south", 0)]
    assert told(core, about(first, 4, "0420", e2="")) == "00"
    assert standing_of(core) == [("north", 0), ("south", 0)]
    assert told(core, about(request(9), 5, "0420", e2="")) == ANSWERS["nothing to reverse"]
    assert told(core, about(request(9), 6, "0220", e2="")) == "15"


def standing_of(core: Network) -> list[tuple[str, int]]:
    return [(line.member, line.posted_minor) for line in core.book()]


def test_an_issuer_that_is_away_is_answered_for() -> None:
    core = network(NORTH, MemberScenario(name="south", prefixes=("5",), default=AccountRule(), stand_in_minor=1_000))
    before = paid(core, 1, VISA, 100)
    for name in ("north", "south"):
        core.set_available(name, False)
    assert told(core, request(2, e2=VISA)) == "91"
    assert told(core, request(3, 1_001, e2=MASTER)) == "91"
    assert told(core, request(4, 1_000, e2=MASTER)) == "00"
    assert told(core, request(5, 800, "0200", e2=MASTER)) == "00"
    assert told(core, request(1, 100, "0201", e2=VISA)) == "00"  # a repeat has its answer already
    assert told(core, about(before, 6, "0420")) == "00"  # a past event is taken for it
    assert [(line.member, line.held_minor, line.posted_minor) for line in core.book()] == [
        ("north", 0, 0), ("south", 1_000, 0), ("south", 0, 800),
    ]  # fmt: skip
    assert told(core, request(7, 0, e2=MASTER, e3="310000")) == "91"
    core.set_available("north", True)
    assert told(core, request(8, e2=VISA)) == "00"
    with pytest.raises(SimulatorError, match="there are north, south"):
        core.set_available("west", True)


def test_away_may_be_said_in_the_scenario() -> None:
    core = network(MemberScenario(name="north", prefixes=("4",), available=False))
    assert told(core, request(1)) == "91"


def test_totals_by_issuer_acquirer_and_day() -> None:
    core = network()
    told(core, management("201", e15="0304"))
    paid(core, 1, VISA, 700)
    paid(core, 2, VISA, 300, e32="10002")
    undone = paid(core, 3, MASTER, 900)
    told(core, about(undone, 4, "0420"))
    paid(core, 5, MASTER, 200, e3="200000")
    told(core, management("201", e15="0305"))
    paid(core, 6, MASTER, 50)
    lines = [
        (line.day, line.issuer, line.acquirer_id, line.debits_minor, line.debit_reversals_minor, line.net_minor)
        for line in core.settlement()
    ]
    assert lines == [
        ("0304", "north", "10001", 700, 0, 700),
        ("0304", "north", "10002", 300, 0, 300),
        ("0304", "south", "10001", 900, 900, -200),
        ("0305", "south", "10001", 50, 0, 50),
    ]


def test_reconciliation_is_over_all_issuers() -> None:
    core = network()
    told(core, management("201", e15="0304"))
    paid(core, 1, VISA, 700)
    paid(core, 2, MASTER, 300)
    totals = {15: "0304", 49: "978", 76: f"{2:010d}", 88: f"{1_000:016d}"}
    right = answer(core, Message("0500", {7: "0304050607", 11: "000009", **totals}))
    assert (right[39], right[66]) == ("00", "1")
    wrong = answer(core, Message("0520", {7: "0304050607", 11: "000010", **totals, 76: f"{1:010d}"}))
    assert (wrong[39], wrong[66], wrong[76], wrong[88]) == ("00", "2", f"{2:010d}", f"{1_000:016d}")
    assert told(core, Message("0500", {7: "0304050607", 11: "000009", 49: "978"})) == "30"


def test_the_network_starts_cut_over_and_tells_its_totals() -> None:
    core = network()
    message = core.manage("cut-over", NOW, "0305")
    assert (message.mti, message.elements[70], message.elements[15]) == ("0800", "201", "0305")
    paid(core, 1, VISA, 700)
    paid(core, 2, MASTER, 300)
    totals = core.reconcile("0305", "EUR", NOW)
    assert (totals.mti, totals.elements[76], totals.elements[88]) == ("0520", f"{2:010d}", f"{1_000:016d}")
    assert totals.elements[97] == "D" + f"{1_000:016d}"
    assert core.open_messages() == [message, totals]
    for sent in (message, totals):
        core.receive(Message(response_mti(sent.mti), {**sent.elements, 39: "00"}), NOW)
        assert core.answer_code(sent) == "00"
    assert core.open_messages() == []


def test_chargebacks_start_from_the_book_of_all_issuers() -> None:
    core = network()
    paid(core, 1, VISA, 700)
    paid(core, 2, MASTER, 900)
    message = core.chargeback("trace-2", NOW, 400)
    core.receive(Message("0432", {**message.elements, 39: "00"}), NOW)
    assert standing_of(core) == [("north", 700), ("south", 500)]


def test_faults_of_the_network_and_of_an_issuer() -> None:
    late = FaultRule(kind="late", delay_s=9.0)
    core = network(
        NORTH,
        MemberScenario(name="south", prefixes=("5",), default=AccountRule(), fault=(late,)),
        fault=(
            FaultRule(kind="duplicate", amount_minor=1),
            FaultRule(kind="disconnect-before", mti=("0800",), nth=2),
            FaultRule(kind="silence", booked=False, amount_minor=2),
            FaultRule(kind="decline", response_code="61", amount_minor=3),
        ),
    )
    assert [type(action) for action in core.receive(request(1, 1), NOW)] == [Send, Send]
    assert core.receive(management("301"), NOW) == [Disconnect()]
    assert core.receive(request(2, 2), NOW) == []
    assert told(core, request(3, 3)) == "61"
    [action] = core.receive(request(4, 1, e2=MASTER), NOW)  # both strike: the issuer's answer was late already
    assert isinstance(action, Send)
    assert action.delay_s == 9.0
    assert core.last_fault is not None
    assert [(line.member, line.held_minor) for line in core.book()] == [("north", 1), ("south", 1)]


def test_a_restored_book_goes_on() -> None:
    first = network(book=IssuerBook("scheme", keep_records=True))
    held = request(1, 700, e2=MASTER)
    assert told(first, held) == "00"
    book = IssuerBook("scheme")
    book.restore(first.drain_records())
    again = network(book=book)
    assert [(line.member, line.held_minor) for line in again.book()] == [("south", 700)]
    assert told(again, about(held, 2, "0420", e2="")) == "00"
    assert standing(again) == [(0, 0)]


def test_accounts_of_all_issuers() -> None:
    core = network()
    told(core, request(1, e2=VISA))
    told(core, request(2, 100, e2=MASTER))
    assert {pan for pan, _ in core.accounts.items()} == {VISA, MASTER}
    assert len(core.accounts) == 2
    core.accounts.set(AccountRule(pan=MASTER, response_code="62"))
    assert told(core, request(3, 100, e2=MASTER)) == "62"
    assert core.accounts.find("378282246310005") is None
    with pytest.raises(ValueError, match="no issuer"):
        core.accounts.set(AccountRule(pan="378282246310005"))


def test_unknown_messages_are_answered_and_answers_are_not() -> None:
    core = network()
    assert told(core, request(1, mti="0300")) == "12"
    assert core.receive(request(1, mti="0110"), NOW) == []
    assert core.stats["0300"] == 1
