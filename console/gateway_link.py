"""The link between a gateway and its switch: a unix socket on one machine, mutual TLS and a MAC between two.

`[gateway.switch]` and the `[[acquirer]]` with surrogates go in; contradictions, and the proofs with which a gateway
reaches its switch, come out. Called by `console.config` and `console.processes`. The gateway imports neither switch nor
hsm, so certificates and MAC, which are those of the switch's own links, are handed to it here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.config import GatewayConfig
from hsm.callers import CallerConfig
from messages.address import UNIX, address_of
from messages.dialect import load_dialect
from messages.errors import MessagesError
from switch.links.settings import AcquirerLink, tls_problems
from switch.links.tls_context import TlsSettings

if TYPE_CHECKING:
    from console.config import Config
    from gateway.switch_access import Mac, Tls

CALLER = "gateway"  # of the hsm
_SPARE = 512
_EXAMPLE = 'tls = { certificate = "…", private_key = "…", ca = "…", pins = ["…"] }'


class RemoteSwitch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gateway.switch]`: the switch of a gateway that runs on another machine.

    Args:
        address: host:port of the link's listener.
        tls: our certificate, and who vouches for that of the switch.
        mac_key: the `[[key]]` of this machine's hsm under which each message has its MAC.
        dialect: of the link: a name, or a file.
    """

    address: str
    tls: TlsSettings | None = None
    mac_key: str = ""
    dialect: str = "iso87-ascii"


class GatewaySection(GatewayConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gateway]` of the file: the gateway's own settings, and the switch where that is on another machine."""

    switch: RemoteSwitch | None = None


def gateway_link_problems(config: Config) -> list[str]:
    """The faults of the links of gateways, a line each that names the setting and the fix."""
    remote = config.gateway.switch
    own = config.acquirer_link(config.gateway.link)
    found = []
    if own is None and remote is None:
        found.append(f"gateway.link: there is no [[acquirer]] named {config.gateway.link!r}")
    for link in config.acquirer:
        if link.surrogate or link.name == config.gateway.link:
            found += _listener_problems(link, own=link.name == config.gateway.link)
    if remote is not None:
        found += _remote_problems(config, remote, own)
    if not config.hsm.vault:
        found += _vault_problems(config)
    return found


def with_gateway(callers: tuple[CallerConfig, ...], remote: RemoteSwitch | None) -> tuple[CallerConfig, ...]:
    """The hsm's callers, with a gateway that may use its MAC key where it has one."""
    if remote is None or not remote.mac_key:
        return callers
    entry = next((entry for entry in callers if entry.name == CALLER), CallerConfig(name=CALLER))
    if entry.keys is None:
        entry = msgspec.structs.replace(entry, keys=(remote.mac_key,))
    return (*(other for other in callers if other.name != CALLER), entry)


@asynccontextmanager
async def switch_proofs(
    link: str, remote: RemoteSwitch | None, hsm_socket: Path, max_in_flight: int
) -> AsyncIterator[tuple[Tls | None, Mac | None]]:
    """The proofs of both ends of a gateway's link, for as long as the block runs; none on a unix socket.

    Args:
        link: its name, for logs. hsm_socket: of the hsm's caller `gateway`.
        max_in_flight: messages of the gateway without an answer.
    Raises: WireError where the certificate files cannot be used.
    """
    if remote is None:
        yield None, None
        return
    from console.gateway_mac import GatewayMac
    from hsm.asyncio_client import open_hsm
    from switch.links.credentials import Credentials

    assert remote.tls is not None, "the configuration was checked"
    host = remote.tls.server_name or address_of(remote.address)[0]
    tls = Credentials(link, remote.tls, serves=False, server_name=host)
    # A MAC for each message and one for its answer; the rest is for what the switch starts, and network management.
    async with open_hsm(hsm_socket, max_in_flight=2 * max_in_flight + _SPARE) as hsm:
        yield tls, GatewayMac(link, remote.mac_key, load_dialect(remote.dialect), hsm, peer=remote.address)


def _listener_problems(link: AcquirerLink, *, own: bool) -> list[str]:
    """The switch's end of a link with surrogates."""
    place = f"acquirer[{link.name}]"
    found = []
    if not link.surrogate:
        found.append(f"{place}.surrogate: must be true, the gateway has no card numbers")
    if own and (link.dials or link.header or link.framing != "2-byte-be"):
        found.append(f"{place}: the gateway dials it, without header, with framing 2-byte-be")
    if not link.listen:
        return found
    if link.on_unix_socket:
        if own and link.mac_key:
            found.append(f"{place}.mac_key: the gateway has no MAC key, its unix socket proves who it is: leave it out")
        return found
    if link.tls is None and not link.mac_key:
        found.append(
            f"{place}.listen: anybody who reaches {link.listen} could send as the gateway: use a unix socket, listen = "
            f'"unix:gateway.sock"; for a gateway on another machine {_EXAMPLE}, mac_key and mac_management = true'
        )
        return found
    return found + [f"{place}.{problem}" for problem in _missing_proofs(link)]


def _missing_proofs(link: AcquirerLink) -> list[str]:
    """The proofs that a port for a gateway lacks: mutual TLS with a pin, a MAC on each message."""
    found = []
    if link.tls is None:
        found.append(f"tls: a MAC alone shows surrogates and amounts to everybody on the way: {_EXAMPLE}")
    elif not link.tls.require_client_certificate:
        found.append("tls.require_client_certificate: must be true, the gateway shows a certificate")
    elif not link.tls.pins:
        found.append(
            "tls.pins: name the certificate of the gateway, or every other one that ca vouches for could send as the "
            "gateway: openssl x509 -in gateway.crt -noout -fingerprint -sha256"
        )
    if not link.mac_key:
        found.append('mac_key: tls alone trusts a stolen certificate: name a [[key]] with usage = "mac"')
    elif not link.mac_management:
        found.append("mac_management: must be true, sign-on and echo carry a MAC, too")
    if link.key_exchange_hours:
        found.append("key_exchange_hours: a gateway takes no keys over its link: leave it out, officers change them")
    return found


def _remote_problems(config: Config, remote: RemoteSwitch, own: AcquirerLink | None) -> list[str]:
    """The gateway's end: `[gateway.switch]`."""
    found = []
    if remote.address.startswith(UNIX):
        found.append("gateway.switch.address: a switch on this machine needs no [gateway.switch]: leave it out")
    else:
        try:
            address_of(remote.address)
        except ValueError as error:
            found.append(f"gateway.switch.address: {error}")
        found += _remote_proofs(config, remote)
    try:
        load_dialect(remote.dialect)
    except (MessagesError, OSError) as error:
        found.append(f"gateway.switch.dialect: {error}")
    if own is None:
        return found
    if own.on_unix_socket:
        found.append(
            f"gateway.switch: acquirer[{own.name}] listens on a unix socket here: leave [gateway.switch] out, or give "
            "that link a port with tls and a mac_key"
        )
    for setting in ("mac_key", "dialect"):
        here, there = getattr(remote, setting), getattr(own, setting)
        if here and there and here != there:
            found.append(
                f"gateway.switch.{setting}: is {here}, acquirer[{own.name}].{setting} is {there}: both are one"
            )
    return found


def _remote_proofs(config: Config, remote: RemoteSwitch) -> list[str]:
    found = []
    if remote.tls is None:
        found.append(
            "gateway.switch.tls: a MAC alone shows surrogates and amounts to everybody on the way: tls = { certificate "
            '= "…", private_key = "…", ca = "…" }'
        )
    elif not remote.tls.certificate:
        found.append("gateway.switch.tls.certificate: the switch asks for one: set certificate and private_key")
    else:
        found += tls_problems("gateway.switch.tls", remote.tls, dials=True)
    key = next((key for key in config.key if key.name == remote.mac_key), None)
    if not remote.mac_key:
        found.append(
            'gateway.switch.mac_key: tls alone trusts a stolen certificate: name a [[key]] with usage = "mac", the '
            "key of acquirer.mac_key at the switch"
        )
    elif key is None:
        found.append(f"gateway.switch.mac_key: there is no [[key]] named {remote.mac_key!r}")
    elif key.usage != "mac":
        found.append(f"gateway.switch.mac_key: key {key.name!r} is for {key.usage}, not for mac")
    return found


def _vault_problems(config: Config) -> list[str]:
    """A machine whose hsm keeps no cards has a gateway and nothing else."""
    if config.gateway.switch is None:
        return ["hsm.vault: false is for a machine with nothing but a gateway: leave it out, or set [gateway.switch]"]
    if config.acquirer or config.issuer:
        return ["hsm.vault: the links of this file need a switch, and that one the vault: leave it out"]
    return []
