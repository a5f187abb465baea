"""Stage 3: which issuer, by the card's BIN.

Departs from the design's order: the intent names the issuer, because recovery must know from it where the
reversal goes.
"""

from __future__ import annotations

from switch.routing.table import RoutingTable
from switch.stages.request import Decline, Request


def route(request: Request, table: RoutingTable) -> Decline | None:
    request.route = table.find(request.card.bin)
    if request.route is None:
        return Decline("15", "no_route", "no issuer for this BIN")
    return None
