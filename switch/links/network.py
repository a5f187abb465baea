"""Byte streams between the switch and its peers: listen, dial, receive, send.

Links ask a `Network` for `Wire`s and never see a socket. `SocketNetwork` is TCP; `switch.links.memory_network` is the
same in memory for tests and simulation. Raw non-blocking sockets on trio's readiness calls carry 1.3–1.9 times as
much as trio's SocketStream at our frame sizes.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import trio

from messages.address import address_of, unix_path
from switch.errors import WireError
from switch.links.unix_socket import bound, peer_of

RECEIVE_BYTES = 65536
BACKLOG = 256
COURTESY_S = 0.002  # a connection: time for which a worker lets others take the next one
COURTESY_MAX_S = 0.05
CROWD = 8  # connections in the kernel's queue, from which on a worker takes the next one at once
REFUSED_S = 0.02  # after a connection that was closed at once, unless others wait; they come in floods
REFUSALS_A_TURN = 8  # then other tasks have theirs
_QUEUED = struct.Struct("24xI")  # Source: linux/tcp.h: tcpi_unacked of a listening socket is the length of its queue
# A peer whose machine is gone says nothing, and a link without echoes would keep its connection for ever.
KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))  # seconds, seconds, probes


class Wire(Protocol):
    """One connection. One task receives, one task sends.

    Attributes:
        uid: the user at the other end of a unix socket, by the kernel's word; None where nobody vouches for it.
    """

    peer: str
    uid: int | None

    async def receive(self) -> bytes:
        """The next bytes, at most 64 KiB; b"" once the connection is closed or broken. Raises WireError where there is
        more to say about it."""

    async def send(self, data: bytes) -> None:
        """Hand all bytes to the peer's window. Raises WireError where the connection is gone."""

    @property
    def unread(self) -> bool:
        """Whether bytes of the peer's wait to be received."""

    async def end(self) -> None:
        """Close our direction; the peer can still send. Nothing may be sent after."""

    def close(self) -> None:
        """Close at once; a waiting `receive` returns b"". Twice is once."""


class Acceptor(Protocol):
    """A listening address; `address` has the port where 0 was given."""

    address: str

    async def accept(self) -> Wire:
        """The next connection. Raises WireError once closed."""

    def close(self) -> None: ...


class Network(Protocol):
    async def listen(self, address: str, shared: bool = False) -> Acceptor:
        """Take an address; a unix socket that is `shared` can be reached by other users. Raises WireError where it
        cannot be had."""

    async def dial(self, address: str, timeout_s: float) -> Wire:
        """Raises WireError where nobody answers in time."""


class SocketWire:
    """A connected TCP or unix socket."""

    def __init__(self, sock: socket.socket, peer: str, closed: Callable[[], None] = lambda: None) -> None:
        self.uid = None
        if sock.family == socket.AF_UNIX:
            process, self.uid = peer_of(sock)
            peer = f"user {self.uid} process {process}"
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        self.peer = peer
        self._sock = sock
        self._closed = closed

    async def receive(self) -> bytes:
        while True:
            if self._sock.fileno() == -1:
                return b""  # closed here: waiting on descriptor -1 would upset the scheduler
            try:
                # Waiting first costs nothing (the scheduler polls anyway) and lets a busy peer fill the buffer,
                # while other connections get their turn.
                await trio.lowlevel.wait_readable(self._sock)
                return self._sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except (OSError, ValueError, trio.ClosedResourceError):
                return b""

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while True:
            try:
                sent = self._sock.send(view)
                if sent == len(view):
                    return
                view = view[sent:]
                await self._writable()
            except BlockingIOError:
                await self._writable()
            except (OSError, ValueError, trio.ClosedResourceError) as error:
                raise WireError(f"{self.peer}: {error}") from error

    async def _writable(self) -> None:
        if self._sock.fileno() == -1:
            raise WireError(f"{self.peer}: closed")
        try:
            await trio.lowlevel.wait_writable(self._sock)
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise WireError(f"{self.peer}: {error}") from error

    @property
    def closed(self) -> bool:
        """Whether this end has been closed."""
        return self._sock.fileno() == -1

    @property
    def unread(self) -> bool:
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except (OSError, ValueError):
            return False

    async def end(self) -> None:
        await trio.lowlevel.checkpoint()
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._sock.fileno() != -1:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
            self._closed()


class SocketAcceptor:
    """A listening TCP or unix socket.

    Args:
        shared: other workers accept from it too. The worker with the fewest connections is the quickest to take the
            next: acquirers hold few connections for days, and a worker with twice the share of another is full while
            that one idles. Nobody waits where `CROWD` connections or more are in the queue, which strangers can fill.
    """

    def __init__(self, sock: socket.socket, shared: bool = False) -> None:
        self._sock = sock
        self._shared = shared
        self._open = 0
        self._latest: SocketWire | None = None
        self._in_a_row = 0
        name = sock.getsockname()
        self.address = f"unix:{name}" if sock.family == socket.AF_UNIX else f"{name[0]}:{name[1]}"

    async def accept(self) -> Wire:
        while True:
            if self._sock.fileno() == -1:
                raise WireError(f"{self.address}: closed")
            try:
                if self._refused():
                    self._in_a_row += 1
                    if not self._in_a_row % REFUSALS_A_TURN:
                        await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(self._sock)
                    if self._shared and self._open and self._queued() < CROWD:
                        await trio.sleep(min(COURTESY_MAX_S, COURTESY_S * self._open))
                sock, peer = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                if self._refused():  # and nothing waits: the next ones are taken together
                    self._latest = None
                    await trio.sleep(REFUSED_S)
                continue
            except (ValueError, trio.ClosedResourceError) as error:
                raise WireError(f"{self.address}: closed") from error
            except OSError as error:
                if error.errno not in (errno.EBADF, errno.EINVAL, errno.ENOTSOCK):
                    # Out of descriptors, or what became of a connection on its way (the kernel reports that here):
                    # existing connections and the next ones must go on.
                    await trio.sleep(0.1)
                    continue
                raise WireError(f"{self.address}: {error}") from error
            try:
                sock.setblocking(False)
                wire = SocketWire(sock, f"{peer[0]}:{peer[1]}" if peer else "", self._one_less)
            except OSError:  # gone again already
                sock.close()
                continue
            self._open += 1
            self._latest = wire
            return wire

    def _refused(self) -> bool:
        """Whether the connection that was taken last has been closed at once."""
        return self._latest is not None and self._latest.closed

    def _queued(self) -> int:
        """Connections that wait to be accepted; 0 where the kernel does not say."""
        try:
            return int(_QUEUED.unpack(self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUED.size))[0])
        except (OSError, struct.error):
            return 0

    def _one_less(self) -> None:
        self._open -= 1

    def close(self) -> None:
        if self._sock.fileno() != -1:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


class SocketNetwork:
    """TCP and unix sockets.

    Args:
        inherited: listening sockets that the supervisor made for all workers, address → descriptor. Any other address
            is listened on here, with SO_REUSEPORT, so that workers started by hand can share it too; a unix socket
            has one worker then.
    """

    def __init__(self, inherited: Mapping[str, int] | None = None) -> None:
        self._inherited = dict(inherited or {})

    async def listen(self, address: str, shared: bool = False) -> Acceptor:
        await trio.lowlevel.checkpoint()
        if address in self._inherited:
            sock = socket.socket(fileno=self._inherited.pop(address))
            sock.setblocking(False)
            return SocketAcceptor(sock, shared=True)
        host, port = address_of(address)
        if path := unix_path(host):
            sock = bound(Path(path), shared)
            sock.setblocking(False)
            return SocketAcceptor(sock)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise WireError(f"cannot listen on {address}: {error.strerror or error}") from error
        sock.setblocking(False)
        return SocketAcceptor(sock)

    async def dial(self, address: str, timeout_s: float) -> Wire:
        host, port = address_of(address)
        with trio.move_on_after(timeout_s):
            try:
                if path := unix_path(host):
                    return await self._connect(socket.AF_UNIX, path, address)
                found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                for family, _, _, _, target in found[:-1]:
                    with suppress(OSError):
                        return await self._connect(family, target, address)
                return await self._connect(found[-1][0], found[-1][4], address)
            except OSError as error:
                raise WireError(f"{address}: {error.strerror or error}") from error
        raise WireError(f"{address}: no connection within {timeout_s:g} s")

    async def _connect(self, family: int, target: object, address: str) -> Wire:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(target)  # type: ignore[arg-type]
            await trio.lowlevel.wait_writable(sock)
            if failed := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(failed, errno.errorcode.get(failed, str(failed)))
            return SocketWire(sock, address)
        except BaseException:
            sock.close()
            raise
