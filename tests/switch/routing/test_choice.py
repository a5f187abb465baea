"""The choice among links: primary and alternates, shares, and what is taken where none is fit."""

from __future__ import annotations

from collections import Counter
from typing import Any

from switch.meters import Meters
from switch.routing.breaker import Circuit
from switch.routing.choice import CIRCUIT_OPEN, NOT_FIT, Choice, Taken
from switch.routing.settings import BreakerSettings, Route
from switch.routing.table import Asked, RoutingTable

ASKED = Asked("0100", "000000", "EUR", 2500, "pos")


class FakeLine:
    fit = True


class Desk:
    """A choice among links a, b and c."""

    def __init__(self, *routes: Route, spoken_for: tuple[str, ...] = (), **breaker: Any) -> None:
        self.lines = {name: FakeLine() for name in "abc"}
        self.meters = Meters()
        self.breaker = BreakerSettings(**({"failures": 2, "ratio": 0.0, "open_s": 5.0, "probes": 1} | breaker))
        self.choice = Choice(routes, [self.breaker], self.lines, spoken_for, self.meters)

    def take(self, now: float = 0.0) -> Taken:
        taken = self.choice.by_number("42424242424", ASKED, now, now + 10.0)
        assert taken is not None
        return taken

    def end(self, taken: Taken, code: str | None = "00", now: float = 0.0) -> None:
        self.choice.ended(taken, now, code)

    def down(self, *names: str) -> None:
        for name, line in self.lines.items():
            line.fit = name not in names


PRIMARY = Route(prefix="4", issuer="a", alternates=("b", "c"), country="US")


def test_the_primary_is_taken_and_the_alternates_in_their_order() -> None:
    desk = Desk(PRIMARY)
    assert desk.take() == Taken("a", "US")
    desk.down("a")
    assert desk.take() == Taken("b", "US")
    desk.down("a", "b")
    assert desk.take() == Taken("c", "US")


def test_where_none_is_fit_the_intent_names_the_primary_and_says_why() -> None:
    desk = Desk(PRIMARY)
    desk.down("a", "b", "c")
    assert desk.take() == Taken("a", "US", NOT_FIT)


def test_where_none_is_fit_the_link_that_stand_in_may_speak_for_is_taken() -> None:
    desk = Desk(PRIMARY, spoken_for=("c", "b"))
    desk.down("a", "b", "c")
    assert desk.take() == Taken("b", "US", NOT_FIT)
    desk.down("b", "c")
    assert desk.take().issuer == "a"


def test_an_open_circuit_sends_requests_to_the_alternate_and_a_probe_back() -> None:
    desk = Desk(PRIMARY)
    for _ in range(2):
        desk.end(desk.take(), None)
    assert desk.choice.breakers["a"].state is Circuit.OPEN
    assert desk.take().issuer == "b"
    probe = desk.take(now=5.0)
    assert (probe.issuer, bool(probe.probe)) == ("a", True)
    assert desk.take(now=5.0).issuer == "b", "one probe at a time"
    desk.end(probe, "00", now=6.0)
    assert desk.take(now=6.0) == Taken("a", "US")
    assert desk.meters.value("circuit_changes", "a", "open") == 1
    assert desk.meters.value("circuit_changes", "a", "closed") == 1


def test_a_probe_that_was_not_sent_leaves_its_place() -> None:
    desk = Desk(PRIMARY)
    for _ in range(2):
        desk.end(desk.take(), None)
    probe = desk.take(now=5.0)
    desk.choice.withdrawn(probe)
    assert desk.take(now=5.0).issuer == "a"


def test_declines_are_no_failures_unless_their_code_is_named() -> None:
    desk = Desk(PRIMARY)
    for _ in range(10):
        desk.end(desk.take(), "91")
    assert desk.choice.breakers["a"].state is Circuit.CLOSED
    desk = Desk(PRIMARY, codes=("91", "96"))
    desk.end(desk.take(), "91")
    desk.end(desk.take(), "96")
    assert desk.choice.breakers["a"].state is Circuit.OPEN


def test_all_circuits_open_leaves_the_reason() -> None:
    desk = Desk(Route(prefix="4", issuer="a"))
    for _ in range(2):
        desk.end(desk.take(), None)
    assert desk.take() == Taken("a", "", CIRCUIT_OPEN)


def test_round_robin_shares_equally_and_skips_who_is_down() -> None:
    desk = Desk(Route(prefix="4", issuer="a", alternates=("b", "c"), balance="round-robin"))
    assert Counter(desk.take().issuer for _ in range(30)) == {"a": 10, "b": 10, "c": 10}
    desk.down("b")
    assert Counter(desk.take().issuer for _ in range(30)) == {"a": 15, "c": 15}


def test_weights_are_exact_and_evenly_spread() -> None:
    desk = Desk(Route(prefix="4", weights={"a": 70, "b": 20, "c": 10}))
    taken = [desk.take().issuer for _ in range(1000)]
    assert Counter(taken) == {"a": 700, "b": 200, "c": 100}
    for start in range(0, 1000, 10):
        assert Counter(taken[start : start + 10]) == {"a": 7, "b": 2, "c": 1}


def test_weights_without_the_heaviest_and_alternates_behind_them() -> None:
    desk = Desk(Route(prefix="4", weights={"a": 3, "b": 1}, alternates=("c",)))
    desk.down("a")
    assert Counter(desk.take().issuer for _ in range(8)) == {"b": 8}
    desk.down("a", "b")
    assert desk.take().issuer == "c"


def test_what_refers_to_an_original_follows_it_whatever_the_routes_say() -> None:
    desk = Desk(PRIMARY)
    assert desk.choice.by_name("c", "DE", 0.0, 1.0) == Taken("c", "DE")
    desk.down("c")
    assert desk.choice.by_name("c", "DE", 0.0, 1.0) == Taken("c", "DE", NOT_FIT)


def test_no_route() -> None:
    assert Desk(PRIMARY).choice.by_number("51", ASKED, 0.0, 1.0) is None


def test_a_reload_keeps_the_state_of_breakers_whose_settings_are_the_same() -> None:
    desk = Desk(PRIMARY)
    for _ in range(2):
        desk.end(desk.take(), None)
    desk.choice.use(RoutingTable([Route(prefix="4", issuer="b")]), [desk.breaker], ())
    assert desk.choice.levels() == {"a": 2, "b": 0, "c": 0}
    assert desk.take().issuer == "b"
    desk.choice.use(RoutingTable([PRIMARY]), [desk.breaker, BreakerSettings(issuer="a", failures=7)], ())
    assert desk.choice.levels() == {"a": 0, "b": 0, "c": 0}


def test_a_probe_from_before_a_reload_says_nothing_about_the_breaker_that_came_with_it() -> None:
    desk = Desk(PRIMARY)
    for _ in range(2):
        desk.end(Taken("a"), None)
    before = desk.take(now=5.0)
    assert before.issuer == "a" and before.probe
    desk.choice.use(RoutingTable([PRIMARY]), [BreakerSettings(failures=3, ratio=0.0, open_s=1.0, probes=1)], ())
    for _ in range(3):
        desk.end(Taken("a"), None, now=5.0)
    assert desk.take(now=6.0).issuer == "a"
    desk.end(before, now=6.5)
    assert desk.choice.breakers["a"].state is Circuit.HALF_OPEN, "its own probe is still under way"
    assert desk.take(now=6.5).issuer == "b", "and keeps its place"


def test_what_follows_its_original_is_a_probe_of_a_half_open_link_as_others_are() -> None:
    desk = Desk(PRIMARY)
    for _ in range(2):
        desk.end(desk.take(), None)
    assert desk.choice.by_name("a", "US", 1.0, 11.0) == Taken("a", "US", CIRCUIT_OPEN)
    first = desk.choice.by_name("a", "US", 5.0, 15.0)
    assert first.probe and not first.unfit
    assert desk.choice.by_name("a", "US", 5.0, 15.0) == Taken("a", "US", CIRCUIT_OPEN), "one probe, no more"
    assert desk.take(now=5.0).issuer == "b"
    desk.end(first, now=6.0)
    assert desk.choice.breakers["a"].state is Circuit.CLOSED
