"""Message type indicators: four digits in, meaning or another indicator out; pure tables.

Called by the switch (which answer, which repeat), by `exchange` (keys) and by everything that shows messages.

Source: ISO 8583:1987 4.1 (version 0), ISO 8583:1993 4.1, ISO 8583-1:2003 table 3.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from messages.errors import DecodeError

VERSIONS = {"0": "1987", "1": "1993", "2": "2003"}
CLASSES = {
    "1": "authorization",
    "2": "financial",
    "3": "file action",
    "4": "reversal or chargeback",
    "5": "reconciliation",
    "6": "administrative",
    "7": "fee collection",
    "8": "network management",
}
FUNCTIONS = {
    "0": "request",
    "1": "request response",
    "2": "advice",
    "3": "advice response",
    "4": "notification",
    "5": "notification acknowledgement",
}
# Functions that only the version of 2003 has.
_FUNCTIONS_2003 = {"6": "instruction", "7": "instruction acknowledgement"}
ORIGINS = {
    "0": "acquirer",
    "1": "acquirer repeat",
    "2": "issuer",
    "3": "issuer repeat",
    "4": "other",
    "5": "other repeat",
}

# A function digit and the one that answers it. 0820 is a notification in all but name in ISO 8583:1987,
# but hosts answer it with 0830, and so do we.
_ANSWERS = {"0": "1", "2": "3", "4": "5", "6": "7"}
_REPEATS = {"0": "1", "2": "3", "4": "5"}
# Each type is asked for several times a message, and there are a handful; but a peer chooses it. Errors are not kept.
MAX_TYPES = 256
_ORIGINALS = {repeat: original for original, repeat in _REPEATS.items()}

# Classes whose messages have another origin digit from 1993 on than in 1987: issuers' file updates (0302 → 1304),
# administration (0600 → 1604) and network management (0800 → 1804) are nobody's own any more. The digits change places,
# so that each indicator has exactly one counterpart. Reconciliation keeps its sides: 0500 → 1500.
# Source: ISO 8583:1987 table 2, ISO 8583:1993 table 2, ISO 8583-1:2003 table 3.
_ORIGIN_CHANGES: dict[str, dict[str, str]] = {
    "3": {"2": "4", "3": "5", "4": "2", "5": "3"},
    "6": {"0": "4", "1": "5", "4": "0", "5": "1"},
    "8": {"0": "4", "1": "5", "4": "0", "5": "1"},
}
VERSION_DIGITS = {version: digit for digit, version in VERSIONS.items()}


class Mti(msgspec.Struct, frozen=True):
    """The four digits of an indicator, each still a digit."""

    version: str
    message_class: str
    function: str
    origin: str

    def __str__(self) -> str:
        return self.version + self.message_class + self.function + self.origin


@lru_cache(maxsize=MAX_TYPES)
def parse_mti(mti: str) -> Mti:
    """Takes an indicator apart.

    Raises:
        DecodeError: path "MTI": not four digits, or a digit that the standard does not define.
    """
    if len(mti) != 4 or not (mti.isascii() and mti.isdigit()):
        raise DecodeError("MTI", 0, "expected 4 digits")
    functions = FUNCTIONS if mti[0] != "2" else FUNCTIONS | _FUNCTIONS_2003
    parts = (("version", VERSIONS), ("class", CLASSES), ("function", functions), ("origin", ORIGINS))
    for index, (part, known) in enumerate(parts):
        if mti[index] not in known:
            raise DecodeError("MTI", index, f"unknown {part} digit")
    return Mti(*mti)


@lru_cache(maxsize=MAX_TYPES)
def response_mti(mti: str) -> str:
    """The indicator of the answer: 0100 → 0110, 0421 → 0430, 0422 → 0432; repeats are answered as originals.

    Raises:
        DecodeError: path "MTI": unknown, or itself an answer.
    """
    parsed = parse_mti(mti)
    if parsed.function not in _ANSWERS:
        raise DecodeError("MTI", 2, "is an answer, and answers are not answered")
    origin = _ORIGINALS.get(parsed.origin, parsed.origin)
    return parsed.version + parsed.message_class + _ANSWERS[parsed.function] + origin


@lru_cache(maxsize=MAX_TYPES)
def repeat_mti(mti: str) -> str:
    """The indicator of a repetition: 0100 → 0101, 0422 → 0423; a repeat stays what it is.

    Raises:
        DecodeError: path "MTI": unknown.
    """
    parsed = parse_mti(mti)
    return mti[:3] + _REPEATS.get(parsed.origin, parsed.origin)


@lru_cache(maxsize=MAX_TYPES)
def canonical_mti(mti: str) -> str:
    """The indicator without its repeat digit: 0101 → 0100, 0423 → 0422.

    Raises:
        DecodeError: path "MTI": unknown.
    """
    parsed = parse_mti(mti)
    return mti[:3] + _ORIGINALS.get(parsed.origin, parsed.origin)


@lru_cache(maxsize=MAX_TYPES)
def is_response(mti: str) -> bool:
    """Whether the message answers another one (0110, 0430, 0810 …)."""
    return parse_mti(mti).function not in _ANSWERS


@lru_cache(maxsize=MAX_TYPES)
def is_repeat(mti: str) -> bool:
    """Whether the message says that it was sent before (0101, 0421, 0423 …)."""
    return parse_mti(mti).origin in _ORIGINALS


def is_management(mti: str) -> bool:
    """Whether the message is network management (0800, 1814 …); its second digit says so."""
    return mti[1:2] == "8"


@lru_cache(maxsize=MAX_TYPES)
def in_version(mti: str, version: str) -> str:
    """The counterpart of an indicator in another version: 0800 in 1993 is 1804, 2422 in 1987 is 0422.

    Args:
        mti: of any version.
        version: "1987", "1993" or "2003".

    Raises:
        DecodeError: path "MTI": unknown.
    """
    parsed = parse_mti(mti)
    digit = VERSION_DIGITS[version]
    origin = parsed.origin
    if (parsed.version == "0") is not (digit == "0"):
        origin = _ORIGIN_CHANGES.get(parsed.message_class, {}).get(origin, origin)
    return digit + parsed.message_class + parsed.function + origin


def describe_mti(mti: str) -> str:
    """In words: "authorization request, acquirer (1987)"."""
    parsed = parse_mti(mti)
    return (
        f"{CLASSES[parsed.message_class]} {(FUNCTIONS | _FUNCTIONS_2003)[parsed.function]}, "
        f"{ORIGINS[parsed.origin]} ({VERSIONS[parsed.version]})"
    )
