"""Stage 5: rules against fraud, a table from the configuration; the first that matches decides.

The intent and the card's history (which came with the intent's durable write) go in, a `Finding` comes out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from ledger.journal import History, Intent
from switch.config import FraudRule


class Finding(msgspec.Struct, frozen=True):
    """What the rules say; `rule` is "" where none matched."""

    action: Literal["allow", "review", "decline"]
    rule: str
    response_code: str


NOTHING_FOUND = Finding("allow", "", "00")


class FraudRules:
    """The rules in their order."""

    def __init__(self, rules: Iterable[FraudRule]) -> None:
        self._rules = tuple(rules)

    def judge(self, intent: Intent, history: History, bin_digits: str, card_country: str) -> Finding:
        """Counts and sums of `history` are without the present request; limits are meant with it.

        Args:
            bin_digits: the card's first 8 digits.
            card_country: where the card was issued, alpha-2; "" if not known.
        """
        for rule in self._rules:
            if _matches(rule, intent, history, bin_digits, card_country):
                return Finding(rule.action, rule.name, rule.response_code)
        return NOTHING_FOUND


def _matches(rule: FraudRule, intent: Intent, history: History, bin_digits: str, card_country: str) -> bool:
    if rule.bin and not bin_digits.startswith(rule.bin):
        return False
    if rule.currency and rule.currency != intent.currency:
        return False
    if rule.abroad is not None:
        abroad = bool(card_country and intent.country and card_country != intent.country)
        if abroad is not rule.abroad:
            return False
    amount = intent.amount_minor
    return (
        _over(rule.amount_over_minor, amount)
        and _over(rule.count_1h_over, history.count_1h + 1)
        and _over(rule.sum_1h_over_minor, history.sum_1h_minor + amount)
        and _over(rule.count_24h_over, history.count_24h + 1)
        and _over(rule.sum_24h_over_minor, history.sum_24h_minor + amount)
        and _over(rule.merchants_24h_over, history.merchants_24h)
        and _over(rule.same_5m_over, history.same_5m + 1)
    )


def _over(limit: int | None, value: int) -> bool:
    return limit is None or value > limit
