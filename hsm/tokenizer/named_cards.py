"""The test cards that have names, as merchants know them: `pm_card_visa`, `tok_visa` and the like.

A name comes in, a well-known test number comes out; numbers of this table stay on this side of the tokenizer, the
gateway sees the surrogate. Called by `hsm.tokenizer.server`.
"""

from __future__ import annotations

import msgspec


class NamedCard(msgspec.Struct, frozen=True):
    """A test card: `funding` is credit, debit or prepaid, `country` alpha-2."""

    pan: str
    funding: str = "credit"
    country: str = "US"


# Source: https://docs.stripe.com/testing, "Cards by brand", "Cards by country" and "Declined payments".
_CARDS = {
    "visa": NamedCard("4242424242424242"),
    "visa_debit": NamedCard("4000056655665556", "debit"),
    "mastercard": NamedCard("5555555555554444"),
    "mastercard_debit": NamedCard("5200828282828210", "debit"),
    "mastercard_prepaid": NamedCard("5105105105105100", "prepaid"),
    "amex": NamedCard("378282246310005"),
    "discover": NamedCard("6011111111111117"),
    "diners": NamedCard("3056930009020004"),
    "jcb": NamedCard("3566002020360505", country="JP"),
    "unionpay": NamedCard("6200000000000005", country="CN"),
    "de": NamedCard("4000002760000016", country="DE"),
    "gb": NamedCard("4000008260000000", country="GB"),
    "fr": NamedCard("4000002500000003", country="FR"),
    "br": NamedCard("4000000760000002", country="BR"),
    "ca": NamedCard("4000001240000000", country="CA"),
    "mx": NamedCard("4000004840008001", country="MX"),
    "chargeDeclined": NamedCard("4000000000000002"),
    "chargeDeclinedInsufficientFunds": NamedCard("4000000000009995"),
    "chargeDeclinedLostCard": NamedCard("4000000000009987"),
    "chargeDeclinedStolenCard": NamedCard("4000000000009979"),
    "chargeDeclinedExpiredCard": NamedCard("4000000000000069"),
    "chargeDeclinedIncorrectCvc": NamedCard("4000000000000127"),
    "chargeDeclinedProcessingError": NamedCard("4000000000000119"),
    "chargeDeclinedFraudulent": NamedCard("4100000000000019"),
    "chargeCustomerFail": NamedCard("4000000000000341"),
    "createDispute": NamedCard("4000000000000259"),
}
_PREFIXES = ("pm_card_", "tok_")
_BY_SHOWN_DIGITS = {(card.pan[:6], card.pan[-4:]): card for card in _CARDS.values()}


def named_card(name: str) -> NamedCard | None:
    """Return the test card behind `pm_card_…` or `tok_…`; declines also go by `pm_card_visa_chargeDeclined…`."""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return _CARDS.get(name.removeprefix(prefix).removeprefix("visa_" if "visa_charge" in name else ""))
    return None


def known_details(leading_digits: str, last4: str) -> tuple[str, str | None]:
    """Return funding and country of a test card by the digits that may be shown; ("unknown", None) for another."""
    card = _BY_SHOWN_DIGITS.get((leading_digits[:6], last4))
    return (card.funding, card.country) if card is not None else ("unknown", None)
