"""Fault rules: their conditions, their frequency, and that a seed repeats them."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.message import Message
from simulators.faults import KINDS, MAX_DELAY_S, FaultRule, FaultTable, answering_problems, fault_problems
from simulators.faults.rule import OF_ACQUIRERS, Distribution
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
        (FaultRule(kind="silence", pan_prefix="424242"), True),
        (FaultRule(kind="silence", pan_prefix="5"), False),
        (FaultRule(kind="silence", processing_code="00"), True),
        (FaultRule(kind="silence", processing_code="000000"), True),
        (FaultRule(kind="silence", processing_code="20"), False),
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
    assert struck(FaultRule(kind="silence", every=2), messages) == [2, 4, 6]
    assert struck(FaultRule(kind="silence", every=2, count=2), messages) == [2, 4]


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


# distribution → (its rule, its mean, what share is below 2 seconds); the lower end is 1 s for all but the fixed one.
DISTRIBUTIONS: dict[str, tuple[dict[str, Any], float, float]] = {
    "fixed": ({"delay_s": 2.0}, 2.0, 0.0),
    "uniform": ({"delay_s": 2.0, "delay_from_s": 1.0}, 1.5, 1.0),
    "normal": ({"delay_s": 1.0, "delay_from_s": 1.0, "sigma": 0.2}, 2.0, 0.5),
    "exponential": ({"delay_s": 2.0, "delay_from_s": 1.0}, 3.0, 0.39),
    "lognormal": ({"delay_s": 1.0, "delay_from_s": 1.0, "sigma": 0.5}, 2.13, 0.5),
    "pareto": ({"delay_s": 0.5, "delay_from_s": 1.0, "shape": 3.0}, 1.75, 0.875),
    "percentiles": ({"percentiles": ((50.0, 2.0), (90.0, 4.0), (100.0, 10.0)), "delay_from_s": 1.0}, 2.65, 0.5),
}


def delays_of(rule: FaultRule, count: int = 4_000) -> list[float]:
    table = FaultTable((rule,), seed=3)
    return [fault.delay_s for number in range(count) if (fault := table.decide(request(number))) is not None]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_delays_follow_their_distribution(distribution: str) -> None:
    values, mean, below = DISTRIBUTIONS[distribution]
    delays = delays_of(FaultRule(kind="delay", distribution=distribution, **values))  # type: ignore[arg-type]
    assert all(values.get("delay_from_s", 0.0) <= delay <= MAX_DELAY_S for delay in delays)
    assert sum(delays) / len(delays) == pytest.approx(mean, 0.05)
    assert sum(delay < 2.0 for delay in delays) / len(delays) == pytest.approx(below, abs=0.03)
    assert (len(set(delays)) == 1) is (distribution == "fixed")


def test_every_distribution_is_looked_at() -> None:
    assert set(get_args(Distribution)) == set(DISTRIBUTIONS)


def test_percentiles_are_as_measured() -> None:
    points = ((50.0, 0.02), (95.0, 0.3), (99.0, 4.0))
    delays = sorted(delays_of(FaultRule(kind="delay", distribution="percentiles", percentiles=points)))
    for percent, delay_s in points[:2]:
        assert delays[int(len(delays) * percent / 100)] == pytest.approx(delay_s, rel=0.1)
    assert delays[-1] == 4.0  # nothing is known above the last one


def test_no_delay_is_longer_than_its_cap_or_below_zero() -> None:
    assert max(delays_of(FaultRule(kind="delay", delay_s=1.0, distribution="pareto", shape=0.1, cap_s=7.0))) == 7.0
    assert max(delays_of(FaultRule(kind="delay", delay_s=1.0, distribution="pareto", shape=0.01))) == MAX_DELAY_S
    assert min(delays_of(FaultRule(kind="delay", delay_s=0.1, distribution="normal", sigma=5.0))) == 0.0


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
        (FaultRule(kind="silence", every=-1), "every"),
        (FaultRule(kind="silence", pan_prefix="42x"), "pan_prefix"),
        (FaultRule(kind="silence", pan_suffix="4242424242424242"), "up to 11 digits"),
        (FaultRule(kind="silence", processing_code="x"), "processing_code"),
        (FaultRule(kind="delay", delay_s=1.0, sigma=-1.0), "sigma"),
        (FaultRule(kind="delay", delay_s=1.0, shape=0.0), "shape"),
        (FaultRule(kind="delay", delay_s=1.0, cap_s=3601.0), "cap_s"),
        (FaultRule(kind="refuse"), "needs delay_s"),
        (FaultRule(kind="delay", distribution="percentiles"), "pairs"),
        (FaultRule(kind="delay", distribution="percentiles", percentiles=((50.0, 2.0), (40.0, 3.0))), "must rise"),
        (FaultRule(kind="delay", distribution="percentiles", percentiles=((50.0, 2.0), (60.0, 1.0))), "must rise"),
        (FaultRule(kind="delay", distribution="percentiles", percentiles=((101.0, 2.0),)), "up to 100"),
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


def test_only_acquirers_repeat_and_reverse_late() -> None:
    for kind in KINDS:
        problems = answering_problems(FaultRule(kind=kind, delay_s=1.0))  # type: ignore[arg-type]
        assert bool(problems) is (kind in OF_ACQUIRERS), kind
