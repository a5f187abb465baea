"""What an issuer's core wants done: messages to send and connections to close; the shell does it."""

from __future__ import annotations

import msgspec

from messages.message import Message


class Send(msgspec.Struct, frozen=True, gc=False):
    """A message to send, `delay_s` >= 0 from now, on the connection that the request came from.

    `spoiled` is what is wrong with its MAC on purpose: `wrong-mac` or `missing-mac`.
    """

    message: Message
    delay_s: float = 0.0
    spoiled: str = ""


class Disconnect(msgspec.Struct, frozen=True):
    """Close the connection that the request came from, after what was to be sent at once."""


Action = Send | Disconnect
