"""The cardholder authentication verification value (CAVV) of Visa's 3-D Secure, usage 3: its 20 bytes and their parts.

Bytes of an authorization request go in, parts come out, and back; no key enters. The checker of a CAVV reads its parts
with this, picks the key by `key_indicator` and has the HSM verify `output` (`hsm.card_commands.CardValue`, kind
`cavv`). Called by simulators of access control servers and issuers.
"""

from __future__ import annotations

import msgspec

CAVV_BYTES = 20

# Source: Visa 3-D Secure, table D-2 (see Cavv): authentication results code by transaction status.
RESULT_CODES = {"Y": "0", "U": "5", "A": "7", "N": "9", "R": "9"}


class Cavv(msgspec.Struct, frozen=True, kw_only=True):
    """The parts, digits each.

    Attributes:
        result_code: authentication results code, 1 digit, see RESULT_CODES.
        second_factor: second factor authentication code, 2 digits.
        key_indicator: which CAVV key pair, 2 digits.
        output: 3 digits, what `hsm.algorithms.card_value.cavv_output` makes.
        atn: authentication tracking number, 16 digits; its last 4 enter `output`.
        version: version and authentication action, 2 digits.
        address: 4 bytes: the cardholder's IPv4 address in version 1, zeros in version 0.
    Raises:
        ValueError: a part of another shape.
    Source: Visa 3-D Secure, tables D-2, D-3 and D-7, as they stand in public ACS code (Go package gocavv).
    """

    result_code: str
    second_factor: str
    key_indicator: str
    output: str
    atn: str
    version: str = "00"
    address: bytes = bytes(4)

    def __post_init__(self) -> None:
        for field, length in _LENGTHS.items():
            value = getattr(self, field)
            if len(value) != length or not (value.isascii() and value.isdigit()):
                raise ValueError(f"{field} of a CAVV has {length} digits")
        if len(self.address) != 4:
            raise ValueError("address of a CAVV has 4 bytes")

    def __repr__(self) -> str:
        return "Cavv(…)"

    def encode(self) -> bytes:
        """Return the 20 bytes."""
        digits = f"0{self.result_code}{self.second_factor}{self.key_indicator}0{self.output}{self.atn[-4:]}{self.atn}"
        return bytes.fromhex(digits + self.version) + self.address


_LENGTHS = {"result_code": 1, "second_factor": 2, "key_indicator": 2, "output": 3, "atn": 16, "version": 2}


def decode_cavv(data: bytes) -> Cavv:
    """Return the parts of a CAVV.

    Raises:
        ValueError: not 20 bytes, a nibble that is no digit, filler that is not zero, or an unpredictable number that
            is not the end of the tracking number.
    """
    if len(data) != CAVV_BYTES:
        raise ValueError(f"a CAVV has {CAVV_BYTES} bytes")
    digits = data[:16].hex()
    cavv = Cavv(
        result_code=digits[1],
        second_factor=digits[2:4],
        key_indicator=digits[4:6],
        output=digits[7:10],
        atn=digits[14:30],
        version=digits[30:32],
        address=data[16:],
    )
    if cavv.encode() != data:
        raise ValueError("a CAVV's filler is zero and its unpredictable number the end of its tracking number")
    return cavv
