"""Advices, reconciliation, management and what the issuer starts: past events are booked, and reported once."""

from __future__ import annotations

import pytest

from messages.key_change import BLOCK, key_request
from messages.message import Message
from messages.mti import response_mti
from messages.reconciliation import COMPARED
from simulators.errors import SimulatorError
from simulators.issuer import Issuer
from simulators.issuer.book import IssuerBook
from simulators.issuer.scenario import IssuerScenario
from simulators.link_keys import LinkKeys
from tests.simulators.samples import NOW, PAN, ZPK, about, answer, issuer, request, standing, told

LEFT = "{:012d}" + "0" * 12 + "C00000000C00000000"  # DE 95


@pytest.mark.parametrize(("mti", "expected"), [("0120", (700, 0)), ("0220", (0, 700))])
def test_what_was_approved_elsewhere_is_booked(mti: str, expected: tuple[int, int]) -> None:
    core = issuer()
    advice = request(1, 700, mti, e39="00")
    assert told(core, advice) == "00"
    assert told(core, request(1, 700, mti[:3] + "1", e39="00")) == "00"
    assert standing(core) == [expected]
    assert told(core, about(advice, 2, "0420")) == "00"
    assert standing(core) == [(0, 0)]


def test_an_advice_is_booked_whatever_this_issuer_would_have_said() -> None:
    core = issuer()
    assert told(core, request(1, 99_999, "0120")) == "00"
    assert told(core, request(2, 10, "0120", e2="5555555555554444")) == "00"
    assert standing(core) == [(99_999, 0), (10, 0)]
    assert core.stats["overdraft"] == 2
    assert told(core, request(3, 1)) == "51"


def test_the_hold_of_an_advice_is_captured_and_shrinks_as_any_other() -> None:
    core = issuer()
    advice = request(1, 700, "0120")
    told(core, advice)
    assert told(core, about(advice, 2, "0220", 300, e60="P")) == "00"
    assert standing(core) == [(400, 300)]
    assert told(core, about(advice, 3, "0420", e95=LEFT.format(100))) == "00"
    assert standing(core) == [(100, 300)]


@pytest.mark.parametrize("code", ["00", "08", "10", "11", "16"])
def test_an_approval_of_whatever_kind_that_was_given_elsewhere_is_booked(code: str) -> None:
    core = issuer()
    assert told(core, request(1, 700, "0220", e39=code)) == "00"
    assert standing(core) == [(0, 700)]


def test_a_verification_that_was_approved_elsewhere_is_no_approval_of_money() -> None:
    core = issuer()
    assert told(core, request(1, 700, "0220", e39="85")) == "00"
    assert told(core, request(2, 0, "0120", e39="85")) == "00"
    assert standing(core) == [(0, 0), (0, 0)]
    assert [entry.response_code for entry in core.entries.entries()] == ["05", "85"]


def test_a_decline_that_was_given_elsewhere_is_on_record() -> None:
    core = issuer()
    assert told(core, request(1, 700, "0120", e39="05")) == "00"
    assert standing(core) == [(0, 0)]


def test_a_refund_that_was_given_offline_gives_back() -> None:
    core = issuer()
    assert told(core, request(1, 700, "0220", e3="200000")) == "00"
    assert standing(core) == [(0, -700)]
    assert told(core, request(2, 10_700)) == "00"


def test_an_advice_whose_reversal_came_first_is_not_booked() -> None:
    core = issuer()
    advice = request(1, 700, "0120")
    told(core, about(advice, 2, "0420"))
    assert told(core, advice) == "00"
    assert standing(core) == [(0, 0)]


@pytest.mark.parametrize(
    ("mti", "left", "expected"),
    [("0100", 300, (300, 0)), ("0100", 5_000, (1_000, 0)), ("0200", 300, (0, 300)), ("0200", 5_000, (0, 1_000))],
)
def test_a_partial_reversal_leaves_what_de_95_says(mti: str, left: int, expected: tuple[int, int]) -> None:
    core = issuer()
    paid = request(1, 1_000, mti)
    told(core, paid)
    assert told(core, about(paid, 2, "0420", e95=LEFT.format(left))) == "00"
    assert told(core, about(paid, 2, "0421", e95=LEFT.format(left))) == "00"
    assert standing(core) == [expected]
    assert told(core, request(3, 10_000 - sum(expected))) == "00"


def test_an_increment_that_overtakes_a_partial_reversal_stays_on_hold() -> None:
    core = issuer()
    held = request(1, 1_000)
    told(core, held)
    told(core, about(held, 2, "0100", 500))
    assert (
        told(core, about(held, 3, "0420", 1_000, e95=LEFT.format(300))) == "00"
    )  # sent before the increment was known
    assert standing(core) == [(800, 0)]
    assert told(core, about(held, 4, "0420", 800, e95=LEFT.format(100))) == "00"  # and one that knows all
    assert standing(core) == [(100, 0)]
    assert told(core, about(held, 5, "0420", 50, e95=LEFT.format(80))) == "00"  # nothing grows by a reversal
    assert standing(core) == [(100, 0)]


def test_a_partial_reversal_of_a_refund() -> None:
    core = issuer()
    refund = request(1, 1_000, "0200", e3="200000")
    told(core, refund)
    assert told(core, about(refund, 2, "0400", e95=LEFT.format(400))) == "00"
    assert standing(core) == [(0, -400)]


def test_de_95_of_zero_reverses_in_full() -> None:
    core = issuer()
    paid = request(1, 1_000, "0200")
    told(core, paid)
    assert told(core, about(paid, 2, "0420", e95=LEFT.format(0))) == "00"
    assert standing(core) == [(0, 0)]


@pytest.mark.parametrize(("state", "code"), [("unknown", "25"), ("reversed", "12"), ("declined", "12")])
def test_nothing_shrinks_that_does_not_stand(state: str, code: str) -> None:
    core = issuer()
    paid = request(1, 20_000 if state == "declined" else 1_000)
    if state != "unknown":
        told(core, paid)
    if state == "reversed":
        told(core, about(paid, 2, "0420"))
    assert told(core, about(paid, 3, "0420", e95=LEFT.format(300))) == code


@pytest.mark.parametrize("mti", ["0400", "0420"])
def test_references_and_amounts_that_cannot_be_read(mti: str) -> None:
    core = issuer()
    paid = request(1)
    told(core, paid)
    assert told(core, request(2, 100, mti, e90="x" * 42)) == "30"
    assert told(core, about(paid, 3, mti, e95="x" * 42)) == "30"
    assert standing(core) == [(1_000, 0)]


# Reconciliation


def totals(**numbers: int) -> dict[int, str]:
    return {int(name[1:]): f"{value:0{10 if int(name[1:]) < 80 else 16}d}" for name, value in numbers.items()}


def reconciliation(day: str, numbers: dict[str, int], mti: str = "0500", currency: str = "978") -> Message:
    return Message(mti, {7: "0304050607", 11: "000099", 15: day, 49: currency, **totals(**numbers)})


def day_of_trade() -> Issuer:
    """Purchases of 7.00 and 3.00, one of 9.00 reversed, 2.00 refunded, 5.00 captured of a hold; one in dollars."""
    core = issuer()
    told(core, Message("0800", {7: "0304000000", 11: "000098", 15: "0304", 70: "201"}))
    told(core, request(1, 700, "0200"))
    told(core, request(2, 300, "0220"))
    undone = request(3, 900, "0200")
    told(core, undone)
    told(core, about(undone, 4, "0420"))
    told(core, request(5, 200, "0200", e3="200000"))
    held = request(6, 600)
    told(core, held)
    told(core, about(held, 7, "0220", 500))
    told(core, request(8, 50, "0200", e49="840"))
    return core


EUROS = {"d74": 1, "d75": 0, "d76": 4, "d77": 1, "d86": 200, "d87": 0, "d88": 2_400, "d89": 900}


@pytest.mark.parametrize("mti", ["0500", "0520", "0501", "0521"])
def test_totals_that_agree_are_in_balance(mti: str) -> None:
    given = answer(day_of_trade(), reconciliation("0304", EUROS, mti))
    assert (given[39], given[66]) == ("00", "1")
    assert set(given) & {74, 76, 88, 97} == set()


def test_what_was_never_approved_there_may_be_missing_on_both_sides() -> None:
    core = day_of_trade()
    assert answer(core, reconciliation("0304", {**EUROS, "d76": 3, "d77": 0, "d88": 1_500, "d89": 0}))[66] == "1"


@pytest.mark.parametrize("name", sorted(EUROS))
def test_totals_that_differ_are_answered_with_the_right_ones(name: str) -> None:
    core = day_of_trade()
    given = answer(core, reconciliation("0304", {**EUROS, name: EUROS[name] + 1}))
    assert (given[39], given[66]) == ("00", "2")
    assert {f"d{number}": int(given[number]) for number in (74, 75, 76, 77, 86, 87, 88, 89)} == EUROS
    assert given[97] == "D" + f"{1_300:016d}"
    assert core.stats["out of balance"] == 1


@pytest.mark.parametrize("number", COMPARED)
def test_each_total_is_compared_by_itself(number: int) -> None:
    right = {**totals(**EUROS), 97: "D" + f"{1_300:016d}"}
    asked = reconciliation("0304", EUROS)
    text = right.get(number, "0" * 12)
    asked.elements |= {97: right[97], number: text[:-1] + ("2" if text[-1] == "1" else "1")}
    given = answer(day_of_trade(), asked)
    assert (given[39], given[66], given[97]) == ("00", "2", right[97])


@pytest.mark.parametrize(
    ("net", "told"), [("D1300", ("00", "1")), ("C1300", ("00", "2")), ("1300", ("30", "")), (None, ("00", "1"))]
)
def test_the_sign_of_the_net_counts_and_an_absent_net_is_not_compared(net: str | None, told: tuple[str, str]) -> None:
    asked = reconciliation("0304", EUROS)
    asked.elements |= {} if net is None else {97: net}
    given = answer(day_of_trade(), asked)
    assert (given[39], given.get(66, "")) == told


def test_each_currency_and_day_by_itself() -> None:
    core = day_of_trade()
    assert answer(core, reconciliation("0304", {"d76": 1, "d88": 50}, currency="840"))[66] == "1"
    told(core, Message("0800", {7: "0304230000", 11: "000097", 15: "0305", 70: "201"}))
    told(core, request(20, 40, "0200"))
    assert answer(core, reconciliation("0305", {"d76": 1, "d88": 40}))[66] == "1"
    assert answer(core, reconciliation("0304", EUROS))[66] == "1"
    assert told(core, reconciliation("0304", {}, currency="000")) == "30"


def test_a_day_that_has_just_begun_has_no_totals_of_the_day_before() -> None:
    core = issuer()
    told(core, request(1, 700, "0200"))
    told(core, Message("0800", {7: "0304230000", 11: "000097", 15: "0305", 70: "201"}))
    assert answer(core, reconciliation("0305", {}))[66] == "1"


def test_a_day_that_is_begun_twice_is_one_day() -> None:
    core = issuer()
    for number, amount in ((1, 700), (2, 50)):
        told(core, Message("0800", {7: "0304230000", 11: f"00010{number}", 15: "0305", 70: "201"}))
        told(core, request(number, amount, "0200"))
    assert answer(core, reconciliation("0305", {"d76": 2, "d88": 750}))[66] == "1"


def test_the_day_before_the_first_cut_over_is_any_unknown_day() -> None:
    core = issuer()
    told(core, request(1, 700, "0200"))
    assert answer(core, reconciliation("0304", {"d76": 1, "d88": 700}))[66] == "1"


# Administration and management


def test_texts_are_kept_and_a_repeat_is_no_second_one() -> None:
    core = issuer()
    for mti in ("0600", "0601", "0620"):
        assert told(core, Message(mti, {7: "0304050607", 11: "000001", 48: "lost terminal"})) == "00"
    assert told(core, Message("0620", {7: "0304050607", 11: "000002", 48: "found again"})) == "00"
    assert core.records == ["0304050607000001 lost terminal", "0304050607000002 found again"]


def test_sign_on_echo_and_sign_off() -> None:
    core = issuer()
    seen = []
    for code in ("301", "001", "301", "002"):
        assert told(core, Message("0800", {7: "0304050607", 11: "000001", 70: code})) == "00"
        seen.append(core.signed_on)
    assert seen == [False, True, True, False]


def test_keys_are_exchanged_from_either_side() -> None:
    zmk, mac = bytes(range(32)), bytes(range(32, 64))
    here = Issuer(IssuerScenario(name="alpha"), ZPK, mac_key=mac, zmk=zmk)
    there = LinkKeys(ZPK, mac, zmk=zmk)
    offer = there.offer("mac")
    given = answer(here, Message("0800", {7: "0304050607", 11: "000001", **key_request("mac", offer.block)}))
    assert (given[39], given[BLOCK]) == ("00", offer.kcv)
    assert there.settle(offer, given[39], given[BLOCK])
    ours = here.key_change("pin", NOW)
    kcv = there.accept("pin", ours.elements[BLOCK])
    here.receive(Message("0810", {**ours.elements, 39: "00", BLOCK: kcv}), NOW)
    assert here.key_changes == [("pin", "00")]
    assert here.keys.check_value("pin") == kcv
    refused = {7: "0304050607", 11: "000002", 70: "101"}
    assert told(here, Message("0800", refused)) == "30"
    assert told(issuer(), Message("0800", {**refused, **key_request("pin", offer.block)})) == "63"


# Messages that the issuer starts


def settle(core: Issuer, message: Message, code: str) -> None:
    assert core.receive(Message(response_mti(message.mti), {**message.elements, 39: code}), NOW) == []


def test_a_card_on_the_negative_list_is_told_until_it_is_answered() -> None:
    core = issuer()
    message = core.list_card(PAN, "add", NOW)
    assert (message.mti, message.elements[2], message.elements[91], message.elements[101]) == (
        "0302", PAN, "1", "NEGATIVE",
    )  # fmt: skip
    assert core.open_messages() == [message]
    settle(core, message, "96")
    assert core.open_messages() == [message]
    assert core.answer_code(message) == ""
    settle(core, message, "00")
    assert core.open_messages() == []
    assert core.answer_code(message) == "00"
    assert core.list_card(PAN, "delete", NOW).elements[91] == "3"
    with pytest.raises(SimulatorError, match="add, delete, inquire"):
        core.list_card(PAN, "burn", NOW)


@pytest.mark.parametrize(
    ("what", "code"), [("sign-on", "001"), ("sign-off", "002"), ("cut-over", "201"), ("echo", "301")]
)
def test_management_that_the_issuer_starts(what: str, code: str) -> None:
    core = issuer()
    message = core.manage(what, NOW, "0305" if what == "cut-over" else "")
    assert (message.mti, message.elements[70]) == ("0800", code)
    core.give_up(message)
    assert core.open_messages() == []


def test_a_cut_over_that_the_issuer_starts_opens_a_day() -> None:
    core = day_of_trade()
    core.manage("cut-over", NOW, "0305")
    told(core, request(30, 60, "0200"))
    message = core.reconcile("0305", "EUR", NOW)
    assert (message.mti, message.elements[15], message.elements[76]) == ("0520", "0305", f"{1:010d}")
    assert core.reconcile("0304", "EUR", NOW).elements[88] == f"{2_400:016d}"


@pytest.mark.parametrize("day", ["5", "03-5", "०३०५"])
def test_a_day_is_four_digits(day: str) -> None:
    core = issuer()
    with pytest.raises(SimulatorError, match="MMDD"):
        core.manage("cut-over", NOW, day)
    with pytest.raises(SimulatorError, match="MMDD"):
        core.reconcile(day, "EUR", NOW)
    assert core.totals.day == ""
    assert core.open_messages() == []


def test_numbers_of_what_is_started_are_its_own() -> None:
    core = issuer()
    messages = [core.manage("echo", NOW), core.list_card(PAN, "add", NOW), core.manage("echo", NOW)]
    assert len({message.elements[11] for message in messages}) == 3


# On file


def test_increments_parts_and_chip_answers_survive_a_restart() -> None:
    scenario = IssuerScenario(name="alpha", default=issuer().accounts.find(PAN).rule)  # type: ignore[union-attr]
    first = Issuer(scenario, book=IssuerBook("alpha", keep_records=True))
    held = request(1, 1_000)
    more = about(held, 2, "0100", 500)
    for message in (held, more, about(held, 3, "0420", 1_500, e95=LEFT.format(900))):
        assert told(first, message) == "00"
    book = IssuerBook("alpha")
    book.restore(first.drain_records())
    again = Issuer(scenario, book=book)
    assert standing(again) == standing(first) == [(900, 0)]
    assert told(again, about(held, 3, "0421", 1_500, e95=LEFT.format(900))) == "00"
    assert told(again, about(more, 4, "0420")) == "00"
    assert standing(again) == [(400, 0)]
