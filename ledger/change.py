"""Rows of approved changes go in, `Change`s come out: the common part of both journals' reading of an original."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ledger.journal import Change, Kind


class ChangeRow(msgspec.Struct, frozen=True):
    """One approved outcome on an original.

    Args:
        undone: this change was itself reversed later.
        held_minor: amount that its lines put on (> 0) or released from (< 0) the hold.
        fee_minor: amount that its lines earned the platform.
        original_key: the original that its message names.
        cashback_minor: the cash that its message states, >= 0.
    """

    kind: Kind
    amount_minor: int
    undone: bool
    held_minor: int
    fee_minor: int
    original_key: str | None = None
    cashback_minor: int = 0


def fold_changes(held_minor: int, rows: Iterable[ChangeRow]) -> tuple[Change, ...]:
    """The changes in order; `held_minor` is the hold that the original itself made."""
    changes = []
    for row in rows:
        held_minor += row.held_minor
        amount, fee = (0, 0) if row.undone else (row.amount_minor, row.fee_minor)
        final = held_minor <= 0
        if row.kind is Kind.REDUCTION or (row.kind is Kind.REVERSAL and not final):
            amount = -row.held_minor  # the released amount: the message has the rest, or none
        undoes = row.original_key or "" if row.kind is Kind.REVERSAL else ""
        changes.append(Change(row.kind, amount, final, fee, undoes, row.cashback_minor))
    return tuple(changes)
