"""Why a card takes its route, in the words that an operator reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.routing.explanation import Known, explained
from switch.routing.settings import Route
from switch.routing.table import Asked, RoutingTable
from tests.switch.routing.test_table import conditions, route, spans

TABLE = RoutingTable(
    [
        route("wide", "4"),
        route("usd", "424242", currency="USD"),
        route("high", "424242", currency=("EUR", "USD"), amount_from_minor=100_000),
        route("range", span=("42424240", "42424249"), alternates=("wide", "usd")),
        route("other", "5"),
    ]
)


def said(leading: str, **known: Any) -> list[tuple[int, str, str]]:
    return [(f.number, f.verdict, f.reason) for f in explained(TABLE, leading, Known(**known))]


def test_everything_known() -> None:
    assert said("42424242424", currency="EUR", amount_minor=2500) == [
        (4, "wins", "the narrowest range that fits"),
        (3, "no", "amount_minor 2500 is not 100000 or more"),
        (2, "no", "currency EUR is not USD"),
        (1, "beaten", "route 42424240–42424249 is narrower"),
    ]


def test_the_winner_may_have_better_ones_above_it_whose_conditions_do_not_hold() -> None:
    assert said("42424200000", currency="GBP", amount_minor=1) == [
        (3, "no", "currency GBP is not EUR or USD"),
        (2, "no", "currency GBP is not USD"),
        (1, "wins", "the narrowest range whose conditions hold"),
    ]


def test_what_is_not_known_is_left_open() -> None:
    assert said("42424200000") == [
        (3, "depends", "wins if currency is EUR or USD and amount_minor is 100000 or more"),
        (2, "depends", "wins if currency is USD"),
        (1, "wins", "the narrowest range that fits, unless one above does"),
    ]
    assert said("42424200000", currency="USD", amount_minor=7)[1:] == [
        (2, "wins", "the narrowest range whose conditions hold"),
        (1, "beaten", "route 424242 is narrower"),
    ]


def test_a_bin_that_a_range_cuts_in_two() -> None:
    first, *_rest, last = said("424242", currency="GBP")
    assert first == (4, "depends", "wins if the number is from 42424240000 to 42424249999")
    assert last == (1, "wins", "the narrowest range that fits, unless one above does")


def test_nothing_fits() -> None:
    assert said("6") == []


@pytest.mark.parametrize(
    ("one", "targets"),
    [
        (
            Route(prefix="4", issuer="a", alternates=("b", "c")),
            [("a", "primary"), ("b", "alternate 1"), ("c", "alternate 2")],
        ),
        (
            Route(prefix="4", weights={"a": 70, "b": 30}, alternates=("c",)),
            [("a", "70 of 100"), ("b", "30 of 100"), ("c", "alternate 1")],
        ),
        (Route(prefix="4", issuer="a", alternates=("b",), balance="round-robin"), [("a", "1 of 2"), ("b", "1 of 2")]),
    ],
)
def test_links_with_their_parts(one: Route, targets: list[tuple[str, str]]) -> None:
    (finding,) = explained(RoutingTable([one]), "4", Known())
    assert list(finding.targets) == targets


@given(
    st.lists(st.tuples(spans, conditions), max_size=12),
    st.text("0123", min_size=11, max_size=11),
    st.sampled_from(["0100", "0200"]),
    st.sampled_from(["EUR", "USD", "GBP"]),
    st.sampled_from([1, 1000, 5000, 9999]),
)
def test_where_all_is_known_it_names_the_route_that_requests_take(
    drawn: list[Any], leading: str, mti: str, currency: str, amount_minor: int
) -> None:
    table = RoutingTable(
        [
            route(str(n), span, **fields) if isinstance(span, str) else route(str(n), span=span, **fields)
            for n, (span, fields) in enumerate(drawn)
        ]
    )
    rule = table.find(leading, Asked(mti, "000000", currency, amount_minor, "pos"))
    findings = explained(table, leading, Known(mti, "000000", currency, amount_minor, "pos"))
    assert [f.number for f in findings if f.verdict == "wins"] == ([] if rule is None else [rule.rank[2] + 1])
    assert all(finding.verdict != "depends" for finding in findings)
