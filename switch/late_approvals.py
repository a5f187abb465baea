"""Approvals that follow a decline of the same request: they are undone at their issuer, as late ones are.

Issuer lines hand in each approval that nobody waits for. Nearly all follow a request that was reversed because its
answer was late; the journal says which one was declined before, whichever worker had the answer. That approval becomes
a durable intent that names the request by its DE 7 and DE 11, and `switch.decisions` stores the reversal with its
outcome. Recovery takes up the work that a worker leaves.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
import trio

from ledger.journal import Decision, Intent, Journal, JournalUnavailable, Kind
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

T = TypeVar("T")

log = structlog.get_logger("switch.late_approvals")

DEADLINE_S = 10.0
DECISION_S = 5.0  # for the decline that came before, which this worker is about to store
MAX_UNDER_WAY = 200  # in a worker; further ones are left out, with an alarm
MAX_LOOKED_UP = 1_000  # that wait until the journal has said whether they follow a decline; likewise
LOOK_UPS = 4  # at a time: after an outage an issuer may answer thousands of requests late
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
        self._looked_up = 0
        self._look_ups = trio.Semaphore(LOOK_UPS)
        self._journal = journal
        self._decisions = decisions
        self._clock = clock
        self._meters = meters
        self._rng = rng

    @property
    def busy(self) -> bool:
        return bool(self.under_way or self._looked_up)

    def take(self, line: IssuerLine, message: Message, declined: bool, nursery: trio.Nursery) -> None:
        """Undo one approval in a task of its own, if its request was declined; does not wait.

        Args:
            declined: whether that is known here; otherwise the journal is asked.
        """
        if declined:
            self._take(line, message, nursery)
        elif self._looked_up < MAX_LOOKED_UP:
            self._looked_up += 1
            nursery.start_soon(self._look_up, line, message, nursery)
        else:
            self._give_up(line, message, "overloaded")

    async def _look_up(self, line: IssuerLine, message: Message, nursery: trio.Nursery) -> None:
        try:
            async with self._look_ups:
                declined = await self._was_declined(line, message)
            if declined:
                self._take(line, message, nursery)
        except (DecodeError, JournalUnavailable) as error:
            self._give_up(line, message, str(error))
        except Exception:
            self._meters.count("failures", "late_approvals")
            log.exception("approval_not_undone", link=line.name, mti=message.mti, stan=message.elements.get(11, ""))
        finally:
            self._looked_up -= 1

    async def _was_declined(self, line: IssuerLine, message: Message) -> bool:
        _, sent_at, stan = self._reference(line, message)
        original = await self._patiently(lambda: self._journal.sent(line.name, sent_at, stan))
        if original is not None and original.outcome is None:
            await self._decisions.awaited(original.stored, trio.current_time() + DECISION_S)
            intent_id = original.stored.intent_id
            original = await self._patiently(lambda: self._journal.original(intent_id))
        return original is not None and original.outcome is not None and original.outcome.decision is Decision.DECLINED

    def _give_up(self, line: IssuerLine, message: Message, reason: str) -> None:
        self._meters.count("approvals_not_undone", line.name)
        stan = message.elements.get(11, "")
        log.critical("approval_not_undone", link=line.name, mti=message.mti, stan=stan, reason=reason)

    def _take(self, line: IssuerLine, message: Message, nursery: trio.Nursery) -> None:
        self._meters.count("approvals_after_decline", line.name)
        stan = message.elements.get(11, "")
        log.critical("approved_after_decline", link=line.name, mti=message.mti, stan=stan)
        if self.under_way >= MAX_UNDER_WAY:
            self._give_up(line, message, "overloaded")
            return
        self.under_way += 1
        nursery.start_soon(self._undo, line, message)

    async def _undo(self, line: IssuerLine, message: Message) -> None:
        try:
            intent = self._intent(line, message)
            begun = await self._patiently(lambda: self._journal.begin(intent))
            original = begun.original
            if original is not None and original.outcome is None:
                await self._decisions.awaited(original.stored, trio.current_time() + DECISION_S)
                original = await self._journal.original(original.stored.intent_id)
            if begun.outcome is None:
                await self._decisions.change(begun.stored, original)
        except Undecided:
            pass  # durable already: recovery decides it
        except (DecodeError, JournalUnavailable) as error:
            self._give_up(line, message, str(error))
        except Exception:
            self._meters.count("failures", "late_approvals")
            log.exception("approval_not_undone", link=line.name, mti=message.mti, stan=message.elements.get(11, ""))
        finally:
            self.under_way -= 1

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        for pause_s in RETRY_S:
            try:
                return await call()
            except JournalUnavailable:
                await trio.sleep(pause_s)
        return await call()

    def _reference(self, line: IssuerLine, message: Message) -> tuple[str, datetime, str]:
        """The link and DE 7 and DE 11 of the request, as it was sent there. Raises DecodeError."""
        sent_at = original_time(message.elements.get(7, ""), self._clock.now())
        return line.name, sent_at, message.elements.get(11, "")

    def _intent(self, line: IssuerLine, message: Message) -> Intent:
        """Raises DecodeError: it does not say what it answers."""
        elements, now = message.elements, self._clock.now()
        reference = self._reference(line, message)
        _, sent_at, stan = reference
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
            original_reference=reference,
        )
