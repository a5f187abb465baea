"""Messages between versions of the standard: those of 1993 and 2003 become canonical, and canonical ones become those.

Called by `messages.canonical`. Canonical is ISO 8583:1987: its types, numbers, values. The tables here say what goes
where and what is lost; docs/translation.md shows them to people. DE 55 is never looked into.

Identification of a message: in 1987 DE 7, 11 and 32. Where `Dialect.identification` is "local", as the later standards
have it, it is DE 12, 11 and 32: DE 12 of the peer is DE 7 inside, both ways. So answers are paired and reversals find
their originals with any DE 7 of a peer. With "transmission" DE 7 stays DE 7.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from messages.counterparts import amounts, functions, parties, times
from messages.counterparts.sides import CARRIED, Fault, Reader, Reading, Writer, Writing
from messages.dialect import Dialect
from messages.errors import DecodeError, EncodeError
from messages.formats import problem
from messages.message import Message
from messages.mti import VERSION_DIGITS, VERSIONS, in_version

CARRIED_FROM = CARRIED  # numbers from here on are later versions' own
# Elements that an answer must return besides those of 1987, so that its peer finds its own numbers in it.
ECHOED = (CARRIED + 11, CARRIED + 12)

# Elements with the same meaning and shape.
SAME: dict[str, frozenset[int]] = {
    "1993": frozenset(
        {2, 3, 4, 5, 6, 8, 9, 10, 11, 14, 16, 17, 19, 20, 21, 23, 27, 32, 33, 34, 35, 36, 37, 38, 41, 42, 45, 47, 48}
        | {52, 54, 55, *range(60, 65), 67, 68, 69, *range(74, 82), *range(86, 90), 73, 97, 98, *range(100, 105)}
        | set(range(111, 129))
    ),
    "2003": frozenset(
        {2, 3, 9, 10, 14, 16, 17, 19, 20, 23, 32, 33, 35, 36, 37, 38, 45, 47, 48, 52, 55, *range(60, 65), 67}
        | {98, 100, 101, 102, 103, 123, 128}
    ),
}
_READERS_OF_BOTH: dict[int, Reader] = {
    7: times.read_transmitted,
    12: times.read_local_time,
    15: times.read_settlement_date,
    18: functions.read_merchant_type,
    22: parties.read_pos_data,
    24: functions.read_function,
    26: functions.read_business,
    28: times.read_reconciliation_date,
    30: amounts.read_original_amounts,
    39: functions.read_action,
    40: parties.read_digits(40),
    53: parties.read_security_control,
    56: parties.read_original,
    99: parties.read_digits(99),
}
# Elements of a later version → what reads them. Values that are neither here nor the same are kept under 1000 and their
# number.
READERS: dict[str, dict[int, Reader]] = {
    "1993": {
        **_READERS_OF_BOTH,
        43: parties.read_place,
        44: parties.read_response_data,
        49: amounts.read_currency(49),
        50: amounts.read_currency(50),
        51: amounts.read_currency(51),
        71: parties.read_message_number,
    },
    "2003": {
        **{number: reader for number, reader in _READERS_OF_BOTH.items() if number != 18},
        4: amounts.read_amount(4),
        5: amounts.read_amount(5),
        6: amounts.read_amount(6),
        8: amounts.read_fee,
        11: parties.read_stan,
        41: parties.read_party(41),
        42: parties.read_party(42),
        54: amounts.read_amounts,
        73: times.read_action_date,
        97: amounts.read_net,
    },
}
_WRITERS_OF_BOTH: dict[int, Writer] = {
    7: times.write_transmitted,
    12: times.write_local_time,
    15: times.write_settlement_date,
    18: functions.write_business,
    22: parties.write_pos_data,
    39: functions.write_action,
    40: parties.write_digits(40),
    53: parties.write_security_control,
    70: functions.write_management,
    90: parties.write_original,
    91: functions.write_file_action,
    95: amounts.write_replacement,
    99: parties.write_same(99),
}
# Canonical elements → what writes them.
WRITERS: dict[str, dict[int, Writer]] = {
    "1993": {
        **_WRITERS_OF_BOTH,
        43: parties.write_place,
        44: parties.write_response_data,
        49: parties.write_same(49),
        50: parties.write_same(50),
        51: parties.write_same(51),
        71: parties.write_message_number,
    },
    "2003": {
        **_WRITERS_OF_BOTH,
        4: amounts.write_amount(4),
        5: amounts.write_amount(5),
        6: amounts.write_amount(6),
        8: amounts.write_fee,
        11: parties.write_stan,
        41: parties.write_terminal,
        42: parties.write_acceptor,
        54: amounts.write_amounts,
        73: times.write_action_date,
        97: amounts.write_net,
    },
}
# Canonical elements that are left out on the way to a later version, and why; any other that it has no room for is an
# EncodeError.
_DROPPED_BY_BOTH: dict[int, str] = {
    13: "in DE 12",
    24: "the network's own identifier (NII): DE 24 is the function code",
    25: "in DE 22, where there is one",
    26: "in DE 22: whether a PIN can be entered",
    28: "fees are in DE 46 there, by type",
    29: "fees are in DE 46 there, by type",
    30: "fees are in DE 46 there, by type",
    31: "fees are in DE 46 there, by type",
    46: "DE 46 is fees there",
    56: "reserved in 1987, DE 56 names the original there",
    57: "reserved in 1987",
    58: "reserved in 1987",
    59: "reserved in 1987",
    66: "in DE 39 of answers about totals",
    72: "number of the last message: DE 72 is a record there",
    92: "file security code: none there",
    93: "response indicator: none there",
    94: "service indicator: none there",
    96: "message security code: DE 96 is key management data there",
}
DROPPED: dict[str, dict[int, str]] = {
    "1993": {
        **_DROPPED_BY_BOTH,
        **dict.fromkeys(range(82, 86), "fees of totals: counts of other messages there"),
    },
    "2003": {
        **_DROPPED_BY_BOTH,
        21: "forwarding institution's country: none there",
        27: "DE 27 is what the terminal can do there",
        43: "a set of tagged texts there",
        44: "a set of tagged texts there",
        49: "in DE 4",
        50: "in DE 5",
        51: "in DE 6",
    },
}


def to_canonical(message: Message, dialect: Dialect) -> tuple[Message, tuple[str, str] | None]:
    """A message of 1993 or 2003 as 1987 would have it.

    Returns:
        The canonical message, and the first element whose value is none, as path and reason; such a value is only kept
        under 1000 and its number.

    Raises:
        DecodeError: path "MTI": a type that has no counterpart, or one of another version than the dialect's: its
            elements would be read by the wrong numbers, and no rule would look after it.
    """
    mti = in_version(message.mti, "1987")
    if message.mti[0] != VERSION_DIGITS[dialect.version]:
        raise DecodeError("MTI", 0, f"is of {VERSIONS[message.mti[0]]}, and the dialect of {dialect.version}")
    same, readers = SAME[dialect.version], READERS[dialect.version]
    reading = Reading(mti, dialect.version, dialect.identification == "local", message.elements)
    put, fault = reading.put, None
    for number, value in message.elements.items():
        if number in same:
            put[number] = value
            continue
        reader = readers.get(number)
        if reader is None:
            put[CARRIED + number] = value
            continue
        try:
            reader(reading, value)
        except Fault as found:
            put[CARRIED + number] = value
            fault = fault or (f"DE {number}", str(found))
    return Message(mti, put), fault


def from_canonical(message: Message, dialect: Dialect, now: Callable[[], datetime]) -> Message:
    """A canonical message as 1993 or 2003 has it.

    Args:
        now: the clock, for years and for the time of answers.

    Raises:
        EncodeError: a canonical element that has no place there.
        DecodeError: path "MTI": no such type.
    """
    version, known = dialect.version, dialect.elements
    same, writers, dropped = SAME[version], WRITERS[version], DROPPED[version]
    writing = Writing(message.mti, version, dialect.identification == "local", message.elements, now, known)
    put, given = writing.put, message.elements
    later = []
    for number, value in given.items():
        if number in same:
            put[number] = value
        elif number in writers:
            later.append(partial(writers[number], writing, value))
        elif number < CARRIED and number not in dropped:
            raise EncodeError(f"DE {number}", f"has no counterpart in {version}")
    for write in later:
        write()
    functions.write_function(writing)
    for number, value in given.items():
        own = number - CARRIED
        if own > 0 and own not in put and own not in same and own not in READERS[version]:
            element = known.get(own)
            if element is not None and problem(element, value) is None:
                put[own] = value
    place_mac(put)
    return Message(in_version(message.mti, version), put)


def canonical_numbers(dialect: Dialect, number: int, mti: str) -> tuple[int, ...]:
    """Place of the value of an element of a dialect in a canonical message.

    Args:
        number: as the dialect numbers it.
        mti: canonical.

    Returns:
        None, one or two elements; those of 1000 and above are there only where the peer has said so.
    """
    if dialect.version == "1987" or number in SAME[dialect.version]:
        return (number,)
    if number == 12:
        return (7,) if dialect.identification == "local" else (12, 13)
    if number == 7:
        return () if dialect.identification == "local" else (7,)
    if number == 24:
        return {"8": (70,), "3": (91,)}.get(mti[1], ())
    return {26: (18,), 56: (90,), 28: (15,) if mti[1] == "5" else (), 30: ()}.get(
        number, (number,) if number in READERS[dialect.version] else (CARRIED + number,)
    )


def place_mac(put: dict[int, str]) -> None:
    """A MAC is the last element: which of the two that is may be another one here."""
    mac = put.pop(128, None) or put.pop(64, None)
    if mac is not None:
        put[128 if max(put, default=0) > 64 else 64] = mac
