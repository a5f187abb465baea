"""Who is at the other end: a request goes in, the address that limits are counted by comes out.

Called by `hsm.tokenizer.endpoint` and `hsm.tokenizer.connections`. Clients of IPv6 own whole networks: a /64 counts as
one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.requests import HTTPConnection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NOBODY = "unknown"
_IPV6_CLIENT_BITS = 64


class Clients:
    """Reads client addresses.

    Args:
        behind_proxy: the last entry of X-Forwarded-For is the client, because the proxy next to us wrote it.
        internal_networks: see `internal`.
    """

    def __init__(self, *, behind_proxy: bool = False, internal_networks: Sequence[str] = ("127.0.0.0/8", "::1/128")):
        self._behind_proxy = behind_proxy
        self._internal = [ipaddress.ip_network(network) for network in internal_networks]

    def name(self, request: HTTPConnection) -> str:
        """What limits are counted by: an IPv4 address, or the /64 of an IPv6 one."""
        return _name(self._address(request))

    def internal(self, request: HTTPConnection) -> bool:
        """Whether the request comes from `[tokenizer] internal_networks`."""
        address = self._address(request)
        return address is not None and any(address in network for network in self._internal)

    def _address(self, request: HTTPConnection) -> Address | None:
        text = request.client.host if request.client is not None else ""
        if self._behind_proxy:
            # A client can write the header, too, but only in front of what the proxy appends.
            forwarded = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
            text = forwarded or text
        return _parsed(text)


def client_name(address: str) -> str:
    """What limits count a peer by: an IPv4 address, or the /64 of an IPv6 one."""
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
