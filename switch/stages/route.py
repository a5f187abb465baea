"""Stage 3: which issuer, by the card's BIN.

Departs from the design's order: the intent names the issuer, because recovery must know from it where the
reversal goes.
"""

from __future__ import annotations

from collections.abc import Iterable

from switch.config import Route
from switch.stages.request import Decline, Request


class RoutingTable:
    """BIN prefixes; the longest that fits wins."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = {route.prefix: route for route in routes}
        self._lengths = sorted({len(prefix) for prefix in self._routes}, reverse=True)

    def find(self, bin_digits: str) -> Route | None:
        """The route for a BIN of up to 8 digits."""
        for length in self._lengths:
            route = self._routes.get(bin_digits[:length])
            if route is not None:
                return route
        return None


def route(request: Request, table: RoutingTable) -> Decline | None:
    request.route = table.find(request.card.bin)
    if request.route is None:
        return Decline("15", "no_route", "no issuer for this BIN")
    return None
