"""Addresses that a webhook may go to: the public internet, and networks that the configuration names.

A merchant chooses the address, and the gateway is inside. So the address that is connected to is checked, not the name:
`Resolver` resolves a name once and `chosen` judges what came of it; `gateway.delivery` connects to that very
address. Merchants cannot learn here what a name resolves to.

Source: IANA's special-purpose address registries (RFC 6890); RFC 6052 2.1, RFC 3056 2 and RFC 4380 4 for the addresses
inside of addresses.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_LOWEST_FREE_PORT = 1024
_WEB_PORTS = (80, 443)  # below 1024 only these: elsewhere a POST would talk to mail, names or shells
# Public by its number, but answered by the machine's own cloud. Source: inferred from Azure's published documentation.
_PLATFORM = (IPv4Address("168.63.129.16"),)
# Protocol assignments (192.0.0.192 is a cloud's metadata) and relays of 6to4; releases of Python differ about them.
_SPECIAL_V4 = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
_GLOBAL_V6 = IPv6Network("2000::/3")
_SPECIAL_V6 = (IPv6Network("2001::/23"), IPv6Network("2001:db8::/32"), IPv6Network("3fff::/20"))
# IPv6 networks with an IPv4 address inside, and the bit at which it ends.
_EMBEDDING = (
    (IPv6Network("::/96"), 0),
    (IPv6Network("::ffff:0:0/96"), 0),  # mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
)
_LOCAL_NAMES = ("localhost", "localdomain", "local", "internal", "home.arpa")
MAX_LOOKUPS = 64  # at once; a thread each


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """ "127.0.0.0/8", "::1" as networks. Raises ValueError for anything else, host bits included."""
    return tuple(ip_network(text) for text in texts)


def permitted(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether a webhook may go to an address: it is public, or in one of the networks that are allowed."""
    if any(address.version == network.version and address in network for network in allowed):
        return True
    if isinstance(address, IPv4Address):
        special = address in _PLATFORM or any(address in network for network in _SPECIAL_V4)
        return address.is_global and not address.is_multicast and not special
    for network, end in _EMBEDDING:
        if address in network:
            return permitted(IPv4Address((int(address) >> end) & 0xFFFF_FFFF), allowed)
    # A scope id is of this machine only. Teredo is a part of 2001::/23.
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6) and not address.scope_id


def literal(host: str) -> Address | None:
    """The address that a host is written as, in any spelling that a resolver takes (2130706433, 0x7f.1, 0177.0.0.1)."""
    text = host.removeprefix("[").removesuffix("]").rstrip(".")
    try:
        return ip_address(text)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(text))
    except (OSError, ValueError):
        return None


def plainly_refused(host: str, port: int | None, allowed: Sequence[Network]) -> bool:
    """Whether an address in a URL can be refused without asking a name server: that would reveal its answers."""
    if not port_permitted(port):
        return True
    address = literal(host)
    if address is not None:
        return not permitted(address, allowed)
    name = host.rstrip(".").lower()
    return not allowed and ("." not in name or any(name.endswith(f".{suffix}") for suffix in _LOCAL_NAMES))


def port_permitted(port: int | None) -> bool:
    """80, 443, and 1024 and above; None is the scheme's own."""
    return port is None or port in _WEB_PORTS or port >= _LOWEST_FREE_PORT


def _getaddrinfo(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Resolver:
    """Looks names up in threads of its own, so that a slow name server holds up nothing else of the process.

    A look-up cannot be stopped: nobody may wait for it any more, and its thread goes on until the system gives up.

    Args:
        resolve: host and port → addresses; raises OSError for a name that has none.
    """

    def __init__(self, resolve: Callable[[str, int], list[str]] = _getaddrinfo) -> None:
        self._resolve = resolve
        self._threads = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="webhook-lookup")

    def start(self, host: str, port: int) -> Future[list[str]]:
        """A look-up that is under way; the future is done when its thread is."""
        return self._threads.submit(self._resolve, host, port)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def chosen(addresses: Sequence[str], allowed: Sequence[Network]) -> list[str]:
    """Those of a name's addresses that a webhook may go to, in the resolver's order."""
    return [text for text in addresses if permitted(ip_address(text), allowed)]
