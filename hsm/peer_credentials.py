"""The process at the other end of a unix socket, by the kernel's word, and users of this machine by name or number.

A connected socket goes in, process, user and group come out. Called by `hsm.listener` for its callers and by
`switch.links.unix_socket` for links. Source: unix(7), SO_PEERCRED; credentials are those of connect(2) and listen(2).
"""

from __future__ import annotations

import pwd
import socket
import struct
from typing import NamedTuple

_CREDENTIALS = struct.Struct("3i")


class PeerCredentials(NamedTuple):
    """Process, user and group numbers."""

    pid: int
    uid: int
    gid: int


def peer_credentials(connection: socket.socket) -> PeerCredentials:
    """Return the credentials of the other end of a connected unix socket."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return PeerCredentials(*_CREDENTIALS.unpack(packed))


def user_id(user: str) -> int | None:
    """Return the number of a user, given by name or number; None where this machine has no such user."""
    if user.isascii() and user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def user_name(uid: int) -> str:
    """Return the name of a user, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
