"""The delay of a fault: a rule and a seeded source go in, seconds come out."""

from __future__ import annotations

import random

from simulators.faults.rule import MAX_DELAY_S, OPTIONAL_DELAY_S, FaultRule


def draw_delay(rule: FaultRule, source: random.Random) -> float:
    """A delay of the rule's distribution, 0 … `cap_s` (an hour where there is none)."""
    try:
        delay_s = _drawn(rule, source)
    except OverflowError:  # far out in a long tail
        delay_s = MAX_DELAY_S
    return min(max(0.0, delay_s), rule.cap_s or MAX_DELAY_S)


def _drawn(rule: FaultRule, source: random.Random) -> float:
    median_s = rule.delay_s or OPTIONAL_DELAY_S.get(rule.kind, 0.0)
    match rule.distribution:
        case "fixed":
            delay_s = median_s
        case "uniform":
            delay_s = source.uniform(rule.delay_from_s, median_s)
        case "normal":
            delay_s = rule.delay_from_s + source.gauss(median_s, rule.sigma)
        case "exponential":
            delay_s = rule.delay_from_s + (source.expovariate(1.0 / median_s) if median_s else 0.0)
        case "lognormal":
            delay_s = rule.delay_from_s + median_s * source.lognormvariate(0.0, rule.sigma)
        case "pareto":
            delay_s = rule.delay_from_s + median_s * source.paretovariate(rule.shape)
        case "percentiles":
            delay_s = _at_percentile(rule, source.uniform(0.0, 100.0))
    return delay_s


def _at_percentile(rule: FaultRule, percent: float) -> float:
    """The delay at a percentile, in a straight line between those that are given; the last one above it."""
    below, delay_s = 0.0, rule.delay_from_s
    for upper, upper_s in rule.percentiles:
        if percent <= upper:
            return delay_s + (upper_s - delay_s) * (percent - below) / (upper - below)
        below, delay_s = upper, upper_s
    return delay_s
