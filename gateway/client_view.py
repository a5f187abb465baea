"""Objects as a page may see them: the members that a publishable key gets of an object, and nothing else; pure.

A publishable key is in every visitor's browser. With the client secret of one payment it may read that payment, as far
as a page needs it to go on. `gateway.reading` calls `client_view`; a member that is not named here is not shown, so a
new one stays with the merchant's server until somebody decides.

Source: inferred from "Retrieve a PaymentIntent" of Stripe's API reference, members retrievable with a publishable key.
"""

from __future__ import annotations

import hmac
from typing import Any

Shape = dict[str, "Shape | None"]  # member → its own members, None: as it is

_CARD: Shape = dict.fromkeys(("brand", "country", "exp_month", "exp_year", "funding", "last4"))
_METHOD: Shape = {**dict.fromkeys(("id", "object", "created", "livemode", "type")), "card": _CARD}
_ERROR: Shape = {**dict.fromkeys(("type", "code", "decline_code", "message", "param")), "payment_method": _METHOD}
MEMBERS: dict[str, Shape] = {
    "payment_intent": {
        **dict.fromkeys(
            (
                "id",
                "object",
                "amount",
                "automatic_payment_methods",
                "canceled_at",
                "cancellation_reason",
                "capture_method",
                "client_secret",
                "confirmation_method",
                "created",
                "currency",
                "description",
                "livemode",
                "next_action",
                "payment_method",
                "payment_method_types",
                "processing",
                "receipt_email",
                "setup_future_usage",
                "shipping",
                "status",
            )
        ),
        "last_payment_error": _ERROR,
    }
}


def client_view(shown: dict[str, Any]) -> dict[str, Any]:
    """The members of an object that a publishable key may see. Raises KeyError for a kind of object that has none."""
    return _part(shown, MEMBERS[shown["object"]])


def secret_fits(shown: dict[str, Any] | None, client_secret: str | None) -> bool:
    """Whether that is the client secret of the object; takes as long for an object that is not there."""
    own = str((shown or {}).get("client_secret") or "")
    right = hmac.compare_digest(own.encode(), (client_secret or "").encode())
    return right and bool(own)


def _part(whole: Any, shape: Shape) -> dict[str, Any]:
    part = {}
    for name, inner in shape.items():
        if name not in whole:
            continue
        value = whole[name]
        part[name] = _part(value, inner) if inner is not None and isinstance(value, dict) else value
    return part
