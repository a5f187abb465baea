"""The acquirer's whole message set: the content of each message, and each answer's effect on book and totals."""

from __future__ import annotations

from datetime import timedelta

import pytest

from messages.exchange import original_data
from messages.message import Message
from messages.mti import response_mti
from simulators.acquirer import Acquirer, AcquirerProfile, Card
from simulators.acquirer.book import KINDS, Request, State
from tests.simulators.samples import NOW, PAN, ZPK

CARD = Card(PAN, pin="1234")
LATER = NOW + timedelta(seconds=5)


def acquirer(**profile: int) -> Acquirer:
    return Acquirer(AcquirerProfile(link="pos", **profile), pin_key=ZPK)


def tell(core: Acquirer, request: Request, code: str = "00", **more: str) -> list[Request]:
    sent = request.message
    echoed = {number: sent.elements[number] for number in (7, 11, 32, 41) if number in sent.elements}
    told = {int(name[2:]): value for name, value in more.items()}
    return list(core.receive(Message(response_mti(sent.mti), {**echoed, 39: code, **told}), NOW).settled)


def book(core: Acquirer) -> list[tuple[int, int, bool]]:
    return [(line.held_minor, line.posted_minor, line.settled) for line in core.book()]


def held(core: Acquirer, amount: int = 900) -> Request:
    request = core.authorization(CARD, amount, "EUR", NOW)
    tell(core, request)
    return request


def test_a_hold_grows_by_its_increments() -> None:
    core = acquirer()
    hold = held(core)
    more = core.increment(hold, CARD, 100, NOW)
    assert (more.message.mti, more.message.elements[4]) == ("0100", "000000000100")
    assert more.message.elements[90] == original_data("0100", "000001", "0304050607", "10001")
    assert more.message.elements[42] == hold.message.elements[42]
    assert book(core) == [(900, 0, False)]
    assert tell(core, more) == [more]
    assert book(core) == [(1000, 0, True)]
    assert tell(core, core.increment(hold, CARD, 50, NOW), "51")
    assert book(core) == [(1000, 0, True)]


def test_an_increment_is_undone_by_itself() -> None:
    core = acquirer()
    hold = held(core)
    more = core.increment(hold, CARD, 100, NOW)
    tell(core, more)
    back = core.reversal(more, NOW)
    assert book(core) == [(1000, 0, False)]
    assert back.message.elements[90] == original_data("0100", "000002", "0304050607", "10001")
    tell(core, back)
    assert (more.state, book(core)) == (State.REVERSED, [(900, 0, True)])


def test_an_increment_without_an_answer_is_repeated_then_reversed() -> None:
    core = acquirer()
    hold = held(core)
    more = core.increment(hold, CARD, 100, NOW)
    assert core.overdue(more, LATER).mti == "0101"  # type: ignore[union-attr]
    assert core.overdue(more, LATER).mti == "0420"  # type: ignore[union-attr]
    assert book(core) == [(900, 0, False)]
    assert more.reversal is not None
    assert tell(core, more.reversal, "25") == [more.reversal, more]
    assert (more.state, book(core)) == (State.REVERSED, [(900, 0, True)])


def test_a_hold_is_reduced_to_what_is_left() -> None:
    core = acquirer()
    hold = held(core)
    less = core.reduction(hold, 400, NOW)
    assert (less.message.mti, less.message.elements[95][:12], less.amount_minor) == ("0400", "000000000400", 400)
    assert len(less.message.elements[95]) == 42
    tell(core, less)
    assert book(core) == [(400, 0, True)]
    tell(core, core.reduction(hold, 200, NOW, advice=True), "12")
    assert book(core) == [(400, 0, True)]


def test_a_reduction_names_the_amount_held_where_the_hold_has_grown() -> None:
    core = acquirer()
    hold = held(core)
    assert core.reduction(hold, 400, NOW).message.elements[4] == hold.message.elements[4]
    tell(core, core.increment(hold, CARD, 100, NOW))
    assert core.reduction(hold, 400, NOW).message.elements[4] == f"{hold.held_minor:012d}"
    assert hold.held_minor == hold.amount_minor + 100


def test_a_partial_approval_books_what_was_granted() -> None:
    core = acquirer()
    paid = core.purchase(CARD, 5000, "EUR", NOW)
    tell(core, paid, "10", de4="000000001200")
    assert (paid.state, paid.approved_minor, book(core)) == (State.APPROVED, 1200, [(0, 1200, True)])


def test_a_purchase_may_give_out_cash() -> None:
    request = acquirer().purchase(CARD, 5000, "EUR", NOW, cashback_minor=2000)
    assert (request.message.elements[3], request.message.elements[4]) == ("090000", "000000005000")
    assert request.message.elements[54] == "0040978D000000002000"


def test_a_verification_asks_for_nothing() -> None:
    core = acquirer()
    request = core.verification(CARD, "EUR", NOW)
    assert (request.message.mti, int(request.message.elements[4])) == ("0100", 0)
    tell(core, request, "85")
    assert (request.state, book(core)) == (State.APPROVED, [(0, 0, True)])


def test_an_inquiry_is_given_up_and_has_no_line() -> None:
    core = acquirer()
    request = core.inquiry(CARD, "EUR", NOW)
    assert request.message.elements[3] == "310000"
    assert core.overdue(request, LATER).mti == "0101"  # type: ignore[union-attr]
    assert core.overdue(request, LATER) is None
    assert (request.state, book(core)) == (State.ABANDONED, [])


@pytest.mark.parametrize(("hold", "mti", "line"), [(True, "0120", (700, 0, True)), (False, "0220", (0, 700, True))])
def test_what_the_terminal_approved_is_advised_until_taken(hold: bool, mti: str, line: tuple[int, int, bool]) -> None:
    core = acquirer()
    request = core.advice(Card(PAN), 700, "EUR", NOW, hold=hold)
    assert (request.message.mti, request.message.elements[39], 90 in request.message.elements) == (mti, "00", False)
    for code in ("91", "96", "63"):
        assert tell(core, request, code) == []
        assert core.overdue(request, LATER).mti == mti[:3] + "1"  # type: ignore[union-attr]
    tell(core, request)
    assert book(core) == [line]


def test_totals_of_a_day_are_what_was_settled_in_it() -> None:
    core = acquirer()
    bought, returned = core.purchase(CARD, 500, "EUR", NOW), core.refund(CARD, 200, NOW, None, "EUR")
    for request in (bought, returned, core.purchase(CARD, 300, "USD", NOW)):
        tell(core, request)
    hold = held(core)
    tell(core, core.capture(hold, 400, NOW))
    tell(core, core.reversal(bought, NOW))
    request = core.reconciliation("EUR", NOW, advice=True)
    elements = request.message.elements
    assert (request.message.mti, elements[15], elements[49]) == ("0520", "0304", "978")
    counts = [int(elements[number]) for number in (74, 75, 76, 77, 86, 87, 88, 89)]
    assert counts == [1, 0, 2, 1, 200, 0, 900, 500]
    assert elements[97] == "D" + f"{200:016d}"
    cut = core.cut_over("0305", NOW)
    assert (cut.message.mti, cut.message.elements[70], cut.message.elements[15]) == ("0800", "201", "0305")
    tell(core, core.purchase(CARD, 50, "EUR", NOW))
    assert core.reconciliation("EUR", NOW).message.elements[88] == f"{50:016d}"
    assert core.reconciliation("EUR", NOW, day="0304").message.elements[88] == f"{900:016d}"


def test_a_text_is_repeated_until_it_is_taken() -> None:
    core = acquirer()
    request = core.administrative("paper is out", NOW)
    assert (request.message.mti, request.message.elements[48]) == ("0600", "paper is out")
    assert core.overdue(request, LATER).mti == "0601"  # type: ignore[union-attr]
    assert tell(core, request) == [request]
    assert core.administrative("x", NOW, advice=True).message.mti == "0620"
    assert book(core) == []


def test_a_late_reversal_takes_back_what_was_approved() -> None:
    core = acquirer()
    paid = core.purchase(CARD, 900, "EUR", NOW)
    tell(core, paid)
    back = core.give_up(paid, LATER)
    assert book(core) == [(0, 900, False)]
    tell(core, back)
    assert (paid.state, book(core)) == (State.REVERSED, [(0, 0, True)])


def test_chip_and_stripe_are_sent_as_they_are() -> None:
    core = acquirer()
    chip = core.purchase(Card(PAN, icc_data="9F2608AABBCCDDEEFF0011", sequence="001"), 1, "EUR", NOW).message.elements
    assert (chip[22], chip[23], chip[55]) == ("051", "001", "9F2608AABBCCDDEEFF0011")
    stripe = core.purchase(Card(PAN, track2=f"{PAN}=30122011"), 1, "EUR", NOW).message.elements
    assert (stripe[22], stripe[35], 2 in stripe, 14 in stripe) == ("021", f"{PAN}=30122011", False, False)


DIALECTS = ("iso87-ascii", "iso87-bcd", "iso87-ebcdic", "iso93-ascii", "iso93-binary", "iso2003-ascii")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_message_passes_through_every_dialect(dialect: str) -> None:
    core = Acquirer(AcquirerProfile(link="pos", dialect=dialect), pin_key=ZPK, mac_key=bytes(16), clock=lambda: NOW)
    hold, paid = core.authorization(CARD, 900, "EUR", NOW), core.purchase(CARD, 900, "JPY", NOW, cashback_minor=100)
    requests = [
        hold,
        paid,
        core.verification(CARD, "EUR", NOW),
        core.inquiry(CARD, "USD", NOW),
        core.increment(hold, CARD, 5, NOW),
        core.capture(hold, 7, NOW, final=False),
        core.reversal(hold, NOW),
        core.reduction(hold, 3, NOW, advice=True),
        core.refund(CARD, 2, NOW, paid),
        core.advice(Card(PAN), 700, "EUR", NOW),
        core.advice(Card(PAN), 700, "EUR", NOW, hold=True),
        core.administrative("hello", NOW, advice=True),
        core.cut_over("0305", NOW),
    ]
    if "2003" not in dialect:  # which has totals in elements that 1987 knows nothing of
        requests.append(core.reconciliation("EUR", NOW))
    for message in [*(request.message for request in requests), core.sign_on(NOW), core.echo(NOW)]:
        read = core.decode(core.encode(message))
        assert read.mti == message.mti
        read.elements[22] = message.elements.get(22, "")  # 2003 has no room for what a terminal could do with a PIN
        known = {number: value for number, value in message.elements.items() if number in read.elements}
        assert {number: read.elements[number] for number in known} == known
        lost = {13, 43} if "2003" in dialect else {13}  # DE 12 has the date; DE 43 of 2003 is in parts
        assert set(message.elements) - set(read.elements) <= lost, message.mti


def test_every_kind_is_money_or_free_and_changes_are_of_something() -> None:
    for kind, traits in KINDS.items():
        assert traits & {"line", "changes", "free"}, kind
        assert not {"line", "changes"} <= traits, kind
