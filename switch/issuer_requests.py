"""Messages that an issuer starts: chargebacks, its negative list, totals, texts and cut-overs.

Issuer lines hand in messages whose MAC is verified; each becomes a durable intent, `switch.decisions` or `switch.desk`
decides it, and the answer goes back. A chargeback is passed on to its acquirer as a stored advice.

Source: ISO 8583:1987 4.1, origin 2 (issuer); DE 90 with DE 7 and DE 11 as the issuer received them.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import structlog

from hsm.commands import Hsm, HsmRefused, HsmUnavailable, Screen, Screened
from ledger.journal import Begun, Intent, Journal, JournalUnavailable, Kind, Outcome, state
from messages.errors import DecodeError, EncodeError, MessagesError
from messages.exchange import acquirer_key, original_time, parse_original_data, transmission_time
from messages.message import Message
from messages.one_card import card_problem
from messages.trace import trace_id as new_trace_id
from switch.clock import Clock
from switch.decisions import Decisions
from switch.desk import Desk
from switch.errors import Undecided
from switch.links.freshness import STALE, is_local, staleness
from switch.links.issuer_line import IssuerLine
from switch.links.permissions import MESSAGE
from switch.links.session import Session
from switch.links.settings import Link
from switch.message_set import (
    COMPARING,
    FROM_ISSUERS,
    OF_A_DAY,
    SERVED_FROM_ISSUERS,
    Form,
    Way,
    form_of,
    missing_element,
)
from switch.meters import Meters
from switch.salvage import reason_element
from switch.stages.amounts import amounts_of, stated_of
from switch.stages.answer import answer_message, told_by
from switch.stages.contradiction import DETAILS
from switch.stages.identify import compared_pan, refusal
from switch.stages.record import same_request, with_known_keys
from switch.stages.request import NOTHING_SCREENED, Decline
from switch.stages.screen import (
    DAY_AHEAD,
    OTHER_CARD,
    TOO_FAR_AHEAD,
    business_day,
    given_trace_id,
    is_too_far_ahead,
)

log = structlog.get_logger("switch.issuer_requests")

DEADLINE_S = 10.0
MAX_UNDER_WAY = 200  # in a worker; more are left to their repeats


class IssuerRequests:
    """Serves what issuers start, in one worker.

    Attributes:
        under_way: number of messages that are being served.
    """

    def __init__(
        self,
        journal: Journal,
        hsm: Hsm,
        decisions: Decisions,
        desk: Desk,
        clock: Clock,
        meters: Meters,
        rng: random.Random,
    ) -> None:
        self.under_way = 0
        self._journal = journal
        self._hsm = hsm
        self._decisions = decisions
        self._desk = desk
        self._clock = clock
        self._meters = meters
        self._rng = rng

    async def serve(self, line: IssuerLine, session: Session, message: Message, frame: bytes) -> None:
        """Answer one message, or leave it to its repeat where the truth cannot be known now."""
        trace_id = given_trace_id(message, line.trace_element) or new_trace_id(self._rng.getrandbits)
        try:
            told, reason = await self._told(line, message, trace_id)
        except Undecided:
            self._meters.count("unanswered", "journal")
            return
        except JournalUnavailable:
            told, reason = {39: "96"}, "journal_unavailable"
        log.info(
            "issuer_request", link=line.name, mti=message.mti, trace_id=trace_id, stan=message.elements.get(11, ""),
            response_code=told[39], reason=reason,
        )  # fmt: skip
        try:
            session.send(await self._sealed(line, session, message, told, trace_id), frame)
        except (HsmRefused, HsmUnavailable):
            self._meters.count("unanswered", "mac")  # it is booked; the issuer's repeat gets the stored answer
        except MessagesError as error:  # the dialect has no room for DE 39 either, or for what is echoed
            self._meters.count("unanswered", "not_expressible")
            log.error("answer_not_expressible", link=line.name, trace_id=trace_id, error=str(error))

    async def _sealed(
        self, line: IssuerLine, session: Session, message: Message, told: dict[int, str], trace_id: str
    ) -> bytes:
        """The answer as bytes; with DE 39 alone where the dialect cannot carry the rest, as acquirers get it.

        Raises:
            HsmRefused, HsmUnavailable: there is no MAC for it.
            MessagesError: not even that can be carried.
        """
        try:
            answered = answer_message(message, told, line.trace_element, trace_id)
            return await session.mac.sealed(answered, trace_id)
        except EncodeError as error:
            self._meters.count("failures", "answer_encoding")
            log.error("answer_not_expressible", link=line.name, trace_id=trace_id, error=str(error))
            return await session.mac.sealed(answer_message(message, {39: told[39]}, None, ""), trace_id)

    async def _told(self, line: IssuerLine, message: Message, trace_id: str) -> tuple[dict[int, str], str]:
        """The answer to the issuer, and its reason."""
        mti = SERVED_FROM_ISSUERS.get(message.mti)
        if mti is None:
            self._meters.count("unexpected", line.name)
            return {39: "12"}, "unknown_mti"
        link = line.link  # with `permitted`: a reload may come while the hsm is asked
        if not line.permitted.message(mti):
            return _refused(line, Decline(MESSAGE.response_code, MESSAGE.reason, MESSAGE.detail))
        form = form_of(mti, message.elements, FROM_ISSUERS)
        if isinstance(form, Decline):
            return _refused(line, form)
        missing = missing_element(form, message.elements)
        if missing is not None:
            return _refused(line, missing)
        if (other := card_problem(message)) is not None:
            return _refused(line, Decline("30", OTHER_CARD, f"{other.path} {other.reason}"))
        card = await self._card(form, message, trace_id)
        if isinstance(card, Decline):
            return _refused(line, card)
        intent = self._intent(line, link, mti, form, message, card, trace_id)
        if isinstance(intent, Decline):
            return _refused(line, intent)
        begun = await self._journal.begin(await with_known_keys(intent, self._journal))
        if not begun.fresh and not same_request(begun.stored.intent, intent):
            return {39: "94"}, "key_reused"
        outcome = await self._outcome(begun, form)
        text = reason_element(line.dialect, DETAILS.get(outcome.reason, ""))
        return told_by(outcome) | text, outcome.reason

    async def _outcome(self, begun: Begun, form: Form) -> Outcome:
        if begun.outcome is not None:
            return begun.outcome
        if form.way is Way.DESK:
            return await self._desk.decide(begun.stored)
        return await self._decisions.change(begun.stored, begun.original)

    async def _card(self, form: Form, message: Message, trace_id: str) -> Screened | Decline:
        """The reference of the card that an entry of a list is about, or that a chargeback names."""
        compare = form.kind in COMPARING
        pan = compared_pan(message) if compare else message.elements.get(2, "")
        if not pan or not (compare or form.kind is Kind.FILE_UPDATE):
            return NOTHING_SCREENED
        try:
            return await self._hsm.screen(Screen(pan=pan, trace_id=trace_id, compare=compare))
        except HsmRefused as refused:
            return refusal(refused)
        except HsmUnavailable:
            return Decline("96", "hsm_unavailable")

    def _intent(
        self, line: IssuerLine, link: Link, mti: str, form: Form, message: Message, card: Screened, trace_id: str
    ) -> Intent | Decline:
        elements = message.elements
        now = self._clock.now()
        amounts = amounts_of(form, elements)
        if isinstance(amounts, Decline):
            return amounts
        try:
            sent_at = transmission_time(elements[7], now)
            day = business_day(elements, now) if form.kind in OF_A_DAY else sent_at
            reference = _reference(line, elements[90], now) if form.kind is Kind.CHARGEBACK else None
        except DecodeError as error:
            return Decline("30", "element_invalid", str(error))
        if form.kind is Kind.CUT_OVER and is_too_far_ahead(day, now):
            return Decline("30", DAY_AHEAD, TOO_FAR_AHEAD)
        local = is_local(line.dialect.identification)
        if why := staleness(link, mti, elements, sent_at, now, local=local):
            return Decline("30", STALE, why)
        acquirer_id, terminal = elements.get(32, ""), elements.get(41, "").rstrip()
        return Intent(
            key=acquirer_key(line.name, message.mti, sent_at, elements[11], acquirer_id, terminal),
            kind=form.kind,
            link=line.name,
            mti=mti,
            processing_code=elements.get(3, ""),
            transmitted_at=day if form.kind is Kind.CUT_OVER else sent_at,
            created_at=now,
            deadline_at=now + timedelta(seconds=DEADLINE_S),
            trace_id=trace_id,
            token=card.token,
            fingerprint=card.fingerprint,
            masked_pan=card.masked_pan,
            amount_minor=amounts.amount_minor,
            currency=amounts.currency,
            acquirer_id=acquirer_id,
            terminal=terminal,
            rrn=elements.get(37, "").strip(),
            stan=elements[11],
            issuer=line.name,
            stated=state(stated_of(form, elements)),
            original_reference=reference,
        )


def _refused(line: IssuerLine, decline: Decline) -> tuple[dict[int, str], str]:
    """The answer to the issuer for a decline that is not stored: with 30 the reason in DE 44."""
    text = reason_element(line.dialect, decline.detail) if decline.response_code == "30" else {}
    return {39: decline.response_code, **text}, decline.reason


def _reference(line: IssuerLine, de90: str, now: datetime) -> tuple[str, datetime, str]:
    """The payment that an issuer names: by the link, DE 7 and DE 11 of the message that it got."""
    original = parse_original_data(de90)
    return line.name, original_time(original.transmitted, now), original.stan
