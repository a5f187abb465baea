"""[[fraud]] and [rates] of the configuration: rules with amounts by currency, and what other currencies are worth.

`switch.config` reads and checks them; `switch.stages.fraud` applies them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import Literal

import msgspec

from messages.amounts_by_currency import AmountsByCurrency, is_currency, same_number_problem, table_problems
from messages.money import currency_exponent

ROUNDING = ROUND_FLOOR  # of a converted limit: never above what the reference amount is worth
MONEY = ("amount_over_minor", "sum_1h_over_minor", "sum_24h_over_minor")
_MAX_LIMIT = 2**63 - 1


class FraudRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[fraud]]: matches where all that is set matches; counts and sums include the present request.

    Args:
        amount_over_minor, sum_1h_over_minor, sum_24h_over_minor: { EUR = 1_000_000, USD = 1_100_000 }; with `currency`
            also a number alone. A currency that is not there has the amount in the reference currency, converted by
            [rates], where both are there.
        other_currencies: result of these conditions for a currency without an amount: "match", it is over, or "skip",
            it is not. There is no default.
    """

    name: str
    action: Literal["allow", "review", "decline"]
    bin: tuple[str, ...] = ()
    currency: str = ""
    amount_over_minor: AmountsByCurrency | None = None
    count_1h_over: int | None = None
    sum_1h_over_minor: AmountsByCurrency | None = None
    count_24h_over: int | None = None
    sum_24h_over_minor: AmountsByCurrency | None = None
    merchants_24h_over: int | None = None
    same_5m_over: int | None = None
    abroad: bool | None = None
    other_currencies: Literal["match", "skip"] | None = None
    response_code: str = "59"


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[rates]: for limits only; nothing is booked or converted by them.

    Args:
        reference: ISO 4217 alpha-3.
        worth: value of one unit of a currency (1.00 USD, 1 JPY) in the reference currency, decimal strings > 0.
    """

    reference: str = ""
    worth: dict[str, Decimal] = {}


def limits_by_currency(amounts: AmountsByCurrency, currency: str, rates: Rates) -> dict[str, int]:
    """The limit of each currency that has one, in its own minor units.

    Args:
        amounts: of the rule, whose `currency` it is. Both and `rates` have been checked.
    """
    if isinstance(amounts, int):
        return {currency: amounts}
    limits = dict(amounts)
    if rates.reference in amounts:
        exponent = currency_exponent(rates.reference)
        for other, worth in rates.worth.items():
            whole = Decimal(amounts[rates.reference]).scaleb(-exponent) / worth
            converted = whole.scaleb(currency_exponent(other)).to_integral_value(ROUNDING)
            limits.setdefault(other, min(int(converted), _MAX_LIMIT))
    return limits


def fraud_contradictions(rules: Sequence[FraudRule], rates: Rates) -> list[str]:
    """The faults of [[fraud]] and [rates]."""
    problems = _rates_problems(rates)
    for rule in rules:
        label = f"fraud {rule.name}"
        for prefix in rule.bin:
            if not (prefix.isdecimal() and 1 <= len(prefix) <= 8):
                problems.append(f"{label}: bin {prefix!r} must be 1–8 digits, as the switch sees no more")
        if len(rule.response_code) != 2:
            problems.append(f"{label}: response_code must have 2 characters")
        if rule.currency and not is_currency(rule.currency):
            problems.append(f"{label}: currency {rule.currency!r} is no currency of ISO 4217")
        problems += _money_problems(label, rule)
    return problems


def _money_problems(label: str, rule: FraudRule) -> list[str]:
    problems = []
    tables = False
    for name in MONEY:
        amounts: AmountsByCurrency | None = getattr(rule, name)
        if isinstance(amounts, int):
            if not rule.currency:
                problems.append(f"{label}: {same_number_problem(name, amounts)} and other_currencies, or set currency")
            elif not 0 <= amounts <= _MAX_LIMIT:
                problems.append(f"{label}: {name} must be 0 or more")
        elif amounts is not None:
            tables = True
            problems += [f"{label}: {problem}" for problem in table_problems(name, amounts, _MAX_LIMIT)]
    if tables and rule.other_currencies is None and not rule.currency:
        problems.append(
            f'{label}: say in other_currencies whether a currency without an amount is over the limit ("match") '
            'or not ("skip")'
        )
    return problems


def _rates_problems(rates: Rates) -> list[str]:
    problems = []
    if (rates.worth or rates.reference) and not is_currency(rates.reference):
        problems.append(f"[rates] reference: {rates.reference!r} is no currency of ISO 4217")
    for code, worth in rates.worth.items():
        if not is_currency(code):
            problems.append(f"[rates] worth: {code!r} is no currency of ISO 4217")
        if not (worth.is_finite() and Decimal("1e-12") <= worth <= Decimal("1e12")):
            problems.append(f"[rates] worth: {code} must be above 0, as a decimal string")
        if code == rates.reference and worth != 1:
            problems.append(f"[rates] worth: {code} is the reference itself, so it is worth 1")
    return problems


def limits_of(rule: FraudRule, rates: Rates) -> Mapping[str, dict[str, int]]:
    """Condition → currency → limit, for the conditions about money that a rule has."""
    return {
        name: limits_by_currency(amounts, rule.currency, rates)
        for name in MONEY
        if (amounts := getattr(rule, name)) is not None
    }
