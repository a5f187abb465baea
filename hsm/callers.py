"""Permissions of callers: one listening socket a caller, the users that may connect to it, the commands they may send.

`[[caller]]` of the configuration goes in, laid over the table below; callers ready for the listener come out. Called by
`hsm.server`, and by the console for the sockets' paths. With one operating system user for everything, callers are kept
apart by the socket they know; run them as users of their own for a wall between them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import msgspec

from hsm.card_commands import CardRequest
from hsm.errors import ConfigurationError
from hsm.peer_credentials import peer_credentials, user_id
from hsm.wire import REQUESTS, tag_of

_EVERYBODY = frozenset({"status"})
_CARD_COMMANDS = frozenset(tag_of(request) for request in get_args(CardRequest))

# The commands of each role, by tag. A command that stands in no row can be sent by nobody: a test holds the table to
# `wire`.
CALLERS: dict[str, frozenset[str]] = {
    "switch": _EVERYBODY
    | {"screen", "dispatch", "mac"}
    | {"renew_link_key", "accept_link_key", "activate_key", "list_keys"}  # the key exchange over a link
    | {"seal_ledger", "check_ledger_seals"},
    "tokenizer": _EVERYBODY | {"tokenize", "resolve"},  # a process behind a web server learns no card number
    "issuer": _EVERYBODY | _CARD_COMMANDS,  # issues cards, or stands in for an issuer
    "requestor": _EVERYBODY  # keeps network tokens for merchants
    | {"provision_network_token", "read_network_token", "change_network_token", "generate_token_cryptogram"},
    "gateway": _EVERYBODY | {"mac", "verify_mac"},  # a gateway that reaches its switch over a network
    "auditor": _EVERYBODY | {"check_seals", "check_ledger_seals"},  # of the audit trail and of the ledger
    "officer": _EVERYBODY
    | {"list_keys", "generate_key", "import_components", "import_block", "export_key", "rotate_key", "retire_key"}
    | {"activate_key", "rewrap"}
    | {"propose", "approve", "reject", "list_proposals", "register_officers"}
    | {"check_seals", "check_ledger_seals", "accept_ledger_head"}
    | {"detokenize", "import_cards", "delete_card", "prove_deletion"}
    | {"provision_network_token", "read_network_token", "change_network_token"},
}
# Roles that use the keys named in `[[caller]] keys` and no others; without one they have no socket.
_NAMED_KEYS_ONLY = frozenset({"gateway"})
COMMANDS: dict[str, type[msgspec.Struct]] = {tag_of(request): request for request in REQUESTS}


class CallerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[caller]]`: replaces what the table says about a role of it, or makes another caller.

    Args:
        name: a role of CALLERS, or a new name; then `socket` and `commands` are needed.
        socket: path, relative to the state directory; empty: beside `[hsm] socket`, e.g. `hsm-officer.sock`.
        users: names or numbers of the users that may connect; left out: the HSM's own and root. With users the socket
            has mode 0660 instead of 0600: give its directory a group that they share.
        commands: tags; left out: those of the role. Empty: nobody connects, there is no socket.
        keys: names of the only keys that its commands may name; left out: any, and for a gateway none. Empty: nobody
            connects, there is no socket.
    """

    name: str
    socket: str = ""
    users: tuple[str, ...] | None = None
    commands: tuple[str, ...] | None = None
    keys: tuple[str, ...] | None = None


class Caller(msgspec.Struct, frozen=True):
    """A caller as the listener knows it: user ids and request types, and the names of its keys (None: any)."""

    name: str
    socket: str
    users: frozenset[int]
    commands: frozenset[type[msgspec.Struct]]
    mode: int = 0o600
    keys: frozenset[str] | None = None

    def __repr__(self) -> str:
        return f"Caller({self.name!r}, {len(self.commands)} commands)"


class Peer:
    """One connected process, by the kernel's word: caller, user, group and process id.

    Attributes:
        lines: beginnings of audit records, made once for each kind of use (`hsm.audit_writer`).
    """

    __slots__ = ("caller", "commands", "gid", "keys", "lines", "pid", "uid")

    def __init__(self, caller: Caller, uid: int, gid: int, pid: int) -> None:
        self.caller = caller
        self.commands = caller.commands
        self.keys = caller.keys
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.lines: dict[Any, str] = {}


def callers(configured: Iterable[CallerConfig], socket_path: str) -> tuple[Caller, ...]:
    """Return all callers: the roles of CALLERS as configured, then the others.

    Args:
        configured: `[[caller]]`.
        socket_path: `[hsm] socket`, the switch's; the others are put beside it.
    Raises:
        ConfigurationError: `caller_problems` has something to say.
    """
    entries = tuple(configured)
    if problems := caller_problems(entries, socket_path):
        raise ConfigurationError("; ".join(problems))
    by_name = {name: CallerConfig(name=name) for name in CALLERS} | {entry.name: entry for entry in entries}
    found = (_caller(entry, socket_path) for entry in by_name.values())
    return tuple(caller for caller in found if caller.commands and caller.keys != frozenset())


def caller_problems(configured: Iterable[CallerConfig], socket_path: str) -> list[str]:
    """Return a line for each thing that is wrong with `[[caller]]`; empty if it can be used."""
    found: list[str] = []
    sockets = {socket_of(CallerConfig(name=name), socket_path): name for name in CALLERS}
    seen: set[str] = set()
    for entry in configured:
        place = f"caller[{entry.name}]"
        if not entry.name or entry.name in seen:
            found.append(f"{place}: names are unique and not empty")
        seen.add(entry.name)
        if entry.name not in CALLERS:
            if not entry.socket:
                found.append(f"{place}.socket: missing, it is none of {', '.join(CALLERS)}")
            if entry.commands is None:
                found.append(f"{place}.commands: missing, it is none of {', '.join(CALLERS)}")
        for tag in entry.commands or ():
            if tag not in COMMANDS:
                found.append(f"{place}.commands: there is no command {tag!r}")
        for user in entry.users or ():
            if user_id(user) is None:
                found.append(f"{place}.users: this machine has no user {user!r}")
        path = socket_of(entry, socket_path)
        if path and sockets.setdefault(path, entry.name) != entry.name:
            found.append(f"{place}.socket: {path} is the socket of {sockets[path]}")
    return found


def socket_of(entry: CallerConfig, socket_path: str) -> str:
    """Return the path of a caller's socket, relative to the state directory or absolute."""
    if entry.socket:
        return entry.socket
    if entry.name == "switch":
        return socket_path
    path = Path(socket_path)
    return str(path.with_name(f"{path.stem}-{entry.name}{path.suffix}")) if entry.name in CALLERS else ""


def peer_of(connection: socket.socket, caller: Caller) -> Peer:
    """Return who is at the other end of a unix socket."""
    found = peer_credentials(connection)
    return Peer(caller, found.uid, found.gid, found.pid)


def _caller(entry: CallerConfig, socket_path: str) -> Caller:
    own = frozenset({os.getuid(), 0})
    users = own if entry.users is None else frozenset(user_id(user) for user in entry.users)
    tags = CALLERS[entry.name] if entry.commands is None else entry.commands
    keys = () if entry.keys is None and entry.name in _NAMED_KEYS_ONLY else entry.keys
    return Caller(
        entry.name,
        socket_of(entry, socket_path),
        frozenset(user for user in users if user is not None),
        frozenset(COMMANDS[tag] for tag in tags),
        0o600 if entry.users is None else 0o660,
        None if keys is None else frozenset(keys),
    )
