"""The control socket of a simulated issuer or network: JSON lines over a unix socket.

One command a line in, result lines out, then a last line with "ok". Served inside the simulator's process; `ask` is the
blocking other end for the command line, tests and `prove`. `simulators.control_commands` has the commands.
"""

from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from simulators.book import BookLine
from simulators.control_commands import Controlled, last_line, results
from simulators.errors import ControlError

MAX_COMMAND_BYTES = 65_536


async def serve_control(
    path: Path, server: Controlled, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Listen on `path` (made with mode 0600, an old socket is replaced) until cancelled."""
    sock = trio.socket.from_stdlib_socket(_bound(path))
    try:
        task_status.started()
        await trio.serve_listeners(partial(_converse, server=server), [trio.SocketListener(sock)])
    finally:
        sock.close()
        _remove(path)


def ask(path: Path, command: str, timeout_s: float = 30.0, **arguments: object) -> list[dict[str, Any]]:
    """Send one command to a control socket and wait for all its result lines; blocking.

    Args:
        path: the socket.
        command: one of `simulators.control_commands.COMMANDS`; its arguments by keyword.
    Returns:
        The result lines; for commands without lines one dict with the values of the last line.
    Raises:
        ControlError: no simulator there, or it says no.
    """
    lines = _exchange(path, {"cmd": command, **arguments}, timeout_s)
    if not lines:
        raise ControlError(f"{path}: the simulator hung up")
    last = msgspec.json.decode(lines[-1])
    if not last.pop("ok", False):
        raise ControlError(f"{path}: {last.get('error', 'broken answer')}")
    return [msgspec.json.decode(line) for line in lines[:-1]] or ([last] if last else [])


def ask_book(path: Path, timeout_s: float = 60.0) -> list[BookLine]:
    """The book behind a control socket; blocking, errors as in `ask`."""
    lines = _exchange(path, {"cmd": "book"}, timeout_s)
    if not lines or not msgspec.json.decode(lines[-1]).get("ok"):
        raise ControlError(f"{path}: the book did not come whole")
    decode = msgspec.json.Decoder(BookLine).decode
    return [decode(line) for line in lines[:-1]]


def _bound(path: Path) -> socket.socket:
    """A listening unix socket that only this user may open."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        mask = os.umask(0o177)  # from its first moment
        try:
            sock.bind(str(path))
        finally:
            os.umask(mask)
        sock.listen(16)
    except OSError as error:
        sock.close()
        raise ControlError(f"{path}: {error.strerror or error}") from None
    return sock


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _exchange(path: Path, command: dict[str, object], timeout_s: float) -> list[bytes]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            sock.sendall(msgspec.json.encode(command) + b"\n")
            sock.shutdown(socket.SHUT_WR)
            with sock.makefile("rb") as file:
                return [line for line in file.read().split(b"\n") if line]
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror or error}; is the simulator running?") from None


async def _converse(stream: trio.SocketStream, server: Controlled) -> None:
    """Commands of one connection, one after the other."""
    buffer = b""
    try:
        async for data in stream:
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                async for answer in results(line, server):
                    await stream.send_all(answer)
            if len(buffer) > MAX_COMMAND_BYTES:
                await stream.send_all(last_line(error="the command is too long"))
                break
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        await trio.aclose_forcefully(stream)
