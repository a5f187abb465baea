"""Tokens and payment methods as merchants see them: the HSM's answer goes in, a Stripe-shaped object comes out.

Called by `hsm.tokenizer.endpoint`. The surrogate is in none of them.
"""

from __future__ import annotations

from typing import Any

from hsm.tokenizer.named_cards import known_details
from hsm.vault_commands import CardToken
from messages.card import brand

# The names that a token's card has in Stripe's older objects; payment methods have the plain ones.
_TOKEN_BRANDS = {
    "visa": "Visa",
    "mastercard": "MasterCard",
    "amex": "American Express",
    "discover": "Discover",
    "diners": "Diners Club",
    "jcb": "JCB",
    "unionpay": "UnionPay",
}


def card_object(token: CardToken) -> dict[str, Any]:
    """Return the card of a payment method, as it may be shown."""
    funding, country = known_details(token.bin, token.last4)
    return {
        "brand": brand(token.bin),
        "country": country,
        "exp_month": int(token.expiry[2:]),
        "exp_year": 2000 + int(token.expiry[:2]),
        "fingerprint": token.fingerprint,
        "funding": funding,
        "last4": token.last4,
    }


def token_object(token: CardToken, *, to_server: bool) -> dict[str, Any]:
    """Return a `tok_…` as Stripe's API has it; `to_server` as in `payment_method_object`."""
    card = _shown_card(token, to_server)
    card["brand"] = _TOKEN_BRANDS.get(card["brand"], "Unknown")
    return {
        "id": token.id,
        "object": "token",
        "card": {"object": "card", **card},
        "client_ip": None,
        "created": token.created_at,
        "livemode": False,
        "type": "card",
        "used": token.used,
    }


def payment_method_object(token: CardToken, *, to_server: bool) -> dict[str, Any]:
    """Return a `pm_…` as Stripe's API has it.

    Args:
        to_server: a secret key asks. Browsers get no fingerprint: with it, anybody who knows a number could find out
            which of several tokens is that card.
    """
    return {
        "id": token.id,
        "object": "payment_method",
        "billing_details": {"address": None, "email": None, "name": None, "phone": None},
        "card": _shown_card(token, to_server),
        "created": token.created_at,
        "customer": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
    }


# Members of a card that a page may see. One that is not named here goes to servers only.
_FOR_PAGES = frozenset({"brand", "country", "exp_month", "exp_year", "funding", "last4"})


def _shown_card(token: CardToken, to_server: bool) -> dict[str, Any]:
    card = card_object(token)
    return card if to_server else {name: value for name, value in card.items() if name in _FOR_PAGES}
