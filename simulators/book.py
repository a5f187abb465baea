"""What a simulator believes happened, one line a transaction, for the three-way comparison.

Issuers and acquirers each keep a book of their own from the messages they saw; `cardswitch prove` holds them
against the ledger.
"""

from __future__ import annotations

import msgspec


class BookLine(msgspec.Struct, frozen=True, kw_only=True):
    """The standing of one authorization, purchase or refund in somebody's book.

    Captures, reversals and chargebacks change the line of their original and have no line of their own.

    Args:
        link: the link's name, seen from the switch.
        key: in an acquirer's book `messages.exchange.acquirer_key`; in an issuer's book
            `messages.exchange.network_key` (DE 7 and DE 11 as the issuer received them).
        held_minor: what is still on hold, >= 0.
        posted_minor: what the cardholder has paid through this transaction: > 0 purchases, < 0 refunds.
        currency: ISO 4217 alphabetic.
        settled: False while the owner does not know the end yet (an acquirer that still repeats or reverses).
    """

    link: str
    key: str
    currency: str
    held_minor: int
    posted_minor: int
    settled: bool = True
