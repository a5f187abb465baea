"""Intents that nobody has decided in time: a worker died, or the journal was away.

Not a mode: every worker looks every second, all the time. Requests on their way to an issuer end REVERSED; those that
only waited for our own ledger are decided as if they had just arrived. A slow but living worker may be faster; then its
outcome counts.
"""

from __future__ import annotations

import random
from datetime import timedelta

import structlog
import trio

from ledger.journal import Journal, JournalUnavailable, Kind, Outcome, StoredIntent
from switch.clock import Clock
from switch.decisions import Decisions
from switch.desk import Desk
from switch.errors import Undecided
from switch.message_set import Way, way_of
from switch.meters import Meters
from switch.stages.request import Decline

log = structlog.get_logger("switch.recovery")

EVERY_S = 1.0
BATCH = 100


class Recovery:
    """The task of one worker.

    Args:
        grace_s: time past its deadline for which an intent is left to its own worker.
    """

    def __init__(
        self,
        journal: Journal,
        decisions: Decisions,
        desk: Desk,
        clock: Clock,
        meters: Meters,
        rng: random.Random,
        grace_s: float,
    ) -> None:
        self._journal = journal
        self._decisions = decisions
        self._desk = desk
        self._clock = clock
        self._meters = meters
        self._rng = rng
        self._grace = timedelta(seconds=grace_s)

    async def run(self) -> None:
        """Look every second until cancelled."""
        while True:
            await trio.sleep(EVERY_S * self._rng.uniform(0.8, 1.2))
            try:
                while await self._batch() == BATCH:
                    pass
            except (JournalUnavailable, Undecided):
                pass
            except Exception:
                self._meters.count("failures", "recovery")
                log.exception("recovery_failed")

    async def _batch(self) -> int:
        """Recover the oldest; returns their number."""
        recovered = 0
        for stored in await self._journal.undecided(self._clock.now() - self._grace, BATCH):
            try:
                outcome = await self.recover(stored)
            except (JournalUnavailable, Undecided):
                raise
            except Exception:  # one that cannot be decided must not keep the others from it
                self._meters.count("failures", "recovery")
                log.exception("intent_not_recovered", intent_id=stored.intent_id, trace_id=stored.intent.trace_id)
                continue
            recovered += 1
            self._meters.count("recovered", stored.intent.kind)
            log.warning(
                "recovered", trace_id=stored.intent.trace_id, intent_id=stored.intent_id, kind=stored.intent.kind,
                decision=outcome.decision, response_code=outcome.response_code,
            )  # fmt: skip
        return recovered

    async def recover(self, stored: StoredIntent) -> Outcome:
        """Decide an intent that nobody serves any more.

        Raises:
            JournalUnavailable, Undecided: not now.
        """
        if stored.intent.kind is Kind.TOMBSTONE:
            return await self._decisions.decline(stored, Decline("12", "reversed_before_arrival"))
        match way_of(stored.intent):
            case Way.ASK:
                return await self._decisions.reverse(stored, "recovered")
            case Way.DESK:
                return await self._desk.decide(stored)
            case Way.CHANGE | Way.NOTE:
                begun = await self._journal.begin(stored.intent)
                return await self._decisions.change(begun.stored, begun.original)
