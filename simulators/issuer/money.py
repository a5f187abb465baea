"""Requests for money at the issuer: authorization, increment, purchase, refund, verification, inquiry.

Messages of the core go in, elements of the answer come out, and the book and the account change. A repeat is answered
from the book.

Source: ISO 8583:1987 DE 3, 4, 39, 54, 90; increments by DE 90 as the switch's message set says.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import datetime

import msgspec

from messages.card import pan_of
from messages.errors import DecodeError, MoneyError
from messages.exchange import network_key, parse_original_data
from messages.message import Message
from messages.money import alpha_currency, numeric_currency
from messages.mti import canonical_mti
from simulators.issuer.accounts import Account, Accounts
from simulators.issuer.book import Entry, IssuerBook
from simulators.issuer.checks import Asked, Checks
from simulators.issuer.totals import Totals

# The operation of a processing code, by its first two digits. Anything else is a payment.
REFUND, VERIFICATION, CASH_BACK = "20", "33", "09"
INQUIRIES = ("30", "31")

# Parts of DE 54: account type 2, amount type 2, currency 3, sign 1, amount 12.
LEDGER_BALANCE, AVAILABLE, CASH, ORIGINAL_AMOUNT = "01", "02", "40", "57"


class Place(msgspec.Struct, frozen=True):
    """The books of an issuer.

    Args:
        link: its link's name, in the keys of its book.
        member: its name behind a network, "" without one.
        trace_id: reads the trace id of a message.
    """

    link: str
    member: str
    book: IssuerBook
    accounts: Accounts
    totals: Totals
    trace_id: Callable[[Message], str]


class Money:
    """The requests of one issuer."""

    def __init__(self, place: Place, checks: Checks) -> None:
        self._link = place.link
        self._member = place.member
        self._book = place.book
        self._accounts = place.accounts
        self._totals = place.totals
        self._trace_id = place.trace_id
        self._checks = checks

    def authorize(self, message: Message, mti: str, now: datetime, ruled: str = "") -> dict[int, str]:
        """0100: a hold, more of one, a verification or an inquiry; `ruled` is a DE 39 that a fault has decided."""
        if 90 in message.elements:
            return self._decide(message, mti, now, ruled, held=True, increment=True)
        return self._decide(message, mti, now, ruled, held=True)

    def pay(self, message: Message, mti: str, now: datetime, ruled: str = "") -> dict[int, str]:
        """0200: a purchase, with or without cash, a refund, or an inquiry."""
        sign = -1 if message.elements[3].startswith(REFUND) else 1
        return self._decide(message, mti, now, ruled, held=False, sign=sign)

    def _decide(
        self,
        message: Message,
        mti: str,
        now: datetime,
        ruled: str,
        *,
        held: bool,
        sign: int = 1,
        increment: bool = False,
    ) -> dict[int, str]:
        """Answer from the book, or decide and book."""
        asked = _asked(message, now, sign, verifies=held)
        if asked is None:
            return {39: "13"}
        key = network_key(self._link, mti, message.elements[7], message.elements[11])
        entry = self._book.get(key)
        if entry is not None and entry.standing:
            if (entry.amount_minor, entry.currency) != (asked.amount_minor, asked.currency):
                return {39: "94"}  # the same number for something else
            return told(entry)  # a repeat
        if self._book.full:
            return {39: "96"}
        reversed_before = entry is not None
        entry = self._entry(key, mti, asked)
        entry.reversed = reversed_before
        account = self._accounts.find(pan_of(message))
        parent = self._parent(message) if increment else None
        if reversed_before:
            entry.response_code = "12"
        elif increment and (parent is None or parent.reversed or not parent.approved or not parent.held_minor):
            entry.response_code = "12"  # there is no hold that could grow, in any case
        elif ruled:
            entry.response_code = ruled
        else:
            code = self._checks.judge(account, asked)
            entry.response_code = "51" if increment and code == "10" else code  # a hold grows in full or not at all
        self._settle(entry, account, asked, parent, held=held)
        return told(entry)

    def _settle(self, entry: Entry, account: Account | None, asked: Asked, parent: Entry | None, *, held: bool) -> None:
        """Book a decision and what its answer says."""
        extra: dict[int, str] = {}
        if entry.approved and account is not None and not asked.free:
            amount = asked.amount_minor
            if entry.response_code == "10":
                amount = account.available_minor(asked.currency)
                extra = {4: f"{amount:012d}", 54: additional(ORIGINAL_AMOUNT, asked.currency, asked.amount_minor)}
            entry.account = account
            entry.auth_code = f"{zlib.crc32(entry.key.encode()) % 1_000_000:06d}"
            self._book_amount(entry, asked, amount, parent, held=held)
            if asked.sign > 0:
                account.count(asked.currency, amount, asked.now.date())
        elif entry.response_code == "00" and account is not None:
            entry.auth_code = f"{zlib.crc32(entry.key.encode()) % 1_000_000:06d}"
            if asked.message.elements.get(3, "").startswith(INQUIRIES):
                available = account.available_minor(asked.currency)
                extra[54] = additional(LEDGER_BALANCE, asked.currency, account.ledger_minor(asked.currency))
                extra[54] += additional(AVAILABLE, asked.currency, available)
            else:
                entry.response_code = account.rule.verification_code
        if account is not None:
            extra |= self._checks.answer_chip(account, asked.message, entry.response_code)
        entry.extra = tuple(extra.items())
        self._book.add(entry)

    def _book_amount(self, entry: Entry, asked: Asked, amount: int, parent: Entry | None, *, held: bool) -> None:
        if parent is not None:
            entry.parent = parent.key
            entry.account = None  # the hold that has grown uses the balance
            parent.grown = True
            parent.move(parent.held_minor + amount, parent.posted_minor)
            self._book.changed(parent)
        elif held:
            entry.move(amount, 0)
        else:
            entry.move(0, asked.sign * amount)
            count = self._totals.debit if asked.sign > 0 else self._totals.credit
            count(entry.acquirer_id, entry.currency, amount)

    def _entry(self, key: str, mti: str, asked: Asked) -> Entry:
        elements = asked.message.elements
        entry = Entry(key, mti, elements[7], elements[11], elements.get(32, ""), elements.get(37, ""))
        entry.trace_id, entry.member = self._trace_id(asked.message), self._member
        entry.currency, entry.amount_minor = asked.currency, asked.amount_minor
        return entry

    def _parent(self, message: Message) -> Entry | None:
        """The hold that an increment names."""
        try:
            original = parse_original_data(message.elements[90])
            key = network_key(self._link, canonical_mti(original.mti), original.transmitted, original.stan)
        except DecodeError:
            return None
        found = self._book.get(key)
        while found is not None and found.parent:  # an increment of an increment is one of the hold
            found = self._book.get(found.parent)
        return found


def told(entry: Entry) -> dict[int, str]:
    """The answer to the acquirer about an entry; the same for each repeat."""
    answer = {39: entry.response_code, **dict(entry.extra)}
    if entry.auth_code:
        answer[38] = entry.auth_code
    return answer


def additional(kind: str, currency: str, amount_minor: int) -> str:
    """One amount of DE 54, account type 00. Source: ISO 8583:1987 DE 54."""
    sign = "D" if amount_minor < 0 else "C" if kind in (LEDGER_BALANCE, AVAILABLE) else "D"
    return f"00{kind}{numeric_currency(currency)}{sign}{abs(amount_minor):012d}"


def cashback_of(message: Message) -> int:
    """The part of DE 4 that is cash, from DE 54; 0 without DE 54.

    Raises:
        ValueError: DE 54 is no list of amounts.
    """
    text = message.elements.get(54, "")
    if not message.elements.get(3, "").startswith(CASH_BACK) or not text:
        return 0
    if len(text) % 20:
        raise ValueError("DE 54 has parts of 20 characters")
    parts = [text[at : at + 20] for at in range(0, len(text), 20)]
    return sum(int(part[8:]) for part in parts if part[2:4] == CASH)


def _asked(message: Message, now: datetime, sign: int, *, verifies: bool) -> Asked | None:
    """The amounts of a request; None where they make no sense."""
    elements = message.elements
    code = elements.get(3, "")
    try:
        amount = int(elements.get(4, "0"))
        cash = cashback_of(message)
        currency = alpha_currency(elements[49])
    except (ValueError, MoneyError):
        return None
    if cash > amount:
        return None
    free = code.startswith((VERIFICATION, *INQUIRIES)) or (verifies and amount == 0)
    return Asked(message, 0 if free else amount, currency, now, sign, cash, free)
