"""Dates and times: 1987 has no years, and DE 7 and DE 12 change places in what names a message."""

from __future__ import annotations

from messages.counterparts.sides import Reading, Writing, is_answer

MOMENT = 10  # digits of MMDDhhmmss


def read_transmitted(reading: Reading, value: str) -> None:
    if not reading.local:
        reading.put[7] = value
        return
    reading.keep(7)
    if 12 not in reading.given:
        reading.put[7] = value


def read_local_time(reading: Reading, value: str) -> None:
    moment = value[-MOMENT:]
    reading.put[13], reading.put[12] = moment[:4], moment[4:]
    reading.keep(12)
    if reading.local or 7 not in reading.given:
        reading.put[7] = moment


def write_transmitted(writing: Writing, value: str) -> None:
    if not writing.local:
        writing.put[7] = value
        if 12 not in writing.given:
            writing.put[12] = writing.dated("DE 7", value)
        return
    writing.put[12] = _kept_moment(writing, value) or writing.dated("DE 7", value)
    if is_answer(writing.mti):
        # Not echoed from 1993 on: it is the time of the answer itself.
        writing.put[7] = f"{writing.now():%m%d%H%M%S}"
    else:
        writing.put[7] = writing.kept(7) or value


def write_local_time(writing: Writing, value: str) -> None:
    if writing.local and 7 in writing.given:
        return  # names the message: DE 7 of 1987, see `write_transmitted`
    date = writing.given.get(13) or writing.given.get(7, "")[:4]
    moment = date + value
    writing.put[12] = _kept_moment(writing, moment) or writing.dated("DE 13", moment)


def _kept_moment(writing: Writing, moment: str) -> str:
    """The same moment as a peer has said it, with its year; "" where it has not, or with a year of another length."""
    kept = writing.kept(12)
    return kept if kept[-MOMENT:] == moment and len(kept) == writing.year_digits + MOMENT else ""


def read_date(reading: Reading, number: int, value: str) -> None:
    reading.put[15] = value[-4:]
    reading.keep(number)


def read_settlement_date(reading: Reading, value: str) -> None:
    if reading.mti[1] == "5" and 28 in reading.given:
        reading.keep(15)
    else:
        read_date(reading, 15, value)


def read_reconciliation_date(reading: Reading, value: str) -> None:
    if reading.mti[1] == "5":
        read_date(reading, 28, value)
    else:
        reading.keep(28)


def write_settlement_date(writing: Writing, value: str) -> None:
    number = 28 if writing.mti[1] == "5" else 15
    kept = writing.kept(number)
    if kept[-4:] != value:
        kept = writing.dated("DE 15", value + "120000")[: -len("hhmmss")]
    writing.put[number] = kept


def read_action_date(reading: Reading, value: str) -> None:
    reading.put[73] = value[-6:]
    reading.keep(73)


def write_action_date(writing: Writing, value: str) -> None:
    kept = writing.kept(73)
    writing.put[73] = kept if kept[-6:] == value else f"20{value}"
