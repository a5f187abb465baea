"""Faults on purpose: which message is answered late, twice, wrongly or not at all.

Rules (from a scenario or the control socket), a seed and messages go in; one `Fault` or none comes out a message.
Called by the issuer's core before it answers. The same seed, rules and messages give the same faults.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Literal

import msgspec

from messages.card import pan_of
from messages.message import Message
from messages.mti import canonical_mti

MAX_RULES = 1_000
MAX_DELAY_S = 3_600.0

Kind = Literal[
    "delay", "late", "silence", "disconnect-before", "disconnect-after", "duplicate", "decline", "wrong-mac",
    "missing-mac",
]  # fmt: skip
Distribution = Literal["fixed", "uniform", "exponential", "lognormal"]

# What each kind does with the answer. `booked`: whether the request takes effect unless the rule says otherwise.
KINDS: dict[str, dict[str, bool]] = {
    "delay": {"booked": True, "answered": True, "delayed": True},  # in time, but slow
    "late": {"booked": True, "answered": True, "delayed": True},  # after the deadline: `delay_s` says how long
    "silence": {"booked": True, "answered": False, "delayed": False},  # booked, but nobody is told
    "disconnect-before": {"booked": True, "answered": False, "delayed": False},  # the line drops instead of an answer
    "disconnect-after": {"booked": True, "answered": True, "delayed": False},  # … right after the answer
    "duplicate": {"booked": True, "answered": True, "delayed": False},  # the same answer twice
    "wrong-mac": {"booked": True, "answered": True, "delayed": False},  # on links with MACs; elsewhere nothing happens
    "missing-mac": {"booked": True, "answered": True, "delayed": False},
    "decline": {"booked": False, "answered": True, "delayed": False},  # with `response_code`
}


class FaultRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule: matches where everything that is set matches; the first rule that strikes decides.

    Args:
        kind: see `KINDS`.
        name: for the log; "" names it by its kind.
        mti: canonical MTIs (0100 stands for 0101 too) that it looks at; "*" for any.
        pan_suffix: last digits of the PAN. amount_minor: DE 4. terminal: DE 41. currency: DE 49, numeric.
        nth: strikes only at the nth message that matches, counted from 1; 0 for each.
        rate: share of the matching messages that it strikes, 0–1.
        count: strikes at most that often; 0 for no limit.
        delay_s: the fixed delay, or the mean (exponential), median (lognormal) or upper end (uniform).
        delay_from_s: the lower end, added to each draw of any other distribution than fixed.
        sigma: of the lognormal distribution.
        response_code: DE 39 of a decline.
        booked: overrides what `KINDS` says: False loses the request before the issuer has seen it.
    """

    kind: Kind
    name: str = ""
    mti: tuple[str, ...] = ("0100", "0200")
    pan_suffix: str = ""
    amount_minor: int | None = None
    terminal: str = ""
    currency: str = ""
    nth: int = 0
    rate: float = 1.0
    count: int = 0
    delay_s: float = 0.0
    delay_from_s: float = 0.0
    distribution: Distribution = "fixed"
    sigma: float = 0.5
    response_code: str = "05"
    booked: bool | None = None


class Fault(msgspec.Struct, frozen=True):
    """What happens to one message; `delay_s` >= 0 is drawn already."""

    kind: Kind
    name: str
    delay_s: float
    response_code: str
    booked: bool


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


def fault_problems(rule: FaultRule) -> list[str]:
    """What is wrong with a rule, one line each; for scenario files and the control socket."""
    problems = []
    if not 0.0 <= rule.rate <= 1.0:
        problems.append("rate must be 0–1")
    for name in ("delay_s", "delay_from_s"):
        if not 0.0 <= getattr(rule, name) <= MAX_DELAY_S:
            problems.append(f"{name} must be 0–{MAX_DELAY_S:.0f}")
    if rule.nth < 0 or rule.count < 0:
        problems.append("nth and count must be >= 0")
    if len(rule.response_code) != 2:
        problems.append("response_code must have 2 characters")
    if rule.distribution == "uniform" and rule.delay_from_s > rule.delay_s:
        problems.append("delay_from_s must not be above delay_s")
    if KINDS[rule.kind]["delayed"] and rule.delay_s == 0.0:
        problems.append(f"a {rule.kind} needs delay_s")
    return problems


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
        if rule.nth and self._matched != rule.nth:
            return None
        if rule.rate < 1.0 and self._random.random() >= rule.rate:
            return None
        self._struck += 1
        traits = KINDS[rule.kind]
        return Fault(
            kind=rule.kind,
            name=self.name,
            delay_s=_draw(rule, self._random) if traits["delayed"] else 0.0,
            response_code=rule.response_code,
            booked=traits["booked"] if rule.booked is None else rule.booked,
        )


def _matches(rule: FaultRule, message: Message) -> bool:
    elements = message.elements
    if "*" not in rule.mti and canonical_mti(message.mti) not in rule.mti:
        return False
    if rule.pan_suffix and not pan_of(message).endswith(rule.pan_suffix):
        return False
    if rule.amount_minor is not None and elements.get(4, "").lstrip("0") != str(rule.amount_minor).lstrip("0"):
        return False
    if rule.terminal and elements.get(41, "").rstrip() != rule.terminal:
        return False
    return not rule.currency or elements.get(49) == rule.currency


def _draw(rule: FaultRule, source: random.Random) -> float:
    match rule.distribution:
        case "fixed":
            delay_s = rule.delay_s
        case "uniform":
            delay_s = source.uniform(rule.delay_from_s, rule.delay_s)
        case "exponential":
            delay_s = rule.delay_from_s + source.expovariate(1.0 / rule.delay_s)
        case "lognormal":
            delay_s = rule.delay_from_s + rule.delay_s * source.lognormvariate(0.0, rule.sigma)
    return min(delay_s, MAX_DELAY_S)
