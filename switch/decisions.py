"""Outcomes of intents: rulings, postings and advices put into outcomes, and outcomes put into the journal.

The pipeline, chargebacks and recovery call it. The first outcome in the journal is the outcome: the loser of a race
follows the winner. Tasks of this worker that wait for an outcome are woken; senders learn of new advices.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
import structlog
import trio

from ledger.config import FeeTable
from ledger.journal import (
    DECLINED_ELSEWHERE,
    STAND_IN,
    AdviceDraft,
    Decided,
    Decision,
    Intent,
    Journal,
    JournalUnavailable,
    Kind,
    Original,
    Outcome,
    StoredIntent,
    Verdict,
    stated_elements,
)
from ledger.lifecycle import RULES, Ruling, Situation, rule
from ledger.posting import cash_minor, postings
from switch.clock import Clock
from switch.drafts import AMOUNT_SAME, FUNCTION, advices_of, reversal_draft, stand_in_draft
from switch.errors import Undecided
from switch.message_set import Way, way_of
from switch.meters import Meters
from switch.stages.answer import APPROVALS, PARTIAL
from switch.stages.contradiction import contradiction, is_contradiction, over_limit
from switch.stages.ownership import NOT_PERMITTED, owner_problem
from switch.stages.request import Decline
from switch.wake import Future

log = structlog.get_logger("switch.decisions")

MAX_STALE = 8  # decisions again after somebody else changed the original
RETRY_S = (0.05, 0.2, 0.5, 1.0)  # while the journal is away

# DE 39 that approve in a way of their own: with identification, in part, VIP, update track 3.
# Source: ISO 8583:1987 DE 39.
OTHER_APPROVALS = frozenset({"08", PARTIAL, "11", "16"})
POLL_S, POLL_CAP_S = 0.1, 0.5  # between two looks at the journal for the outcome of another worker

IN_PART = frozenset({Kind.AUTHORIZATION, Kind.PURCHASE})  # kinds that may be approved in part

VERIFIED = "85"  # approves a verification only
# DE 39 of an advice of an approval.
NOTED = OTHER_APPROVALS | {"00"}


class Decisions:
    """Decides intents in one worker.

    Args:
        advised: called with the link of each stored advice.
    """

    def __init__(
        self,
        journal: Journal,
        fees: FeeTable,
        clock: Clock,
        meters: Meters,
        advised: Callable[[str], None],
        unreferenced_refunds: bool = False,
    ) -> None:
        self._journal = journal
        self._fees = fees
        self._clock = clock
        self._meters = meters
        self._advised = advised
        self._unreferenced_refunds = unreferenced_refunds
        self._waiters: dict[int, list[Future[Outcome]]] = {}

    # Waiting for an outcome that another task decides

    async def awaited(self, stored: StoredIntent, until: float) -> Outcome | None:
        """Wait for the outcome of an intent that another task serves. Returns None at `until` (on trio's clock).

        A task of this worker wakes all that wait. Another worker's outcome is found in the journal, which is asked by
        one of those that wait for the same intent, after pauses from `POLL_S` to `POLL_CAP_S`: however many repeats
        wait, they are one reader.
        """
        future: Future[Outcome] = Future()
        waiting = self._waiters.setdefault(stored.intent_id, [])
        waiting.append(future)
        pause_s = POLL_S
        try:
            while trio.current_time() < until:
                with trio.move_on_after(pause_s):
                    return await future.wait()
                if waiting[0] is future:
                    original = await self._journal.original(stored.intent_id)
                    if original is not None and original.outcome is not None:
                        self._wake(stored.intent_id, original.outcome)
                        return original.outcome
                    pause_s = min(2 * pause_s, POLL_CAP_S)
            return None
        finally:
            waiting.remove(future)
            if not waiting:
                del self._waiters[stored.intent_id]

    def _wake(self, intent_id: int, outcome: Outcome) -> None:
        """Give an outcome to all that wait for it in this worker."""
        for future in self._waiters.get(intent_id, ()):
            future.resolve(outcome)

    # Ends without a change of another intent

    async def decline(self, stored: StoredIntent, decline: Decline) -> Outcome:
        """Decide DECLINED, or follow the winner."""
        return await self._first(
            stored,
            Outcome(
                intent_id=stored.intent_id,
                decision=Decision.DECLINED,
                response_code=decline.response_code,
                reason=decline.reason,
            ),
        )

    async def reverse(self, stored: StoredIntent, reason: str) -> Outcome:
        """Decide REVERSED with DE 39 = 91 and the 0420 for the issuer, or follow the winner.

        No reversal if the issuer was never asked, or only for an inquiry.
        """
        advices: tuple[AdviceDraft, ...] = ()
        if stored.intent.issuer and stored.intent.kind is not Kind.INQUIRY and way_of(stored.intent) is Way.ASK:
            advices = (reversal_draft(stored, self._clock.now(), stored.intent_id),)
        return await self._first(
            stored,
            Outcome(
                intent_id=stored.intent_id,
                decision=Decision.REVERSED,
                response_code="91",
                reason=reason,
                advices=advices,
            ),
        )

    async def answered(
        self,
        stored: StoredIntent,
        original: Original | None,
        told: dict[int, str],
        reason: str,
        in_part: bool = False,
        limit_minor: int | None = None,
    ) -> Outcome:
        """Decide what the issuer has said about what it was asked, or follow the winner.

        Args:
            told: elements of the answer that the acquirer gets, DE 39 included.
            in_part: whether the acquirer takes an approval of less than it asked for.
            limit_minor: as for `ruling`.
        """
        code = told[39]
        approved_minor = _approved_minor(stored.intent, told) if in_part and code == PARTIAL else None
        verified = code == VERIFIED and stored.intent.amount_minor > 0  # acquirers take it for an approval
        if verified or (code in OTHER_APPROVALS and approved_minor is None):
            # An approval that nobody here can book as such must not stay in the issuer's book.
            return await self.reverse(stored, "approval_not_served")
        if code not in APPROVALS:
            declined = Outcome(
                intent_id=stored.intent_id,
                decision=Decision.DECLINED,
                response_code=code,
                reason="issuer",
                answer=_without(told, 38, 39),
            )
            return await self._first(stored, declined)
        for _ in range(MAX_STALE):
            ruling = self.ruling(stored.intent, original, limit_minor=limit_minor)
            if ruling.response_code != "00":
                # The original has changed while the issuer was asked: its approval must be undone there.
                return await self.reverse(stored, ruling.reason)
            approved = self._outcome(stored, original, ruling, approved_minor=approved_minor)
            decided = await self._decide(stored, _with_answer(approved, told, reason or ruling.reason))
            if decided.verdict is not Verdict.STALE:
                return decided.outcome
            original = await self._again(original)
        return await self.reverse(stored, "original_busy")

    async def stood_in(
        self,
        stored: StoredIntent,
        original: Original | None,
        told: dict[int, str],
        reason: str,
        *,
        timed_out: bool,
        limit_minor: int | None = None,
    ) -> Outcome:
        """Decide as stand-in does, with the advice for the issuer, or follow the winner.

        Args:
            told: DE 39, and DE 38 of an approval.
            reason: of a decline, one word.
            limit_minor: as for `ruling`.
            timed_out: the request may have reached the issuer, which gets its reversal before the other advice.
        """
        undone = (reversal_draft(stored, self._clock.now(), stored.intent_id),) if timed_out else ()
        advices = (*undone, stand_in_draft(stored, told))
        if told[39] != "00":
            declined = Outcome(
                intent_id=stored.intent_id,
                decision=Decision.DECLINED,
                response_code=told[39],
                reason=f"{STAND_IN}_{reason}",
                advices=advices,
            )
            return await self._first(stored, declined)
        for _ in range(MAX_STALE):
            ruling = self.ruling(stored.intent, original, limit_minor=limit_minor)
            if ruling.response_code != "00":
                break
            approved = msgspec.structs.replace(self._outcome(stored, original, ruling), advices=advices)
            decided = await self._decide(stored, _with_answer(approved, told, STAND_IN))
            if decided.verdict is not Verdict.STALE:
                return decided.outcome
            original = await self._again(original)
        else:
            ruling = Ruling("91", None, "original_busy")
        if timed_out:
            return await self.reverse(stored, ruling.reason)
        return await self.decline(stored, Decline(ruling.response_code, ruling.reason))

    # Decisions of the ledger: changes of another intent, and advices of decisions made elsewhere

    async def change(self, stored: StoredIntent, original: Original | None) -> Outcome:
        """Decide a capture, a reversal, a chargeback or an advice of what was decided elsewhere, or follow the winner.

        Args:
            original: as it came with the intent; read again where it has changed.

        Raises:
            Undecided: the journal is away, or the original changed too often.
        """
        if way_of(stored.intent) is Way.NOTE and not stored.intent.issuer:
            return await self.decline(stored, Decline("15", "no_route"))  # no party to book it with, or to inform
        for _ in range(MAX_STALE):
            increment = original if _is_increment(stored.intent, original) else None
            changed = original if increment is None else await self._hold_of(increment)
            ruling = self.ruling(stored.intent, changed, increment)
            if ruling.close_original:
                try:
                    original = await self._close(stored.intent, original)
                except JournalUnavailable as error:
                    raise Undecided(approval=False) from error
                if original is not None:
                    continue
            outcome = self._outcome(stored, changed, ruling, increment=increment)
            decided = await self._decide(stored, outcome)
            if decided.verdict is Verdict.WON:
                self.note(stored, original, ruling)
            if decided.verdict is not Verdict.STALE:
                return decided.outcome
            original = await self._again(original)
        raise Undecided(approval=False)

    def ruling(
        self,
        intent: Intent,
        original: Original | None,
        increment: Original | None = None,
        limit_minor: int | None = None,
    ) -> Ruling:
        """The lifecycle's ruling on an intent in its present state, unless it contradicts its original.

        Args:
            increment: as for `ledger.lifecycle.rule`.
            limit_minor: the most that its link may ask for in all by increments; None for no limit.
        """
        age = self._clock.now() - (original.stored.intent.created_at if original else intent.created_at)
        if original is not None and original.stored.intent.kind is Kind.TOMBSTONE:  # nothing has arrived but reversals
            return msgspec.structs.replace(RULES[intent.kind, Situation.UNKNOWN], close_original=False)
        foreign = owner_problem(intent, original.stored.intent) if original is not None else ""
        if foreign:
            return Ruling(NOT_PERMITTED, None, foreign)
        ruling = rule(
            intent.kind,
            original,
            intent.amount_minor,
            intent.currency,
            intent.final,
            age=age,
            unreferenced_refunds=self._unreferenced_refunds,
            increment=increment,
            refused=stated_elements(intent).get(39, "00") not in NOTED if intent.stated else False,
            said_minor=_said_minor(intent) if intent.stated else None,
        )
        if ruling.response_code != "00" or ruling.reason == DECLINED_ELSEWHERE or original is None:
            return ruling
        booked = ruling.event is not None or ruling.close_original
        wrong = contradiction(intent, original, increment, booked=booked)
        if wrong is None and over_limit(intent, original, limit_minor):
            wrong = Situation.OVER_LIMIT
        return ruling if wrong is None else RULES[intent.kind, wrong]

    def note(self, stored: StoredIntent, original: Original | None, ruling: Ruling) -> None:
        """Count and report a message that contradicts the payment which it names."""
        if original is None or not is_contradiction(ruling):
            return
        intent = stored.intent
        self._meters.count("originals_contradicted", intent.link, intent.kind, ruling.reason)
        log.warning(
            "original_contradicted", link=intent.link, trace_id=intent.trace_id, intent_id=stored.intent_id,
            original_id=original.stored.intent_id, kind=intent.kind, reason=ruling.reason,
        )  # fmt: skip

    async def decide(self, stored: StoredIntent, outcome: Outcome) -> Outcome:
        """Decide what needs no ruling, or follow the winner.

        Raises:
            Undecided: the journal is away.
        """
        return await self._first(stored, outcome)

    async def _hold_of(self, increment: Original) -> Original | None:
        """The authorization under an approved increment, in its present state."""
        assert increment.outcome is not None and increment.outcome.original_id is not None
        try:
            return await self._journal.original(increment.outcome.original_id)
        except JournalUnavailable as error:
            raise Undecided(approval=False) from error

    async def _close(self, intent: Intent, original: Original | None) -> Original | None:
        """End an original that was reversed before its outcome, or before it arrived.

        Returns:
            The original in its present state; None where it is still unknown, and will be declined when it comes.
        """
        if original is not None:
            await self.reverse(original.stored, "reversed_by_acquirer")
            return await self._again(original)
        begun = await self._journal.begin(tombstone(intent))
        if begun.stored.intent.kind is not Kind.TOMBSTONE:
            return await self._journal.original(begun.stored.intent_id)
        if begun.outcome is None:
            ruling = rule(Kind.TOMBSTONE, None, 0, "")
            await self.decline(begun.stored, Decline(ruling.response_code, ruling.reason))
        return None if begun.fresh else await self._journal.original(begun.stored.intent_id)

    async def _again(self, original: Original | None) -> Original | None:
        if original is None:
            return None
        try:
            return await self._journal.original(original.stored.intent_id)
        except JournalUnavailable as error:
            raise Undecided(approval=False) from error

    def _outcome(
        self,
        stored: StoredIntent,
        original: Original | None,
        ruling: Ruling,
        *,
        approved_minor: int | None = None,
        increment: Original | None = None,
    ) -> Outcome:
        """The result of a ruling for an intent.

        Args:
            original: the intent that it changes.
            approved_minor: amount that the issuer has approved, where that is less than the request's.
            increment: the intent that it undoes, where that is an increment of `original`.
        """
        intent = stored.intent
        amount = intent.amount_minor if approved_minor is None else approved_minor
        if ruling.reason == DECLINED_ELSEWHERE:
            approved_minor = 0
        payment = original.stored.intent if original else intent
        approved = ruling.response_code == "00"
        booked = approved and ruling.event is not None
        lines = postings(
            ruling.event if approved else None,
            amount_minor=amount if increment is None else increment.approved_minor,
            currency=intent.currency,
            issuer=intent.issuer,
            merchant=intent.merchant,
            fees=self._fees.schedule(payment.merchant),
            original=original,
            final=intent.final,
            international=self._international(payment),
            cashback_minor=cash_minor(intent, original, amount),
        )
        changes = booked and original is not None
        return Outcome(
            intent_id=stored.intent_id,
            decision=Decision.APPROVED if approved else Decision.DECLINED,
            response_code=ruling.response_code,
            reason=ruling.reason,
            postings=lines,
            advices=advices_of(stored, increment or original, ruling.event) if approved else (),
            original_id=original.stored.intent_id if changes and original else None,
            original_seq=original.next_seq if changes and original else None,
            amount_minor=approved_minor,
        )

    def _international(self, payment: Intent) -> bool:
        """Whether card and place of sale are known to be in different countries."""
        country = payment.country or self._fees.country(payment.merchant)
        return bool(country and payment.card_country and country != payment.card_country)

    async def _first(self, stored: StoredIntent, outcome: Outcome) -> Outcome:
        return (await self._decide(stored, outcome)).outcome

    async def _decide(self, stored: StoredIntent, outcome: Outcome) -> Decided:
        """Into the journal; again for a while where that is away: an outcome that was written meanwhile is found."""
        for pause_s in (*RETRY_S, None):
            try:
                decided = await self._journal.decide(outcome)
                break
            except JournalUnavailable as error:
                if pause_s is None:
                    raise Undecided(approval=outcome.decision is Decision.APPROVED) from error
                await trio.sleep(pause_s)
        if decided.verdict is Verdict.LOST and decided.outcome.decision is not outcome.decision:
            self._meters.count("outcomes_lost", stored.intent.kind)
            log.warning(
                "outcome_lost", trace_id=stored.intent.trace_id, intent_id=stored.intent_id,
                wanted=outcome.decision, decided=decided.outcome.decision, reason=decided.outcome.reason,
            )  # fmt: skip
        if decided.verdict is not Verdict.STALE:
            if self._waiters:
                self._wake(stored.intent_id, decided.outcome)
            for advice in decided.outcome.advices:
                self._advised(advice.link)
        return decided


def tombstone(intent: Intent) -> Intent:
    """Takes the key of an original that has not arrived, so that it is declined when it does. It has the sender of the
    reversal, DE 32 and DE 41: DE 90 names no other one."""
    assert intent.original_key is not None
    link, mti, moment, stan, _party = intent.original_key.split("|", 4)
    return Intent(
        key=intent.original_key,
        kind=Kind.TOMBSTONE,
        link=link,
        mti=mti,
        processing_code="",
        transmitted_at=datetime.strptime(f"{moment}+0000", "%Y%m%d%H%M%S%z"),
        created_at=intent.created_at,
        deadline_at=intent.created_at,
        trace_id=intent.trace_id,
        acquirer_id=intent.acquirer_id,
        terminal=intent.terminal,
        stan=stan,
    )


def _is_increment(intent: Intent, original: Original | None) -> bool:
    """Whether a reversal names an approved increment: then the authorization under it is what changes."""
    if intent.kind is not Kind.REVERSAL or original is None or original.outcome is None:
        return False
    return original.stored.intent.kind is Kind.INCREMENT and original.outcome.decision is Decision.APPROVED


def _said_minor(intent: Intent) -> int | None:
    """The amount of the hold as a capture states it by DE 24 of later versions; None where it does not."""
    same = intent.kind is Kind.CAPTURE and stated_elements(intent).get(FUNCTION) == AMOUNT_SAME
    return intent.amount_minor if same else None


def _approved_minor(intent: Intent, told: dict[int, str]) -> int | None:
    """DE 4 of an approval in part; None where it is none that can be booked."""
    text = told.get(4, "")
    amount = int(text) if text.isascii() and text.isdigit() else 0
    return amount if intent.kind in IN_PART and 0 < amount <= intent.amount_minor else None


def _with_answer(outcome: Outcome, told: dict[int, str], reason: str) -> Outcome:
    return msgspec.structs.replace(
        outcome,
        response_code=told[39],
        auth_code=told.get(38, ""),
        reason=reason,
        answer=_without(told, 38, 39),
    )


def _without(told: dict[int, str], *numbers: int) -> dict[int, str]:
    return {number: value for number, value in told.items() if number not in numbers}
