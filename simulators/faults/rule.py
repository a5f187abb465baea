"""One fault rule: its conditions, its effect, and its possible faults; data.

Scenario files and the control socket make rules, `simulators.faults.table` counts and strikes.
"""

from __future__ import annotations

import itertools
from typing import Literal

import msgspec

MAX_DELAY_S = 3_600.0
MAX_PERCENTILES = 100
MAX_DIGITS = 11  # no rule holds a whole card number

Kind = Literal[
    "delay", "late", "silence", "disconnect-before", "disconnect-after", "duplicate", "decline", "wrong-mac",
    "missing-mac", "reorder", "wrong-stan", "garbage", "half-frame", "byte-at-a-time", "refuse",
    "wrong-card", "wrong-currency", "wrong-processing-code", "wrong-amount", "approve-after-decline", "repeat",
    "late-reversal",
]  # fmt: skip
Distribution = Literal["fixed", "uniform", "normal", "exponential", "lognormal", "pareto", "percentiles"]


def _kind(
    *, booked: bool = True, answered: bool = True, delayed: bool = False, optional: bool = False
) -> dict[str, bool]:
    return {"booked": booked, "answered": answered, "delayed": delayed, "optional": optional}


# Effect of each kind on the answer. `booked`: whether the request takes effect unless the rule says otherwise.
# `delayed`: `delay_s` means something to it; `optional`: it has one of its own where the rule has none.
KINDS: dict[str, dict[str, bool]] = {
    "delay": _kind(delayed=True),  # in time, but slow
    "late": _kind(delayed=True),  # after the deadline: `delay_s` says how long
    "silence": _kind(answered=False),  # booked, but without an answer
    "disconnect-before": _kind(answered=False),  # the line drops instead of an answer
    "disconnect-after": _kind(),  # … right after the answer
    "duplicate": _kind(),  # the same answer twice
    "reorder": _kind(delayed=True, optional=True),  # after the next answer on its connection, or after `delay_s`
    "wrong-stan": _kind(),  # DE 11 of somebody else
    "wrong-mac": _kind(),  # on links with MACs; elsewhere nothing happens
    "missing-mac": _kind(),
    "garbage": _kind(),  # a whole frame of the right size, random bytes in it
    "half-frame": _kind(),  # the first half, and nothing more on this connection
    "byte-at-a-time": _kind(delayed=True, optional=True),  # one segment a byte, over `delay_s`
    "refuse": _kind(answered=False, delayed=True),  # the line drops, and no new one is taken for `delay_s`
    # The answer names something else than was asked; the booking is of the request.
    "wrong-card": _kind(),  # DE 2 of another card
    "wrong-currency": _kind(),  # DE 49
    "wrong-processing-code": _kind(),  # DE 3
    "wrong-amount": _kind(),  # DE 4, one minor unit more
    "approve-after-decline": _kind(),  # two answers: `response_code`, and then the honest one
    "decline": _kind(booked=False),  # with `response_code`
    "repeat": _kind(delayed=True, optional=True),  # sent once more, as a repeat, `delay_s` after it was sent
    "late-reversal": _kind(delayed=True),  # reversed `delay_s` after it was sent, answered or not
}
# Kinds for acquirers only.
OF_ACQUIRERS = frozenset({"repeat", "late-reversal"})
# The delay of a kind with an optional delay where the rule has none, seconds.
OPTIONAL_DELAY_S = {"reorder": 1.0, "byte-at-a-time": 0.0, "repeat": 0.5}


class FaultRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule: matches where everything that is set matches; the first rule that strikes decides.

    Args:
        kind: see `KINDS`.
        name: for the log; "" names it by its kind.
        mti: canonical MTIs (0100 covers 0101 too) that it applies to; "*" for any.
        pan_prefix, pan_suffix: first and last digits of the PAN. amount_minor: DE 4. terminal: DE 41. currency: DE 49,
            numeric. processing_code: DE 3, or its first digits.
        nth: strikes only at the nth message that matches, counted from 1; every: at each nth; 0 for all.
        rate: share of the matching messages that it strikes, 0–1.
        count: strikes at most that often; 0 for no limit.
        delay_s: the fixed delay, the mean (normal, exponential), the median (lognormal), the least (pareto) or the
            upper end (uniform).
        delay_from_s: the lower end, added to each draw of any other distribution than fixed.
        sigma: standard deviation: of the logarithm (lognormal), or in seconds (normal).
        shape: of the pareto distribution, > 0: the smaller, the longer its tail.
        percentiles: of that distribution, as measured: [[50, 0.02], [95, 0.3], [100, 4.0]] has half of the delays
            below 20 ms. Between two of them delays are spread evenly, from `delay_from_s` on.
        cap_s: no delay is longer; 0 for an hour.
        response_code: DE 39 of a decline, and of the first of two answers.
        booked: overrides what `KINDS` says: False loses the request before the issuer has seen it.
        listening: of a refusal: connections are taken and closed at once; False: they are refused.
    """

    kind: Kind
    name: str = ""
    mti: tuple[str, ...] = ("0100", "0200")
    pan_prefix: str = ""
    pan_suffix: str = ""
    amount_minor: int | None = None
    terminal: str = ""
    currency: str = ""
    processing_code: str = ""
    nth: int = 0
    every: int = 0
    rate: float = 1.0
    count: int = 0
    delay_s: float = 0.0
    delay_from_s: float = 0.0
    distribution: Distribution = "fixed"
    sigma: float = 0.5
    shape: float = 1.5
    percentiles: tuple[tuple[float, float], ...] = ()
    cap_s: float = 0.0
    response_code: str = "05"
    booked: bool | None = None
    listening: bool = True


def answering_problems(rule: FaultRule) -> list[str]:
    """The faults of a rule for an issuer or a network, besides `fault_problems`."""
    if rule.kind not in OF_ACQUIRERS:
        return []
    return [
        f"a {rule.kind} is an acquirer's; issuers have {', '.join(kind for kind in KINDS if kind not in OF_ACQUIRERS)}"
    ]


def fault_problems(rule: FaultRule) -> list[str]:
    """The faults of a rule, one line each; for scenario files and the control socket."""
    problems = []
    if not 0.0 <= rule.rate <= 1.0:
        problems.append("rate must be 0–1")
    for name in ("delay_s", "delay_from_s", "cap_s"):
        if not 0.0 <= getattr(rule, name) <= MAX_DELAY_S:
            problems.append(f"{name} must be 0–{MAX_DELAY_S:.0f}")
    if rule.nth < 0 or rule.every < 0 or rule.count < 0:
        problems.append("nth, every and count must be >= 0")
    if rule.sigma < 0 or rule.shape <= 0:
        problems.append("sigma must be >= 0 and shape > 0")
    for name in ("pan_prefix", "pan_suffix", "processing_code"):
        digits = getattr(rule, name)
        if digits and not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS):
            problems.append(f"{name} must be up to {MAX_DIGITS} digits")
    if len(rule.response_code) != 2:
        problems.append("response_code must have 2 characters")
    if rule.distribution == "uniform" and rule.delay_from_s > rule.delay_s:
        problems.append("delay_from_s must not be above delay_s")
    traits = KINDS[rule.kind]
    if rule.distribution == "percentiles":
        problems += _percentile_problems(rule)
    elif traits["delayed"] and not traits["optional"] and rule.delay_s == 0.0:
        problems.append(f"a {rule.kind} needs delay_s")
    return problems


def _percentile_problems(rule: FaultRule) -> list[str]:
    points = [(0.0, rule.delay_from_s), *rule.percentiles]
    if not 1 <= len(rule.percentiles) <= MAX_PERCENTILES:
        return [f"percentiles must be 1–{MAX_PERCENTILES} pairs of percent and seconds"]
    rising = all(here[0] < there[0] and here[1] <= there[1] for here, there in itertools.pairwise(points))
    if not rising or points[-1][0] > 100.0 or points[-1][1] > MAX_DELAY_S:
        return [f"percentiles must rise from delay_from_s on, up to 100 and {MAX_DELAY_S:.0f} s"]
    return []
