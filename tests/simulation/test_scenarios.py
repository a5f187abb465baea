"""200 random fault scenarios; at the end of each the books of issuers, ledger and acquirers agree."""

from __future__ import annotations

import os

import pytest

from tests.simulation.scenario import run_scenario

SCENARIOS = 200
CHUNK = 10
# CARDSWITCH_SEED=17 plays only that scenario.
ONLY = os.environ.get("CARDSWITCH_SEED")
CHUNKS = [range(int(ONLY), int(ONLY) + 1)] if ONLY else [range(at, at + CHUNK) for at in range(0, SCENARIOS, CHUNK)]


@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_the_books_agree_whatever_goes_wrong(seeds: range) -> None:
    for seed in seeds:
        result = run_scenario(seed)
        assert result.events > 0
        if result.differences:
            again = f"CARDSWITCH_SEED={seed} .venv/bin/python -m pytest tests/simulation/test_scenarios.py"
            shown = "\n  ".join(result.differences[:20])
            pytest.fail(f"scenario {seed}: the books do not agree\n  {shown}\nplay it again: {again}", pytrace=False)


def test_a_seed_plays_the_same_scenario_again() -> None:
    first, second = run_scenario(3), run_scenario(3)
    assert first == second


def test_scenarios_meet_what_they_are_for() -> None:
    """Recovery, late answers and repeats all happen, or the simulation proves nothing."""
    counted = [run_scenario(seed).counted for seed in range(1000, 1010)]
    for name in ("recovered", "late_answers", "repeats", "advices_sent", "unanswered", "mac_failures", "key_exchanges"):
        assert sum(counts[name] for counts in counted) > 0, name
    assert sum(counts["failures"] for counts in counted) == 0
    assert sum(counts["advices_sent"] - counts["advices_acknowledged"] for counts in counted) > 0
