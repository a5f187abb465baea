"""Which links have no proof of who is at their other end; called by `cardswitch doctor` and `cardswitch up`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from console.doctor import OK, WARNING, Finding
from switch.links.credentials import WARN_BEFORE

if TYPE_CHECKING:
    from console.config import Config


def unproved_links(config: Config) -> list[str]:
    """Links with neither a MAC nor mutual TLS nor a unix socket: section and name, in the order of the file."""
    acquirers = [f"acquirer {link.name}" for link in config.acquirer if not link.identity]
    return acquirers + [f"issuer {link.name}" for link in config.issuer if not link.identity]


def gateway_finding(config: Config) -> Finding:
    """The proofs of both ends of the gateway's link; a configuration that lacks one of them does not load."""
    link, remote = config.acquirer_link(config.gateway.link), config.gateway.switch
    if remote is not None:
        assert remote.tls is not None, "the configuration was checked"
        ends_at = _ends_at(remote.tls.certificate)
        if ends_at < datetime.now(UTC) + WARN_BEFORE:
            mend = "renew it, and pin the new one at the switch beside it"
            return Finding("gateway link", WARNING, f"{remote.tls.certificate} ends {ends_at:%Y-%m-%d}", mend)
        return Finding("gateway link", OK, f"to {remote.address}: TLS with certificates of both ends, MAC")
    if link is not None and not link.on_unix_socket:
        return Finding("gateway link", OK, f"{link.listen}, for another machine: TLS with a pinned certificate, MAC")
    return Finding("gateway link", OK, "a unix socket: the kernel says who the peer is")


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


def _ends_at(certificate: str) -> datetime:
    """When the leaf in a PEM file ends."""
    from cryptography import x509

    return x509.load_pem_x509_certificates(Path(certificate).read_bytes())[0].not_valid_after_utc
