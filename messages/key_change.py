"""The elements of a key exchange over network management: which kind, and the key block or the check value; pure.

    0800  DE 70 = 101, DE 53 = kind of key, DE 48 = key block (X9.143)
    0810  DE 39 = 00 and DE 48 = check value of the key that was taken, or another DE 39

Both ends build and read their messages with it: the switch and the simulators.

Source: ISO 8583:1987 DE 48, 53 and 70 (101: key change); the content of DE 48 and DE 53 is inferred from the standard's
names for them, as each network has its own layout.
"""

from __future__ import annotations

from messages.errors import DecodeError

KEY_CHANGE = "101"
BLOCK, CONTROL, FUNCTION = 48, 53, 70

# Kind of key → the first digit of DE 53; the others are zeros, for the time being.
KINDS = {"pin": "1", "mac": "2"}
CONTROL_DIGITS = 16
_NAMES = {digit: kind for kind, digit in KINDS.items()}
_ZEROS = "0" * (CONTROL_DIGITS - 1)


def key_request(kind: str, block: str) -> dict[int, str]:
    """The elements of the 0800 besides DE 7 and DE 11."""
    return {BLOCK: block, CONTROL: KINDS[kind] + _ZEROS, FUNCTION: KEY_CHANGE}


def offered_key(elements: dict[int, str]) -> tuple[str, str]:
    """Kind (`pin` or `mac`) and key block of an 0800.

    Raises:
        DecodeError: path "DE 48" or "DE 53": missing, or none of the kinds.
    """
    control, block = elements.get(CONTROL, ""), elements.get(BLOCK, "").strip()
    kind = _NAMES.get(control[:1])
    if kind is None or control[1:].strip("0"):
        raise DecodeError("DE 53", None, "expected 1 (PIN) or 2 (MAC) and zeros behind it")
    if not block:
        raise DecodeError("DE 48", None, "expected a key block")
    return kind, block
