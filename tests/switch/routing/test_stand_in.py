"""Stand-in's limits, each by itself, at the limit and one beyond it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.journal import History, Intent, Kind
from switch.routing.settings import StandIn
from switch.routing.stand_in import LIMITS, Facts, StandIns, Verdict, auth_code

NOW = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
FREE: dict[str, Any] = {"floor_minor": {"EUR": 10_000}}


def facts(history: History | None = None, leading: str = "42424242424", has_pin: bool = False, **changes: Any) -> Facts:
    fields: dict[str, Any] = {
        "key": "k", "kind": Kind.PURCHASE, "link": "pos", "mti": "0200", "processing_code": "000000",
        "transmitted_at": NOW, "created_at": NOW, "deadline_at": NOW, "trace_id": "t", "amount_minor": 2500,
        "currency": "EUR", "issuer": "alpha", "mcc": "5411",
    }  # fmt: skip
    return Facts(Intent(**(fields | changes)), history or History(), leading, has_pin)


def verdict(settings: dict[str, Any], asked: Facts, *, blocked: bool = False) -> Verdict:
    return StandIns([StandIn(issuer="alpha", **(FREE | settings))]).judge(asked, blocked=blocked)


APPROVED = Verdict("00", "approved")


def test_within_all_limits_it_approves() -> None:
    assert verdict({}, facts()) == APPROVED
    assert verdict({}, facts(kind=Kind.AUTHORIZATION)) == APPROVED


@pytest.mark.parametrize(
    ("settings", "within", "beyond", "reason"),
    [
        ({}, facts(amount_minor=10_000), facts(amount_minor=10_001), "floor"),
        ({}, facts(), facts(currency="USD"), "floor"),
        (
            {"floor_minor": {"EUR": 9999, "USD": 1}},
            facts(currency="USD", amount_minor=1),
            facts(currency="USD"),
            "floor",
        ),
        ({"count_1h": 3}, facts(History(count_1h=2)), facts(History(count_1h=3)), "count_1h"),
        ({"count_24h": 1}, facts(), facts(History(count_24h=1)), "count_24h"),
        ({"count_1h": 0}, facts(kind=Kind.REFUND), facts(), "count_1h"),
        (
            {"sum_1h_minor": {"EUR": 5000}},
            facts(History(sum_1h_minor=2500)),
            facts(History(sum_1h_minor=2501)),
            "sum_1h",
        ),
        ({"sum_24h_minor": {"EUR": 2500}}, facts(), facts(History(sum_24h_minor=1)), "sum_24h"),
        ({"denied": ["42424243"]}, facts(), facts(leading="42424243000"), "denied"),
        ({"denied": ["4000-41"]}, facts(), facts(leading="41999999999"), "denied"),
        ({"denied": ["42424242424"]}, facts(leading="42424242423"), facts(), "denied"),
        ({"denied_mcc": ["7995"]}, facts(), facts(mcc="7995"), "mcc"),
        ({}, facts(), facts(has_pin=True), "pin"),
    ],
)
def test_each_limit(settings: dict[str, Any], within: Facts, beyond: Facts, reason: str) -> None:
    if within.intent.kind in (Kind.PURCHASE, Kind.AUTHORIZATION):
        assert verdict(settings, within) == APPROVED
    assert verdict(settings, beyond) == Verdict("91", reason)


def test_a_pin_that_nobody_verified_may_be_let_through() -> None:
    assert verdict({"pin": "approve"}, facts(has_pin=True)) == APPROVED


@pytest.mark.parametrize(
    ("types", "kind", "approved"),
    [
        (("purchase",), Kind.PURCHASE, True),
        (("purchase",), Kind.AUTHORIZATION, False),
        (("authorization", "purchase", "refund"), Kind.REFUND, True),
        (("authorization", "purchase"), Kind.REFUND, False),
        (("authorization", "purchase", "refund"), Kind.INCREMENT, False),
        (("authorization", "purchase", "refund"), Kind.INQUIRY, False),
        ((), Kind.PURCHASE, False),
    ],
)
def test_types_that_it_has_nothing_to_say_about(types: tuple[str, ...], kind: Kind, approved: bool) -> None:
    said = verdict({"types": types}, facts(kind=kind))
    assert said == (APPROVED if approved else Verdict("91", "type", spoken=False))


def test_an_account_verification_is_the_issuers_alone() -> None:
    assert verdict({}, facts(amount_minor=0)) == Verdict("91", "type", spoken=False)


def test_the_negative_list_and_the_code_of_a_decline() -> None:
    assert verdict({"response_code": "05"}, facts(), blocked=True) == Verdict("05", "blocked")
    assert verdict({"response_code": "05"}, facts(amount_minor=99_999), blocked=True) == Verdict("05", "floor")


def test_who_is_spoken_for() -> None:
    subject = StandIns([StandIn(issuer="alpha"), StandIn(issuer="beta", on_timeout=True, denied=("4", "400-5123456"))])
    assert subject.issuers == ("alpha", "beta")
    assert [subject.speaks(name) for name in ("alpha", "beta", "gamma")] == [True, True, False]
    assert [subject.speaks(name, timed_out=True) for name in ("alpha", "beta", "gamma")] == [False, True, False]
    assert subject.digits == 7


def test_without_a_floor_nothing_is_approved() -> None:
    assert verdict({"floor_minor": {}}, facts(amount_minor=1)).reason == "floor"


def test_every_limit_is_met_here() -> None:
    assert set(LIMITS) == {"type", "pin", "mcc", "denied", "floor", "count_1h", "sum_1h", "count_24h", "sum_24h"}


def test_authorization_codes_of_ours_have_six_characters() -> None:
    assert [auth_code(n) for n in (1, 99_999, 100_000, 123_456)] == ["S00001", "S99999", "S00000", "S23456"]
