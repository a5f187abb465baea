"""A circuit breaker: when it opens, how it tries again, and that old results are forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.routing.breaker import TRANSITIONS, Breaker, Circuit, Happening
from switch.routing.settings import BreakerSettings


def breaker(**settings: object) -> Breaker:
    chosen = {"failures": 3, "ratio": 0.0, "open_s": 5.0, "probes": 2} | settings
    return Breaker(BreakerSettings(**chosen))  # type: ignore[arg-type]


def feed(subject: Breaker, results: str, now: float = 0.0) -> None:
    """`+` ended well, `-` failed."""
    for result in results:
        subject.ended(now, well=result == "+", probe=0)


@pytest.mark.parametrize(
    ("results", "state"), [("--", "closed"), ("--+--", "closed"), ("---", "open"), ("+---", "open"), ("", "closed")]
)
def test_failures_in_a_row_open_it(results: str, state: str) -> None:
    subject = breaker()
    feed(subject, results)
    assert subject.state == state
    assert subject.admits(0.0) == (state == "closed")


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("+-" * 4, "closed"),
        ("+-" * 5, "open"),
        ("++-" * 10, "closed"),
        ("-+++" * 2 + "--", "closed"),
        ("+--" * 4, "open"),
    ],
)
def test_a_ratio_opens_it_once_there_are_enough(results: str, state: str) -> None:
    subject = breaker(failures=0, ratio=0.5, minimum=10, window_s=10.0)
    feed(subject, results)
    assert subject.state == state


def test_what_is_older_than_the_window_does_not_count() -> None:
    subject = breaker(failures=0, ratio=0.5, minimum=4, window_s=10.0)
    feed(subject, "---", now=0.0)
    assert subject.failing(5.0) == (3, 3)
    assert subject.failing(10.1) == (0, 0)
    feed(subject, "-", now=10.1)
    assert subject.admits(10.1)
    feed(subject, "---", now=10.2)
    assert subject.state is Circuit.OPEN


def test_both_rules_can_be_switched_off() -> None:
    subject = breaker(failures=0, ratio=0.0)
    feed(subject, "-" * 1000)
    assert subject.state is Circuit.CLOSED


def test_after_its_rest_a_few_probes_pass_and_close_it() -> None:
    subject = breaker()
    feed(subject, "---", now=1.0)
    assert not subject.admits(5.9)
    assert subject.admits(6.0) and subject.state is Circuit.HALF_OPEN
    first = subject.begin(9.0)
    assert first and subject.admits(6.0)
    second = subject.begin(9.0)
    assert second and not subject.admits(6.0)
    assert subject.ended(6.5, well=True, probe=first) is None
    assert not subject.admits(6.5), "two are enough"
    assert subject.ended(6.6, well=True, probe=second) is Circuit.CLOSED
    assert subject.admits(6.6) and subject.begin(9.0) == 0


def test_a_failing_probe_opens_it_for_another_rest() -> None:
    subject = breaker()
    feed(subject, "---")
    assert subject.admits(5.0)
    assert subject.ended(5.5, well=False, probe=subject.begin(9.0)) is Circuit.OPEN
    assert not subject.admits(10.4)
    assert subject.admits(10.5)


def test_a_probe_that_was_not_sent_or_is_never_heard_of_gives_its_place_back() -> None:
    subject = breaker(probes=1)
    feed(subject, "---")
    assert subject.admits(5.0)
    probe = subject.begin(8.0)
    assert not subject.admits(5.0)
    subject.withdrawn(probe)
    assert subject.admits(5.0)
    subject.begin(8.0)
    assert not subject.admits(7.9)
    assert subject.admits(8.0)


def test_a_probe_of_an_earlier_trial_says_nothing_about_this_one() -> None:
    subject = breaker(probes=1)
    feed(subject, "---")
    assert subject.admits(5.0)
    old = subject.begin(99.0)
    subject.withdrawn(old)
    failing = subject.begin(99.0)
    subject.ended(6.0, well=False, probe=failing)
    assert subject.admits(11.0)
    present = subject.begin(99.0)
    assert present != old
    assert subject.ended(11.1, well=True, probe=old) is None
    assert subject.ended(11.2, well=False, probe=old) is None
    assert subject.state is Circuit.HALF_OPEN and not subject.admits(11.2)
    assert subject.ended(11.3, well=True, probe=present) is Circuit.CLOSED


def test_what_ends_late_while_it_is_open_changes_nothing() -> None:
    subject = breaker()
    feed(subject, "---")
    feed(subject, "+++---")
    assert subject.state is Circuit.OPEN and subject.changed_at == 0.0


def test_every_state_has_a_way_out_and_the_table_no_other_rows() -> None:
    assert {state for state, _ in TRANSITIONS} == set(Circuit)
    assert set(TRANSITIONS) == {
        (Circuit.CLOSED, Happening.TOO_MANY_FAILURES),
        (Circuit.OPEN, Happening.RESTED),
        (Circuit.HALF_OPEN, Happening.PROBES_PASSED),
        (Circuit.HALF_OPEN, Happening.PROBE_FAILED),
    }


@given(st.lists(st.tuples(st.sampled_from(["ask", "well", "ill", "drop", "rest"]), st.floats(0.0, 3.0)), max_size=200))
def test_in_any_order_of_events_probes_stay_few_and_a_rested_link_is_tried(
    events: list[tuple[str, float]],
) -> None:
    subject = breaker(probes=2, open_s=5.0, window_s=2.0, ratio=0.5, minimum=5)
    now, under_way = 0.0, []
    for name, seconds in events:
        now += seconds
        if name == "ask" and subject.admits(now):
            before = subject.state
            under_way.append(subject.begin(now + 100.0))
            assert before is not Circuit.OPEN
        elif name in ("well", "ill") and under_way:
            subject.ended(now, well=name == "well", probe=under_way.pop(0))
        elif name == "drop" and under_way:
            subject.withdrawn(under_way.pop())
        elif name == "rest":
            now += 5.0
            assert subject.state is not Circuit.OPEN or subject.admits(now)
        failed, ended = subject.failing(now)
        assert 0 <= failed <= ended
        if subject.state is Circuit.HALF_OPEN:
            assert len([probe for probe in under_way if probe == subject._trial]) <= 2
