"""Any other worker ends the intents of a dead one without an outcome, each kind in its own way."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ledger.journal import Decision, Kind, state
from tests.simulation.world import World
from tests.switch.desk import in_world
from tests.switch.test_fraud import intent

# An intent → how it ends: decision, DE 39, reason, and the stored advices that come of it.
LEFT: list[tuple[dict[str, Any], tuple[Decision, str, str, list[str]]]] = [
    ({"issuer": "alpha"}, (Decision.REVERSED, "91", "recovered", ["0420"])),
    ({"issuer": "alpha", "kind": Kind.INQUIRY, "mti": "0100"}, (Decision.REVERSED, "91", "recovered", [])),
    ({"issuer": "", "kind": Kind.PURCHASE}, (Decision.REVERSED, "91", "recovered", [])),
    (
        {"issuer": "alpha", "mti": "0220", "stated": state({39: "00"}), "merchant": "DEMOSHOP"},
        (Decision.APPROVED, "00", "purchase", ["0220"]),
    ),
    (
        {"issuer": "alpha", "mti": "0220", "stated": state({39: "51"}), "merchant": "DEMOSHOP"},
        (Decision.APPROVED, "00", "declined_elsewhere", ["0220"]),
    ),
    ({"issuer": "", "kind": Kind.CAPTURE, "mti": "0220"}, (Decision.DECLINED, "25", "original_unknown", [])),
    (
        {"kind": Kind.TOMBSTONE},
        (Decision.DECLINED, "12", "reversed_before_arrival", []),
    ),
    (
        {"kind": Kind.ADMINISTRATIVE, "mti": "0600", "stated": state({48: "paper is out"})},
        (Decision.APPROVED, "00", "noted", []),
    ),
    (
        {"kind": Kind.CUT_OVER, "mti": "0800", "stated": state({15: "0315"})},
        (Decision.APPROVED, "00", "cut_over", []),
    ),
    (
        {"kind": Kind.RECONCILIATION, "mti": "0500", "stated": state({15: "0314"})},
        (Decision.APPROVED, "00", "in_balance", []),
    ),
]


@pytest.mark.parametrize(
    ("left", "expected"), LEFT, ids=lambda value: str(value)[:60] if isinstance(value, dict) else ""
)
def test_what_was_left_is_ended_by_what_it_is(
    left: dict[str, Any], expected: tuple[Decision, str, str, list[str]]
) -> None:
    async def script(world: World) -> None:
        await world.journal.begin(intent(key="pos|0200|20260314092653|000001|1", **left))
        await trio.sleep(1.5)
        assert world.journal._outcomes == {}, "it is left to the worker that has it until the grace is over"
        await trio.sleep(3.0)
        (outcome,) = world.journal._outcomes.values()
        advices = [advice.mti for advice in outcome.advices]
        assert (outcome.decision, outcome.response_code, outcome.reason, advices) == expected
        assert world.counted("recovered", left.get("kind", Kind.PURCHASE)) == 1

    in_world(script)


def test_one_that_cannot_be_decided_keeps_no_other_from_it() -> None:
    async def script(world: World) -> None:
        broken = intent(key="pos|0800|20260314092653|000001|1", kind=Kind.RECONCILIATION, mti="0500")  # states no day
        await world.journal.begin(broken)
        await world.journal.begin(intent(key="pos|0200|20260314092653|000002|1", issuer="alpha"))
        await trio.sleep(5.0)
        assert [outcome.reason for outcome in world.journal._outcomes.values()] == ["recovered"]
        assert world.counted("failures", "recovery") >= 1

    in_world(script)
