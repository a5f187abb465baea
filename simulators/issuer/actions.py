"""What an issuer's core wants done: messages to send and connections to close; the shell does it."""

from __future__ import annotations

import msgspec

from messages.message import Message


class Send(msgspec.Struct, frozen=True, gc=False):
    """A message to send, `delay_s` >= 0 from now, on the connection that the request came from.

    `spoiled` is what is wrong with it on purpose, one of: `wrong-mac`, `missing-mac`, `garbage`, `half-frame`,
    `byte-at-a-time` (over `delay_s`), `reorder` (after the next answer, or after `delay_s`); "" for nothing.
    """

    message: Message
    delay_s: float = 0.0
    spoiled: str = ""


class Disconnect(msgspec.Struct, frozen=True):
    """Close the connection that the request came from, after what was to be sent at once.

    `refuse_s`: how long no new connection is taken; `listening`: they are closed at once instead of refused.
    """

    refuse_s: float = 0.0
    listening: bool = True


Action = Send | Disconnect
