"""How long a fault delays: a rule and a seeded source go in, seconds come out."""

from __future__ import annotations

import random

from simulators.faults.rule import MAX_DELAY_S, OPTIONAL_DELAY_S, FaultRule


def draw_delay(rule: FaultRule, source: random.Random) -> float:
    """A delay of the rule's distribution, 0 … `cap_s` (an hour where there is none)."""
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
    return min(max(0.0, delay_s), rule.cap_s or MAX_DELAY_S)
