"""Which messages belong together: keys of exchanges, DE 7 against the calendar, DE 90; pure.

Called by the switch (duplicates, late answers), the ledger's book and the simulators. System trace numbers
repeat every day and on every terminal, so nothing is ever matched on DE 11 alone.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from messages.errors import DecodeError, EncodeError
from messages.message import Message
from messages.mti import canonical_mti, is_response, response_mti

MAX_MOMENTS = 4096  # remembered: those of one second come together
CLOCK_SLACK = timedelta(minutes=5)  # time that the clock of an original's sender may be ahead of ours
AHEAD = timedelta(hours=15)  # time in the future that DE 7 of an arrival may be
# Greatest distance of local times from UTC: where DE 12 names messages, it is in the place of DE 7.
LOCAL_AHEAD, LOCAL_BEHIND = timedelta(hours=14), timedelta(hours=12)
TERMINAL_MARK = "#"  # in keys, before a DE 41 in the place of DE 32; no digit, so no DE 32 begins with it
NO_MOMENT = "no such date and time"
LEAP_YEARS = 8  # between two 29 Februaries at most, as from 1896 to 1904


def transmission_time(de7: str, now: datetime) -> datetime:
    """DE 7 of a message that has just arrived as a full date: the last such moment, up to 14 h after `now`.

    Args:
        de7: MMDDhhmmss, UTC.
        now: aware.

    Returns:
        Aware UTC, whole seconds; from a year ago to 14 h ahead, as local times may be. Whether that is fresh is not
        asked here.

    Raises:
        DecodeError: path "DE 7": not ten digits, or no such moment in any year.

    Source: ISO 8583:1987 DE 7; the year is inferred, the standard has none.
    """
    return _last(de7, now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + AHEAD)


def original_time(de7: str, now: datetime, slack: timedelta = CLOCK_SLACK) -> datetime:
    """DE 7 of an earlier message as a full date: the last such moment that has been.

    An original lies in the past, up to a year back; "nearest" would look for it in the future from half a year on.

    Args:
        now: when the message that refers to it has arrived; aware.
        slack: time after `now` that it may be, because clocks differ.

    Returns:
        Aware UTC, whole seconds; not after `now` + `slack`. 29 February is that of the last leap year.

    Raises:
        DecodeError: as `transmission_time`.

    Source: ISO 8583:1987 DE 90; the year is inferred.
    """
    return _last(de7, now.astimezone(UTC) + slack)


@lru_cache(maxsize=MAX_MOMENTS)
def _last(de7: str, latest: datetime) -> datetime:
    """Arrivals ask to the hour: messages of one second ask the same question."""
    parts = _parts(de7)
    for year in range(latest.year, latest.year - LEAP_YEARS - 1, -1):
        at = _moment(year, parts)
        if at is not None and at <= latest:
            return at
    raise DecodeError("DE 7", None, NO_MOMENT)


def nearest_time(month_day_time: str, now: datetime) -> datetime:
    """A date that may lie on either side of now (DE 12, 13, 15): of last, this and next year the one nearest to `now`.

    Args:
        month_day_time: MMDDhhmmss.
        now: aware.

    Returns:
        Aware UTC, whole seconds.

    Raises:
        DecodeError: path "DE 7": not ten digits, or no such moment in any of the three years.
    """
    now = now.astimezone(UTC)
    parts = _parts(month_day_time)
    candidates = [at for year in (now.year, now.year - 1, now.year + 1) if (at := _moment(year, parts)) is not None]
    if not candidates:
        raise DecodeError("DE 7", None, NO_MOMENT)
    return min(candidates, key=lambda candidate: abs(candidate - now))


def _parts(de7: str) -> tuple[int, int, int, int, int]:
    """Month, day, hour, minute, second."""
    if len(de7) != 10 or not (de7.isascii() and de7.isdigit()):
        raise DecodeError("DE 7", None, "expected 10 digits, MMDDhhmmss")
    return int(de7[:2]), int(de7[2:4]), int(de7[4:6]), int(de7[6:8]), int(de7[8:])


def _moment(year: int, parts: tuple[int, int, int, int, int]) -> datetime | None:
    """None where that year has no such moment: 29 February, or nonsense in every year."""
    try:
        return datetime(year, *parts, tzinfo=UTC)
    except ValueError:
        return None


def de7(at: datetime) -> str:
    """A moment (aware) as DE 7: MMDDhhmmss, UTC."""
    return _digits(at.replace(microsecond=0))[4:]


@lru_cache(maxsize=MAX_MOMENTS)
def _digits(at: datetime) -> str:
    """YYYYMMDDhhmmss, UTC."""
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def acquirer_key(link: str, mti: str, transmitted_at: datetime, stan: str, acquirer_id: str, terminal: str) -> str:
    """The unique key of a request from an acquirer; a repeat has the key of its original.

    Args:
        link: name of the link that it came through.
        mti: of the request, repeat or not.
        transmitted_at: DE 7 resolved by `transmission_time`.
        stan: DE 11.
        acquirer_id: DE 32, leading zeros do not count; "" where absent.
        terminal: DE 41, used where there is no DE 32. One that looks like a DE 32 is marked, so that no terminal has
            the keys of an acquirer.

    Source: ISO 8583:1987 4.3.3 (DE 7, 11, 32 identify a transaction); DE 32 is n..11.
    """
    party = acquirer_id.lstrip("0") or _terminal_party(terminal)
    return f"{link}|{canonical_mti(mti)}|{_digits(transmitted_at.replace(microsecond=0))}|{stan}|{party}"


def _terminal_party(terminal: str) -> str:
    ambiguous = terminal.isdecimal() or terminal.startswith(TERMINAL_MARK)
    return TERMINAL_MARK + terminal if ambiguous else terminal


def unmarked_key(key: str) -> str:
    """The key of the same message without the mark of its terminal, as versions before the mark wrote it; "" where the
    key has no mark."""
    before, mark, terminal = key.partition(f"|{TERMINAL_MARK}")
    return f"{before}|{terminal}" if mark else ""


def network_key(link: str, mti: str, de7: str, stan: str) -> str:
    """The unique key of a request of ours at an issuer, in its book and in ours."""
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
