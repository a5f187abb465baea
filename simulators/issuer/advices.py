"""Advices at the issuer: a past event is booked, without a decision of this issuer.

Captures, payments decided elsewhere (0120, 0220) and reversals of the core go in, DE 39 comes out. Each advice is
answered once and for all: a repeat gets the same.

Source: ISO 8583:1987 4.2 (advices are not declined), DE 60 (final or partial, by agreement), DE 90, DE 95.
"""

from __future__ import annotations

from collections.abc import Callable

from messages.card import pan_of
from messages.errors import DecodeError, MoneyError
from messages.exchange import network_key, parse_original_data
from messages.message import Message
from messages.money import alpha_currency
from messages.mti import canonical_mti
from simulators.issuer.book import Entry
from simulators.issuer.money import REFUND, Place

# DE 39 of other approvals: with identification, VIP, update track 3. Source: ISO 8583:1987 DE 39.
OTHER_APPROVALS = frozenset({"08", "11", "16"})
VERIFIED, DECLINED = "85", "05"  # 85 approves no amount
REPLACEMENT_DIGITS = 12  # of DE 95: the amount that is left of the transaction


class Advices:
    """The advices of one issuer.

    Args:
        noticed: called with the name of what was noticed, for the counters.
    """

    def __init__(self, place: Place, noticed: Callable[[str], None]) -> None:
        self._link = place.link
        self._member = place.member
        self._book = place.book
        self._accounts = place.accounts
        self._totals = place.totals
        self._trace_id = place.trace_id
        self._noticed = noticed

    def advised(self, message: Message, mti: str) -> dict[int, str]:
        """0120, and 0220 without DE 90: DE 39 is what was decided, an approval where it is missing."""
        elements = message.elements
        key = network_key(self._link, mti, elements[7], elements[11])
        entry = self._book.get(key)
        if entry is not None and entry.standing:
            return {39: "00"}
        try:
            amount, currency = int(elements[4]), alpha_currency(elements[49])
        except (MoneyError, ValueError):
            return {39: "30"}
        undone = entry is not None  # its reversal came first
        entry = Entry(key, mti, elements[7], elements[11], elements.get(32, ""), elements.get(37, ""))
        entry.trace_id, entry.reversed, entry.member = self._trace_id(message), undone, self._member
        entry.currency, entry.amount_minor = currency, amount
        told = elements.get(39, "00")
        if told == VERIFIED and amount:
            told = DECLINED
        entry.response_code = "12" if undone else "00" if told in OTHER_APPROVALS else told
        if entry.approved:
            account = entry.account = self._accounts.find(pan_of(message))
            if account is None or account.available_minor(currency) < amount:
                self._noticed("overdraft")
            sign = -1 if elements.get(3, "").startswith(REFUND) else 1
            if mti == "0120":
                entry.move(amount, 0)
            else:
                entry.move(0, sign * amount)
                (self._totals.debit if sign > 0 else self._totals.credit)(entry.acquirer_id, currency, amount)
        self._book.add(entry)
        return {39: "00"}

    def capture(self, message: Message, mti: str) -> dict[int, str]:
        """0220 with DE 90: the held amount is paid, in part or finally."""
        elements = message.elements
        advice_key = network_key(self._link, mti, elements[7], elements[11])
        before = self._book.advice(advice_key)
        if before is not None:
            return {39: before}
        try:
            amount, currency = int(elements[4]), alpha_currency(elements[49])
            entry = self._original(message)
        except (DecodeError, MoneyError, ValueError):
            return {39: "30"}
        if not entry.standing and not entry.reversed:
            # A capture whose authorization is not in the book (it was lost, or stood in for) is posted all the same: an
            # advice reports a past event.
            entry.currency, entry.amount_minor, entry.response_code = currency, amount, "00"
            entry.trace_id = self._trace_id(message)
        if entry.reversed or not entry.approved or entry.currency != currency:
            response_code = "12"
        else:
            final = not elements.get(60, "F").startswith("P")
            entry.move(0 if final else max(0, entry.held_minor - amount), entry.posted_minor + amount)
            self._totals.debit(entry.acquirer_id, currency, amount)
            response_code = "00"
        self._book.add(entry)
        self._book.note_advice(entry, advice_key, response_code)
        return {39: response_code}

    def reverse(self, message: Message, mti: str) -> dict[int, str]:
        """Undo a request, in any state; one that has not come yet will be declined. Twice is once."""
        try:
            entry = self._original(message)
            left = _replacement(message)
        except (DecodeError, ValueError):
            return {39: "30"}
        if left is not None:
            return self._shrink(message, mti, entry, left)
        if not entry.reversed:
            entry.reversed = True
            if entry.parent:
                self._give_back(entry)
            elif entry.mti in ("0100", "0120"):
                # The captured part of a hold stays: only the rest is given back.
                entry.move(0, entry.posted_minor)
            else:
                self._totals.reverse(entry.acquirer_id, entry.currency, entry.posted_minor)
                entry.move(0, 0)
            self._book.add(entry)
        return {39: "00"}

    def _shrink(self, message: Message, mti: str, entry: Entry, left: int) -> dict[int, str]:
        """Only `left` of the transaction is kept; an advice that counts once."""
        elements = message.elements
        advice_key = network_key(self._link, mti, elements[7], elements[11])
        before = self._book.advice(advice_key)
        if before is not None:
            return {39: before}
        if not entry.standing:
            return {39: "25"}
        response_code = "00"
        if entry.reversed or entry.parent or not entry.approved:
            response_code = "12"
        elif entry.mti in ("0100", "0120"):
            entry.move(_left_of(entry, elements, left), entry.posted_minor)
        else:
            sign = -1 if entry.posted_minor < 0 else 1
            kept = sign * min(left, abs(entry.posted_minor))
            self._totals.reverse(entry.acquirer_id, entry.currency, entry.posted_minor - kept, whole=False)
            entry.move(0, kept)
        self._book.note_advice(entry, advice_key, response_code)
        return {39: response_code}

    def _give_back(self, increment: Entry) -> None:
        """An increment is undone: the hold that it made larger shrinks again."""
        parent = self._book.get(increment.parent)
        if parent is not None and increment.approved:
            parent.move(max(0, parent.held_minor - increment.amount_minor), parent.posted_minor)
            self._book.changed(parent)

    def _original(self, message: Message) -> Entry:
        """The entry that DE 90 names, or a new one that is not in the book yet."""
        original = parse_original_data(message.elements[90])
        mti = canonical_mti(original.mti)
        key = network_key(self._link, mti, original.transmitted, original.stan)
        found = self._book.get(key)
        if found is None:
            found = Entry(key, mti, original.transmitted, original.stan, original.acquirer_id)
            found.member = self._member
        return found


def _left_of(entry: Entry, elements: dict[int, str], left: int) -> int:
    """The rest of a hold after a partial reversal.

    An increment that was approved while the reversal was on its way is not in its DE 95: the difference to DE 4 is what
    the sender has given back.
    """
    before = elements.get(4, "")
    if entry.grown and before.isdecimal():
        return max(0, entry.held_minor - max(0, int(before) - left))
    return min(left, entry.held_minor)


def _replacement(message: Message) -> int | None:
    """The rest of the transaction after DE 95; None where it is reversed in full.

    Raises:
        ValueError: no amount.
    """
    text = message.elements.get(95)
    if text is None:
        return None
    left = int(text[:REPLACEMENT_DIGITS])
    return left or None
