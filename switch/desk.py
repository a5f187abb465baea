"""Decisions of the switch itself: totals, cut-overs, texts, the negative list. No money moves.

Intents of acquirers and of issuers go in, outcomes come out; the pipeline, `switch.issuer_requests` and recovery call
it. Everything that a decision needs is in the intent, so any worker can take it up.

Source: ISO 8583:1987 DE 66, 74–79, 82–89, 97 (reconciliation), DE 91 (file update code), DE 39.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import structlog

from ledger.journal import (
    CARD_BLOCKED,
    CARD_UNBLOCKED,
    Decision,
    Intent,
    Journal,
    JournalUnavailable,
    Kind,
    Outcome,
    StoredIntent,
    Totals,
    stated_elements,
)
from messages.exchange import original_time
from messages.reconciliation import IN_BALANCE, OUT_OF_BALANCE, agree, corrections, net_element
from switch.decisions import Decisions
from switch.errors import Undecided
from switch.meters import Meters
from switch.stages.screen import is_too_far_ahead

log = structlog.get_logger("switch.desk")

NEGATIVE_LIST = "NEGATIVE"
ADD, DELETE, INQUIRE = "1", "3", "5"  # DE 91
DAY_OVER = "business_day_over"
DONE, NOT_SERVED, NOT_ON_LIST, UNREADABLE = "00", "12", "25", "30"
DAYS_AHEAD = timedelta(days=60)  # a business day may begin before its date; all others lie in the past

Ruled = tuple[str, str, dict[int, str]]  # DE 39, reason, other elements of the answer


class Desk:
    """The non-financial messages of one worker."""

    def __init__(self, journal: Journal, decisions: Decisions, meters: Meters) -> None:
        self._journal = journal
        self._decisions = decisions
        self._meters = meters
        self._rulings: dict[Kind, Callable[[Intent, Mapping[int, str]], Awaitable[Ruled]]] = {
            Kind.RECONCILIATION: self._reconciled,
            Kind.ADMINISTRATIVE: self._noted,
            Kind.CUT_OVER: self._cut_over,
            Kind.FILE_UPDATE: self._listed,
        }

    async def decide(self, stored: StoredIntent) -> Outcome:
        """Decide, or follow the winner.

        Raises:
            Undecided: the journal is away.
        """
        intent = stored.intent
        try:
            code, reason, answer = await self._rulings[intent.kind](intent, stated_elements(intent))
        except JournalUnavailable as error:
            raise Undecided(approval=False) from error
        return await self._decisions.decide(
            stored,
            Outcome(
                intent_id=stored.intent_id,
                decision=Decision.APPROVED if code == DONE else Decision.DECLINED,
                response_code=code,
                reason=reason,
                answer=answer,
            ),
        )

    async def _reconciled(self, intent: Intent, stated: Mapping[int, str]) -> Ruled:
        """Whether their totals of a business day are ours; where not, ours."""
        day = original_time(f"{stated[15]}000000", intent.created_at, DAYS_AHEAD)
        acquirer_id = _reconciled_acquirer(intent)
        ours = (await self._journal.totals(intent.link, day, acquirer_id)).get(intent.currency, Totals())
        try:
            agrees = agree(totals_elements(ours), stated)
        except ValueError:
            return UNREADABLE, "totals_unreadable", {}
        if agrees:
            return DONE, "in_balance", {66: IN_BALANCE}
        self._meters.count("out_of_balance", intent.link)
        log.warning(
            "out_of_balance",
            link=intent.link,
            acquirer_id=acquirer_id,
            day=stated[15],
            currency=intent.currency,
            ours=ours,
        )
        return DONE, "out_of_balance", {66: OUT_OF_BALANCE, **corrections(totals_elements(ours), stated)}

    async def _noted(self, intent: Intent, stated: Mapping[int, str]) -> Ruled:
        log.info("administrative_message", link=intent.link, trace_id=intent.trace_id)
        return DONE, "noted", {}

    async def _cut_over(self, intent: Intent, stated: Mapping[int, str]) -> Ruled:
        """The journal reads business days off the outcomes of cut-overs.

        A day before the present one is refused. A present day that lies further ahead than may be opened, as versions
        without that limit took it, refuses none.
        """
        present = await self._journal.business_day(intent.link)
        if present is not None and intent.transmitted_at < present and not is_too_far_ahead(present, intent.created_at):
            return NOT_SERVED, DAY_OVER, {}
        log.info("cut_over", link=intent.link, business_day=f"{intent.transmitted_at:%Y-%m-%d}")
        return DONE, "cut_over", {}

    async def _listed(self, intent: Intent, stated: Mapping[int, str]) -> Ruled:
        """The negative list of an issuer; doing again what is done already is no mistake."""
        action = stated[91].strip()
        if stated[101].strip() != NEGATIVE_LIST or action not in (ADD, DELETE, INQUIRE):
            return NOT_SERVED, "file_or_action_unknown", {}
        if action == ADD:
            return DONE, CARD_BLOCKED, {}
        if action == DELETE:
            return DONE, CARD_UNBLOCKED, {}
        listed = await self._journal.blocked(intent.fingerprint, intent.issuer)
        return (DONE, "card_on_list", {}) if listed else (NOT_ON_LIST, "card_not_on_list", {})


def _reconciled_acquirer(intent: Intent) -> str | None:
    """The acquirer id (DE 32) of whose payments the totals are asked; None: of all payments of the link.

    An acquirer that names itself gets its own. An issuer settles with the switch, so its totals are always its link's.
    """
    return intent.acquirer_id if intent.acquirer_id and intent.link != intent.issuer else None


def totals_elements(totals: Totals) -> dict[int, str]:
    """DE 74–77, 86–89 and 97 of a day's totals."""
    return {
        74: f"{totals.credits:010d}",
        75: f"{totals.credit_reversals:010d}",
        76: f"{totals.debits:010d}",
        77: f"{totals.debit_reversals:010d}",
        86: f"{totals.credits_minor:016d}",
        87: f"{totals.credit_reversals_minor:016d}",
        88: f"{totals.debits_minor:016d}",
        89: f"{totals.debit_reversals_minor:016d}",
        97: net_element(totals.net_minor),
    }
