"""Where and how a card was used: DE 22 and 25 of 1987, the twelve positions of 1993, the bits of 2003; pure tables.

Called by `messages.counterparts` for DE 22 of every message that goes from one version to another. Each code of 1987
that has a name in `messages.dictionary.iso1987` comes back as it was from 1993; from 2003, those that it has room for.

Source: ISO 8583:1987 annex A.11 (DE 22) and DE 25, ISO 8583:1993 annex A.8, jPOS-CMF DE 22; which goes with which is
inferred from their words.
"""

from __future__ import annotations

# First two digits of DE 22 → position 7 of 1993, card data input mode.
_MODES = {
    "00": "0", "01": "6", "02": "2", "03": "3", "04": "4", "05": "5", "07": "M", "10": "7",
    "79": "D", "80": "C", "81": "S", "90": "B", "91": "A", "95": "E",
}  # fmt: skip
_MODES_BACK = {position: mode for mode, position in _MODES.items()} | {"1": "01"}
# The same → position 1, card data input capability: the least capability of the terminal.
_CAPABILITIES = {
    "01": "6", "02": "2", "03": "3", "04": "4", "05": "5", "07": "M", "79": "5", "80": "5", "90": "2", "91": "A",
    "95": "5",
}  # fmt: skip
# Third digit of DE 22 → positions 2 (cardholder authentication capability) and 12 (PIN capture capability).
_PIN = {"0": ("0", "1"), "1": ("1", "C"), "2": ("0", "0"), "3": ("5", "0")}
_PIN_INOPERATIVE, _PIN_UNKNOWN = "5", "1"
# DE 25 → positions 4 (operating environment), 5 (cardholder present), 6 (card present).
_CONDITIONS = {
    "00": "101", "01": "010", "02": "201", "05": "100", "08": "020", "59": "050",
}  # fmt: skip
_CONDITIONS_BACK = {positions: condition for condition, positions in _CONDITIONS.items()}
# Conditions that are not in the table, by the first of these that fits: position (from 0), code → DE 25.
_NEAREST = (
    (4, "2", "08"),
    (4, "3", "08"),
    (4, "5", "59"),
    (4, "1", "01"),
    (4, "4", "01"),
    (3, "2", "02"),
    (3, "4", "02"),
)
_NORMAL = "00"
_POSITIONS = 12

# First two digits of DE 22 → bits of the first group of 2003, card reading.
_READING = {
    "00": (0,), "01": (2,), "02": (4,), "03": (3,), "04": (0,), "05": (5,), "07": (5,), "10": (6,), "79": (2, 11, 13),
    "80": (4, 11, 13), "81": (1,), "90": (4,), "91": (4,), "95": (5,),
}  # fmt: skip
# Bits, the first that fits → first two digits of DE 22.
_READING_BACK = (
    (frozenset({2, 13}), "79"), (frozenset({4, 13}), "80"), (frozenset({5}), "05"), (frozenset({4}), "02"),
    (frozenset({2}), "01"), (frozenset({3}), "03"), (frozenset({6}), "10"),
)  # fmt: skip
# DE 25 → bit of the third group, environment.
_ENVIRONMENT = {"00": 1, "02": 2, "08": 3, "59": 4}
_ENVIRONMENT_BACK = {1: "00", 2: "02", 3: "08", 4: "59", 5: "59"}
_ELECTRONIC_COMMERCE, _UNKNOWN, _ONLINE_PIN = 4, 0, 3
_GROUP_DIGITS = 8


def positions_1993(entry_mode: str, condition: str, *, with_pin: bool) -> str:
    """DE 22 and DE 25 of 1987 → DE 22 of 1993.

    Args:
        entry_mode: 3 digits.
        condition: 2 digits, "" where the message has none.
        with_pin: whether it has a PIN block.
    """
    mode, pin = entry_mode[:2], entry_mode[2:]
    authentication, capture = _PIN.get(pin, _PIN["0"])
    place = _CONDITIONS.get(condition or ("59" if mode == "81" else _NORMAL), _CONDITIONS[_NORMAL])
    verified = "13" if with_pin else "00"  # positions 8 and 9: by PIN, by who authorizes
    said = f"{_CAPABILITIES.get(mode, '0')}{authentication}0{place}{_MODES.get(mode, '0')}{verified}00{capture}"
    assert len(said) == _POSITIONS, said
    return said


def entry_mode_1993(positions: str) -> str:
    """DE 22 of 1993 → DE 22 of 1987; "000" says nothing."""
    authentication, capture = positions[1], positions[11]
    if authentication == _PIN_INOPERATIVE:
        pin = "3"
    elif capture not in (_PIN_UNKNOWN, "0") or authentication == "1":
        pin = "1"
    else:
        pin = "0" if capture == _PIN_UNKNOWN else "2"
    return _MODES_BACK.get(positions[6], "00") + pin


def condition_1993(positions: str) -> str:
    """DE 22 of 1993 → DE 25 of 1987."""
    known = _CONDITIONS_BACK.get(positions[3:6])
    if known is not None:
        return known
    return next((condition for at, code, condition in _NEAREST if positions[at] == code), _NORMAL)


def bits_2003(entry_mode: str, condition: str, *, with_pin: bool) -> str:
    """DE 22 and DE 25 of 1987 → DE 22 of 2003, 32 hexadecimal digits; arguments as for `positions_1993`."""
    mode = entry_mode[:2]
    environment = _ELECTRONIC_COMMERCE if mode == "81" else _ENVIRONMENT.get(condition or _NORMAL, _UNKNOWN)
    groups = (_READING.get(mode, (_UNKNOWN,)), (_ONLINE_PIN if with_pin else _UNKNOWN,), (environment,), (_UNKNOWN,))
    return "".join(_group(bits) for bits in groups)


def entry_mode_2003(bits: str) -> str:
    """DE 22 of 2003 → DE 22 of 1987; whether a PIN could be entered it does not say."""
    reading, environment = _bits(bits, 0), _bits(bits, 2)
    if _ELECTRONIC_COMMERCE in environment and not reading & {2, 3, 4, 5, 6}:
        return "810"
    return next((mode for needed, mode in _READING_BACK if needed <= reading), "00") + "0"


def condition_2003(bits: str) -> str:
    """DE 22 of 2003 → DE 25 of 1987."""
    environment = _bits(bits, 2)
    return next((condition for bit, condition in _ENVIRONMENT_BACK.items() if bit in environment), _NORMAL)


def _group(bits: tuple[int, ...]) -> str:
    """Four bytes, the first bit the lowest of the first byte."""
    return sum(1 << bit for bit in bits).to_bytes(4, "little").hex().upper()


def _bits(value: str, group: int) -> set[int]:
    digits = value[_GROUP_DIGITS * group : _GROUP_DIGITS * (group + 1)]
    number = int.from_bytes(bytes.fromhex(digits), "little")
    return {bit for bit in range(32) if number >> bit & 1}
