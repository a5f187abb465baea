"""Data with a network token in a request: its cryptogram, and its place of use; for the HSM's check of the card.

A screened `Request` goes in; `NetworkTokenUse` comes out, None where the link carries no cryptograms or the message has
none. Called by `switch.stages.identify`.
"""

from __future__ import annotations

import base64
import binascii

from hsm.commands import NetworkTokenUse
from switch.stages.request import Request

# First two digits of DE 22 → the channel that a token may be confined to. Source: ISO 8583:1987 annex A.11, 07 and
# later as networks use them; other values are no channel.
CHANNELS = {
    "01": "moto",
    "02": "pos",
    "05": "pos",
    "07": "contactless",
    "10": "recurring",
    "80": "pos",
    "81": "ecom",
    "90": "pos",
    "91": "contactless",
}


def network_token_use(request: Request) -> NetworkTokenUse | None:
    """Return the cryptogram of the element that the link names, base64 there, with merchant and channel.

    One that cannot be read is passed on as none is: the HSM refuses it.
    """
    elements = request.message.elements
    number = request.link.token_cryptogram_element
    text = elements.get(number, "").rstrip() if number is not None else ""
    if not text:
        return None
    try:
        cryptogram = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        cryptogram = b""
    return NetworkTokenUse(
        cryptogram=cryptogram,
        merchant=elements.get(42, "").rstrip(),
        channel=CHANNELS.get(elements.get(22, "")[:2], ""),
        used_by=request.key,  # the same for its repeats, which get their answer
    )
