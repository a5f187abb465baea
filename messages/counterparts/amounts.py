"""Money: 2003 has currency and decimal places in each amount, and reversals say what remains in another way."""

from __future__ import annotations

from messages.counterparts.sides import Fault, Reader, Reading, Writer, Writing, is_answer
from messages.errors import EncodeError, MoneyError
from messages.money import alpha_currency, currency_exponent, numeric_currency

_AMOUNT = 12
_IN_PART = "401"  # DE 24 of a reversal that says what remains, even where that is all
_IN_FULL = "400"  # DE 24 of a reversal of the whole amount
_NO_FEES = "C00000000" * 2
# Amount → its currency, in 1987.
CURRENCY_OF = {4: 49, 5: 50, 6: 51}


def read_currency(number: int) -> Reader:
    """A currency of 1993: letters or digits."""

    def read(reading: Reading, value: str) -> None:
        try:
            reading.put[number] = value if value.isdigit() else numeric_currency(value)
        except MoneyError:
            raise Fault("expected a currency of ISO 4217") from None

    return read


def is_reversal(mti: str) -> bool:
    """Whether a canonical type is a reversal; chargebacks are of the same class."""
    return mti[1] == "4" and mti[3] not in "23"


def was(de30: str) -> str:
    """The amount of the transaction in DE 30 of any later version, without the currency of 2003."""
    return de30[: len(de30) // 2][-_AMOUNT:]


def read_original_amounts(reading: Reading, value: str) -> None:
    """DE 30 of a reversal: DE 4 is what remains, DE 95 of 1987. Source: inferred from ISO 8583:1993 DE 30."""
    given = reading.given
    amount = given.get(4, "")
    width = len(value) // 2
    whole = value[:width] == amount and given.get(24) != _IN_PART
    echoed = not amount and is_answer(reading.mti)
    if not is_reversal(reading.mti) or not was(value).strip("0") or whole or echoed:
        reading.keep(30)
        return
    if not amount:
        raise Fault("says what an amount was, and DE 4 is missing")
    if given.get(24) == _IN_FULL and amount[-_AMOUNT:].strip("0"):
        raise Fault("is another amount than DE 4, and DE 24 says that all is reversed")
    if value[: width - _AMOUNT] != amount[:-_AMOUNT]:
        raise Fault("is in another currency than DE 4")
    remaining = (amount[-_AMOUNT:], given.get(5, "0" * _AMOUNT)[-_AMOUNT:])
    reading.put[95] = "".join(remaining) + _NO_FEES
    reading.put[4] = was(value)
    settled = value[width:][-_AMOUNT:]
    if settled.strip("0"):
        reading.put[5] = settled
        if width > _AMOUNT:
            reading.put[50] = value[width:][:3]


def write_replacement(writing: Writing, value: str) -> None:
    given = writing.given
    if 4 not in given:
        raise EncodeError("DE 95", "says what remains of an amount, and DE 4 is missing")
    first = (given[4], given.get(5, "0" * _AMOUNT))
    writing.put.pop(5, None)  # it says what it was, as DE 4 does in 1987
    remains = value[:_AMOUNT], value[_AMOUNT : 2 * _AMOUNT]
    if writing.version == "1993":
        writing.put[4], writing.put[30] = remains[0], "".join(first)
        if remains[1].strip("0"):
            writing.put[5] = remains[1]
        return
    head, settled = _money_head(writing, 4), _money_head(writing, 5) if 5 in given else "0000"
    writing.put[4], writing.put[30] = head + remains[0], head + first[0] + settled + first[1]
    if remains[1].strip("0"):
        writing.put[5] = settled + remains[1]


def read_amount(number: int) -> Reader:
    """An amount of 2003: currency, decimal places, 12 digits."""

    def read(reading: Reading, value: str) -> None:
        currency, places = value[:3], value[3]
        exponent = _exponent(currency)
        if exponent is not None and places != str(exponent):
            raise Fault("has other decimal places than its currency")
        reading.put.setdefault(number, value[4:])
        reading.put[CURRENCY_OF[number]] = currency

    return read


def write_amount(number: int) -> Writer:
    def write(writing: Writing, value: str) -> None:
        if number not in writing.put and not (number == 5 and 95 in writing.given):  # DE 95 says it then
            writing.put[number] = _money_head(writing, number) + value

    return write


def _money_head(writing: Writing, number: int) -> str:
    currency = writing.given.get(CURRENCY_OF[number]) or writing.given.get(49, "")
    exponent = _exponent(currency)
    if exponent is None:
        raise EncodeError(f"DE {number}", f"needs a currency of ISO 4217 in DE {CURRENCY_OF[number]}")
    return f"{currency}{exponent}"


def _exponent(currency: str) -> int | None:
    try:
        return currency_exponent(alpha_currency(currency))
    except MoneyError:
        return None


_ROW, _ROW_2003 = 20, 21


def read_amounts(reading: Reading, value: str) -> None:
    """DE 54 of 2003: a digit of decimal places before each sign."""
    if len(value) % _ROW_2003:
        raise Fault(f"expected rows of {_ROW_2003} characters")
    rows = (value[at : at + _ROW_2003] for at in range(0, len(value), _ROW_2003))
    reading.put[54] = "".join(row[:7] + row[8:] for row in rows)


def write_amounts(writing: Writing, value: str) -> None:
    if len(value) % _ROW:
        raise EncodeError("DE 54", f"expected rows of {_ROW} characters")
    rows = []
    for at in range(0, len(value), _ROW):
        row = value[at : at + _ROW]
        exponent = _exponent(row[4:7])
        if exponent is None:
            raise EncodeError("DE 54", "has a currency that ISO 4217 does not have")
        rows.append(f"{row[:7]}{exponent}{row[7:]}")
    writing.put[54] = "".join(rows)


def read_net(reading: Reading, value: str) -> None:
    """DE 97 of 2003: sign, currency, decimal places, 16 digits."""
    reading.put[97], reading.put[50] = value[0] + value[5:], value[1:4]


def write_net(writing: Writing, value: str) -> None:
    writing.put[97] = value[0] + _money_head(writing, 5) + value[1:]


def read_fee(reading: Reading, value: str) -> None:
    """DE 8 of 2003: more digits than 1987 has."""
    if value[:-8].strip("0"):
        reading.keep(8)
    else:
        reading.put[8] = value[-8:]


def write_fee(writing: Writing, value: str) -> None:
    writing.put[8] = value.zfill(_AMOUNT)
