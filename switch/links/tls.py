"""TLS 1.3 under a link: settings and a connection in, a secured connection out.

`switch.links.connections` asks a `TlsEnd` for each connection that it dials or accepts; a link without TLS never comes
here. The files are those of `switch.links.credentials`; connections that are open go on when they change.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import datetime

import trio

from messages.address import address_of
from switch.errors import WireError
from switch.links.credentials import Credentials
from switch.links.network import RECEIVE_BYTES, Wire
from switch.links.settings import Link
from switch.links.tls_context import TlsSettings, label_of, reason_of

HANDSHAKE_S = 5.0
MAX_HANDSHAKE_BYTES = 128 * 1024  # from the peer, before it is known
WRITE_BYTES = 256 * 1024


class HandshakeFailed(WireError):
    """The peer is not let in, or does not let us in; `reason` is a constant, for the metric."""

    def __init__(self, peer: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{peer}: TLS: {detail or reason.replace('_', ' ')}")
        self.reason = reason


class TlsEnd:
    """Our end of the TLS of one link.

    Raises:
        WireError: the files cannot be used.
    """

    def __init__(self, link: Link, tls: TlsSettings) -> None:
        self._serves = not link.dials
        host = tls.server_name or (address_of(link.address)[0] if link.dials else "")
        self._credentials = Credentials(link.name, tls, serves=self._serves, server_name=host)

    @property
    def ends_at(self) -> datetime | None:
        """When our certificate ends."""
        return self._credentials.ends_at

    def reload(self) -> bool:
        """Take the files as they are now; False, and an error in the log, where they cannot be used."""
        return self._credentials.reload()

    async def secured(self, wire: Wire) -> Wire:
        """Shake hands over a fresh connection; a refused connection is closed.

        Raises:
            HandshakeFailed: with the reason.
        """
        context = self._credentials.context()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if self._serves else self._credentials.server_name
        try:
            connection = context.wrap_bio(incoming, outgoing, server_side=self._serves, server_hostname=name)
            secured = TlsWire(wire, connection, incoming, outgoing)
            with trio.move_on_after(HANDSHAKE_S):
                await secured.shake()
                if (mistrust := self._credentials.mistrust(connection)) is not None:
                    raise HandshakeFailed(wire.peer, *mistrust)
                return secured
            raise HandshakeFailed(wire.peer, "timeout", f"no handshake within {HANDSHAKE_S:g} s")
        except BaseException:
            wire.close()
            raise


class TlsWire:
    """A connection under TLS, as a `Wire`."""

    def __init__(self, wire: Wire, connection: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self.peer = wire.peer
        self.uid = wire.uid
        self._wire = wire
        self._connection = connection
        self._incoming = incoming
        self._outgoing = outgoing
        self._sending = trio.Lock()  # a receiver may have to send, too
        self._ended = False

    async def shake(self) -> None:
        """The handshake. Raises HandshakeFailed."""
        received = 0
        while True:
            try:
                self._connection.do_handshake()
                await self._flush()
                return
            except ssl.SSLWantReadError:
                await self._flush()
            except ssl.SSLError as error:
                with suppress(WireError):
                    await self._flush()  # the alert with the reason for the peer
                raise HandshakeFailed(self.peer, label_of(error), reason_of(error)) from None
            data = await self._wire.receive()
            received += len(data)
            if not data:
                raise HandshakeFailed(self.peer, "closed", "the peer closed the connection in the handshake")
            if received > MAX_HANDSHAKE_BYTES:
                raise HandshakeFailed(self.peer, "too_long", f"a handshake of more than {MAX_HANDSHAKE_BYTES} bytes")
            self._incoming.write(data)

    async def receive(self) -> bytes:
        while True:
            try:
                return self._connection.read(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                if self._outgoing.pending:
                    await self._flush()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                with suppress(WireError):
                    await self._flush()
                raise WireError(f"{self.peer}: TLS: {reason_of(error)}") from None
            data = await self._wire.receive()
            if not data:
                return b""
            self._incoming.write(data)

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                written = self._connection.write(view[:WRITE_BYTES])
                view = view[written:]
                await self._flush()
        except ssl.SSLError as error:
            raise WireError(f"{self.peer}: TLS: {reason_of(error)}") from None

    @property
    def unread(self) -> bool:
        return self._wire.unread

    async def end(self) -> None:
        self._farewell()
        with suppress(WireError):
            await self._flush()
        await self._wire.end()

    def close(self) -> None:
        self._wire.close()

    def _farewell(self) -> None:
        if not self._ended:
            self._ended = True
            with suppress(ssl.SSLError, ValueError):
                self._connection.unwrap()  # says that nothing more comes; the peer's own farewell is not waited for

    async def _flush(self) -> None:
        async with self._sending:
            data = self._outgoing.read()
            if data:
                await self._wire.send(data)
