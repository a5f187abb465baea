"""The way of one request through the switch, from the decoded message to the answer, in the order of its steps.

Acquirer ports hand in messages (`accept`); each gets a task. The steps are in `switch.stages`, how intents end is in
`switch.decisions`.

    screen → identify (HSM) → route → record (durable) → `switch.online`: fraud → forward → decide (durable) → answer
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from time import perf_counter

import structlog
import trio

from hsm.commands import Hsm, HsmRefused, HsmUnavailable
from ledger.journal import Begun, Decision, Intent, Journal, JournalUnavailable, Kind, Outcome, StoredIntent
from messages.errors import EncodeError, MessagesError
from messages.message import Message
from messages.mti import is_repeat
from switch.clock import Clock
from switch.config import SwitchConfig
from switch.decisions import Decisions
from switch.desk import Desk
from switch.errors import Undecided
from switch.events import EventLog, PaymentEvent
from switch.links.acquirer_port import AcquirerPort
from switch.links.issuer_line import IssuerLine
from switch.links.management import refusal
from switch.links.permissions import AMOUNT, REFUSALS
from switch.links.session import Session
from switch.message_set import Way, way_of
from switch.meters import Meters, known_code
from switch.online import Online
from switch.salvage import reason_element
from switch.stages.answer import APPROVALS, answer_message, told_by
from switch.stages.contradiction import DETAILS as CONTRADICTED
from switch.stages.identify import authenticate, identify
from switch.stages.record import intent_of, same_request, with_known_keys
from switch.stages.request import Decline, Request
from switch.stages.screen import SIGNED_OFF, SUSPENDED, given_trace_id, screen

log = structlog.get_logger("switch.pipeline")

OWN_DEADLINE_S = 10.0  # of requests that wait for our own books only
MAX_REFUSED = 10_000  # keys kept of requests that were declined while the journal was away
OVERLOADED = Decline("91", "overloaded")
JOURNAL_AWAY = Decline("96", "journal_unavailable")
HSM_AWAY = "hsm_unavailable"
NOT_PERMITTED_NOW = frozenset(refusal.reason for refusal in REFUSALS)
DETAILS = CONTRADICTED | {AMOUNT.reason: AMOUNT.detail}  # DE 44, by the reason of a stored refusal
NOT_NOW = frozenset({SIGNED_OFF, SUSPENDED})  # reasons that reveal nothing about the outcome of a repeat's original


class Unsaid(Exception):
    """It cannot be known now whether the request is approved; its next repeat may succeed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Pipeline:
    """Serves requests in one worker.

    Args:
        online: asks issuers.
        desk: decides what is no matter of money.
        lines: issuer links by name.
        nursery: where requests live; they outlast their connection.
        worker: this worker's name, for events.
    """

    def __init__(
        self,
        config: SwitchConfig,
        journal: Journal,
        hsm: Hsm,
        clock: Clock,
        rng: random.Random,
        meters: Meters,
        events: EventLog | None,
        decisions: Decisions,
        online: Online,
        desk: Desk,
        lines: Mapping[str, IssuerLine],
        nursery: trio.Nursery,
        worker: str,
    ) -> None:
        self.in_flight = 0
        self._settings = config.settings
        self._journal = journal
        self._hsm = hsm
        self._clock = clock
        self._rng = rng
        self._meters = meters
        self._events = events
        self._decisions = decisions
        self._lines = lines
        self._nursery = nursery
        self._worker = worker
        self._refused: dict[str, None] = {}
        self._online = online
        self._desk = desk
        stage = meters.stage
        self._screening, self._identifying = stage("screen"), stage("identify")
        self._recording, self._answering, self._whole = stage("record"), stage("answer"), stage("total")

    # In

    def accept(self, port: AcquirerPort, session: Session, message: Message, frame: bytes) -> None:
        """Take a request; above the limit it is declined at once, without a task of its own."""
        request = Request(port.link, session, message, frame, self._clock.now(), perf_counter(), port.permitted)
        if self.in_flight >= self._settings.max_in_flight:
            self._meters.count("declines", OVERLOADED.reason)
            if not is_repeat(message.mti):
                self._send_plain(request, {39: OVERLOADED.response_code})
            session.served()
            return
        self.in_flight += 1
        session.taken()
        self._nursery.start_soon(self._serve, request)

    def refuse(
        self, port: AcquirerPort, session: Session, message: Message, frame: bytes, told: dict[int, str], reason: str
    ) -> None:
        """Answer a message that goes no further: it breaks a rule, could be read in part only, or is too much."""
        self._meters.count("declines", reason)
        request = Request(port.link, session, message, frame, self._clock.now(), perf_counter())
        if not session.mac.covers(message.mti, message.elements.get(70, "")):
            self._send_plain(request, told)
        elif not session.start(self._refuse, request, told):
            self._meters.count("unanswered", "overloaded")

    async def _refuse(self, request: Request, told: dict[int, str]) -> None:
        """An answer that no stage has looked at, with a MAC."""
        try:
            payload = await request.session.mac.sealed(_plain(request, told))
        except (HsmUnavailable, HsmRefused):
            self._send_plain(request, told)
        except MessagesError:
            self._meters.count("unanswered", "not_expressible")
        else:
            request.session.send(payload, request.frame)

    async def _serve(self, request: Request) -> None:
        """One request, with any result."""
        try:
            told, outcome, repeat = await self._told(request)
            await self._answer(request, told)
            self._whole.observe(perf_counter() - request.started)
            self._tell(request, told, outcome, repeat)
        except Undecided as undecided:
            if undecided.approval or request.way is not Way.ASK:
                self._unanswered(request, "journal")
            else:
                await self._late_decline(request)
        except Unsaid as unsaid:
            self._unanswered(request, unsaid.reason)
        except (HsmUnavailable, HsmRefused):
            self._unanswered(request, "mac")
        except Exception:
            # The intent, if there is one, is left to recovery: nothing can be said truthfully now.
            self._meters.count("failures", "pipeline")
            log.exception("request_failed", link=request.link.name, trace_id=request.trace_id)
        finally:
            self.in_flight -= 1
            request.judge(None)
            request.session.served()

    # Steps

    async def _told(self, request: Request) -> tuple[dict[int, str], Decline | StoredIntentOutcome, bool]:
        """The answer to the acquirer (without echoed elements), its reason, and whether it was given before.

        Raises:
            Undecided, Unsaid: nothing can be said.
        """
        at = request.started
        screened = decline = screen(request, self._rng)
        now = perf_counter()
        self._screening.observe(now - at)
        if decline is None:
            request.table = self._online.choice.table  # with `leading`: a reload may come while the hsm is asked
            decline = await identify(request, self._hsm, self._online.leading)
            at, now = now, perf_counter()
            self._identifying.observe(now - at)
        elif request.link.mac_key:
            decline = await authenticate(request, self._hsm) or decline
        # Without the HSM a card can still be declined for good; other requests, and what has no key, leave no trace.
        asks = request.way is Way.ASK
        unproved = screened is None and decline is not None and decline.reason == HSM_AWAY and asks
        # The original of a repeat may have been approved while it was permitted: its stored answer counts.
        forbidden = decline is not None and decline.reason in NOT_PERMITTED_NOW
        lasting = unproved or (forbidden and is_repeat(request.message.mti))
        if decline is not None and not lasting:
            if is_repeat(request.message.mti) and (decline.response_code == "96" or decline.reason in NOT_NOW):
                raise Unsaid(decline.reason)  # its original may be approved
            told, why, repeat = self._declined(decline)
            if decline.response_code == "30" or forbidden:
                told |= reason_element(request.session.codec.dialect, decline.detail)
            return told, why, repeat
        if request.key in self._refused:
            return self._declined(JOURNAL_AWAY)
        try:
            if decline is None and (asks or request.way is Way.NOTE):
                decline = await self._online.route(request)
            intent = await with_known_keys(intent_of(request, self._deadline_s(request)), self._journal)
            begun = await self._journal.begin(intent)
        except JournalUnavailable:
            self._online.unused(request)
            return self._refuse_key(request)
        self._recording.observe(perf_counter() - now)
        request.judge(begun.fresh)
        if not begun.fresh:
            self._online.unused(request)
            known = await self._repeated(request, intent, begun)
            if unproved and request.link.mac_key and known[0][39] in APPROVALS:
                raise Unsaid(HSM_AWAY)  # its MAC is not verified: no approval for an unknown sender
            return known
        if asks:
            outcome = await self._online.decide(request, begun, decline)
        else:
            self._online.unused(request)
            outcome = await self._booked(begun, decline)
        return _stored_answer(request, outcome), (begun.stored, outcome), False

    async def _booked(self, begun: Begun, decline: Decline | None = None) -> Outcome:
        """The outcome of a request that no issuer is asked about."""
        if decline is not None:
            return await self._online.decline(begun.stored, decline)
        if way_of(begun.stored.intent) is Way.DESK:
            return await self._desk.decide(begun.stored)
        return await self._decisions.change(begun.stored, begun.original)

    async def _repeated(
        self, request: Request, intent: Intent, begun: Begun
    ) -> tuple[dict[int, str], Decline | StoredIntentOutcome, bool]:
        """The key was there before: the stored outcome, once there is one."""
        stored = begun.stored
        self._meters.count("repeats", request.link.name)
        if not given_trace_id(request.message, request.link.trace_element):
            request.trace_id = stored.intent.trace_id
        if stored.intent.kind is not Kind.TOMBSTONE and not same_request(stored.intent, intent):
            return self._declined(Decline("94", "key_reused"))
        outcome = begun.outcome
        if outcome is None and stored.intent.kind is Kind.TOMBSTONE:
            outcome = await self._online.decline(stored, Decline("12", "reversed_before_arrival"))
        elif outcome is None and way_of(stored.intent) is Way.ASK:
            outcome = await self._outcome_of(stored)
        elif outcome is None:
            outcome = await self._booked(begun)
        return _stored_answer(request, outcome), (stored, outcome), True

    async def _outcome_of(self, stored: StoredIntent) -> Outcome:
        """Wait for the worker that asks the issuer; past deadline and grace, do what recovery would."""
        left_s = (stored.intent.deadline_at - self._clock.now()).total_seconds() + self._settings.recovery_grace_s
        try:
            outcome = await self._decisions.awaited(stored, trio.current_time() + max(0.0, left_s))
        except JournalUnavailable as error:
            raise Undecided(approval=True) from error
        return outcome or await self._decisions.reverse(stored, "recovered")

    # Out

    def _declined(self, decline: Decline) -> tuple[dict[int, str], Decline, bool]:
        """A decline that leaves no trace in the journal: nothing was recorded, or nothing could be."""
        self._meters.count("declines", decline.reason)
        return {39: decline.response_code}, decline, False

    def _refuse_key(self, request: Request) -> tuple[dict[int, str], Decline, bool]:
        """The journal is away: 96 at once, and the same again for a repeat that comes when it is back.

        Raises:
            Undecided: this is a repeat. The original may be approved, or about to be; so there is no answer.
        """
        if is_repeat(request.message.mti):
            raise Undecided(approval=True)
        if len(self._refused) >= MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        if request.way is Way.ASK:
            self._refused[request.key] = None
        return self._declined(JOURNAL_AWAY)

    async def _answer(self, request: Request, told: dict[int, str]) -> None:
        if not request.proved:
            self._send_plain(request, {39: told[39]})
            return
        link = request.link
        message = answer_message(request.message, told, link.trace_element, request.trace_id)
        codec, mac = request.session.codec, request.session.mac
        at = perf_counter()
        try:
            payload = await mac.sealed(message, request.trace_id)
        except (HsmUnavailable, HsmRefused):
            if told[39] in APPROVALS:
                raise  # an approval never leaves without its MAC
            payload = codec.encode(message)
        except EncodeError as error:
            self._meters.count("failures", "answer_encoding")
            log.error("answer_not_expressible", link=link.name, trace_id=request.trace_id, error=str(error))
            message = answer_message(request.message, {39: told[39]}, None, "")
            payload = await mac.sealed(message, request.trace_id)
        request.session.send(payload, request.frame)
        self._answering.observe(perf_counter() - at)

    def _send_plain(self, request: Request, told: dict[int, str]) -> None:
        """An answer without a MAC: to a message that no stage has looked at, or that is not proved to be the peer's.

        Where the link has a MAC key, it has no elements of the request but those that pair the two.
        """
        try:
            answer = refusal(request.message, told) if request.link.mac_key else _plain(request, told)
            request.session.send(request.session.codec.encode(answer), request.frame)
        except MessagesError:
            self._meters.count("unanswered", "not_expressible")

    async def _late_decline(self, request: Request) -> None:
        """No approval can be in the journal, so a decline is the truth, for any later record of recovery."""
        self._meters.count("declines", "journal_unavailable")
        try:
            await self._answer(request, {39: "96"})
        except (HsmUnavailable, HsmRefused, EncodeError):
            self._unanswered(request, "mac")

    def _unanswered(self, request: Request, reason: str) -> None:
        self._meters.count("unanswered", reason)
        log.error("left_to_its_repeat", link=request.link.name, trace_id=request.trace_id, reason=reason)

    def _deadline_s(self, request: Request) -> float:
        if request.route is None or request.way is not Way.ASK:
            return OWN_DEADLINE_S
        return self._lines[request.route.issuer].link.deadline_s

    def _tell(self, request: Request, told: dict[int, str], why: Decline | StoredIntentOutcome, repeat: bool) -> None:
        """One event and one count a payment."""
        kind = request.kind or "unknown"
        self._meters.count("answers", request.link.name, kind, known_code(told[39]))
        if self._events is None:
            return
        reason = why.reason if isinstance(why, Decline) else why[1].reason
        elements = request.message.elements
        self._events.payment(
            PaymentEvent(
                event="payment",
                timestamp=request.arrived_at.isoformat(timespec="milliseconds"),
                level="info",
                worker=self._worker,
                trace_id=request.trace_id,
                link=request.link.name,
                mti=request.message.mti,
                kind=kind,
                stan=elements.get(11, ""),
                response_code=told[39],
                reason=reason,
                issuer=request.route.issuer if request.route is not None else "",
                masked_pan=request.card.masked_pan,
                token=request.card.token,
                amount_minor=request.amount_minor,
                currency=request.currency,
                merchant=elements.get(42, "").strip(),
                intent_id=0 if isinstance(why, Decline) else why[0].intent_id,
                repeat=repeat,
                elapsed_ms=round((perf_counter() - request.started) * 1000, 3),
            )
        )


def _stored_answer(request: Request, outcome: Outcome) -> dict[int, str]:
    """The answer of an outcome; where it refuses a message because of one element, DE 44 names that."""
    told = told_by(outcome)
    detail = DETAILS.get(outcome.reason)
    if detail is not None and outcome.decision is Decision.DECLINED:
        told |= reason_element(request.session.codec.dialect, detail)
    return told


def _plain(request: Request, told: dict[int, str]) -> Message:
    trace = request.link.trace_element
    given = request.message.elements.get(trace) if trace is not None else None
    return answer_message(request.message, told, trace if given is not None else None, given or "")


StoredIntentOutcome = tuple[StoredIntent, Outcome]
