"""Approvals that follow a decline of the same request: they are undone at their issuer, as late ones are.

Issuer lines hand in the approval; it becomes a durable intent that names the request by its DE 7 and DE 11, and
`switch.decisions` stores the reversal with its outcome. Recovery takes up what a worker leaves.
"""

from __future__ import annotations

import random
from datetime import timedelta

import structlog
import trio

from ledger.journal import Begun, Intent, Journal, JournalUnavailable, Kind
from messages.errors import DecodeError, MoneyError
from messages.exchange import acquirer_key, original_time
from messages.message import Message
from messages.money import alpha_currency
from messages.trace import trace_id as new_trace_id
from switch.clock import Clock
from switch.decisions import Decisions
from switch.errors import Undecided
from switch.links.issuer_line import IssuerLine
from switch.meters import Meters
from switch.stages.screen import given_trace_id

log = structlog.get_logger("switch.late_approvals")

DEADLINE_S = 10.0
DECISION_S = 5.0  # for the decline that came before, which this worker is about to store
MAX_UNDER_WAY = 200  # in a worker; further ones are left out, with an alarm
RETRY_S = (0.2, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0)  # while the journal is away


class LateApprovals:
    """Undoes them, in one worker.

    Attributes:
        under_way: number of approvals that are being undone.
    """

    def __init__(
        self, journal: Journal, decisions: Decisions, clock: Clock, meters: Meters, rng: random.Random
    ) -> None:
        self.under_way = 0
        self._journal = journal
        self._decisions = decisions
        self._clock = clock
        self._meters = meters
        self._rng = rng

    def take(self, line: IssuerLine, message: Message, nursery: trio.Nursery) -> None:
        """Undo one approval in a task of its own; does not wait."""
        self._meters.count("approvals_after_decline", line.name)
        stan = message.elements.get(11, "")
        log.critical("approved_after_decline", link=line.name, mti=message.mti, stan=stan)
        if self.under_way >= MAX_UNDER_WAY:
            log.critical("approval_not_undone", link=line.name, mti=message.mti, stan=stan, reason="overloaded")
            return
        self.under_way += 1
        nursery.start_soon(self._undo, line, message)

    async def _undo(self, line: IssuerLine, message: Message) -> None:
        stan = message.elements.get(11, "")
        try:
            begun = await self._begun(self._intent(line, message))
            original = begun.original
            if original is not None and original.outcome is None:
                await self._decisions.awaited(original.stored, trio.current_time() + DECISION_S)
                original = await self._journal.original(original.stored.intent_id)
            if begun.outcome is None:
                await self._decisions.change(begun.stored, original)
        except Undecided:
            pass  # durable already: recovery decides it
        except (DecodeError, JournalUnavailable) as error:
            log.critical("approval_not_undone", link=line.name, mti=message.mti, stan=stan, reason=str(error))
        except Exception:
            self._meters.count("failures", "late_approvals")
            log.exception("approval_not_undone", link=line.name, mti=message.mti, stan=stan)
        finally:
            self.under_way -= 1

    async def _begun(self, intent: Intent) -> Begun:
        for pause_s in RETRY_S:
            try:
                return await self._journal.begin(intent)
            except JournalUnavailable:
                await trio.sleep(pause_s)
        return await self._journal.begin(intent)

    def _intent(self, line: IssuerLine, message: Message) -> Intent:
        """Raises DecodeError: it does not say what it answers."""
        elements, now = message.elements, self._clock.now()
        sent_at, stan = original_time(elements.get(7, ""), now), elements.get(11, "")
        amount = elements.get(4, "")
        try:
            currency = alpha_currency(elements.get(49, ""))
        except MoneyError:
            currency = ""
        acquirer_id, terminal = elements.get(32, ""), elements.get(41, "").rstrip()
        return Intent(
            key=acquirer_key(line.name, message.mti, sent_at, stan, acquirer_id, terminal),
            kind=Kind.LATE_APPROVAL,
            link=line.name,
            mti=message.mti,
            processing_code=elements.get(3, ""),
            transmitted_at=sent_at,
            created_at=now,
            deadline_at=now + timedelta(seconds=DEADLINE_S),
            trace_id=given_trace_id(message, line.trace_element) or new_trace_id(self._rng.getrandbits),
            amount_minor=int(amount) if amount.isascii() and amount.isdigit() else 0,
            currency=currency,
            acquirer_id=acquirer_id,
            terminal=terminal,
            rrn=elements.get(37, "").strip(),
            stan=stan,
            issuer=line.name,
            original_reference=(line.name, sent_at, stan),
        )
