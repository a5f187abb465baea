"""Byte streams under the simulators' shells: raw non-blocking sockets on trio's readiness calls.

A shell needs a `Wire`; `SocketWire` is TCP, a simulation may bring its own (the switch's in-memory network has the same
shape). Raw recv and send carry 1.3–1.9 times as much as trio's SocketStream at our frame sizes.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Protocol

import trio

from messages.address import shown_address, unix_path
from simulators.errors import WireLost

RECEIVE_BYTES = 262_144
BACKLOG = 256
MAX_UNSENT_BYTES = 16 * 1024 * 1024  # a peer that reads no more loses the connection


class Wire(Protocol):
    """One connection. One task receives, any number send; `send` takes whole frames and keeps them whole."""

    peer: str

    async def receive(self) -> bytes:
        """The next bytes; b"" once the connection is closed or broken."""

    async def send(self, data: bytes) -> None:
        """Hand all bytes over. Raises WireLost, or an error of the wire's own kind, where the connection is gone."""

    def close(self) -> None:
        """Close at once; a waiting `receive` returns b"". Twice is once."""


class SocketWire:
    """A connected TCP or unix socket.

    Args:
        sock: non-blocking.
        peer: host:port, for logs.
    """

    def __init__(self, sock: socket.socket, peer: str) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = peer
        self._sock = sock
        self._unsent = bytearray()

    async def receive(self) -> bytes:
        while self._sock.fileno() != -1:  # trio remembers a wait on -1, and calls the next one a conflict
            try:
                # Waiting first costs little (the scheduler polls anyway), lets a busy peer fill the buffer and gives
                # other connections their turn.
                await trio.lowlevel.wait_readable(self._sock)
                return self._sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except (OSError, ValueError, trio.ClosedResourceError):
                return b""
        await trio.lowlevel.checkpoint()
        return b""

    async def send(self, data: bytes) -> None:
        if self._unsent:
            # Another task is sending: it takes these bytes along, in order.
            if len(self._unsent) + len(data) > MAX_UNSENT_BYTES:
                self.close()
                raise WireLost(f"{self.peer} does not read")
            self._unsent += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except (OSError, ValueError) as error:
            raise WireLost(f"{self.peer}: {error}") from error
        if sent == len(data):
            return
        self._unsent += data[sent:]
        try:
            while self._unsent:
                if self._sock.fileno() == -1:
                    raise WireLost(f"{self.peer}: closed")
                await trio.lowlevel.wait_writable(self._sock)
                try:
                    # A copy: the array cannot shrink while send looks at it.
                    del self._unsent[: self._sock.send(bytes(self._unsent[:RECEIVE_BYTES]))]
                except BlockingIOError:
                    continue
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise WireLost(f"{self.peer}: {error}") from error

    def close(self) -> None:
        if self._sock.fileno() != -1:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


class SocketListener:
    """A listening TCP socket.

    Args:
        address: host, port; port 0 takes a free one.
        shared: several processes may listen on the port (SO_REUSEPORT).
    Raises:
        WireLost: the address cannot be had.
    """

    def __init__(self, address: tuple[str, int], *, shared: bool = False) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._sock.setblocking(False)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._sock.bind(address)
            self._sock.listen(BACKLOG)
        except OSError as error:
            self._sock.close()
            raise WireLost(f"cannot listen on {address[0]}:{address[1]}: {error.strerror or error}") from error
        host, port = self._sock.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)

    async def accept(self) -> SocketWire:
        """The next connection.

        Raises:
            WireLost: the listener was closed.
        """
        while self._sock.fileno() != -1:
            try:
                await trio.lowlevel.wait_readable(self._sock)
                sock, peer = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except (ValueError, trio.ClosedResourceError) as error:
                raise WireLost("listener closed") from error
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise WireLost(f"cannot accept: {error}") from error
                await trio.sleep(0.1)  # out of descriptors: existing connections must go on
                continue
            sock.setblocking(False)
            return SocketWire(sock, f"{peer[0]}:{peer[1]}")
        raise WireLost("listener closed")

    def close(self) -> None:
        if self._sock.fileno() != -1:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


async def dial(address: tuple[str, int], timeout_s: float = 3.0) -> SocketWire:
    """Connect to host, port, or to a unix socket as `messages.address.address_of` has it.

    Raises:
        WireLost: nobody answers in time.
    """
    host, port = address
    path = unix_path(host)
    family = socket.AF_UNIX if path else socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        with trio.fail_after(timeout_s):
            await sock.connect(path or (host, port))
        raw = socket.socket(fileno=os.dup(sock.fileno()))
    except (OSError, trio.TooSlowError) as error:
        raise WireLost(f"cannot connect to {shown_address(address)}: {error}") from error
    finally:
        sock.close()
    raw.setblocking(False)
    return SocketWire(raw, shown_address(address))
