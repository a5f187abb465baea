"""Chargebacks that an issuer starts: 0422 in, booked and passed on, 0432 out.

Issuer lines hand in messages; the decision books the chargeback and stores the 0422 for the acquirer with it.

Source: ISO 8583:1987 4.1, message class 4 with origin 2 (issuer).
"""

from __future__ import annotations

import random
from datetime import timedelta

import structlog

from hsm.commands import HsmRefused, HsmUnavailable
from ledger.journal import Begun, Intent, Journal, JournalUnavailable, Kind, Outcome
from messages.errors import DecodeError, MoneyError
from messages.exchange import acquirer_key, parse_original_data, transmission_time
from messages.message import Message
from messages.money import alpha_currency
from messages.trace import trace_id as new_trace_id
from switch.clock import Clock
from switch.decisions import Decisions
from switch.errors import Undecided
from switch.links.issuer_line import IssuerLine
from switch.links.session import Session
from switch.meters import Meters
from switch.stages.answer import answer_message, told_by
from switch.stages.screen import MANDATORY, given_trace_id

log = structlog.get_logger("switch.chargebacks")

SERVED = frozenset({"0422", "0423"})
DEADLINE_S = 10.0


class Chargebacks:
    """Serves what issuers start, in one worker."""

    def __init__(
        self, journal: Journal, decisions: Decisions, clock: Clock, meters: Meters, rng: random.Random
    ) -> None:
        self._journal = journal
        self._decisions = decisions
        self._clock = clock
        self._meters = meters
        self._rng = rng

    async def serve(self, line: IssuerLine, session: Session, message: Message) -> None:
        """Answer one message, or leave it to its repeat where the truth cannot be known now."""
        trace_id = given_trace_id(message, line.trace_element) or new_trace_id(self._rng.getrandbits)
        if message.mti not in SERVED:
            self._meters.count("unexpected", line.name)
            told = {39: "12"}
        else:
            try:
                told = await self._told(line, message, trace_id)
            except Undecided:
                self._meters.count("unanswered", "journal")
                return
            except JournalUnavailable:
                told = {39: "96"}
        log.info(
            "chargeback", link=line.name, trace_id=trace_id, stan=message.elements.get(11, ""), response_code=told[39]
        )
        try:
            answered = answer_message(message, told, line.trace_element, trace_id)
            session.send(await session.mac.sealed(answered, trace_id))
        except (HsmRefused, HsmUnavailable):
            self._meters.count("unanswered", "mac")  # it is booked; the issuer's repeat gets the stored answer

    async def _told(self, line: IssuerLine, message: Message, trace_id: str) -> dict[int, str]:
        if any(number not in message.elements for number in MANDATORY[Kind.CHARGEBACK]):
            return {39: "30"}
        try:
            intent = self._intent(line, message, trace_id)
        except (DecodeError, MoneyError, ValueError):
            return {39: "30"}
        begun = await self._journal.begin(intent)
        return told_by(await self._outcome(begun))

    async def _outcome(self, begun: Begun) -> Outcome:
        if begun.outcome is not None:
            return begun.outcome
        return await self._decisions.change(begun.stored, begun.original)

    def _intent(self, line: IssuerLine, message: Message, trace_id: str) -> Intent:
        elements = message.elements
        now = self._clock.now()
        original = parse_original_data(elements[90])
        sent_at = transmission_time(elements[7], now)
        original_at = transmission_time(original.transmitted, now)
        acquirer_id, terminal = elements.get(32, ""), elements.get(41, "").rstrip()
        return Intent(
            key=acquirer_key(line.name, message.mti, sent_at, elements[11], acquirer_id, terminal),
            kind=Kind.CHARGEBACK,
            link=line.name,
            mti="0422",
            processing_code=elements.get(3, ""),
            transmitted_at=sent_at,
            created_at=now,
            deadline_at=now + timedelta(seconds=DEADLINE_S),
            trace_id=trace_id,
            amount_minor=int(elements[4]),
            currency=alpha_currency(elements[49]),
            acquirer_id=acquirer_id,
            terminal=terminal,
            rrn=elements.get(37, "").strip(),
            stan=elements[11],
            issuer=line.name,
            original_reference=(line.name, original_at, original.stan),
        )
