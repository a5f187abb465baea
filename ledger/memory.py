"""The journal in this process: for unit tests and for the simulation under trio's autojump clock.

It obeys `ledger.journal.Journal` and the same tests as `ledger.writer.PostgresJournal`; nothing survives the process.
Several workers in one simulation share one `MemoryJournal`, as real ones share PostgreSQL.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import msgspec
import trio

from ledger.advice_demand import NOT_DEMANDED, is_demanded
from ledger.book import BOOK_KINDS, LedgerLine, ledger_line
from ledger.change import ChangeRow, fold_changes
from ledger.errors import PostingError, RowRefused
from ledger.journal import (
    CARD_BLOCKED,
    CARD_UNBLOCKED,
    DECLINED_ELSEWHERE,
    Advice,
    AdviceDraft,
    Backlog,
    Begun,
    Decided,
    Decision,
    History,
    Intent,
    JournalUnavailable,
    Kind,
    Layer,
    Original,
    Outcome,
    Posting,
    StoredIntent,
    Totals,
    Verdict,
    network_stan,
)
from ledger.posting import check_postings, fee_minor, held_minor


class MemoryJournal:
    """Everything in dicts.

    Args:
        pause: awaited before and after each write, so that a simulation can delay or reorder; being cancelled in
            the second one is what a lost answer looks like.

    Attributes:
        available: False makes every call raise JournalUnavailable.
        lost_answers: the next so many begin and decide calls are written, but raise JournalUnavailable.
    """

    def __init__(self, pause: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint) -> None:
        self.available = True
        self.lost_answers = 0
        self._pause = pause
        self._intents: dict[int, Intent] = {}
        self._keys: dict[str, int] = {}
        self._cards: defaultdict[bytes, list[int]] = defaultdict(list)
        self._outcomes: dict[int, Outcome] = {}
        self._changes: defaultdict[int, dict[int, int]] = defaultdict(dict)
        self._advices: dict[int, Advice] = {}
        self._advice_count = 0
        self._parked: dict[int, Advice] = {}
        self._advised_at: dict[int, float] = {}
        self._leases: dict[str, tuple[str, float]] = {}

    async def begin(self, intent: Intent) -> Begun:
        """See `Journal.begin`."""
        await self._enter()
        found = self._keys.get(intent.key)
        if found is not None:
            begun = Begun(
                stored=StoredIntent(found, self._intents[found]),
                fresh=False,
                history=History(),
                outcome=self._outcomes.get(found),
                original=self._original(self._find_original(self._intents[found])),
            )
        else:
            intent_id = len(self._intents) + 1
            self._intents[intent_id] = intent
            self._keys[intent.key] = intent_id
            history = self._history(intent)
            if intent.fingerprint and intent.kind in (Kind.AUTHORIZATION, Kind.PURCHASE):
                self._cards[intent.fingerprint].append(intent_id)
            original = self._original(self._find_original(intent))
            begun = Begun(StoredIntent(intent_id, intent), True, history, None, original)
        await self._leave()
        return begun

    async def decide(self, outcome: Outcome) -> Decided:
        """See `Journal.decide`; RowRefused where the database would refuse the row."""
        await self._enter()
        decided = self._decide(outcome)
        await self._leave()
        return decided

    async def original(self, intent_id: int) -> Original | None:
        """See `Journal.original`."""
        await self._enter()
        return self._original(intent_id if intent_id in self._intents else None)

    async def sent(self, issuer: str, at: datetime, stan: str) -> Original | None:
        """See `Journal.sent`."""
        await self._enter()
        return self._original(self._sent(issuer, at, stan))

    async def undecided(self, overdue_at: datetime, limit: int) -> list[StoredIntent]:
        """See `Journal.undecided`."""
        await self._enter()
        found = [
            StoredIntent(intent_id, intent)
            for intent_id, intent in self._intents.items()
            if intent_id not in self._outcomes and intent.deadline_at < overdue_at
        ]
        return found[:limit]

    async def advices(self, link: str, after_id: int, limit: int) -> list[Advice]:
        """See `Journal.advices`."""
        await self._enter()
        found = [a for a in self._advices.values() if a.draft.link == link and a.advice_id > after_id]
        return [self._judged(advice) for advice in found[:limit]]

    def _judged(self, advice: Advice) -> Advice:
        """The advice with its `refusal`."""
        intent, outcome = self._intents.get(advice.intent_id), self._outcomes.get(advice.intent_id)
        demanded = False
        if intent is not None and outcome is not None:
            names = outcome.original_id if intent.kind is Kind.CHARGEBACK else self._keys.get(intent.original_key or "")
            named = None if names is None else self._intents[names]
            types = [draft.mti for draft in outcome.advices]
            later = types[types.index(advice.draft.mti) + 1 :] if advice.draft.mti in types else []
            demanded = is_demanded(advice.draft, intent, outcome, named, later)
        return msgspec.structs.replace(advice, refusal="" if demanded else NOT_DEMANDED)

    async def park(self, advice_id: int, actor: str, reason: str) -> None:
        """See `Journal.park`."""
        await self._enter()
        if advice_id in self._advices:
            self._parked[advice_id] = self._advices.pop(advice_id)

    def retry(self, advice_id: int) -> None:
        """`cardswitch saf retry`, as in PostgreSQL."""
        self._advices = dict(sorted([*self._advices.items(), (advice_id, self._parked.pop(advice_id))]))

    def drop(self, advice_id: int) -> None:
        """`cardswitch saf drop`, as in PostgreSQL."""
        self._advices.pop(advice_id, None)
        self._parked.pop(advice_id, None)

    async def backlog(self, link: str, limit: int) -> Backlog:
        """See `Journal.backlog`."""
        await self._enter()
        waiting = [a.advice_id for a in self._advices.values() if a.draft.link == link][:limit]
        parked = sum(a.draft.link == link for a in self._parked.values())
        oldest_s = trio.current_time() - self._advised_at[waiting[0]] if waiting else 0.0
        return Backlog(len(waiting), parked, oldest_s)

    def sealing_behind_s(self) -> dict[str, float]:
        return {}

    async def issuer_of(self, key: str) -> tuple[str, str]:
        """See `Journal.issuer_of`."""
        await self._enter()
        found = self._keys.get(key)
        return ("", "") if found is None else (self._intents[found].issuer, self._intents[found].card_country)

    async def acknowledge(self, advice_id: int, response_code: str) -> None:
        """See `Journal.acknowledge`."""
        await self._enter()
        self._advices.pop(advice_id, None)

    async def sender_of(self, key: str) -> tuple[str, str] | None:
        """See `Journal.sender_of`."""
        await self._enter()
        found = self._keys.get(key)
        return None if found is None else (self._intents[found].acquirer_id, self._intents[found].terminal)

    async def lease(self, name: str, holder: str, ttl_s: float) -> bool:
        """See `Journal.lease`; by trio's clock."""
        await self._enter()
        now = trio.current_time()
        owner, until = self._leases.get(name, (holder, 0.0))
        if owner != holder and until > now:
            return False
        self._leases[name] = (holder, now + ttl_s)
        return True

    async def blocked(self, fingerprint: bytes, issuer: str) -> bool:
        """See `Journal.blocked`."""
        await self._enter()
        for intent_id in reversed(self._outcomes):  # in the order of their decision
            intent, outcome = self._intents[intent_id], self._outcomes[intent_id]
            told = intent.kind is Kind.FILE_UPDATE and (intent.fingerprint, intent.issuer) == (fingerprint, issuer)
            done = outcome.decision is Decision.APPROVED and outcome.reason in (CARD_BLOCKED, CARD_UNBLOCKED)
            if told and done:
                return outcome.reason == CARD_BLOCKED
        return False

    async def business_day(self, link: str) -> datetime | None:
        """See `Journal.business_day`."""
        await self._enter()
        for intent_id in reversed(self._outcomes):  # in the order of their decision
            intent = self._intents[intent_id]
            approved = self._outcomes[intent_id].decision is Decision.APPROVED
            if intent.kind is Kind.CUT_OVER and intent.link == link and approved:
                return intent.transmitted_at
        return None

    async def totals(self, link: str, business_day: datetime, acquirer_id: str | None = None) -> dict[str, Totals]:
        """See `Journal.totals`."""
        await self._enter()
        days = {
            number: self._intents[number].transmitted_at
            for number in self._outcomes
            if self._intents[number].kind is Kind.CUT_OVER
            and self._intents[number].link == link
            and self._outcomes[number].decision is Decision.APPROVED
        }
        wanted = max((day for day in days.values() if day <= business_day), default=None)
        open_day: datetime | None = None  # before the first cut-over
        found: dict[str, Totals] = {}
        for number in self._outcomes:
            open_day = days.get(number, open_day)
            if open_day != wanted:
                continue
            counted = self._counted(link, number, acquirer_id)
            if counted is not None:
                currency, what, amount = counted
                now = found.get(currency, Totals())
                more = {what: getattr(now, what) + 1, f"{what}_minor": getattr(now, f"{what}_minor") + amount}
                found[currency] = msgspec.structs.replace(now, **more)
        return found

    def _counted(self, link: str, intent_id: int, acquirer_id: str | None) -> tuple[str, str, int] | None:
        """(currency, what, amount) of an outcome that counts in the totals of a link, or of one acquirer on it."""
        intent, outcome = self._intents[intent_id], self._outcomes[intent_id]
        original = self._original(outcome.original_id)
        paid = original.stored.intent if original is not None else intent
        approved = outcome.decision is Decision.APPROVED and outcome.reason != DECLINED_ELSEWHERE
        if not approved or link not in (intent.link, intent.issuer or paid.issuer):
            return None
        if acquirer_id is not None and paid.acquirer_id.lstrip("0") != acquirer_id.lstrip("0"):
            return None
        if intent.kind is Kind.REVERSAL and original is not None:
            what = {Kind.PURCHASE: "debit_reversals", Kind.REFUND: "credit_reversals"}.get(paid.kind)
            amount = original.approved_minor
        else:
            what = {Kind.PURCHASE: "debits", Kind.CAPTURE: "debits", Kind.REFUND: "credits"}.get(intent.kind)
            amount = intent.amount_minor if outcome.amount_minor is None else outcome.amount_minor
        return None if what is None else (paid.currency, what, amount)

    def book(self) -> list[LedgerLine]:
        """The result of `ledger.book.book` in PostgreSQL."""
        sums: defaultdict[tuple[int, Layer], int] = defaultdict(int)
        for intent_id, outcome in self._outcomes.items():
            own = self._intents[intent_id].kind in BOOK_KINDS
            line = intent_id if own or outcome.original_id is None else outcome.original_id
            for layer in Layer:
                lines = [p for p in outcome.postings if p.layer is layer and p.account.endswith(":receivable")]
                sums[line, layer] += sum(p.amount_minor for p in lines)
        return [
            ledger_line(
                intent_id,
                key=intent.key,
                link=intent.link,
                kind=intent.kind,
                mti=intent.mti,
                issuer=intent.issuer,
                created_at=intent.created_at,
                currency=intent.currency,
                held_minor=sums[intent_id, Layer.PENDING],
                posted_minor=sums[intent_id, Layer.POSTED],
                decision=self._outcomes[intent_id].decision if intent_id in self._outcomes else "",
                reason=self._outcomes[intent_id].reason if intent_id in self._outcomes else "",
            )
            for intent_id, intent in self._intents.items()
            if intent.kind in BOOK_KINDS
        ]

    def postings(self) -> list[Posting]:
        """Every journal line, in the order of its outcome."""
        return [line for outcome in self._outcomes.values() for line in outcome.postings]

    async def _enter(self) -> None:
        await self._pause()
        if not self.available:
            raise JournalUnavailable("switched off")

    async def _leave(self) -> None:
        if self.lost_answers > 0:
            self.lost_answers -= 1
            raise JournalUnavailable("the answer was lost")
        await self._pause()

    def _decide(self, outcome: Outcome) -> Decided:
        intent = self._intents.get(outcome.intent_id)
        if intent is None:
            raise RowRefused(f"no intent {outcome.intent_id}")
        existing = self._outcomes.get(outcome.intent_id)
        if existing is not None:
            return Decided(Verdict.LOST, existing)
        try:
            check_postings(outcome.postings)
        except PostingError as error:
            raise RowRefused(str(error)) from None
        outcome = normalised(outcome)
        if outcome.original_id is not None and outcome.original_seq is not None:
            if outcome.original_seq in self._changes[outcome.original_id]:
                return Decided(Verdict.STALE, outcome)
            self._changes[outcome.original_id][outcome.original_seq] = outcome.intent_id
        self._outcomes[outcome.intent_id] = outcome
        for draft in outcome.advices:
            self._advice_count += 1
            number = self._advice_count
            self._advised_at[number] = trio.current_time()
            self._advices[number] = Advice(number, outcome.intent_id, intent.trace_id, draft, "")
        return Decided(Verdict.WON, outcome)

    def _history(self, intent: Intent) -> History:
        seen = [self._intents[number] for number in self._cards.get(intent.fingerprint, ())]
        return card_history(intent, seen) if intent.fingerprint else History()

    def _find_original(self, intent: Intent) -> int | None:
        if intent.original_key is not None:
            return self._keys.get(intent.original_key)
        if intent.original_reference is None:
            return None
        return self._sent(*intent.original_reference)

    def _sent(self, issuer: str, at: datetime, stan: str) -> int | None:
        for intent_id, candidate in self._intents.items():
            second = candidate.created_at.replace(microsecond=0)
            if candidate.issuer == issuer and second == at and network_stan(intent_id) == stan:
                return intent_id
        return None

    def _original(self, intent_id: int | None) -> Original | None:
        if intent_id is None:
            return None
        outcome = self._outcomes.get(intent_id)
        by_seq = self._changes.get(intent_id, {})
        rows = [self._change_row(by_seq[seq]) for seq in sorted(by_seq)]
        held = held_minor(outcome.postings) if outcome is not None else 0
        stored = StoredIntent(intent_id, self._intents[intent_id])
        return Original(stored, outcome, fold_changes(held, rows))

    def _change_row(self, intent_id: int) -> ChangeRow:
        intent, outcome = self._intents[intent_id], self._outcomes[intent_id]
        lines = outcome.postings
        undone = any(
            self._intents[later].kind is Kind.REVERSAL and self._outcomes[later].decision is Decision.APPROVED
            for later in self._changes.get(intent_id, {}).values()
        )
        amount = intent.amount_minor if outcome.amount_minor is None else outcome.amount_minor
        held, fee = held_minor(lines), fee_minor(lines)
        return ChangeRow(intent.kind, amount, undone, held, fee, intent.original_key, intent.cashback_minor)


def normalised(outcome: Outcome) -> Outcome:
    """The outcome as it is stored: a change number only where something changed, one advice for each MTI."""
    if not outcome.advices and outcome.original_seq is None:
        return outcome
    advices: dict[str, AdviceDraft] = {}
    for draft in outcome.advices:
        advices.setdefault(draft.mti, draft)
    keep = outcome.decision is Decision.APPROVED and outcome.original_id is not None
    return msgspec.structs.replace(
        outcome, advices=tuple(advices.values()), original_seq=outcome.original_seq if keep else None
    )


def card_history(intent: Intent, seen: list[Intent]) -> History:
    """The history from the card's earlier authorizations and purchases (`seen`, any age, at most the last 1,000)."""
    day = [i for i in seen[-1000:] if i.created_at > intent.created_at - timedelta(hours=24)]
    hour = [i for i in day if i.created_at > intent.created_at - timedelta(hours=1)]
    same = (intent.merchant, intent.amount_minor, intent.currency)
    return History(
        count_1h=len(hour),
        sum_1h_minor=sum(i.amount_minor for i in hour if i.currency == intent.currency),
        count_24h=len(day),
        sum_24h_minor=sum(i.amount_minor for i in day if i.currency == intent.currency),
        merchants_24h=len({i.merchant for i in day}),
        same_5m=sum(
            i.created_at > intent.created_at - timedelta(minutes=5) and (i.merchant, i.amount_minor, i.currency) == same
            for i in hour
        ),
    )
