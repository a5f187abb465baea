"""DE 39 of an answer as the merchant's decline: a table, read by `gateway.outcomes` and `gateway.app`.

Source: ISO 8583:1987 DE 39 on the left; Stripe's published error and decline codes on the right.
"""

from __future__ import annotations

from typing import Any

import msgspec

APPROVED = frozenset({"00"})
TRY_LATER = frozenset({"91", "96"})  # an advice answered so was not taken: it is repeated


class Decline(msgspec.Struct, frozen=True):
    """One row: the merchant's view of a code."""

    code: str
    decline_code: str
    message: str


_DECLINED = "Your card was declined."
_PROCESSING = "An error occurred while processing your card. Try again in a little bit."

DECLINES: dict[str, Decline] = {
    "01": Decline("card_declined", "call_issuer", _DECLINED),
    "03": Decline("card_declined", "service_not_allowed", _DECLINED),
    "04": Decline("card_declined", "pickup_card", _DECLINED),
    "05": Decline("card_declined", "generic_decline", _DECLINED),
    "12": Decline("card_declined", "transaction_not_allowed", _DECLINED),
    "13": Decline("card_declined", "invalid_amount", _DECLINED),
    "14": Decline("incorrect_number", "incorrect_number", "Your card number is incorrect."),
    "15": Decline("card_declined", "issuer_not_available", _DECLINED),
    "25": Decline("card_declined", "transaction_not_allowed", _DECLINED),
    "30": Decline("processing_error", "processing_error", _PROCESSING),
    "41": Decline("card_declined", "lost_card", _DECLINED),
    "43": Decline("card_declined", "stolen_card", _DECLINED),
    "51": Decline("card_declined", "insufficient_funds", "Your card has insufficient funds."),
    "54": Decline("expired_card", "expired_card", "Your card has expired."),
    "55": Decline("card_declined", "incorrect_pin", _DECLINED),
    "57": Decline("card_declined", "transaction_not_allowed", _DECLINED),
    "58": Decline("card_declined", "service_not_allowed", _DECLINED),
    "59": Decline("card_declined", "fraudulent", _DECLINED),
    "61": Decline("card_declined", "withdrawal_count_limit_exceeded", _DECLINED),
    "62": Decline("card_declined", "restricted_card", _DECLINED),
    "63": Decline("card_declined", "security_violation", _DECLINED),
    "65": Decline("card_declined", "card_velocity_exceeded", _DECLINED),
    "75": Decline("card_declined", "pin_try_exceeded", _DECLINED),
    "82": Decline("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect."),
    "91": Decline("card_declined", "issuer_not_available", _DECLINED),
    "94": Decline("card_declined", "duplicate_transaction", _DECLINED),
    "96": Decline("processing_error", "processing_error", _PROCESSING),
    "N7": Decline("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect."),
}
UNKNOWN = Decline("card_declined", "generic_decline", _DECLINED)
NO_ANSWER = Decline("processing_error", "processing_error", _PROCESSING)  # reversed: nothing is charged


def decline(response_code: str) -> Decline:
    """The row for DE 39, "" meaning that no answer came and the message was reversed."""
    return DECLINES.get(response_code, UNKNOWN) if response_code else NO_ANSWER


def card_error(response_code: str, charge: str) -> dict[str, Any]:
    """The error object of a declined payment, without the payment method and intent."""
    row = decline(response_code)
    error: dict[str, Any] = {"type": "card_error", "code": row.code, "message": row.message, "charge": charge}
    if row.code == "card_declined":
        error["decline_code"] = row.decline_code
    if response_code:
        error["network_decline_code"] = response_code
    return error
