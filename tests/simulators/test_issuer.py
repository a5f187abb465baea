"""The issuer's rules, one test each."""

from __future__ import annotations

import psec.des
import psec.pinblock
import pytest

from messages.mti import response_mti
from simulators.errors import SimulatorError
from simulators.faults import FaultRule
from simulators.issuer import Disconnect, Send
from simulators.issuer.accounts import TEST_CARDS, AccountRule
from simulators.issuer.checks import CHECKS
from simulators.issuer.core import REQUESTS
from tests.simulators.samples import CVK, IMK, NOW, PAN, ZPK, about, chip_data, issuer, request, standing, told


def test_an_authorization_holds_and_a_purchase_posts() -> None:
    core = issuer()
    assert told(core, request(1, 600)) == "00"
    assert told(core, request(2, 400, "0200")) == "00"
    assert standing(core) == [(600, 0), (0, 400)]
    assert told(core, request(3, 9_001)) == "51"
    assert told(core, request(4, 9_000)) == "00"


def test_the_book_names_transactions_as_the_switch_does() -> None:
    core = issuer()
    told(core, request(7, 600))
    [line] = core.book()
    assert (line.link, line.key, line.currency) == ("alpha", "alpha|0100|0304050607|000007", "EUR")


def test_answers_echo_what_the_standard_wants() -> None:
    core = issuer()
    sent = request(1)
    [action] = core.receive(sent, NOW)
    assert isinstance(action, Send)
    answer = action.message
    assert answer.mti == "0110"
    assert {number: answer.elements[number] for number in sent.elements} == sent.elements
    assert set(answer.elements) - set(sent.elements) == {38, 39}


def test_auth_codes_are_the_same_in_every_run() -> None:
    codes = []
    for _ in range(2):
        [action] = issuer().receive(request(1), NOW)
        assert isinstance(action, Send)
        codes.append(action.message.elements[38])
    assert codes[0] == codes[1]
    assert len(codes[0]) == 6


@pytest.mark.parametrize("mti", ["0100", "0101"])
def test_a_repeat_is_answered_from_the_book(mti: str) -> None:
    core = issuer()
    [first] = core.receive(request(1), NOW)
    core.accounts.set(AccountRule(pan=PAN, response_code="05"))
    [again] = core.receive(request(1, mti=mti), NOW)
    assert first == again
    assert standing(core) == [(1000, 0)]


def test_the_same_number_for_something_else_is_a_duplicate() -> None:
    core = issuer()
    told(core, request(1, 1000))
    assert told(core, request(1, 1001)) == "94"
    assert standing(core) == [(1000, 0)]


@pytest.mark.parametrize(("pan", "code"), sorted(TEST_CARDS.items()))
def test_well_known_cards_get_their_answer(pan: str, code: str) -> None:
    core = issuer(prefixes=())
    assert told(core, request(1, e2=pan)) == code
    assert standing(core) == [(0, 0)]


def test_each_check_has_its_answer() -> None:
    core = issuer(
        cvk=CVK,
        imk=IMK,
        pin_tries=1,
        account=(
            AccountRule(pan="4111111111111111", max_amount_minor=900),
            AccountRule(pan="4000056655665556", balance_minor=5),
            AccountRule(pan="4000002500003155", currency="USD"),
            AccountRule(pan="4000002760003184", response_code="62"),
        ),
    )
    told(core, about(request(90), 91, "0420"))
    wrong_pin = "0011223344556677"
    cases = {
        "reversed before it arrived": request(90),
        "no such card": request(1, e2="5555555555554444"),
        "account blocked": request(2, e2="4000002760003184"),
        "wrong PIN": request(3, e52=wrong_pin),
        "PIN tries exceeded": request(4, e52=wrong_pin),
        "card expired": request(8, e14="2602"),
        "wrong cryptogram": request(9, e55=chip_data()[:-2] + "FF"),
        "transaction counter seen before": request(10, e55=chip_data(t82="1801")),
        "wrong card value": request(11, e14="3012", e48="9203000"),
        "over a limit": request(12, 901, e2="4111111111111111"),
        "currency not of this account": request(5, e2="4000002500003155"),
        "payment of zero": request(6, 0, "0200"),
        "not enough money": request(7, 6, e2="4000056655665556"),
    }
    assert set(cases) == set(CHECKS)
    assert told(core, request(92, e55=chip_data())) == "00"
    answers = {name: told(core, message) for name, message in cases.items()}
    assert answers == {**CHECKS, "account blocked": "62", "over a limit": "61"}


def test_zero_may_be_authorized_to_verify_an_account() -> None:
    assert told(issuer(), request(1, 0)) == "00"


def test_a_card_with_a_wrong_check_digit_does_not_exist() -> None:
    assert told(issuer(), request(1, e2="4242424242424241")) == "14"


@pytest.mark.filterwarnings("ignore:.*TripleDES")  # the oracle takes it from where it used to be
@pytest.mark.parametrize(
    ("pin", "pan", "clear_block", "code"),
    [
        # Source: the worked example of format 0 that HSM vendors publish (PAN 43219876543210987, PIN 1234).
        ("1234", "43219876543210987", "0412AC89ABCDEF67", "00"),
        ("12345", "43219876543210987", None, "55"),
        ("1234", PAN, None, "00"),
        ("123456789012", PAN, None, "55"),
    ],
)
def test_pins_are_verified(pin: str, pan: str, clear_block: str | None, code: str) -> None:
    block = psec.pinblock.encode_pinblock_iso_0(pin, pan)
    if clear_block is not None:
        assert block.hex().upper() == clear_block
    encrypted = psec.des.encrypt_tdes_ecb(ZPK, block).hex().upper()
    core = issuer(account=(AccountRule(pan="43219876543210987"),))
    assert told(core, request(1, e2=pan, e52=encrypted)) == code


@pytest.mark.filterwarnings("ignore:.*TripleDES")
def test_a_pin_under_another_key_or_for_another_card_is_wrong() -> None:
    block = psec.pinblock.encode_pinblock_iso_0("1234", PAN)
    other_key = psec.des.encrypt_tdes_ecb(bytes(range(16)), block).hex().upper()
    other_card = psec.des.encrypt_tdes_ecb(ZPK, psec.pinblock.encode_pinblock_iso_0("1234", "4111111111111111"))
    core = issuer()
    assert told(core, request(1, e52=other_key)) == "55"
    assert told(core, request(2, e52=other_card.hex().upper())) == "55"


def test_captures_post_parts_and_the_final_one_releases_the_rest() -> None:
    core = issuer()
    held = request(1, 1000)
    told(core, held)
    assert told(core, about(held, 2, "0220", 300, e60="P")) == "00"
    assert standing(core) == [(700, 300)]
    assert told(core, about(held, 2, "0221", 300, e60="P")) == "00"
    assert standing(core) == [(700, 300)]
    assert told(core, about(held, 3, "0220", 200, e60="F")) == "00"
    assert standing(core) == [(0, 500)]
    assert told(core, request(4, 9_500)) == "00"


def test_a_capture_without_its_authorization_is_posted() -> None:
    core = issuer()
    assert told(core, about(request(1), 2, "0220", 300)) == "00"
    assert [(line.key, line.posted_minor) for line in core.book()] == [("alpha|0100|0304050607|000001", 300)]


@pytest.mark.parametrize("state", ["declined", "reversed", "other currency"])
def test_a_capture_of_nothing_is_refused_for_ever(state: str) -> None:
    core = issuer()
    held = request(1, 20_000 if state == "declined" else 1000)
    told(core, held)
    if state == "reversed":
        told(core, about(held, 2, "0420"))
    capture = about(held, 3, "0220", 300, e49="840" if state == "other currency" else "978")
    assert told(core, capture) == "12"
    assert told(core, capture) == "12"
    assert standing(core) in ([(0, 0)], [(1000, 0)])


@pytest.mark.parametrize("mti", ["0400", "0420", "0421"])
def test_a_reversal_undoes_once(mti: str) -> None:
    core = issuer()
    paid = request(1, 1000, "0200")
    told(core, paid)
    assert told(core, about(paid, 2, mti)) == "00"
    assert told(core, about(paid, 2, mti)) == "00"
    assert told(core, about(paid, 3, mti)) == "00"
    assert standing(core) == [(0, 0)]
    assert told(core, request(4, 10_000)) == "00"


def test_a_void_after_a_partial_capture_keeps_what_was_captured() -> None:
    core = issuer()
    held = request(1, 1000)
    told(core, held)
    told(core, about(held, 2, "0220", 300, e60="P"))
    told(core, about(held, 3, "0420"))
    assert standing(core) == [(0, 300)]


def test_a_reversal_before_its_original_declines_it() -> None:
    core = issuer()
    late = request(1)
    assert told(core, about(late, 2, "0420")) == "00"
    assert standing(core) == []
    assert told(core, late) == "12"
    assert told(core, late) == "12"
    assert standing(core) == [(0, 0)]


def test_a_refund_is_a_line_of_its_own_and_gives_back() -> None:
    core = issuer()
    told(core, request(1, 10_000, "0200"))
    refund = request(2, 4_000, "0200", e3="200000")
    assert told(core, refund) == "00"
    assert standing(core) == [(0, 10_000), (0, -4_000)]
    assert told(core, request(3, 4_000)) == "00"
    assert told(core, about(refund, 4, "0420")) == "00"
    assert standing(core) == [(0, 10_000), (0, 0), (4_000, 0)]


@pytest.mark.parametrize("mti", sorted(REQUESTS))
def test_each_missing_element_is_a_format_error(mti: str) -> None:
    for number in REQUESTS[mti][0]:
        message = about(request(1), 2, mti, e15="0304", e70="001")
        assert told(issuer(), message) != "30"
        del message.elements[number]
        assert told(issuer(), message) == "30", number


def test_an_unknown_message_is_answered_and_an_answer_is_not() -> None:
    core = issuer()
    assert told(core, request(1, mti="0300")) == "12"
    assert core.receive(request(1, mti="0110"), NOW) == []


def test_an_unknown_currency_is_refused() -> None:
    assert told(issuer(), request(1, e49="000")) == "13"


@pytest.mark.parametrize("reference", ["alpha|0200|0304050607|000001", "606300000001", "trace-1"])
def test_a_chargeback_takes_effect_once_acknowledged(reference: str) -> None:
    core = issuer()
    told(core, request(1, 1000, "0200"))
    message = core.chargeback(reference, NOW, 400)
    assert message.mti == "0422"
    assert message.elements[90] == "0200" + "000001" + "0304050607" + "10001".rjust(11, "0") + "0" * 11
    assert [(line.posted_minor, line.settled) for line in core.book()] == [(1000, False)]
    with pytest.raises(SimulatorError, match="under way"):
        core.chargeback(reference, NOW, 1)
    answer = request(1, mti=response_mti("0422"))
    answer.elements.update({7: message.elements[7], 11: message.elements[11], 39: "96"})
    assert core.receive(answer, NOW) == []
    assert core.open_chargebacks() == [message]
    answer.elements[39] = "00"
    core.receive(answer, NOW)
    core.receive(answer, NOW)
    assert core.open_chargebacks() == []
    assert [(line.posted_minor, line.settled) for line in core.book()] == [(600, True)]


def test_a_refused_chargeback_changes_nothing() -> None:
    core = issuer()
    told(core, request(1, 1000, "0200"))
    message = core.chargeback("trace-1", NOW)
    message.elements[39] = "12"
    message.mti = "0432"
    core.receive(message, NOW)
    assert [(line.posted_minor, line.settled) for line in core.book()] == [(1000, True)]


@pytest.mark.parametrize("reference", ["", "nothing", "trace-2"])
def test_only_what_was_posted_can_be_charged_back(reference: str) -> None:
    core = issuer()
    told(core, request(2, 1000))
    with pytest.raises(SimulatorError):
        core.chargeback(reference, NOW)


def test_faults_change_the_answer_and_not_the_book() -> None:
    for kind, expected in {
        "silence": [],
        "disconnect-before": [Disconnect],
        "disconnect-after": [Send, Disconnect],
        "duplicate": [Send, Send],
        "late": [Send],
    }.items():
        core = issuer(fault=(FaultRule(kind=kind, delay_s=9.0, count=1),))  # type: ignore[arg-type]
        actions = core.receive(request(1), NOW)
        assert [type(action) for action in actions] == expected
        assert standing(core) == [(1000, 0)], kind
        assert told(core, request(1)) == "00"
    assert isinstance(actions[0], Send)
    assert actions[0].delay_s == 9.0


def test_a_lost_request_is_not_booked() -> None:
    core = issuer(fault=(FaultRule(kind="silence", booked=False, count=1),))
    assert core.receive(request(1), NOW) == []
    assert standing(core) == []


def test_a_decline_on_purpose_is_booked_as_one() -> None:
    core = issuer(fault=(FaultRule(kind="decline", response_code="62", count=1),))
    assert told(core, request(1)) == "62"
    assert told(core, request(1)) == "62"
    assert standing(core) == [(0, 0)]
