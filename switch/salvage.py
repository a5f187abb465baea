"""The readable part of a message that the dialect does not accept, and the answer to its sender.

Bytes and the decoder's error go in; a `Message` with everything before the fault comes out, enough to answer with
DE 39 = 30 and the reason in DE 44. Called by the ends of links.
"""

from __future__ import annotations

import re

from messages.codec import Codec
from messages.dialect import Dialect
from messages.errors import DecodeError, RuleViolation
from messages.message import Message

REASON = 44  # Source: ISO 8583:1987 DE 44, additional response data; the text of the fault in it is ours
_ELEMENT = re.compile(r"DE (\d+)")
_FOREIGN = {"an": re.compile(r"[^A-Za-z0-9 ]+"), "ans": re.compile(r"[^ -~]+")}  # by the kind of DE 44


def salvage(codec: Codec, dialect: Dialect, frame: bytes, error: DecodeError) -> Message | None:
    """The message up to the element that `error` names, or all of it; None where type, DE 7 or DE 11 cannot be had."""
    if isinstance(error, RuleViolation):
        message = error.message
        return message if 7 in message.elements and 11 in message.elements else None
    if _ELEMENT.match(error.path) is None or error.offset is None:
        return None
    try:
        message = codec.partial(frame)
    except DecodeError:
        return None
    return message if 7 in message.elements and 11 in message.elements else None


def reason_told(dialect: Dialect, error: DecodeError) -> dict[int, str]:
    """DE 44 of the answer: the fault, as far as it has room; {} where the dialect has no such text."""
    return reason_element(dialect, f"{error.path} {error.reason}")


def reason_element(dialect: Dialect, reason: str) -> dict[int, str]:
    """DE 44 with a reason of ours; {} where there is no reason, or the dialect has no such text.

    A reason without room is shortened to its first clause, then to whole words.

    Args:
        reason: "DE 49: BGN is not in use"; free of the peer's data.
    """
    element = dialect.elements.get(REASON)
    foreign = _FOREIGN.get(element.kind) if element is not None else None
    if element is None or foreign is None or not reason:
        return {}
    text, clause = (" ".join(foreign.sub(" ", part).split()) for part in (reason, reason.partition(",")[0]))
    text = _shortened(text, clause, element.characters)
    return {REASON: text if element.length_kind else text.ljust(element.characters)}


def _shortened(text: str, clause: str, room: int) -> str:
    """The text if it fits into `room` characters, else its first clause, else as many whole words of that as fit."""
    if len(text) <= room:
        return text
    return clause if len(clause) <= room else clause[: room + 1].rpartition(" ")[0] or clause[:room]
