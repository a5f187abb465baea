"""The money in a message, and the part of it that is kept: amounts, currency, cash-back, stated elements.

A message's form and elements go in, `Amounts` or a `Decline` come out. Called by screening and for what issuers start.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import msgspec

from ledger.journal import Kind
from messages.errors import DecodeError, MoneyError
from messages.exchange import LOCAL_BEHIND, transmission_time
from messages.mask import masked_text
from messages.money import alpha_currency, not_in_use
from switch.links.freshness import CARRIED_TIME, MOMENT_DIGITS
from switch.links.settings import ADVICE_MAX_AGE_S
from switch.message_set import REPLACEMENT_DIGITS, VERIFY, WITH_CASH, Form, Way
from switch.stages.request import Decline

# Parts of DE 54: account type 2, amount type 2, currency 3, sign 1, amount 12. Source: ISO 8583:1987 DE 54.
PART, TYPE, CURRENCY, VALUE = 20, slice(2, 4), slice(4, 7), slice(8, 20)
CASH_PART = "40"  # amount type
# An administrative text and the name of a file may say anything, so they are kept up to so many characters and without
# card numbers.
_TEXTS = (48, 101)
MAX_TEXT = 500
# Elements with a currency. Source: ISO 8583:1987 DE 49 transaction, DE 50 settlement, DE 51 cardholder billing.
_CURRENCIES = (49, 50, 51)
_DAY_THERE_S = (timedelta(days=1) + LOCAL_BEHIND).total_seconds()  # DE 13 is a whole day, where the terminal is
_NEW_MONEY = frozenset({Kind.AUTHORIZATION, Kind.INCREMENT, Kind.PURCHASE})


class Amounts(msgspec.Struct, frozen=True, gc=False):
    """`amount_minor` >= 0 in minor units of `currency` ("" where not said); `cashback_minor` is a part of it."""

    amount_minor: int
    currency: str
    cashback_minor: int = 0


def amounts_of(form: Form, elements: Mapping[int, str]) -> Amounts | Decline:
    """DE 4, 49, 54 and 95 of a message."""
    text = elements.get(95, "")[:REPLACEMENT_DIGITS] if form.in_part else elements.get(4, "0")
    if not (text.isascii() and text.isdigit()):
        return Decline("13", "amount", f"DE {95 if form.in_part else 4}: expected digits")
    amount = int(text)
    code = elements.get(3, "")[:2]
    if form.kind is Kind.INQUIRY:
        amount = 0
    elif amount == 0 and not form.zero:
        return Decline("13", "amount", "DE 4: must be above zero")
    elif amount and code == VERIFY and form.kind is Kind.AUTHORIZATION:
        return Decline("13", "amount", "DE 4: a verification has none")
    currency = ""
    if 49 in elements:
        try:
            currency = alpha_currency(elements[49])
        except MoneyError:
            return Decline("30", "currency", "DE 49: no currency of ISO 4217")
    if code == WITH_CASH and 54 in elements:
        return _with_cash(amount, currency, elements)
    return Amounts(amount, currency)


def withdrawn(
    form: Form, elements: Mapping[int, str], now: datetime, oldest_s: float = ADVICE_MAX_AGE_S
) -> Decline | None:
    """30 where a new payment is in a currency that is not in use on its day.

    A message that names an earlier payment (capture, refund, reversal, chargeback) is accepted in any currency that ISO
    4217 has or has had. A request is of the day on which it arrives. An advice of what was decided elsewhere is of the
    day of the sale, since that money has moved: its DE 13, or DE 7 where it has none. A sale that is said to be older
    than `oldest_s` is of the day on which the advice arrives, so that a date of last year opens no withdrawn currency.

    Args:
        now: when it arrived; aware.
        oldest_s: `advice_max_age_s` of the link.
    """
    if form.kind not in _NEW_MONEY and not (form.kind is Kind.REFUND and 90 not in elements):
        return None
    for number in _CURRENCIES:
        if number in elements:
            try:
                currency = alpha_currency(elements[number])
            except MoneyError:
                return Decline("30", "currency", f"DE {number}: no currency of ISO 4217")
            if not_in_use(currency, _day(form, elements, now, oldest_s)):
                return Decline("30", "currency", f"DE {number}: {currency} is not in use")
    return None


def _day(form: Form, elements: Mapping[int, str], now: datetime, oldest_s: float) -> date:
    if form.way is not Way.NOTE:
        return now.date()
    stated = f"{elements[13]}000000" if 13 in elements else elements.get(7, "")
    try:
        sold = transmission_time(stated, now)
    except DecodeError:
        return now.date()
    year = elements.get(CARRIED_TIME, "")[:-MOMENT_DIGITS]  # of 1993 and 2003, which have one
    of_another_year = bool(year) and not f"{sold.year:04d}".endswith(year)
    too_old = (now - sold).total_seconds() > oldest_s + _DAY_THERE_S
    return now.date() if of_another_year or too_old else sold.date()


def _with_cash(amount_minor: int, currency: str, elements: Mapping[int, str]) -> Amounts | Decline:
    text = elements[54]
    cash = 0
    for at in range(0, len(text), PART):
        part = text[at : at + PART]
        value = part[VALUE]
        if len(value) != 12 or not (value.isascii() and value.isdigit()):
            return Decline("30", "element_invalid", "DE 54: parts of 20 characters are expected")
        if part[TYPE] == CASH_PART:
            if part[CURRENCY] != elements.get(49):
                return Decline("13", "amount", "DE 54: the cash is in another currency")
            cash += int(value)
    if cash > amount_minor:
        return Decline("13", "amount", "DE 54: more cash than DE 4")
    return Amounts(amount_minor, currency, cash)


def stated_of(form: Form, elements: Mapping[int, str]) -> dict[int, str]:
    """The elements that are kept with the intent, free of card data."""
    if not form.stated:
        return {}
    kept = {number: elements[number] for number in form.stated if number in elements}
    for number in _TEXTS:
        if number in kept:
            kept[number] = masked_text(kept[number])[:MAX_TEXT]  # masked whole: a cut could leave the head of a number
    return kept
