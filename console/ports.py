"""Ports: which of a configuration's are free, and the same configuration on ports that are.

`console.supervisor` calls it before anything starts; tests and benches always take free ports.
"""

from __future__ import annotations

import errno
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from console.errors import StartError

if TYPE_CHECKING:
    from console.config import Config

# Below the range from which the system takes the ports of outgoing connections, so that none of those comes between.
_LOWEST, _HIGHEST = 12_000, 32_000
_TRIES = 2_000
_BACKLOG = 1_024
IN_USE = "in use"


class BusyPort(NamedTuple):
    """An address that cannot be listened on now: the setting's path, the address, and why."""

    setting: str
    host: str
    port: int
    why: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port} ({self.setting}){'' if self.why == IN_USE else f': {self.why}'}"


def busy_ports(addresses: dict[str, tuple[str, int]]) -> list[BusyPort]:
    """Those of `addresses` (setting's path → host, port) that cannot be listened on now."""
    return [
        BusyPort(name, host, port, why)
        for name, (host, port) in addresses.items()
        if port and (why := _refusal(host, port))
    ]


def listed_ports(busy: list[BusyPort]) -> str:
    """All of them in a line: those in use, then those that this process may or can never listen on."""
    used = ", ".join(str(port) for port in busy if port.why == IN_USE)
    others = ", ".join(str(port) for port in busy if port.why != IN_USE)
    parts = [f"in use: {used}"] if used else []
    return "; ".join([*parts, f"cannot be listened on: {others}"] if others else parts)


def require_free(addresses: dict[str, tuple[str, int]]) -> None:
    """Raise StartError that names each busy port, its setting, and what to do."""
    busy = busy_ports(addresses)
    if busy:
        raise StartError(
            f"{'ports' if len(busy) > 1 else 'port'} {listed_ports(busy)}",
            "stop what listens there, change the setting, or start with --free-ports",
        )


def on_free_ports(config: Config, issuers: bool) -> Config:
    """`config` with every listening address (those of simulated issuers too, if `issuers`) on a free port."""
    import msgspec

    from messages.address import address_of, unix_path

    taken: set[int] = set()

    def moved(address: str, block: int = 1) -> str:
        if unix_path(address):
            return address  # in a state directory of one system
        host, _ = address_of(address)
        return f"{host}:{_free_block(host, block, taken)}"

    replace = msgspec.structs.replace
    metrics = config.switch.metrics
    acquirers = tuple(replace(link, listen=moved(link.listen)) if link.listen else link for link in config.acquirer)
    remote, own = config.gateway.switch, next((link for link in acquirers if link.name == config.gateway.link), None)
    if remote is not None and own is not None:  # our gateway dials our own switch
        port = address_of(own.listen)[1]
        remote = replace(remote, address=f"{remote.address.rpartition(':')[0]}:{port}")
    tokenizer, tokenizer_url = config.tokenizer, config.gateway.tokenizer_url
    if config.runs_switch:  # else the tokenizer is another machine's
        tokenizer, tokenizer_url = replace(tokenizer, listen=moved(tokenizer.listen), url=""), ""
    return replace(
        config,
        overridden=tuple(sorted({*config.overridden, "ports"})),
        tokenizer=tokenizer,
        gateway=replace(
            config.gateway, listen=moved(config.gateway.listen), tokenizer_url=tokenizer_url, switch=remote
        ),
        acquirer=acquirers,
        issuer=tuple(
            replace(link, listen=moved(link.listen))
            if link.listen
            else replace(link, address=moved(link.address))
            if issuers
            else link
            for link in config.issuer
        ),
        switch=replace(config.switch, metrics=moved(metrics, config.switch.workers)) if metrics else config.switch,
    )


def listening_sockets(config: Config) -> dict[str, socket.socket]:
    """A listening socket for each link whose peer dials, by address.

    The supervisor holds them and each worker inherits them: a connection goes to whichever worker takes it, and while
    one is being started again, nobody who dials is turned away.

    Raises: StartError where an address cannot be had.
    """
    from messages.address import address_of, unix_path
    from switch.errors import WireError
    from switch.links.unix_socket import bound

    sockets: dict[str, socket.socket] = {}
    links = [("acquirer", link) for link in config.acquirer] + [("issuer", link) for link in config.issuer]
    for side, link in ((side, config.placed(link)) for side, link in links):
        if not link.listen:
            continue
        host, port = address_of(link.listen)
        try:
            if path := unix_path(host):
                sockets[link.listen] = bound(Path(path), bool(link.peer_users), _BACKLOG)
                continue
            sockets[link.listen] = socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
            )
        except (OSError, WireError) as error:
            for taken in sockets.values():
                taken.close()
            why = error.strerror if isinstance(error, OSError) else error
            raise StartError(
                f"{side}[{link.name}] cannot listen on {link.listen}: {why}", "change the setting"
            ) from None
    return sockets


def _free_block(host: str, size: int, taken: set[int]) -> int:
    """The first of `size` consecutive free ports."""
    for _ in range(_TRIES):
        first = random.randrange(_LOWEST, _HIGHEST - size)
        block = range(first, first + size)
        if taken.isdisjoint(block) and not any(_refusal(host, port) for port in block):
            taken.update(block)
            return first
    raise StartError(f"no {size} free ports on {host}", "stop what uses them")


def _refusal(host: str, port: int) -> str:
    """Why an address cannot be listened on; "" where it can."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return IN_USE if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
    return ""
