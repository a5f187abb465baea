"""The routing table: a card's leading digits in, the route out."""

from __future__ import annotations

from collections.abc import Iterable

from switch.routing.settings import Route


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
