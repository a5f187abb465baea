"""Unix sockets of links: made so that nobody else can take their place, and known by who is at the other end.

The supervisor, or a worker that is started by hand, calls `bound`; `switch.links.network` asks `peer_of`. The kernel
vouches for the user at the other end, so such a link needs neither keys nor certificates to know its peer.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from hsm.peer_credentials import peer_credentials, user_id, user_name
from switch.errors import WireError

BACKLOG = 256
OWN_MODE, SHARED_MODE = 0o600, 0o660  # of the socket: for our own user, or for users that share its group
_PROBE_S = 1.0


def users_of(peer_users: Iterable[str]) -> frozenset[int]:
    """Numbers of the users that a link takes; those of this process where it names none."""
    named = frozenset(number for user in peer_users if (number := user_id(user)) is not None)
    return named or frozenset({os.geteuid()})


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """(process, user) at the other end of a connected unix socket."""
    found = peer_credentials(sock)
    return found.pid, found.uid


def bound(path: Path, shared: bool, backlog: int = BACKLOG) -> socket.socket:
    """A listening socket at `path`, with its mode from before anybody can connect.

    An existing file is removed only if it is a socket of ours that nobody listens on.

    Args:
        shared: other users may connect, by the group of the socket's directory.

    Raises:
        WireError: the directory is open to others, the path is taken, or it cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if problem := obstacle(path):
            raise WireError(problem)
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise WireError(f"cannot listen on {path}: {error.strerror or error}") from error
    try:
        sock.bind(str(path))  # nobody can connect before listen()
        if shared:
            os.chown(path, -1, path.parent.stat().st_gid)
        path.chmod(SHARED_MODE if shared else OWN_MODE)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise WireError(f"cannot listen on {path}: {error.strerror or error}") from error
    return sock


def obstacle(path: Path) -> str:
    """Why no socket may be made at `path`; "" where one may, as far as can be seen without changing anything.

    A socket of ours that nobody listens on is no obstacle; a link, a file and a socket in use are.

    Raises:
        OSError: a directory or the path cannot be looked at.
    """
    try:
        directory = path.parent.stat()
    except FileNotFoundError:
        return ""  # it will be made
    # Another user who may write there could put a socket in place of ours.
    if directory.st_uid not in (os.geteuid(), 0):
        return f"{path.parent} belongs to {user_name(directory.st_uid)}: give it to {user_name(os.geteuid())}"
    if directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not directory.st_mode & stat.S_ISVTX:
        return f"{path.parent} can be written by others: chmod go-w {path.parent}"
    try:
        found = path.lstat()
    except FileNotFoundError:
        return ""
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        return f"cannot listen on {path}: there is something that is no socket of ours; move it away"
    if _in_use(path):
        return f"cannot listen on {path}: another process listens there; stop it"
    return ""


def _in_use(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            pass  # somebody listens, and is busy
    return True
