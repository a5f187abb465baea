"""Messages under the MAC of a link, from a simulated party's side: encoded with it, and looked through on arrival.

Acquirers and issuers own one each. A link without a MAC key passes everything.
"""

from __future__ import annotations

from messages.codec import Codec
from messages.errors import DecodeError
from messages.message import Message
from messages.mti import is_management
from simulators.link_keys import LinkKeys

NO_MAC = "0000000000000000"
CUT_OVER = "201"  # DE 70
MISSING, WRONG = "without a MAC", "with a wrong MAC"


class Sealing:
    """MACs of one link.

    Args:
        management: whether network management carries MACs, too. Cut-overs always do.
    """

    def __init__(self, codec: Codec, keys: LinkKeys, *, management: bool) -> None:
        self._codec = codec
        self._keys = keys
        self._management = management

    def encode(self, message: Message, *, spoiled: str = "") -> bytes:
        """A message as bytes; `spoiled` is a fault on purpose: `wrong-mac` or `missing-mac`."""
        if not self._covers(message) or spoiled == "missing-mac":
            return self._codec.encode(message)
        element = 128 if max(message.elements) > 64 else 64
        data = self._codec.encode(Message(message.mti, {**message.elements, element: NO_MAC}))
        mac = self._keys.mac(self._codec.mac_input(data)[0])
        if spoiled:
            mac = bytes([mac[0] ^ 1]) + mac[1:]
        return self._codec.replace_mac(data, mac)

    def problem(self, message: Message, data: bytes) -> str:
        """Why the MAC of a received message is not right, "" where it is. An unneeded MAC must be right, too."""
        if not self._keys.has_mac:
            return ""
        if 64 not in message.elements and 128 not in message.elements:
            return MISSING if self._covers(message) else ""
        try:
            covered, mac = self._codec.mac_input(data)
        except DecodeError:
            return MISSING
        return "" if self._keys.mac_is_right(covered, mac) else WRONG

    def _covers(self, message: Message) -> bool:
        managed = is_management(message.mti) and message.elements.get(70) != CUT_OVER
        return self._keys.has_mac and (self._management or not managed)
