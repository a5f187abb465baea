"""DE 39 and action codes: which go both ways, and which only one."""

from __future__ import annotations

import pytest

from messages.dictionary.actions import action_code, is_taken, response_code
from messages.dictionary.iso1987 import RESPONSE_CODES
from messages.dictionary.iso1993 import ACTION_CODES
from messages.dictionary.iso2003 import ACTION_CODES as ACTION_CODES_2003
from messages.dictionary.iso2003 import action_2003

APPROVALS = {"00", "08", "10", "11", "16", "85"}
# First digit of an action code → a canonical message that it belongs to.
OWN = {
    "0": "0110", "1": "0110", "2": "0210", "3": "0312", "4": "0410", "5": "0510", "6": "0610", "7": "0710", "8": "0810",
    "9": "0130",
}  # fmt: skip
MESSAGES = [f"0{message_class}{function}0" for message_class in "12345678" for function in "13"] + ["0120", "0220"]


def own_response(action: str, version: str) -> str:
    return response_code(action, version, OWN.get(action[:1], "0110"))


# DE 39 that come back as another one from an authorization of 1993, and from one of 2003.
MERGED = {
    "06": "96", "15": "92", "17": "05", "18": "05", "20": "96", "21": "25", "22": "96", "32": "05", "39": "78",
    "42": "78", "44": "78", "52": "78", "53": "78", "64": "13", "67": "04", "76": "25", "77": "12", "80": "30",
    "82": "63", "85": "00",
}  # fmt: skip
MERGED_2003 = {code: told for code, told in MERGED.items() if code not in ("17", "82", "85")}


@pytest.mark.parametrize("code", sorted(RESPONSE_CODES))
def test_a_response_code_comes_back_or_as_the_one_named_here(code: str) -> None:
    assert own_response(action_code(code, "1", "1993"), "1993") == MERGED.get(code, code)
    assert own_response(action_code(code, "1", "2003"), "2003") == MERGED_2003.get(code, code)


@pytest.mark.parametrize("action", sorted(ACTION_CODES))
def test_an_action_code_has_a_response_code_of_its_sort(action: str) -> None:
    told = own_response(action, "1993")
    assert told in RESPONSE_CODES and own_response(action_2003(action), "2003") == told
    approved = action[0] == "0" or action in {"300", "400", "600", "605", "680", "700", "800", "900", "901"}
    assert (told in APPROVALS) is (approved or action in {"500", "501", "502", "504"})  # totals: DE 66 says how


@pytest.mark.parametrize("action", sorted(ACTION_CODES_2003))
def test_no_refusal_of_2003_is_an_approval(action: str) -> None:
    if action[0] in "12":
        assert own_response(action, "2003") not in APPROVALS


@pytest.mark.parametrize("version", ["1993", "2003"])
@pytest.mark.parametrize("message_class", list("12345678"))
@pytest.mark.parametrize("code", [*sorted(RESPONSE_CODES), "Z9", "99"])
def test_no_class_makes_an_approval_of_a_refusal_or_the_other_way(version: str, message_class: str, code: str) -> None:
    action = action_code(code, message_class, version)
    assert (own_response(action, version) in APPROVALS) is (code in APPROVALS)
    assert len(action) == (3 if version == "1993" else 4)


@pytest.mark.parametrize(("message_class", "action"), [("3", "302"), ("4", "914"), ("1", "914")])
def test_a_record_that_is_not_found_is_one_of_its_class(message_class: str, action: str) -> None:
    assert action_code("25", message_class, "1993") == action
    assert own_response(action, "1993") == "25"


@pytest.mark.parametrize(
    ("action", "code"), [("099", "08"), ("199", "05"), ("299", "04"), ("399", "29"), ("999", "96")]
)
def test_an_action_code_that_nobody_knows_is_no_approval_that_is_booked(action: str, code: str) -> None:
    assert own_response(action, "1993") == code == own_response(action_2003(action), "2003")
    assert own_response("499", "1993") == own_response("x", "1993") == "96"


def test_no_message_is_approved_by_the_approval_of_another_class() -> None:
    """000 says the same everywhere; 08 in the answer to a request is taken back, and never stands in an advice."""
    for version, codes in (("1993", ACTION_CODES), ("2003", ACTION_CODES_2003)):
        for action in codes:
            for mti in MESSAGES:
                if own_response(action, version) not in APPROVALS or not action.strip("0"):
                    continue
                own = mti[1] in "12" if action[0] == "0" else mti[2] == "3" if action[0] == "9" else mti[1] == action[0]
                told = response_code(action, version, mti)
                assert is_taken(action, version, mti) is own
                assert told == own_response(action, version) if own else told in ("08", "96"), (action, mti)
                assert own or (told == "08") is (mti[1:3] in ("11", "21")), (action, mti)


@pytest.mark.parametrize("action", ["009", "099", "399", "499", "500", "900"])
def test_an_advice_is_not_noted_by_a_code_that_is_none_of_its_own(action: str) -> None:
    for version, code in (("1993", action), ("2003", action_2003(action))):
        assert not is_taken(code, version, "0220")
        assert response_code(code, version, "0220") not in APPROVALS
