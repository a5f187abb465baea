"""Mandatory elements of messages and echoed elements of answers."""

from __future__ import annotations

import msgspec
import pytest

from messages.dialect import Condition, MessageRule, load_dialect
from messages.message import Message
from messages.rules import Rules, echo_problem

RULE = MessageRule(
    mandatory=(3, 11),
    conditional=(
        Condition(element=2, unless=(35, 45)),
        Condition(element=4, when=3, starts=("0", "20")),
        Condition(element=49, when=4),
    ),
)
RULES = Rules({"0100": RULE})
WHOLE = {2: "4242424242424242", 3: "000000", 4: "000000000100", 11: "000001", 49: "978"}
LACKS = {
    3: ("DE 3", "is missing, 0100 must have it"),
    11: ("DE 11", "is missing, 0100 must have it"),
    2: ("DE 2", "is missing, and so are DE 35 and DE 45"),
    4: ("DE 4", "is missing, it is needed where DE 3 begins with 0 or 20"),
    49: ("DE 49", "is missing, it is needed where DE 4 is there"),
}


def test_a_whole_message_has_no_problem() -> None:
    assert RULES.problem(Message("0100", WHOLE)) is None
    assert RULES.problem(Message("0110", {})) is None  # no rule is about it
    assert not Rules({}) and RULES


@pytest.mark.parametrize("number", sorted(LACKS))
def test_what_is_missing_is_named(number: int) -> None:
    problem = RULES.problem(Message("0100", {other: WHOLE[other] for other in WHOLE if other != number}))
    assert problem is not None and (problem.path, problem.reason) == LACKS[number]


def test_a_repeat_is_held_to_the_same() -> None:
    problem = RULES.problem(Message("0101", {}))
    assert problem is not None and problem.path == "DE 3"


def test_a_condition_that_does_not_hold_asks_for_nothing() -> None:
    inquiry = {35: "4242424242424242D2812", 3: "310000", 11: "000001"}
    assert RULES.problem(Message("0100", inquiry)) is None


REQUEST = Message("0100", {7: "1125210000", 11: "000001", 32: "00400100", 41: "TERM0001"})
ANSWER = Message("0110", {7: "1125210000", 11: "000001", 32: "400100", 39: "00", 41: "TERM0001"})


@pytest.mark.parametrize("name", ["iso87-ascii", "iso93-ascii", "iso2003-ascii"])
def test_an_answer_carries_back_what_its_request_had(name: str) -> None:
    dialect = load_dialect(name)
    assert echo_problem(dialect, REQUEST, ANSWER) is None
    other = Message("0110", {**ANSWER.elements, 41: "TERM0002"})
    problem = echo_problem(dialect, REQUEST, other)
    assert problem is not None and problem.path == "DE 41" and "missing" not in problem.reason
    none = Message("0110", {number: ANSWER.elements[number] for number in (7, 11, 32, 39)})
    problem = echo_problem(dialect, REQUEST, none)
    assert problem is not None and problem.path == "DE 41" and "missing" in problem.reason
    asked = Message("0100", {number: REQUEST.elements[number] for number in (7, 11, 32)})
    assert echo_problem(dialect, asked, none) is None  # nothing to carry back
    assert echo_problem(dialect, REQUEST, Message("xxxx", {})) is None


@pytest.mark.parametrize(
    ("name", "path"), [("iso87-ascii", "DE 7"), ("iso93-ascii", "DE 11"), ("iso2003-ascii", "DE 11")]
)
def test_what_is_wrong_is_told_without_what_is_there(name: str, path: str) -> None:
    dialect = load_dialect(name)
    mti = {"1987": "0100", "1993": "1100", "2003": "2100"}[dialect.version]
    said = Rules(dialect.rules).problem(Message(mti, {2: "4242424242424242", 3: "000000", 52: "1122334455667788"}))
    assert said is not None and said.path == path
    assert not any(value in said.reason for value in ("4242", "000000", "1122"))
    echoed = echo_problem(dialect, REQUEST, Message("0110", {**ANSWER.elements, 41: "SECRET42"}))
    assert echoed is not None and "SECRET" not in echoed.reason and "TERM" not in echoed.reason


def test_institutions_are_the_same_with_zeros_before_them_and_nothing_else_is() -> None:
    rules = {"0110": MessageRule(echo=(32, 37))}
    dialect = msgspec.structs.replace(load_dialect("iso87-ascii"), rules=rules)
    asked = Message("0100", {32: "00400100", 37: "000000000042"})
    assert echo_problem(dialect, asked, Message("0110", {32: "400100", 37: "000000000042"})) is None
    problem = echo_problem(dialect, asked, Message("0110", {32: "400101", 37: "000000000042"}))
    assert problem is not None and problem.path == "DE 32"
    problem = echo_problem(dialect, asked, Message("0110", {32: "400100", 37: "42"}))
    assert problem is not None and problem.path == "DE 37"


def test_an_echo_is_named_as_its_dialect_numbers_it() -> None:
    dialect = msgspec.structs.replace(load_dialect("iso93-ascii"), rules={"1430": MessageRule(echo=(12, 56))})
    original = "0100000041112520590000000400100" + "0" * 11
    asked = Message("0421", {7: "1125210000", 11: "000001", 90: original})
    assert echo_problem(dialect, asked, Message("0430", {7: "1125210000", 90: original})) is None
    for wrong, path in (({7: "1125210001", 90: original}, "DE 12"), ({7: "1125210000"}, "DE 56")):
        problem = echo_problem(dialect, asked, Message("0430", wrong))
        assert problem is not None and problem.path == path
