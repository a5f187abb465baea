"""DE 39 and action codes: which go both ways, and which only one."""

from __future__ import annotations

import pytest

from messages.dictionary.actions import action_code, response_code
from messages.dictionary.iso1987 import RESPONSE_CODES
from messages.dictionary.iso1993 import ACTION_CODES
from messages.dictionary.iso2003 import ACTION_CODES as ACTION_CODES_2003
from messages.dictionary.iso2003 import action_2003

APPROVALS = {"00", "08", "10", "11", "16", "85"}
# DE 39 that come back as another one from an authorization of 1993, and from one of 2003.
MERGED = {
    "06": "96", "15": "92", "17": "05", "18": "05", "20": "96", "21": "25", "22": "96", "32": "05", "39": "78",
    "42": "78", "44": "78", "52": "78", "53": "78", "64": "13", "67": "04", "76": "25", "77": "12", "80": "30",
    "82": "63", "85": "00",
}  # fmt: skip
MERGED_2003 = {code: told for code, told in MERGED.items() if code not in ("17", "82", "85")}


@pytest.mark.parametrize("code", sorted(RESPONSE_CODES))
def test_a_response_code_comes_back_or_as_the_one_named_here(code: str) -> None:
    assert response_code(action_code(code, "1", "1993"), "1993") == MERGED.get(code, code)
    assert response_code(action_code(code, "1", "2003"), "2003") == MERGED_2003.get(code, code)


@pytest.mark.parametrize("action", sorted(ACTION_CODES))
def test_an_action_code_has_a_response_code_of_its_sort(action: str) -> None:
    told = response_code(action, "1993")
    assert told in RESPONSE_CODES and response_code(action_2003(action), "2003") == told
    approved = action[0] == "0" or action in {"300", "400", "600", "605", "680", "700", "800", "900", "901"}
    assert (told in APPROVALS) is (approved or action in {"500", "501", "502", "504"})  # totals: DE 66 says how


@pytest.mark.parametrize("action", sorted(ACTION_CODES_2003))
def test_no_refusal_of_2003_is_an_approval(action: str) -> None:
    if action[0] in "12":
        assert response_code(action, "2003") not in APPROVALS


@pytest.mark.parametrize("version", ["1993", "2003"])
@pytest.mark.parametrize("message_class", list("12345678"))
@pytest.mark.parametrize("code", [*sorted(RESPONSE_CODES), "Z9", "99"])
def test_no_class_makes_an_approval_of_a_refusal_or_the_other_way(version: str, message_class: str, code: str) -> None:
    action = action_code(code, message_class, version)
    assert (response_code(action, version) in APPROVALS) is (code in APPROVALS)
    assert len(action) == (3 if version == "1993" else 4)


@pytest.mark.parametrize(("message_class", "action"), [("3", "302"), ("4", "914"), ("1", "914")])
def test_a_record_that_is_not_found_is_one_of_its_class(message_class: str, action: str) -> None:
    assert action_code("25", message_class, "1993") == action
    assert response_code(action, "1993") == "25"


@pytest.mark.parametrize(
    ("action", "code"), [("099", "08"), ("199", "05"), ("299", "04"), ("399", "29"), ("999", "96")]
)
def test_an_action_code_that_nobody_knows_is_no_approval_that_is_booked(action: str, code: str) -> None:
    assert response_code(action, "1993") == code == response_code(action_2003(action), "2003")
    assert response_code("499", "1993") == response_code("x", "1993") == "96"
