"""The routing table: the narrowest range wins, conditions narrow further, and a slow, simple search agrees."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.routing.settings import MAX_OVERLAP, Route
from switch.routing.table import Asked, RoutingTable

ASKED = Asked("0100", "000000", "EUR", 2500, "pos")


def route(issuer: str, prefix: str = "", **fields: Any) -> Route:
    span = fields.pop("span", None)
    if span:
        fields["first"], fields["last"] = span
    return Route(issuer=issuer, prefix=prefix, **fields)


def found(routes: list[Route], leading: str, asked: Asked = ASKED) -> str | None:
    rule = RoutingTable(routes).find(leading, asked)
    return None if rule is None else rule.route.issuer


@pytest.mark.parametrize(
    ("leading", "issuer"),
    [
        ("40000000000", "wide"),
        ("42424242424", "eight"),
        ("42424241999", "six"),
        ("42424200000", "six"),
        ("42424250000", "range"),
        ("42424259999", "range"),
        ("42424260000", "six"),
        ("42424212345", "eleven"),
        ("42424212346", "six"),
        ("50000000000", None),
        ("00000000000", None),
        ("99999999999", None),
    ],
)
def test_the_longest_match_wins(leading: str, issuer: str | None) -> None:
    routes = [
        route("wide", "4"),
        route("six", "424242"),
        route("eight", "42424242"),
        route("range", span=("4242425000", "4242425999")),
        route("eleven", "42424212345"),
    ]
    assert found(routes, leading) == issuer
    assert found(routes[::-1], leading) == issuer, "the order in the file is of no account"


@pytest.mark.parametrize("digits", [6, 7, 8, 9, 10, 11])
def test_ranges_of_6_to_11_digits(digits: int) -> None:
    first, last = "4" * digits, "4" * (digits - 1) + "7"
    routes = [route("range", span=(first, last)), route("rest", "4")]
    table = RoutingTable(routes)
    assert table.digits == digits
    assert found(routes, first) == found(routes, last) == "range"
    assert found(routes, last.ljust(11, "9")) == "range"
    assert found(routes, str(int(last) + 1)) == found(routes, str(int(first) - 1)) == "rest"


@pytest.mark.parametrize(
    ("condition", "other"),
    [
        ({"mti": "0200"}, {"mti": "0200"}),
        ({"mti": ("0200", "0220")}, {"mti": "0220"}),
        ({"processing_code": "20"}, {"processing_code": "200000"}),
        ({"processing_code": ("2000", "010000")}, {"processing_code": "010000"}),
        ({"currency": "USD"}, {"currency": "USD"}),
        ({"acquirer": ("kiosk", "gateway")}, {"acquirer": "gateway"}),
        ({"amount_from_minor": 2501}, {"amount_minor": 2501}),
        ({"amount_to_minor": 2499}, {"amount_minor": 2499}),
        ({"amount_from_minor": 1, "amount_to_minor": 100}, {"amount_minor": 100}),
    ],
)
def test_a_condition_must_hold(condition: dict[str, Any], other: dict[str, Any]) -> None:
    routes = [route("plain", "4"), route("special", "4", **condition)]
    assert found(routes, "4242") == "plain"
    fields = {name: getattr(ASKED, name) for name in ASKED.__struct_fields__}
    assert found(routes, "4242", Asked(**(fields | other))) == "special"
    assert found(routes[1:], "4242") is None


def test_a_narrower_route_whose_conditions_do_not_hold_leaves_the_card_to_the_wider() -> None:
    routes = [route("wide", "4"), route("narrow", "424242", currency="USD")]
    assert found(routes, "42424200000") == "wide"


def test_more_conditions_win_over_fewer() -> None:
    routes = [route("one", "4", currency="EUR"), route("two", "4", currency="EUR", mti="0100"), route("none", "4")]
    assert found(routes, "4") == "two"


def test_of_as_many_conditions_the_first_in_the_file_wins() -> None:
    assert found([route("mti", "4", mti="0100"), route("currency", "4", currency="EUR")], "4") == "mti"
    assert found([route("currency", "4", currency="EUR"), route("mti", "4", mti="0100")], "4") == "currency"


def test_an_empty_table_has_no_route() -> None:
    table = RoutingTable([])
    assert table.find("42424242424", ASKED) is None
    assert (table.digits, table.deepest) == (0, 0)


def test_too_many_routes_for_one_number_are_refused() -> None:
    routes = [route("a", "4", amount_from_minor=n) for n in range(MAX_OVERLAP)]
    assert RoutingTable(routes).deepest == MAX_OVERLAP
    with pytest.raises(ValueError, match=f"more than {MAX_OVERLAP} routes fit numbers that begin with 40000000000"):
        RoutingTable([*routes, route("b", "42", currency="EUR"), route("c", "4")])


spans = st.one_of(
    st.text("0123", min_size=1, max_size=5),
    st.integers(6, 8).flatmap(
        lambda n: st.tuples(*[st.text("0123", min_size=n, max_size=n)] * 2).map(lambda pair: tuple(sorted(pair)))
    ),
)
conditions = st.fixed_dictionaries(
    {},
    optional={
        "currency": st.sampled_from(["EUR", "USD"]),
        "mti": st.sampled_from(["0100", "0200"]),
        "amount_to_minor": st.sampled_from([1000, 5000]),
    },
)


@given(
    st.lists(st.tuples(spans, conditions), max_size=20),
    st.lists(st.text("0123", min_size=11, max_size=11), max_size=20),
)
def test_the_search_agrees_with_looking_at_every_route(drawn: list[Any], cards: list[str]) -> None:
    routes = [
        route(str(n), span, **fields) if isinstance(span, str) else route(str(n), span=span, **fields)
        for n, (span, fields) in enumerate(drawn)
    ]
    table = RoutingTable(routes)
    for leading in [
        *cards,
        *(str(r.span[0]).rjust(11, "0") for r in routes),
        *(str(r.span[1]).rjust(11, "0") for r in routes),
    ]:
        fitting = [
            rule
            for rule in table.rules
            if rule.first <= int(leading) <= rule.last
            and rule.route.currency in ((), "EUR")
            and rule.route.mti in ((), "0100")
            and (rule.route.amount_to_minor or 2500) >= 2500
        ]
        best = min(fitting, key=lambda rule: rule.rank, default=None)
        assert table.find(leading, ASKED) is best
