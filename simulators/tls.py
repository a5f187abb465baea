"""TLS under a simulated party: files in PEM and a wire in, a wire out that carries the same bytes under TLS 1.3.

Called where connections of a scenario are accepted or dialled.
"""

from __future__ import annotations

import ssl

import msgspec
import trio

from simulators.errors import WireLost
from simulators.wire import Wire

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError)


class TlsScenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[tls] of a scenario: TLS 1.3, files in PEM.

    Args:
        certificate, private_key: our chain, the leaf first, and its key without a password; a listener needs them.
        ca: authorities that vouch for the peer's certificate, or that certificate itself; a listener asks for one only
            then.
        server_name: as which we dial the peer; "": the host of `dial`.
    """

    certificate: str = ""
    private_key: str = ""
    ca: str = ""
    server_name: str = ""


def tls_context(tls: TlsScenario, *, serves: bool) -> ssl.SSLContext:
    """A context of those files.

    Raises:
        OSError, ssl.SSLError: a file cannot be read, or is no certificate or key.
        ValueError: a listener without a certificate, or one who dials without authorities.
    """
    if serves and not tls.certificate:
        raise ValueError("a listener needs a certificate and a private_key")
    if not serves and not tls.ca:
        raise ValueError("a dialling end needs a ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if serves else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the peer's own certificate may stand in `ca`
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.private_key, password=lambda: "")
    if tls.ca:
        context.load_verify_locations(tls.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def tls_problems(tls: TlsScenario, *, serves: bool) -> list[str]:
    """The faults of the files, one line each."""
    try:
        tls_context(tls, serves=serves)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        return [str(error.strerror or error) if isinstance(error, OSError) else str(error)]
    return []


class TlsWire:
    """A wire under TLS; the handshake comes with the first bytes."""

    def __init__(self, wire: Wire, context: ssl.SSLContext, *, server_name: str = "") -> None:
        self.peer = wire.peer
        self._wire = wire
        self._stream = trio.SSLStream(
            _Below(wire),
            context,
            server_hostname=server_name or None,
            server_side=context.protocol == ssl.PROTOCOL_TLS_SERVER,
            https_compatible=True,  # peers often close without saying so
        )
        self._sending = trio.Lock()

    async def receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some())
        except BROKEN:
            return b""

    async def send(self, data: bytes) -> None:
        try:
            async with self._sending:
                await self._stream.send_all(data)
        except BROKEN as error:
            raise WireLost(f"{self.peer}: {error}") from error

    def close(self) -> None:
        self._wire.close()


class _Below(trio.abc.Stream):
    """A wire as a stream for trio's TLS."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._wire.send(bytes(data))
        except WireLost as error:
            raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._wire.receive()

    async def aclose(self) -> None:
        self._wire.close()
        await trio.lowlevel.checkpoint()
