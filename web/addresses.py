"""Client addresses: a request goes in, the address that limits are counted by comes out.

Called by `web.server` for connections and by the fronts for requests. A client with IPv6 owns a whole network, so a /64
counts as one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.requests import HTTPConnection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NOBODY = "unknown"
_IPV6_CLIENT_BITS = 64


class Proxies:
    """Which peers are reverse proxies of ours.

    Args:
        networks: theirs, e.g. "10.0.0.0/8".
        everybody: every peer is one, because only the proxy reaches the port.
    """

    def __init__(self, networks: Sequence[str] = (), *, everybody: bool = False) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._everybody = everybody

    def trusts(self, address: str) -> bool:
        """Whether that peer's X-Forwarded-For counts."""
        parsed = _parsed(address)
        return self._everybody or (parsed is not None and any(parsed in network for network in self._networks))


class Clients:
    """Reads client addresses.

    Args:
        proxies: whose X-Forwarded-For counts; its last entry is the client, because the proxy next to us wrote it.
        internal_networks: see `internal`.
    """

    def __init__(
        self, proxies: Proxies | None = None, internal_networks: Sequence[str] = ("127.0.0.0/8", "::1/128")
    ) -> None:
        self._proxies = proxies or Proxies()
        self._internal = [ipaddress.ip_network(network) for network in internal_networks]

    def name(self, request: HTTPConnection) -> str:
        """Return what limits are counted by: an IPv4 address, or the /64 of an IPv6 one."""
        return _name(self._address(request))

    def internal(self, request: HTTPConnection) -> bool:
        """Return whether the request comes from an internal network."""
        address = self._address(request)
        return address is not None and any(address in network for network in self._internal)

    def _address(self, request: HTTPConnection) -> Address | None:
        text = request.client.host if request.client is not None else ""
        if self._proxies.trusts(text):
            # A client can write the header, too, but only in front of what the proxy appends.
            forwarded = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
            text = forwarded or text
        return _parsed(text)


def client_name(address: str) -> str:
    """Return what limits count a peer by: an IPv4 address, or the /64 of an IPv6 one."""
    return _name(_parsed(address))


def _name(address: Address | None) -> str:
    if address is None:
        return _NOBODY
    if address.version == 6:
        return str(ipaddress.ip_network((address, _IPV6_CLIENT_BITS), strict=False))
    return str(address)


def _parsed(text: str) -> Address | None:
    """An address, also with a port behind it, as some proxies write it."""
    for candidate in (text, text.rpartition(":")[0].strip("[]")):
        try:
            address = ipaddress.ip_address(candidate)
        except ValueError:
            continue
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return mapped or address
    return None
