"""The MAC of one link: made on the way out, verified on the way in before anything else looks at a message.

Sessions seal what they send with it; `switch.links.reception` asks it about what arrives; the pipeline, which verifies
a request and identifies its card in one command, takes its `check`. A gateway on another machine does the same at its
end, through `console.gateway_mac`. The hsm computes; which algorithm is a matter of the key alone.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from hsm.commands import GeneratedMac, GenerateMac, HsmRefused, HsmUnavailable, MacCheck, Screen, Screened
from messages.codec import Codec
from messages.errors import DecodeError
from messages.message import Message
from messages.mti import is_management

log = structlog.get_logger("switch.links.mac")

# Encoded in place of a MAC until the HSM has made it.
NO_MAC = "0" * 16
CUT_OVER = "201"  # DE 70. Source: ISO 8583:1987 DE 70
MISSING, WRONG, AWAY = "mac_missing", "mac_invalid", "hsm_unavailable"


class MacHsm(Protocol):
    """The two commands of `hsm.commands.Hsm` that a MAC takes; raises HsmRefused or HsmUnavailable."""

    async def screen(self, request: Screen) -> Screened: ...

    async def mac(self, request: GenerateMac) -> GeneratedMac: ...


class Counts(Protocol):
    """Counters of messages with a wrong MAC, by link and reason: `switch.meters.Meters`."""

    def count(self, name: str, *labels: str) -> None: ...


class LinkMac:
    """The MACs of one link.

    Args:
        link: its name, for metrics and log.
        key: name of its MAC key; "" for a link without.
        management: whether network management (0800, 0810 …) carries a MAC, too. Cut-overs always do.
    """

    def __init__(self, link: str, key: str, management: bool, codec: Codec, hsm: MacHsm, meters: Counts) -> None:
        self.link = link
        self.key = key
        self._management = management
        self._codec = codec
        self._hsm = hsm
        self._meters = meters

    def covers(self, mti: str, function: str = "") -> bool:
        """Whether a message carries a MAC on this link.

        A cut-over changes the books, so it carries one whatever the agreement on network management.

        Args:
            function: DE 70 of network management; "" where absent.
        """
        return bool(self.key) and (self._management or not is_management(mti) or function == CUT_OVER)

    async def sealed(self, message: Message, trace_id: str = "") -> bytes:
        """The encoded message, with a MAC where the link wants one.

        Raises:
            EncodeError: the dialect cannot carry the message.
            HsmRefused, HsmUnavailable: there is no MAC to be had.
        """
        if not self.covers(message.mti, message.elements.get(70, "")):
            return self._codec.encode(message)
        encoded, data = self.unsealed(message)
        made = await self._hsm.mac(GenerateMac(key=self.key, data=data, trace_id=trace_id))
        return self._codec.replace_mac(encoded, made.mac)

    def unsealed(self, message: Message) -> tuple[bytes, bytes]:
        """The encoded message with nothing yet in its MAC element, and what that MAC is to cover."""
        encoded = self._codec.encode(self.with_mac(message))
        return encoded, self._codec.mac_input(encoded)[0]

    @staticmethod
    def with_mac(message: Message) -> Message:
        """The message with zeros for a MAC: in DE 64, or in DE 128 where it has elements above 64.

        The codec of another version puts it where it belongs there.
        """
        element = 128 if max(message.elements) > 64 else 64
        return Message(message.mti, {**message.elements, element: NO_MAC})

    def check(self, message: Message, frame: bytes) -> MacCheck | None:
        """The HSM's part in verifying a received message; None where it has no MAC at its end."""
        if 64 not in message.elements and 128 not in message.elements:
            return None
        return self._check_of(frame)

    def _check_of(self, frame: bytes) -> MacCheck | None:
        """The same for bytes whose elements need not be readable: their bitmaps say whether a MAC ends them."""
        try:
            data, received = self._codec.mac_input(frame)
        except DecodeError:
            return None
        return MacCheck(self.key, data, received)

    async def problem(
        self, message: Message, frame: bytes, peer: str, trace_id: str = "", *, in_part: bool = False
    ) -> str:
        """Why the MAC of a received message is not right: `MISSING`, `WRONG` or `AWAY`; "" where its MAC is right.

        Args:
            in_part: whether `message` is the readable part of the frame only.
        """
        check = self._check_of(frame) if in_part else self.check(message, frame)
        reason = MISSING
        if check is not None:
            try:
                await self._hsm.screen(Screen(mac=check, trace_id=trace_id))
                return ""
            except HsmRefused as refused:
                reason = WRONG if refused.code == WRONG else f"hsm_{refused.code}"
            except HsmUnavailable:
                reason = AWAY
        self.failed(message.mti, peer, reason)
        return reason

    def failed(self, mti: str, peer: str, reason: str) -> None:
        """Count and report a message whose MAC is not right."""
        self._meters.count("mac_failures", self.link, reason)
        log.error("mac_refused", link=self.link, peer=peer, mti=mti, reason=reason)
