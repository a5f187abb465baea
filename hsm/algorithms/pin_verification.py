"""Whether a PIN is the right one: the Visa PIN verification value and the IBM 3624 offset.

A PIN verification key as a primitive, a PAN and a clear PIN go in; references or verdicts come out. Called by
`hsm.pins`; the simulators, which hold the other end of the keys, may call it too.
"""

from __future__ import annotations

import hmac
from collections import Counter

from hsm.algorithms.decimalization import decimal_digits
from hsm.algorithms.pinblock import MAX_PIN_DIGITS, MIN_PIN_DIGITS
from hsm.algorithms.primitives import TdesKey

PVV_DIGITS = 4
DECIMALIZATION_TABLE = "0123456789012345"
MIN_DISTINCT_DIGITS = 8
MAX_SAME_DIGIT = 4

_DECIMALS = "0123456789"
_LETTERS = "abcdef"


def generate_pvv(key: TdesKey, pan: str, pin: str, key_index: int) -> str:
    """Return the PIN verification value, 4 digits.

    Args:
        key: the PVK pair.
        pan: 12–19 digits; the 11 left of the check digit enter.
        pin: 4–12 digits; the leftmost 4 enter.
        key_index: PVKI, 0–9.
    Raises:
        ValueError: another shape.
    Source: Visa Payment Technology Standards Manual, PIN Verification Value; IBM CCA Basic Services Guide,
        appendix "Visa PIN Validation Value (PVV) calculation method".
    """
    _check_pan(pan)
    _check_digits(pin, "a PIN", MIN_PIN_DIGITS, MAX_PIN_DIGITS)
    if not 0 <= key_index <= 9:
        raise ValueError("a PIN verification key index is 0 to 9")
    parameter = f"{pan[-12:-1]}{key_index}{pin[:PVV_DIGITS]}"
    return decimal_digits(key.encrypt(bytes.fromhex(parameter)), PVV_DIGITS)


def verify_pvv(key: TdesKey, pan: str, pin: str, key_index: int, pvv: str) -> bool:
    """Whether `pvv`, 4 digits, is the PIN's; takes the same time for any digit. Errors as in `generate_pvv`."""
    _check_digits(pvv, "a PVV", PVV_DIGITS, PVV_DIGITS)
    return hmac.compare_digest(generate_pvv(key, pan, pin, key_index), pvv)


def natural_pin(key: TdesKey, validation_data: str, length: int, table: str = DECIMALIZATION_TABLE) -> str:
    """Return the PIN that the key gives a card before any offset.

    Args:
        key: the PIN verification key.
        validation_data: 16 hex digits, see `default_validation_data`.
        length: of the PIN, 4–12.
        table: the decimal digit for each of the 16 hex digits.
    Raises:
        ValueError: another shape, or a table that `check_decimalization_table` refuses.
    Source: IBM CCA Basic Services Guide, appendix "IBM 3624 PIN-calculation method".
    """
    check_decimalization_table(table)
    _check_validation_data(validation_data)
    if not MIN_PIN_DIGITS <= length <= MAX_PIN_DIGITS:
        raise ValueError("a PIN has 4 to 12 digits")
    encrypted = key.encrypt(bytes.fromhex(validation_data)).hex()
    return "".join(table[int(digit, 16)] for digit in encrypted[:length])


def generate_offset(key: TdesKey, validation_data: str, pin: str, table: str = DECIMALIZATION_TABLE) -> str:
    """Return what has to be added to the natural PIN, digit by digit without carry, to get `pin`; as long as the PIN.

    Arguments and errors as in `natural_pin`.
    Source: IBM CCA Basic Services Guide, appendix "IBM 3624 PIN offset calculation method".
    """
    _check_digits(pin, "a PIN", MIN_PIN_DIGITS, MAX_PIN_DIGITS)
    natural = natural_pin(key, validation_data, len(pin), table)
    return "".join(str((int(wanted) - int(given)) % 10) for wanted, given in zip(pin, natural, strict=True))


def verify_offset(key: TdesKey, validation_data: str, pin: str, offset: str, table: str = DECIMALIZATION_TABLE) -> bool:
    """Whether natural PIN and `offset`, 4–12 digits, make up `pin`; a PIN of another length than the offset does not.

    Takes the same time for any digit. Arguments and errors as in `natural_pin`.
    """
    _check_digits(offset, "an offset", MIN_PIN_DIGITS, MAX_PIN_DIGITS)
    return hmac.compare_digest(generate_offset(key, validation_data, pin, table), offset)


def default_validation_data(pan: str) -> str:
    """Return the rightmost 16 digits of a PAN of 12–19 digits, a shorter one padded with 0 on the right.

    Source: inferred from issuers' practice; the method leaves the choice to the issuer.
    """
    _check_pan(pan)
    return pan[-16:].ljust(16, "0")


def check_decimalization_table(table: str) -> None:
    """Refuse a table that leaves PINs too few digits; whose tables are taken at all is for `hsm.pins` to say.

    Raises:
        ValueError: the table is not of 16 digits, has fewer than 8 different ones, or one more than 4 times.
    Source: Bond and Zieliński, "Decimalisation table attacks for PIN cracking" (2003); the limits are those that
        payment HSMs enforce (payShield host command reference, decimalisation tables).
    """
    _check_digits(table, "a decimalization table", 16, 16)
    counts = Counter(table)
    if len(counts) < MIN_DISTINCT_DIGITS:
        raise ValueError(f"a decimalization table has at least {MIN_DISTINCT_DIGITS} different digits")
    if max(counts.values()) > MAX_SAME_DIGIT:
        raise ValueError(f"a decimalization table has no digit more than {MAX_SAME_DIGIT} times")


def _check_pan(pan: str) -> None:
    _check_digits(pan, "a PAN", 12, 19)


def _check_validation_data(text: str) -> None:
    if len(text) != 16 or text.lower().strip(_DECIMALS + _LETTERS):
        raise ValueError("validation data has 16 hexadecimal digits")


def _check_digits(text: str, what: str, shortest: int, longest: int) -> None:
    if not (shortest <= len(text) <= longest and text.isascii() and text.isdigit()):
        size = str(shortest) if shortest == longest else f"{shortest} to {longest}"
        raise ValueError(f"{what} has {size} digits")
