"""Places and parties: points of service, terminals, merchants, numbers of messages, and texts."""

from __future__ import annotations

import re

from messages.counterparts.sides import Fault, Reader, Reading, Writer, Writing
from messages.counterparts.times import MOMENT
from messages.errors import DecodeError, EncodeError
from messages.exchange import original_data, parse_original_data
from messages.mti import in_version
from messages.places import place_1987, place_1993
from messages.points_of_service import (
    bits_2003,
    condition_1993,
    condition_2003,
    entry_mode_1993,
    entry_mode_2003,
    positions_1993,
)

_POSITIONS, _BITS = re.compile(r"[A-Za-z0-9 ]{12}"), re.compile(r"[0-9A-F]{32}")  # DE 22 of 1993, of 2003


def read_pos_data(reading: Reading, value: str) -> None:
    reading.keep(22)
    if reading.version == "1993":
        reading.put[22], reading.put[25] = entry_mode_1993(value), condition_1993(value)
    else:
        reading.put[22], reading.put[25] = entry_mode_2003(value), condition_2003(value)


def write_pos_data(writing: Writing, value: str) -> None:
    condition = writing.given.get(25, "")
    with_pin = 52 in writing.given
    first = writing.version == "1993"
    kept = writing.kept(22)
    if not (_POSITIONS if first else _BITS).fullmatch(kept):
        kept = ""  # it is that of another version
    if kept and value == (entry_mode_1993 if first else entry_mode_2003)(kept):
        writing.put[22] = kept
    else:
        writing.put[22] = (positions_1993 if first else bits_2003)(value, condition, with_pin=with_pin)


def read_place(reading: Reading, value: str) -> None:
    reading.keep(43)
    place = place_1987(value)
    if place is not None:
        reading.put[43] = place


def write_place(writing: Writing, value: str) -> None:
    kept = writing.kept(43)
    if len(value) == 40:
        writing.put[43] = kept if kept and place_1987(kept) == value else place_1993(value)
    else:
        writing.put[43] = value


_FIXED = {41: 8, 42: 15}


def read_party(number: int) -> Reader:
    """DE 41 and 42 of 2003, which are longer: a value that does not fit names no party that 1987 could name."""

    def read(reading: Reading, value: str) -> None:
        text = value.rstrip()
        if len(text) > _FIXED[number]:
            raise Fault(f"has {len(text)} characters, {_FIXED[number]} can be carried")
        reading.put[number] = text.ljust(_FIXED[number])

    return read


def write_terminal(writing: Writing, value: str) -> None:
    writing.put[41] = value.ljust(16)


def write_acceptor(writing: Writing, value: str) -> None:
    writing.put[42] = value.rstrip() or value


def read_stan(reading: Reading, value: str) -> None:
    reading.put[11] = value[-6:]
    if value[:-6].strip("0"):
        reading.keep(11)


def write_stan(writing: Writing, value: str) -> None:
    kept = writing.kept(11)
    writing.put[11] = kept if kept[-6:] == value else value.zfill(12)


_ORIGINAL = {"1993": (6, 12), "2003": (12, 14)}  # digits of DE 11 and DE 12


def read_original(reading: Reading, value: str) -> None:
    reading.put[90] = _original(value, reading.version)
    reading.keep(56)


def _original(value: str, version: str) -> str:
    """DE 56 → DE 90. In 1993 the institution has a length of two digits before it, in 2003 it is what is left."""
    stan_digits, moment_digits = _ORIGINAL[version]
    at = 4 + stan_digits
    end = at + moment_digits
    stan, moment, acquirer_id = value[4:at], value[at:end], value[end:]
    if len(moment) != moment_digits:
        raise Fault(f"expected {end} digits at least")
    if version == "1993":
        size, acquirer_id = acquirer_id[:2], acquirer_id[2:]
        if size and int(size) != len(acquirer_id):
            raise Fault("the institution is not as long as its length says")
    try:
        mti = in_version(value[:4], "1987")
        return original_data(mti, stan[-6:], moment[-MOMENT:], acquirer_id.lstrip("0"))
    except DecodeError:
        raise Fault("begins with the type of no message") from None
    except EncodeError:
        raise Fault("the institution is longer than 11 digits") from None


def write_original(writing: Writing, value: str) -> None:
    kept = writing.kept(56)
    if kept:
        try:
            if _original(kept, writing.version) == value:
                writing.put[56] = kept
                return
        except Fault:
            pass
    try:
        original = parse_original_data(value)
        mti = in_version(original.mti, writing.version)
    except DecodeError as error:
        raise EncodeError("DE 90", error.reason) from None
    stan_digits, _ = _ORIGINAL[writing.version]
    moment = writing.dated_before("DE 90", original.transmitted)
    acquirer_id = original.acquirer_id
    if writing.version == "1993":
        acquirer_id = f"{len(acquirer_id):02d}{acquirer_id}" if acquirer_id else ""
    writing.put[56] = mti + original.stan.zfill(stan_digits) + moment + acquirer_id


def read_message_number(reading: Reading, value: str) -> None:
    if value[:-4].strip("0"):
        reading.keep(71)
    else:
        reading.put[71] = value[-4:]


def write_message_number(writing: Writing, value: str) -> None:
    writing.put[71] = value.zfill(8)


_TOLD = 25  # characters of DE 44 in 1987
_CONTROL = 16  # digits of DE 53 in 1987


def read_response_data(reading: Reading, value: str) -> None:
    reading.put[44] = value[:_TOLD]
    if len(value) > _TOLD:
        reading.keep(44)


def write_response_data(writing: Writing, value: str) -> None:
    kept = writing.kept(44)
    writing.put[44] = kept if kept.startswith(value) else value


def read_security_control(reading: Reading, value: str) -> None:
    """DE 53, up to 48 bytes: eight that are digits are those of 1987."""
    if len(value) == _CONTROL and value.isdigit():
        reading.put[53] = value
    else:
        reading.keep(53)


def write_digits(number: int) -> Writer:
    """An element that has only digits in the later version: other values are left out."""

    def write(writing: Writing, value: str) -> None:
        if value.isdigit():
            writing.put[number] = value

    return write


def read_digits(number: int) -> Reader:
    def read(reading: Reading, value: str) -> None:
        if value.isdigit():
            reading.put[number] = value
        else:
            reading.keep(number)

    return read


def write_same(number: int) -> Writer:
    def write(writing: Writing, value: str) -> None:
        writing.put[number] = value

    return write


def write_security_control(writing: Writing, value: str) -> None:
    """DE 53 of 1987: 16 digits, as eight bytes."""
    writing.put[53] = value
