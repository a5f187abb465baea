"""[[route]], [[breaker]], [[stand_in]] and [saf]: every error, and all of them at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.config import SwitchConfig, switch_config
from switch.errors import ConfigError
from switch.routing.settings import Route

BASE: dict[str, Any] = {
    "acquirer": [{"name": "pos", "listen": "127.0.0.1:1", "dialect": "iso87-ascii"}],
    "issuer": [
        {"name": name, "address": f"127.0.0.1:{port}", "dialect": "iso87-ascii"} for port, name in enumerate("abc", 2)
    ],
    "fees": {"other_currencies": "rate-only"},
}


def problems(**sections: Any) -> list[str]:
    try:
        switch_config(BASE | sections)
    except ConfigError as error:
        return list(error.problems)
    return []


def config(**sections: Any) -> SwitchConfig:
    return switch_config(BASE | sections)


@pytest.mark.parametrize(
    "route",
    [
        {"prefix": "4", "issuer": "a"},
        {"prefix": "42424242424", "issuer": "a", "alternates": ["b", "c"], "country": "DE"},
        {"from": "400000", "to": "499999", "issuer": "a"},
        {"from": "40000000000", "to": "40000000000", "weights": {"a": 1, "b": 1000}, "alternates": ["c"]},
        {"prefix": "4", "issuer": "a", "alternates": ["b"], "balance": "round-robin"},
        {"prefix": "4", "weights": {"a": 1}, "balance": "weighted"},
        {"prefix": "4", "issuer": "a", "balance": "primary"},
        {
            "prefix": "4", "issuer": "a", "mti": ["0100", "0200"], "processing_code": ["00", "0930", "200000"],
            "currency": "EUR", "acquirer": ["pos"], "amount_from_minor": 0, "amount_to_minor": 0,
        },
    ],
)  # fmt: skip
def test_routes_that_are_right(route: dict[str, Any]) -> None:
    assert problems(route=[route]) == []


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ({"prefix": "4x", "issuer": "a"}, "the prefix must be 1–11 digits"),
        ({"prefix": "4" * 12, "issuer": "a"}, "the prefix must be 1–11 digits"),
        ({"prefix": "４", "issuer": "a"}, "the prefix must be 1–11 digits"),
        ({"issuer": "a"}, "it needs a prefix, or from and to"),
        ({"from": "40000", "to": "49999", "issuer": "a"}, "6–11 digits"),
        ({"from": "400000", "issuer": "a"}, "6–11 digits"),
        ({"prefix": "4", "from": "400000", "to": "499999", "issuer": "a"}, "either prefix, or from and to"),
        ({"from": "400000", "to": "4999999", "issuer": "a"}, "the same number of digits"),
        ({"from": "499999", "to": "400000", "issuer": "a"}, "ends before it begins"),
        ({"prefix": "4"}, "it needs issuer or weights"),
        ({"prefix": "4", "issuer": "a", "weights": {"b": 1}}, "and not both"),
        ({"prefix": "4", "issuer": "x"}, "there is no issuer 'x'"),
        ({"prefix": "4", "issuer": "a", "alternates": ["y"]}, "there is no issuer 'y'"),
        ({"prefix": "4", "weights": {"z": 1}}, "there is no issuer 'z'"),
        ({"prefix": "4", "weights": {"a": 0}}, "weights must be 1–1000"),
        ({"prefix": "4", "weights": {"a": 1001}}, "weights must be 1–1000"),
        ({"prefix": "4", "issuer": "a", "alternates": ["a"]}, "a is named twice"),
        ({"prefix": "4", "weights": {"a": 1}, "alternates": ["a"]}, "a is named twice"),
        ({"prefix": "4", "issuer": "a", "balance": "weighted"}, "needs weights"),
        ({"prefix": "4", "weights": {"a": 1}, "balance": "primary"}, "no weights"),
        ({"prefix": "4", "weights": {"a": 1}, "balance": "round-robin"}, "needs issuer and alternates"),
        ({"prefix": "4", "issuer": "a", "balance": "round-robin"}, "needs issuer and alternates"),
        ({"prefix": "4", "issuer": "a", "balance": "random"}, "balance"),
        ({"prefix": "4", "issuer": "a", "mti": "0201"}, "without a repeat's last digit"),
        ({"prefix": "4", "issuer": "a", "mti": "200"}, "must be 4 digits"),
        ({"prefix": "4", "issuer": "a", "processing_code": "000"}, "the first 2, 4 or all 6 digits"),
        ({"prefix": "4", "issuer": "a", "currency": "978"}, "'978' is no currency of ISO 4217"),
        ({"prefix": "4", "issuer": "a", "acquirer": "kiosk"}, "there is no acquirer 'kiosk'"),
        ({"prefix": "4", "issuer": "a", "amount_from_minor": 100}, "same number in every currency"),
        ({"prefix": "4", "issuer": "a", "currency": "EUR", "amount_from_minor": -1}, "0 or more"),
        ({"prefix": "4", "issuer": "a", "currency": "EUX"}, "'EUX' is no currency of ISO 4217"),
        (
            {"prefix": "4", "issuer": "a", "currency": ["EUR", "JPY", "USD"], "amount_to_minor": 1_000},
            "differ in decimal places (JPY with 0; EUR, USD with 2): write a route for each",
        ),
        (
            {"prefix": "4", "issuer": "a", "currency": "EUR", "amount_from_minor": 5, "amount_to_minor": 4},
            "in this order",
        ),
        ({"prefix": "4", "issuer": "a", "country": "usa"}, "two capital letters"),
        ({"prefix": "4", "issuer": "a", "colour": "red"}, "colour"),
    ],
)
def test_routes_that_are_wrong(route: dict[str, Any], says: str) -> None:
    (problem,) = problems(route=[route])
    assert says in problem


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        ({"prefix": "4"}, {"prefix": "4"}, True),
        ({"prefix": "424242"}, {"from": "424242", "to": "424242"}, True),
        ({"from": "400000", "to": "400009"}, {"from": "400005", "to": "400014"}, True),
        ({"from": "400000", "to": "400009"}, {"from": "400010", "to": "400019"}, False),
        ({"from": "400000", "to": "400009"}, {"from": "400005", "to": "400015"}, False),
        ({"prefix": "4"}, {"prefix": "4", "currency": "EUR"}, False),
        ({"prefix": "4", "mti": ["0100", "0200"]}, {"prefix": "4", "mti": ["0200", "0100"]}, True),
        ({"prefix": "4"}, {"prefix": "41"}, False),
    ],
)
def test_two_routes_of_which_nothing_says_which_is_meant(one: Any, other: Any, collide: bool) -> None:
    found = problems(route=[{"issuer": "a", **one}, {"issuer": "b", **other}])
    assert len(found) == collide
    assert not collide or "the same conditions as" in found[0]


@pytest.mark.parametrize(
    ("section", "entry", "says"),
    [
        ("breaker", {"issuer": "x"}, "there is no issuer 'x'"),
        ("breaker", {"minimum": 0}, "minimum must be > 0"),
        ("breaker", {"window_s": 0}, "window_s must be > 0"),
        ("breaker", {"open_s": -1}, "open_s must be > 0"),
        ("breaker", {"probes": 0}, "probes must be > 0"),
        ("breaker", {"failures": -1}, "failures must be 0 or more"),
        ("breaker", {"ratio": 1.5}, "ratio must be from 0 to 1"),
        ("breaker", {"codes": ["00"]}, "'00' is no DE 39"),
        ("breaker", {"codes": ["911"]}, "'911' is no DE 39"),
        ("breaker", {"opens": 1}, "opens"),
        ("stand_in", {"issuer": "x"}, "there is no issuer 'x'"),
        ("stand_in", {}, "issuer"),
        ("stand_in", {"issuer": "a", "floor_minor": {"eur": 1}}, "floor_minor: 'eur' is no currency of ISO 4217"),
        ("stand_in", {"issuer": "a", "sum_1h_minor": {"EUR": -1}}, "sum_1h_minor: EUR = -1 must be 0 to"),
        ("stand_in", {"issuer": "a", "sum_1h_minor": {"EUX": 1}}, "sum_1h_minor: 'EUX' is no currency"),
        (
            "stand_in",
            {"issuer": "a", "floor_minor": {"EUR": 1, "USD": 1}, "sum_24h_minor": {"EUR": 1}},
            "sum_24h_minor has no limit for USD, which floor_minor allows",
        ),
        ("stand_in", {"issuer": "a", "count_24h": -1}, "count_24h must be 0 or more"),
        ("stand_in", {"issuer": "a", "denied": ["4x"]}, "must be 1–11 digits"),
        ("stand_in", {"issuer": "a", "denied": ["42-41"]}, "ends before it begins"),
        ("stand_in", {"issuer": "a", "denied_mcc": ["599"]}, "must be 4 digits"),
        ("stand_in", {"issuer": "a", "types": ["inquiry"]}, "types"),
        ("stand_in", {"issuer": "a", "pin": "verify"}, "pin"),
        ("stand_in", {"issuer": "a", "response_code": "00"}, "response_code must have 2 characters, and not be 00"),
    ],
)
def test_breakers_and_stand_ins_that_are_wrong(section: str, entry: dict[str, Any], says: str) -> None:
    (problem,) = problems(**{section: [entry]})
    assert says in problem


@pytest.mark.parametrize("name", ["repeats", "limit", "max_age_s"])
def test_limits_of_stored_advices_are_positive(name: str) -> None:
    assert problems(saf={name: 0}) == [f"[saf] {name} must be > 0"]


def test_sections_that_exist_once_an_issuer() -> None:
    for section in ("breaker", "stand_in"):
        assert problems(**{section: [{"issuer": "a"}, {"issuer": "b"}, {"issuer": "a"}]}) == [
            f"{section}[a]: there are two of them"
        ]
    assert problems(breaker=[{}, {"issuer": "a"}]) == []


def test_all_errors_of_all_sections_are_listed_at_once() -> None:
    found = problems(
        route=[{"prefix": "4x", "issuer": "nobody", "currency": "euro"}, {"prefix": "5", "issuer": "a", "who": 1}],
        breaker=[{"ratio": 2, "probes": 0}, {"when": 1}],
        stand_in=[{"issuer": "zeta", "response_code": "000", "denied": ["x"]}],
        saf={"limit": 0, "repeats": -1},
    )
    text = "\n".join(found)
    for part in (
        "'4x'", "'nobody'", "'euro'", "who", "ratio", "probes", "when", "'zeta'", "response_code", "denied 'x'",
        "limit", "repeats",
    ):  # fmt: skip
        assert part in text, part


def test_too_many_routes_for_one_number_are_a_problem_of_the_file() -> None:
    routes = [{"prefix": "4", "issuer": "a", "currency": "EUR", "amount_from_minor": n} for n in range(65)]
    assert problems(route=routes) == ["route: more than 64 routes fit numbers that begin with 40000000000"]


def test_what_is_left_out_has_a_default() -> None:
    found = config(stand_in=[{"issuer": "a"}])
    assert found.saf.repeats == 1000 and found.breakers == ()
    assert (found.stand_ins[0].types, found.stand_ins[0].response_code) == (("authorization", "purchase"), "91")


@given(st.integers(6, 9).flatmap(lambda n: st.tuples(*[st.integers(0, 10**n - 1).map(lambda v: str(v).zfill(n))] * 2)))
def test_prefixes_cover_a_range_exactly(ends: tuple[str, str]) -> None:
    first, last = sorted(ends)
    route = Route(first=first, last=last, issuer="a")
    low, high = route.span
    covered = [Route(prefix=prefix, issuer="a").span for prefix in route.prefixes]
    assert covered[0][0] == low and covered[-1][1] == high
    assert all(before[1] + 1 == after[0] for before, after in pairwise(covered))
    assert len(route.prefixes) <= 2 * 9 * len(first)
