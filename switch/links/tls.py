"""TLS 1.3 under a link: settings and a connection in, a secured connection out.

`switch.links.connections` asks a `TlsEnd` for each connection that it dials or accepts; a link without TLS never comes
here. Files that have changed are taken for the handshakes that come after; connections that are open go on. Unusable
files are logged, and the former ones stay in force.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
import trio
from cryptography import x509

from messages.address import address_of
from switch.errors import WireError
from switch.links.network import RECEIVE_BYTES, Wire
from switch.links.settings import Link
from switch.links.tls_context import TlsSettings, context_of, label_of, listed, reason_of

log = structlog.get_logger("switch.links.tls")

HANDSHAKE_S = 5.0
MAX_HANDSHAKE_BYTES = 128 * 1024  # from the peer, before it is known
WRITE_BYTES = 256 * 1024
WARN_BEFORE = timedelta(days=14)


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
        self.ends_at: datetime | None = None  # our certificate
        self._link = link.name
        self._tls = tls
        self._serves = not link.dials
        self._host = tls.server_name or (address_of(link.address)[0] if link.dials else "")
        self._pins = frozenset(pin.replace(":", "").lower() for pin in tls.pins)
        self._seen = self._state()
        try:
            self._current = self._load()
        except (OSError, ValueError) as error:
            raise WireError(f"link {link.name}: {listed(tls)}: {reason_of(error)}") from None

    def reload(self) -> bool:
        """Take the files as they are now; False, and an error in the log, where they cannot be used."""
        self._seen = self._state()
        try:
            # One whole context in place of another: there is no moment with the new chain and the old key.
            self._current = self._load()
        except (OSError, ValueError) as error:
            log.error("certificate_refused", link=self._link, files=listed(self._tls), error=reason_of(error))
            return False
        return True

    async def secured(self, wire: Wire) -> Wire:
        """Shake hands over a fresh connection; a refused connection is closed.

        Raises:
            HandshakeFailed: with the reason.
        """
        if self._state() != self._seen:
            self.reload()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if self._serves else self._host
        try:
            connection = self._current.wrap_bio(incoming, outgoing, server_side=self._serves, server_hostname=name)
            secured = TlsWire(wire, connection, incoming, outgoing)
            with trio.move_on_after(HANDSHAKE_S):
                await secured.shake()
                self._look_at(connection, wire.peer)
                return secured
            raise HandshakeFailed(wire.peer, "timeout", f"no handshake within {HANDSHAKE_S:g} s")
        except BaseException:
            wire.close()
            raise

    def _look_at(self, connection: ssl.SSLObject, peer: str) -> None:
        """Checks that OpenSSL does not make: pins, and the dates of a certificate that is trusted for its pin alone."""
        shown = connection.getpeercert(binary_form=True)
        if not self._pins:
            return
        if shown is None:
            raise HandshakeFailed(peer, "no_certificate")
        fingerprint = hashlib.sha256(shown).hexdigest()
        if fingerprint not in self._pins:
            raise HandshakeFailed(peer, "wrong_pin", f"the certificate {fingerprint} is not pinned")
        if not self._tls.ca:
            certificate = x509.load_der_x509_certificate(shown)
            if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
                raise HandshakeFailed(peer, "expired", "the pinned certificate has expired or is not valid yet")

    def _load(self) -> ssl.SSLContext:
        tls = self._tls
        context = context_of(tls, serves=self._serves)
        if not tls.certificate:
            return context
        with open(tls.certificate, "rb") as file:
            leaf = x509.load_pem_x509_certificates(file.read())[0]
        self.ends_at = leaf.not_valid_after_utc
        log.info(
            "certificate_loaded", link=self._link, serial=f"{leaf.serial_number:x}", ends_at=self.ends_at.isoformat()
        )
        if os.stat(tls.private_key).st_mode & stat.S_IROTH:
            log.warning("private_key_open", hint=f"every user can read it: chmod o-r {tls.private_key}")
        if self.ends_at < datetime.now(UTC) + WARN_BEFORE:
            log.warning("certificate_ends_soon", link=self._link, ends_at=self.ends_at.isoformat())
        return context

    def _state(self) -> tuple[object, ...]:
        """Values that change with the file."""
        found: list[object] = []
        for file in (self._tls.certificate, self._tls.private_key, self._tls.ca):
            try:
                status = os.stat(file) if file else None
            except OSError:
                status = None
            found.append(status and (status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)


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
