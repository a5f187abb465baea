"""The advices that an outcome calls for: one rule, in SQL for the database and in Python for the journal in memory.

The sender sends no other row of `ledger.advices` (`ledger.reader`, `ledger.saf`), and `ledger verify` reports every
other one (`ledger.table_checks`) and every one that is missing (`ledger.checks`). The rule reads columns of intents and
outcomes that each schema has had since the first one, and holds for every version that has written them: old rows need
no exception. `tests/ledger/test_advice_demand.py` compares both forms with each other and with `switch.decisions`.
"""

from __future__ import annotations

from collections.abc import Collection

from ledger.book import issuer_mti
from ledger.journal import STAND_IN, AdviceDraft, Decision, Intent, Kind, Outcome

NOT_DEMANDED = "no outcome of the journal calls for it"
UNREADABLE = "its elements cannot be read"

ASKED = (Kind.AUTHORIZATION, Kind.INCREMENT, Kind.PURCHASE, Kind.REFUND)
"""Kinds whose requests an issuer books."""

# Kinds that change an earlier payment → the advice of the change.
CHANGES = {Kind.CAPTURE: "0220", Kind.REVERSAL: "0420", Kind.REDUCTION: "0420", Kind.CHARGEBACK: "0422"}


def _list(kinds: Collection[str]) -> str:
    return ", ".join(f"'{kind}'" for kind in kinds)


_STOOD_IN = f"(o.reason = '{STAND_IN}' OR starts_with(o.reason, '{STAND_IN}_'))"
# As `ledger.book.issuer_mti` has it.
_ADVISED = "overlay(i.mti PLACING '2' FROM 3 FOR 1)"

_CHANGED = " ".join(
    f"WHEN i.kind = '{kind}' THEN CASE WHEN o.original_seq IS NOT NULL THEN '{mti}' END"
    for kind, mti in CHANGES.items()
)

# The type of the advice that an outcome `o` of an intent `i` must have stored for a link, or NULL.
DEMANDED_ADVICE = f"""CASE
    {_CHANGED}
    WHEN i.kind = '{Kind.LATE_APPROVAL}' THEN CASE WHEN o.decision = '{Decision.APPROVED}' THEN '0420' END
    WHEN i.kind NOT IN ({_list(ASKED)}) THEN NULL
    WHEN {_STOOD_IN} THEN {_ADVISED}
    WHEN substr(i.mti, 3, 1) = '2' THEN CASE WHEN o.decision = '{Decision.APPROVED}' THEN {_ADVISED} END
    WHEN o.decision = '{Decision.REVERSED}' AND i.issuer <> '' THEN '0420' END"""

# Whether the outcome `o` of the intent `i` calls for the advice `d`; `i` and `o` may be missing (NULL). A request that
# may have reached its issuer before stand-in decided is undone there first: its 0420 has the smaller number. OFFSET 0:
# looked up in the index for each row; or the planner would hash all intents.
IS_DEMANDED = f"""COALESCE(
    (d.mti = ({DEMANDED_ADVICE})
     OR (d.mti = '0420' AND i.kind IN ({_list(ASKED)}) AND {_STOOD_IN} AND EXISTS (
            SELECT FROM ledger.advices later
             WHERE later.intent_id = d.intent_id AND later.mti = {_ADVISED} AND later.id > d.id OFFSET 0)))
    AND CASE
        WHEN i.kind = '{Kind.LATE_APPROVAL}' THEN d.link = i.issuer
        WHEN i.kind = '{Kind.CHARGEBACK}' THEN EXISTS (
             SELECT FROM ledger.intents named
              WHERE named.id = o.original_id AND named.link = d.link AND d.token = '' OFFSET 0)
        WHEN i.kind IN ({_list(CHANGES)}) THEN EXISTS (
             SELECT FROM ledger.intents named
              WHERE named.key = i.original_key AND named.issuer = d.link AND named.token = d.token OFFSET 0)
        ELSE d.link = i.issuer AND d.token = i.token END, false)"""


def demanded_advice(intent: Intent, outcome: Outcome) -> str | None:
    """The type of the advice that an outcome must have stored for a link; `DEMANDED_ADVICE` in Python."""
    kind = intent.kind
    if kind in CHANGES:
        return CHANGES[kind] if outcome.original_seq is not None else None
    approved = outcome.decision is Decision.APPROVED
    if kind is Kind.LATE_APPROVAL:
        return "0420" if approved else None
    if kind not in ASKED:
        return None
    if _stood_in(outcome):
        return _advised(intent)
    if intent.mti[2] == "2":
        return _advised(intent) if approved else None
    return "0420" if outcome.decision is Decision.REVERSED and intent.issuer else None


def is_demanded(
    draft: AdviceDraft, intent: Intent, outcome: Outcome, named: Intent | None, later: Collection[str]
) -> bool:
    """Whether the outcome of an intent calls for an advice; `IS_DEMANDED` in Python.

    Args:
        named: the intent with the key `original_key`; of a chargeback the payment that it has changed.
        later: the types of the advices of the same intent that were stored after this one.
    """
    if draft.mti != demanded_advice(intent, outcome):
        undone_first = draft.mti == "0420" and intent.kind in ASKED and _stood_in(outcome)
        if not (undone_first and _advised(intent) in later):
            return False
    if intent.kind is Kind.LATE_APPROVAL:
        return draft.link == intent.issuer
    if intent.kind in CHANGES:
        if named is None:
            return False
        card = (named.link, "") if intent.kind is Kind.CHARGEBACK else (named.issuer, named.token)
        return (draft.link, draft.token) == card
    return (draft.link, draft.token) == (intent.issuer, intent.token)


def _stood_in(outcome: Outcome) -> bool:
    return outcome.reason == STAND_IN or outcome.reason.startswith(f"{STAND_IN}_")


def _advised(intent: Intent) -> str:
    """The type of an advice of a decision in the issuer's place."""
    return issuer_mti(intent.mti, Decision.APPROVED, STAND_IN)
