"""Which messages belong together: keys of exchanges, DE 7 against the calendar, DE 90; pure.

Called by the switch (duplicates, late answers), the ledger's book and the simulators. System trace numbers
repeat every day and on every terminal, so nothing is ever matched on DE 11 alone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from messages.errors import DecodeError, EncodeError
from messages.message import Message
from messages.mti import canonical_mti, is_response, response_mti

MAX_MOMENTS = 4096  # remembered: those of one second come together


def transmission_time(de7: str, now: datetime) -> datetime:
    """DE 7 as a full date: of last, this and next year the one nearest to `now`.

    Args:
        de7: MMDDhhmmss, UTC.
        now: aware.

    Returns:
        Aware UTC, whole seconds.

    Raises:
        DecodeError: path "DE 7": not ten digits, or no such moment in any of the three years.

    Source: ISO 8583:1987 DE 7; the year is inferred, the standard has none.
    """
    return _nearest(de7, now.astimezone(UTC).replace(minute=0, second=0, microsecond=0))


@lru_cache(maxsize=MAX_MOMENTS)
def _nearest(de7: str, now: datetime) -> datetime:
    """The same to the hour: messages of one second ask the same question."""
    if len(de7) != 10 or not (de7.isascii() and de7.isdigit()):
        raise DecodeError("DE 7", None, "expected 10 digits, MMDDhhmmss")
    month, day, hour, minute, second = (int(de7[at : at + 2]) for at in range(0, 10, 2))
    candidates = []
    for year in (now.year, now.year - 1, now.year + 1):
        try:
            candidates.append(datetime(year, month, day, hour, minute, second, tzinfo=UTC))
        except ValueError:  # 29 February, or nonsense in every year
            continue
    if not candidates:
        raise DecodeError("DE 7", None, "no such date and time")
    return min(candidates, key=lambda candidate: abs(candidate - now))


def de7(at: datetime) -> str:
    """A moment (aware) as DE 7: MMDDhhmmss, UTC."""
    return _digits(at.replace(microsecond=0))[4:]


@lru_cache(maxsize=MAX_MOMENTS)
def _digits(at: datetime) -> str:
    """YYYYMMDDhhmmss, UTC."""
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def acquirer_key(link: str, mti: str, transmitted_at: datetime, stan: str, acquirer_id: str, terminal: str) -> str:
    """What makes a request from an acquirer unique; a repeat has the key of its original.

    Args:
        link: name of the link that it came through.
        mti: of the request, repeat or not.
        transmitted_at: DE 7 resolved by `transmission_time`.
        stan: DE 11.
        acquirer_id: DE 32, leading zeros do not count; "" where absent.
        terminal: DE 41, used where there is no DE 32.

    Source: ISO 8583:1987 4.3.3 (DE 7, 11, 32 identify a transaction).
    """
    party = acquirer_id.lstrip("0") or terminal
    return f"{link}|{canonical_mti(mti)}|{_digits(transmitted_at.replace(microsecond=0))}|{stan}|{party}"


def network_key(link: str, mti: str, de7: str, stan: str) -> str:
    """What makes a request of ours unique at an issuer, in its book and in ours."""
    return f"{link}|{canonical_mti(mti)}|{de7}|{stan}"


def pairing_key(message: Message) -> tuple[str, str, str, str]:
    """The same tuple for a request, its repeat and the answer to either.

    Returns:
        (MTI of the answer, DE 7, DE 11, DE 32 or else DE 41); "" for what is absent.

    Raises:
        DecodeError: path "MTI".
    """
    elements = message.elements
    mti = message.mti if is_response(message.mti) else response_mti(message.mti)
    return (
        mti,
        elements.get(7, ""),
        elements.get(11, ""),
        elements.get(32, "").lstrip("0") or elements.get(41, ""),
    )


class OriginalData(msgspec.Struct, frozen=True):
    """DE 90 taken apart; institution ids without leading zeros, "" where all zeros."""

    mti: str
    stan: str
    transmitted: str
    acquirer_id: str
    forwarder: str


_ORIGINAL_DATA = (("MTI", 4), ("DE 11", 6), ("DE 7", 10), ("DE 32", 11), ("DE 33", 11))


def original_data(mti: str, stan: str, de7: str, acquirer_id: str, forwarder: str = "") -> str:
    """DE 90, n 42: the identification of an earlier message, each part filled with zeros from the left.

    Raises:
        EncodeError: path "DE 90": a part that is too long or has something else than digits.

    Source: ISO 8583:1987 DE 90.
    """
    filled = []
    for (part, size), value in zip(_ORIGINAL_DATA, (mti, stan, de7, acquirer_id, forwarder), strict=True):
        if len(value) > size or (value and not (value.isascii() and value.isdigit())):
            raise EncodeError("DE 90", f"{part} of the original must be up to {size} digits")
        filled.append(value.rjust(size, "0"))
    return "".join(filled)


def parse_original_data(de90: str) -> OriginalData:
    """Takes DE 90 apart.

    Raises:
        DecodeError: path "DE 90": not 42 digits.
    """
    if len(de90) != 42 or not (de90.isascii() and de90.isdigit()):
        raise DecodeError("DE 90", None, "expected 42 digits")
    return OriginalData(de90[:4], de90[4:10], de90[10:20], de90[20:31].lstrip("0"), de90[31:].lstrip("0"))
