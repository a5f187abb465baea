"""Which links have no proof of who is at their other end; called by `cardswitch doctor` and `cardswitch up`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.doctor import OK, WARNING, Finding

if TYPE_CHECKING:
    from console.config import Config


def unproved_links(config: Config) -> list[str]:
    """Links with neither a MAC nor mutual TLS nor a unix socket: section and name, in the order of the file."""
    acquirers = [f"acquirer {link.name}" for link in config.acquirer if not link.identity]
    return acquirers + [f"issuer {link.name}" for link in config.issuer if not link.identity]


def link_finding(config: Config) -> Finding:
    """Whether each link knows its peer."""
    unproved = unproved_links(config)
    count = len(config.acquirer) + len(config.issuer)
    if not unproved:
        return Finding("links", OK, f"{count} of {count} prove who their peer is")
    return Finding(
        "links",
        WARNING,
        f"anybody who reaches them counts as their peer: {', '.join(unproved)}",
        "give them a mac_key, tls with certificates of both ends, or a unix socket",
    )
