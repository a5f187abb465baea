"""A gateway's way to its switch: an address and the proofs of identity in, a connection out.

On the switch's own machine the address is a unix socket, and the kernel is the proof. Over a network each connection is
under mutual TLS and each message carries a MAC. This package reaches the switch through ISO 8583 alone, so it knows TLS
and MAC as the two protocols below; `console.gateway_link` makes them of the code that the switch's own links use.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.errors import SwitchRefused
from messages.address import unix_path
from messages.message import Message

CONNECT_S = 5.0  # for connection and TLS handshake together


class Tls(Protocol):
    """Our certificate and the verdict on that of the switch; `switch.links.credentials.Credentials` is one."""

    server_name: str

    @property
    def ends_at(self) -> datetime | None:
        """When our certificate ends."""
        ...

    def context(self) -> ssl.SSLContext:
        """The context for a handshake that begins now."""
        ...

    def mistrust(self, connection: ssl.SSLObject) -> tuple[str, str] | None:
        """Why the other end is not taken for the switch, as a constant and in words; None where it is."""
        ...


class Mac(Protocol):
    """The MAC of each message, network management included."""

    async def sealed(self, message: Message) -> bytes:
        """The encoded message with its MAC. Raises LinkDown where there is none to be had, MessagesError."""
        ...

    async def problem(self, message: Message, frame: bytes) -> str:
        """Why the MAC of a received message is not right, as a constant; "" where its MAC is right."""
        ...


@dataclass(frozen=True)
class Access:
    """The way to the switch: `address` as `messages.address.address_of` has it, and what proves both ends."""

    address: tuple[str, int]
    tls: Tls | None = None
    mac: Mac | None = None


async def connected(access: Access) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, and shake hands where there is TLS.

    Raises:
        SwitchRefused: TLS came to nothing, or the other end is not the switch.
        OSError: nobody is there.
        TimeoutError: not within `CONNECT_S`.
    """
    async with asyncio.timeout(CONNECT_S):
        if path := unix_path(access.address[0]):
            return await asyncio.open_unix_connection(path)
        if access.tls is None:
            return await asyncio.open_connection(*access.address)
        try:
            reader, writer = await asyncio.open_connection(
                *access.address, ssl=access.tls.context(), server_hostname=access.tls.server_name
            )
        except ssl.SSLError as error:
            raise SwitchRefused("tls", words(error)) from None
    mistrust = access.tls.mistrust(writer.get_extra_info("ssl_object"))
    if mistrust is not None:
        writer.transport.abort()
        raise SwitchRefused(*mistrust)
    return reader, writer


def words(error: BaseException) -> str:
    """The error of a connection, without paths of the library's sources."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "TLS failed").lower().replace("_", " ")
    return type(error).__name__
