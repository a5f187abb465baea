"""The MAC of a gateway's link, made by the code of the switch's links over the hsm of the gateway's machine.

Messages go in, sealed bytes and verdicts come out. `console.gateway_link` makes one for each gateway process.
"""

from __future__ import annotations

import structlog

from gateway.errors import LinkDown
from hsm.client import HsmCaller
from hsm.commands import GeneratedMac, GenerateMac, HsmRefused, HsmUnavailable, Screen, Screened, VerifyMac
from messages.codec import Codec
from messages.dialect import Dialect
from messages.message import Message
from switch.links.mac import LinkMac

log = structlog.get_logger("gateway.mac")

TRACE_ELEMENT = 63  # of the gateway's messages


class GatewayMac:
    """The methods of `gateway.switch_access.Mac`.

    Args:
        link: its name, for logs. key: the name of the MAC key. peer: the switch, for logs.
    """

    def __init__(self, link: str, key: str, dialect: Dialect, hsm: HsmCaller, peer: str) -> None:
        self._mac = LinkMac(link, key, True, Codec(dialect), _MacCommands(hsm), _Uncounted())
        self._link = link
        self._peer = peer

    async def sealed(self, message: Message) -> bytes:
        """The encoded message with its MAC. Raises LinkDown where the hsm makes none, MessagesError."""
        try:
            return await self._mac.sealed(message, message.elements.get(TRACE_ELEMENT, ""))
        except (HsmRefused, HsmUnavailable) as error:
            log.error("mac_not_made", link=self._link, mti=message.mti, reason=str(error))
            raise LinkDown(f"no MAC for a message: {error}") from None

    async def problem(self, message: Message, frame: bytes) -> str:
        """Why the MAC of a received message is not right, as a constant; "" where its MAC is right."""
        return await self._mac.problem(message, frame, self._peer)


class _MacCommands:
    """The commands of a link's MAC, by those that the hsm's caller `gateway` may send: none is about cards."""

    def __init__(self, hsm: HsmCaller) -> None:
        self._hsm = hsm

    async def mac(self, request: GenerateMac) -> GeneratedMac:
        return await self._hsm.mac(request)

    async def screen(self, request: Screen) -> Screened:
        assert request.mac is not None and not request.pan, "a link asks about its MAC alone"
        await self._hsm.verify_mac(VerifyMac(check=request.mac, trace_id=request.trace_id))
        return Screened()


class _Uncounted:
    """The gateway counts refused messages in its own metrics."""

    def count(self, name: str, *labels: str) -> None:
        """Count nothing."""
