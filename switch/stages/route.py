"""Stage 3: which issuer link, by the card's leading digits and what is asked.

An identified `Request` goes in; its `route` is filled in, or a `Decline` comes out. Departs from the design's order:
the intent names the issuer, because recovery must know from it where the reversal goes.
"""

from __future__ import annotations

from switch.routing.choice import Choice
from switch.routing.table import Asked
from switch.stages.request import Decline, Request


def route(request: Request, choice: Choice, now: float, until: float) -> Decline | None:
    """Choose among the links that are fit; where none is, `route.unfit` says why.

    Args:
        now: seconds on trio's clock.
        until: when the request is given up at the latest.
    """
    asked = Asked(
        request.mti,
        request.message.elements.get(3, ""),
        request.currency,
        request.amount_minor,
        request.link.name,
    )
    leading = request.card.leading or request.card.bin
    request.route = choice.by_number(leading, asked, now, until, request.table)
    if request.route is None:
        return Decline("15", "no_route", "no issuer for this BIN")
    return None
