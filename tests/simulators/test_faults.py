"""Fault rules: what they match, how often they strike, and that a seed repeats them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.message import Message
from simulators.faults import KINDS, MAX_DELAY_S, FaultRule, FaultTable, fault_problems
from tests.simulators.samples import request


def struck(rule: FaultRule, messages: list[Message], seed: int = 0) -> list[int]:
    table = FaultTable((rule,), seed)
    return [number for number, message in enumerate(messages, 1) if table.decide(message) is not None]


def test_a_rule_matches_where_all_that_is_set_matches() -> None:
    message = request(1, 1234, e41="TERM0007")
    for rule, matches in [
        (FaultRule(kind="silence"), True),
        (FaultRule(kind="silence", pan_suffix="4242"), True),
        (FaultRule(kind="silence", pan_suffix="4243"), False),
        (FaultRule(kind="silence", amount_minor=1234), True),
        (FaultRule(kind="silence", amount_minor=123), False),
        (FaultRule(kind="silence", terminal="TERM0007"), True),
        (FaultRule(kind="silence", terminal="TERM0008"), False),
        (FaultRule(kind="silence", currency="978"), True),
        (FaultRule(kind="silence", currency="840"), False),
        (FaultRule(kind="silence", mti=("0420",)), False),
        (FaultRule(kind="silence", mti=("*",)), True),
        (FaultRule(kind="silence", amount_minor=1234, pan_suffix="1"), False),
    ]:
        assert (struck(rule, [message]) == [1]) is matches, rule


def test_advices_are_left_alone_unless_named_and_repeats_are_not() -> None:
    messages = [request(1, mti=mti) for mti in ("0100", "0101", "0220", "0420", "0421")]
    assert struck(FaultRule(kind="silence"), messages) == [1, 2]
    assert struck(FaultRule(kind="silence", mti=("0420",)), messages) == [4, 5]


def test_nth_and_count() -> None:
    messages = [request(number) for number in range(6)]
    assert struck(FaultRule(kind="silence", nth=3), messages) == [3]
    assert struck(FaultRule(kind="silence", count=2), messages) == [1, 2]


def test_the_first_rule_that_strikes_decides() -> None:
    rules = (FaultRule(kind="silence", nth=2), FaultRule(kind="duplicate"))
    table = FaultTable(rules)
    kinds = [fault.kind for number in range(3) if (fault := table.decide(request(number))) is not None]
    assert kinds == ["duplicate", "silence", "duplicate"]


@given(st.integers(), st.floats(0.05, 0.95))
def test_the_same_seed_gives_the_same_faults(seed: int, rate: float) -> None:
    messages = [request(number) for number in range(50)]
    rule = FaultRule(kind="delay", rate=rate, delay_s=2.0, distribution="exponential")
    first, second = FaultTable((rule,), seed), FaultTable((rule,), seed)
    assert [first.decide(message) for message in messages] == [second.decide(message) for message in messages]


def test_another_seed_gives_other_faults() -> None:
    messages = [request(number) for number in range(100)]
    rule = FaultRule(kind="silence", rate=0.5)
    assert struck(rule, messages, 1) != struck(rule, messages, 2)
    assert 30 < len(struck(rule, messages, 1)) < 70


def test_a_new_rule_does_not_shift_the_draws_of_others() -> None:
    messages = [request(number) for number in range(50)]
    rule = FaultRule(kind="silence", rate=0.5)
    table = FaultTable((rule, FaultRule(kind="duplicate", amount_minor=1)))
    assert [n for n, message in enumerate(messages, 1) if table.decide(message)] == struck(rule, messages)


@pytest.mark.parametrize("distribution", ["fixed", "uniform", "exponential", "lognormal"])
def test_delays_follow_their_distribution(distribution: str) -> None:
    low = 0.0 if distribution == "fixed" else 1.0
    rule = FaultRule(kind="delay", delay_s=2.0, delay_from_s=low, distribution=distribution)  # type: ignore[arg-type]
    table = FaultTable((rule,), seed=3)
    delays = [fault.delay_s for number in range(400) if (fault := table.decide(request(number))) is not None]
    assert all(low <= delay <= MAX_DELAY_S for delay in delays)
    mean = sum(delays) / len(delays)
    assert mean == pytest.approx(
        {"fixed": 2.0, "uniform": 1.5, "exponential": 3.0, "lognormal": 3.27}[distribution], 0.1
    )
    assert (len(set(delays)) == 1) is (distribution == "fixed")


def test_clear_removes_by_name_or_all() -> None:
    rules = (FaultRule(kind="silence", name="a"), FaultRule(kind="silence", name="b"), FaultRule(kind="duplicate"))
    table = FaultTable(rules)
    assert table.clear("a") == 1
    assert table.clear("duplicate") == 1
    assert [rule.name for rule in table.rules] == ["b"]
    assert table.clear() == 1
    assert table.decide(request(1)) is None


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (FaultRule(kind="silence", rate=1.1), "rate"),
        (FaultRule(kind="silence", count=-1), "count"),
        (FaultRule(kind="delay"), "needs delay_s"),
        (FaultRule(kind="late", delay_s=-1.0), "delay_s must be"),
        (FaultRule(kind="decline", response_code="5"), "response_code"),
        (FaultRule(kind="delay", delay_s=1.0, delay_from_s=2.0, distribution="uniform"), "above"),
    ],
)
def test_impossible_rules_are_refused(rule: FaultRule, problem: str) -> None:
    assert problem in "; ".join(fault_problems(rule))
    with pytest.raises(ValueError, match=problem):
        FaultTable((rule,))


def test_every_kind_says_what_it_does() -> None:
    for kind, traits in KINDS.items():
        assert set(traits) == {"booked", "answered", "delayed", "optional"}, kind
