"""Whether a message may change the payment that it names.

A link may carry several acquirers, and an acquirer has many merchants. `names_other_acquirer` looks at the message
alone, before anything is recorded; `owner_problem` holds the recorded intent against its original. Pure.

| field | of the change | of the payment | allowed |
|---|---|---|---|
| link | always there | always there | the same; for an issuer's message (`BY_ISSUER`), the link that was asked |
| DE 32 | there or not | there or not | the same, leading zeros apart; none only where the payment has none |
| DE 42 | there | there | the same |
| DE 42 | not there | any | yes: the acquirer itself speaks, as in the reversal of a terminal that got no answer |
| DE 41 | any | any | yes: captures and refunds come from other terminals of the merchant |

Source: ISO 8583:1987 DE 32, 42, 90; that a merchant changes its own payments only is inferred from DE 42.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger.journal import Intent, Kind
from messages.exchange import parse_original_data

NOT_PERMITTED = "58"  # DE 39: transaction not permitted to terminal. Source: ISO 8583:1987 DE 39
OTHER_LINK, OTHER_ACQUIRER, OTHER_MERCHANT = "other_link", "other_acquirer", "other_merchant"
OTHER_ISSUER = "other_issuer"
BY_ISSUER = frozenset({Kind.CHARGEBACK, Kind.LATE_APPROVAL})


def names_other_acquirer(elements: Mapping[int, str]) -> bool:
    """Whether DE 90 names the message of an institution that is not the sender, DE 32.

    Without this, a reversal of an acquirer could take the place of a payment of another one that has not come yet.

    Raises:
        DecodeError: path "DE 90".
    """
    named = parse_original_data(elements[90]).acquirer_id
    return named not in ("", elements.get(32, "").lstrip("0"))


def owner_problem(intent: Intent, original: Intent) -> str:
    """Why `intent` must not change `original`, one word; "" where it may."""
    if intent.kind in BY_ISSUER:
        return "" if intent.link == original.issuer else OTHER_ISSUER
    if intent.link != original.link:
        return OTHER_LINK
    if intent.acquirer_id.lstrip("0") != original.acquirer_id.lstrip("0"):
        return OTHER_ACQUIRER
    if intent.merchant and original.merchant and intent.merchant != original.merchant:
        return OTHER_MERCHANT
    return ""
