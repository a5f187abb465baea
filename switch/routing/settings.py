"""What routing is configured as: [[route]] of the file, as frozen structs.

`switch.config` reads them and adds `routing_contradictions` to what it lists.
"""

from __future__ import annotations

import msgspec

from switch.links.settings import IssuerLink


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[route]]: BIN prefix of 1–8 digits → issuer link; the longest prefix wins."""

    prefix: str
    issuer: str
    country: str = ""


def routing_contradictions(routes: tuple[Route, ...], issuers: tuple[IssuerLink, ...]) -> list[str]:
    """What each route allows by itself, but not together with the rest."""
    problems: list[str] = []
    names = {issuer.name for issuer in issuers}
    for route in routes:
        if not (route.prefix.isdecimal() and 1 <= len(route.prefix) <= 8):
            problems.append(f"route {route.prefix!r}: the prefix must be 1–8 digits")
        if route.issuer not in names:
            problems.append(f"route {route.prefix}: there is no issuer {route.issuer!r}")
    return problems
