"""Stage 5: rules against fraud, a table from the configuration; the first that matches decides.

The intent and the card's history (which came with the intent's durable write) go in, a `Finding` comes out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from ledger.journal import History, Intent
from switch.fraud_settings import FraudRule, Rates, limits_of


class Finding(msgspec.Struct, frozen=True):
    """The decision of the rules; `rule` is "" where none matched."""

    action: Literal["allow", "review", "decline"]
    rule: str
    response_code: str


NOTHING_FOUND = Finding("allow", "", "00")


class FraudRules:
    """The rules in their order, with their limits in every currency that has one."""

    def __init__(self, rules: Iterable[FraudRule], rates: Rates | None = None) -> None:
        self._rules = tuple(_Rule(rule, rates or Rates()) for rule in rules)

    def judge(self, intent: Intent, history: History, bin_digits: str, card_country: str) -> Finding:
        """Counts and sums of `history` are without the present request; limits are meant with it.

        Args:
            history: its sums are of the intent's currency.
            bin_digits: the card's first 8 digits.
            card_country: where the card was issued, alpha-2; "" if not known.
        """
        for rule in self._rules:
            if rule.matches(intent, history, bin_digits, card_country):
                return rule.finding
        return NOTHING_FOUND


class _Rule:
    """One rule, ready for use."""

    def __init__(self, rule: FraudRule, rates: Rates) -> None:
        self.finding = Finding(rule.action, rule.name, rule.response_code)
        self._rule = rule
        self._money = limits_of(rule, rates)
        self._others_match = rule.other_currencies == "match"

    def matches(self, intent: Intent, history: History, bin_digits: str, card_country: str) -> bool:
        rule = self._rule
        if rule.bin and not bin_digits.startswith(rule.bin):
            return False
        if rule.currency and rule.currency != intent.currency:
            return False
        if rule.abroad is not None:
            abroad = bool(card_country and intent.country and card_country != intent.country)
            if abroad is not rule.abroad:
                return False
        amount, currency = intent.amount_minor, intent.currency
        return (
            self._over_money("amount_over_minor", currency, amount)
            and _over(rule.count_1h_over, history.count_1h + 1)
            and self._over_money("sum_1h_over_minor", currency, history.sum_1h_minor + amount)
            and _over(rule.count_24h_over, history.count_24h + 1)
            and self._over_money("sum_24h_over_minor", currency, history.sum_24h_minor + amount)
            and _over(rule.merchants_24h_over, history.merchants_24h)
            and _over(rule.same_5m_over, history.same_5m + 1)
        )

    def _over_money(self, name: str, currency: str, value: int) -> bool:
        limits = self._money.get(name)
        if limits is None:
            return True
        limit = limits.get(currency)
        return self._others_match if limit is None else value > limit


def _over(limit: int | None, value: int) -> bool:
    return limit is None or value > limit
