"""Faults on purpose: which message is answered late, twice, wrongly or not at all.

Rules (from a scenario or the control socket), a seed and messages go in; one `Fault` or none comes out a message.
Called by the issuer's core before it answers. The same seed, rules and messages give the same faults.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec

from messages.card import pan_of
from messages.message import Message
from messages.mti import canonical_mti
from simulators.faults.delay import draw_delay
from simulators.faults.rule import KINDS, FaultRule, Kind, fault_problems

MAX_RULES = 1_000


class Fault(msgspec.Struct, frozen=True):
    """The effect on one message; `delay_s` >= 0 is drawn already. `listening` as in the rule."""

    kind: Kind
    name: str
    delay_s: float
    response_code: str
    booked: bool
    listening: bool = True


class FaultTable:
    """The rules of one simulator, with how often each has matched and struck.

    Args:
        rules: in order; at most 1,000.
        seed: makes draws repeatable; each rule draws from a stream of its own.
    """

    def __init__(self, rules: Iterable[FaultRule] = (), seed: int = 0) -> None:
        self._seed = seed
        self._added = 0
        self._rules: list[_Standing] = []
        for rule in rules:
            self.add(rule)

    def __len__(self) -> int:
        return len(self._rules)

    @property
    def rules(self) -> list[FaultRule]:
        return [standing.rule for standing in self._rules]

    def add(self, rule: FaultRule) -> None:
        """Append a rule.

        Raises:
            ValueError: a number is out of range, or there are 1,000 rules already.
        """
        problems = fault_problems(rule)
        if len(self._rules) >= MAX_RULES:
            problems.append(f"there are {MAX_RULES} rules already")
        if problems:
            raise ValueError("; ".join(problems))
        self._added += 1
        self._rules.append(_Standing(rule, random.Random(f"{self._seed}/{self._added}")))

    def clear(self, name: str = "") -> int:
        """Remove the rules called `name`, or all; return how many."""
        kept = [standing for standing in self._rules if name and standing.name != name]
        removed = len(self._rules) - len(kept)
        self._rules = kept
        return removed

    def decide(self, message: Message) -> Fault | None:
        """The fault that strikes `message`, a request or an advice; None for an honest answer."""
        for standing in self._rules:
            fault = standing.strike(message)
            if fault is not None:
                return fault
        return None


class _Standing:
    """A rule with its counters."""

    __slots__ = ("_matched", "_random", "_struck", "name", "rule")

    def __init__(self, rule: FaultRule, source: random.Random) -> None:
        self.rule = rule
        self.name = rule.name or rule.kind
        self._random = source
        self._matched = 0
        self._struck = 0

    def strike(self, message: Message) -> Fault | None:
        rule = self.rule
        if (rule.count and self._struck >= rule.count) or not _matches(rule, message):
            return None
        self._matched += 1
        if (rule.nth and self._matched != rule.nth) or (rule.every and self._matched % rule.every):
            return None
        if rule.rate < 1.0 and self._random.random() >= rule.rate:
            return None
        self._struck += 1
        traits = KINDS[rule.kind]
        return Fault(
            kind=rule.kind,
            name=self.name,
            delay_s=draw_delay(rule, self._random) if traits["delayed"] else 0.0,
            response_code=rule.response_code,
            booked=traits["booked"] if rule.booked is None else rule.booked,
            listening=rule.listening,
        )


def _matches(rule: FaultRule, message: Message) -> bool:
    elements = message.elements
    if "*" not in rule.mti and canonical_mti(message.mti) not in rule.mti:
        return False
    if rule.pan_suffix and not pan_of(message).endswith(rule.pan_suffix):
        return False
    if rule.pan_prefix and not pan_of(message).startswith(rule.pan_prefix):
        return False
    if rule.processing_code and not elements.get(3, "").startswith(rule.processing_code):
        return False
    if rule.amount_minor is not None and elements.get(4, "").lstrip("0") != str(rule.amount_minor).lstrip("0"):
        return False
    if rule.terminal and elements.get(41, "").rstrip() != rule.terminal:
        return False
    return not rule.currency or elements.get(49) == rule.currency
