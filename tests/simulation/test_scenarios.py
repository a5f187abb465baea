"""Random fault scenarios; at the end of each the books of issuers, ledger and acquirers agree.

`make test` plays 100 of them, `make simulation` 1,000. CARDSWITCH_SCENARIOS sets another number, of which the last 15
must together meet every fault; CARDSWITCH_SEED=17 plays only that one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from tests.simulation.scenario import Result, run_scenario

SCENARIOS = int(os.environ.get("CARDSWITCH_SCENARIOS", "100"))
CHUNK = 10
MEETING = range(1000, 1015)  # seeds
OTHERS = max(0, SCENARIOS - len(MEETING))
ONLY = os.environ.get("CARDSWITCH_SEED")
CHUNKS = (
    [range(int(ONLY), int(ONLY) + 1)]
    if ONLY
    else [range(at, min(at + CHUNK, OTHERS)) for at in range(0, OTHERS, CHUNK)]
)


@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_the_books_agree_whatever_goes_wrong(seeds: range) -> None:
    assert_agree(run_scenario(seed) for seed in seeds)


def assert_agree(results: Iterable[Result]) -> None:
    broken = []
    for result in results:
        assert result.events > 0
        if result.differences:
            again = f"CARDSWITCH_SEED={result.seed} .venv/bin/python -m pytest tests/simulation/test_scenarios.py"
            shown = "\n  ".join(result.differences[:20])
            broken.append(f"scenario {result.seed}: the books do not agree\n  {shown}\nplay it again: {again}")
    if broken:
        pytest.fail("\n".join(broken), pytrace=False)


def test_a_seed_plays_the_same_scenario_again() -> None:
    first, second = run_scenario(3), run_scenario(3)
    assert first == second


# Events that must come about in a few scenarios, or the simulation proves nothing.
MET = (
    "recovered", "late_answers", "repeats", "advices_sent", "unanswered", "mac_failures", "key_exchanges", "stand_ins",
    "circuit_changes", "undecodable", "answers_contradicting", "approvals_after_decline", "originals_contradicted",
)  # fmt: skip


def test_scenarios_meet_what_they_are_for() -> None:
    results = [run_scenario(seed) for seed in MEETING]
    assert_agree(results)
    counted = [result.counted for result in results]
    for name in MET:
        assert sum(counts[name] for counts in counted) > 0, name
    assert sum(counts["failures"] for counts in counted) == 0
    assert sum(counts["advices_sent"] - counts["advices_acknowledged"] for counts in counted) > 0
    links = {line.issuer for result in results for line in result.book}
    assert {"alpha", "beta", "gamma", "net"} <= links
