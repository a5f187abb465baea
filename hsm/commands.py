"""The commands of the HSM as its callers see them: requests, answers, refusals.

Callers send a request struct over the unix socket and get the answer struct or an `HsmRefused`. Composite on
purpose: one round trip a pipeline stage. Card data lives in fields whose structs never show it in a repr.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class MacCheck(msgspec.Struct, frozen=True):
    """A MAC to verify: `key` is a key name, `data` the bytes under the MAC, `mac` 4–8 bytes as received."""

    key: str
    data: bytes
    mac: bytes

    def __repr__(self) -> str:
        return f"MacCheck(key={self.key!r})"


class NetworkTokenUse(msgspec.Struct, frozen=True, kw_only=True):
    """Data with a network token (DPAN) in DE 2.

    `cryptogram` is 20 bytes (`hsm.algorithms.token_cryptogram`), `merchant` DE 42 without trailing blanks, `channel`
    one of `hsm.vault.network_token_rules.CHANNELS`. A cryptogram is taken once; again only with the same `used_by`, if
    that is not empty, so that a repeated message gets its answer.
    """

    cryptogram: bytes = b""
    merchant: str = ""
    channel: str = ""
    used_by: str = ""

    def __repr__(self) -> str:
        return "NetworkTokenUse(…)"


class Screen(msgspec.Struct, frozen=True, tag="screen", kw_only=True):
    """Verify the MAC (if given), then identify the card (if `pan` is given).

    `pan` is 12–19 digits: a card's, or a surrogate of ours where `surrogate` is True, or a network token of ours, which
    is looked at with `network_token` and gives the card behind it.
    A card that the vault has not seen yet is stored. `leading` is how many of its first digits routing looks at, up to
    11; 0: none but `bin`. With `compare` the number is only held against the card of an earlier payment: nothing is
    stored, a network token needs no cryptogram and may be suspended or expired, and the answer may have a fingerprint
    alone.
    """

    pan: str = ""
    expiry: str = ""  # YYMM, DE 14; stored with a card seen for the first time
    surrogate: bool = False
    leading: int = 0
    mac: MacCheck | None = None
    network_token: NetworkTokenUse | None = None
    trace_id: str = ""
    compare: bool = False

    def __repr__(self) -> str:
        return f"Screen(surrogate={self.surrogate}, trace_id={self.trace_id!r})"


class Screened(msgspec.Struct, frozen=True, tag="screened"):
    """The card without its number: `token` "card_…", `fingerprint` 16 bytes.

    `bin` is the first 8 digits; of a PAN shorter than 16 digits the first 6, so that `bin` and `masked_pan`
    never make up a number. `leading` is as many digits as were asked for: for routing, in memory; it is stored, logged
    and shown nowhere.
    """

    token: str = ""
    fingerprint: bytes = b""
    masked_pan: str = ""
    bin: str = ""
    leading: str = ""

    def __repr__(self) -> str:
        return f"Screened(token={self.token!r}, masked_pan={self.masked_pan!r})"


class MacTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """A message to put under a MAC before its card data is known to the caller: `data` with holes.

    The PAN goes to offset `pan_at` (-1: nowhere), as text in `pan_encoding` (`ascii`, `ebcdic` or `bcd`, an odd number
    of digits preceded by a zero nibble), the PIN block to `pin_at` (-1: nowhere), as bytes or, where `pin_hex`, as
    upper-case hexadecimal ASCII. The holes are in `data` already, filled with anything.
    """

    key: str
    data: bytes
    pan_at: int = -1
    pan_encoding: str = "ascii"
    pin_at: int = -1
    pin_hex: bool = False

    def __repr__(self) -> str:
        return f"MacTemplate(key={self.key!r})"


class Dispatch(msgspec.Struct, frozen=True, tag="dispatch", kw_only=True):
    """The elements of a message to an issuer: the PAN behind `token`, the PIN block under the issuer's key, the MAC.

    `pin_block` is 8 bytes (ISO 9564 formats 0, 1, 3) or 16 (format 4) under `pin_key_in`; empty where there is no PIN.
    `ksn` is there where `pin_key_in` is a base derivation key, `ksn_key` as in `hsm.card_commands.PinBlock`. With `mac`
    the answer has the MAC of the whole message: one round trip instead of two.
    """

    token: str
    pin_block: bytes = b""
    pin_key_in: str = ""
    pin_key_out: str = ""
    pin_format_in: int = 0
    pin_format_out: int = 0
    ksn: bytes = b""
    ksn_key: str = ""
    mac: MacTemplate | None = None
    trace_id: str = ""

    def __repr__(self) -> str:
        return f"Dispatch(token={self.token!r}, trace_id={self.trace_id!r})"


class Dispatched(msgspec.Struct, frozen=True, tag="dispatched"):
    """`mac` is 8 bytes where one was asked for."""

    pan: str = ""
    expiry: str = ""
    pin_block: bytes = b""
    mac: bytes = b""

    def __repr__(self) -> str:
        return "Dispatched(…)"


class GenerateMac(msgspec.Struct, frozen=True, tag="mac"):
    key: str
    data: bytes
    trace_id: str = ""

    def __repr__(self) -> str:
        return f"GenerateMac(key={self.key!r}, trace_id={self.trace_id!r})"


class GeneratedMac(msgspec.Struct, frozen=True, tag="mac_generated"):
    mac: bytes


class VerifyMac(msgspec.Struct, frozen=True, tag="verify_mac"):
    """Verify a MAC and do nothing else: for callers that have no business with cards, which `Screen` has.

    A MAC that does not match is refused as `mac_invalid`.
    """

    check: MacCheck
    trace_id: str = ""

    def __repr__(self) -> str:
        return f"VerifyMac(check={self.check!r}, trace_id={self.trace_id!r})"


class MacVerified(msgspec.Struct, frozen=True, tag="mac_verified"):
    """The MAC matches."""


class HsmRefused(Exception):
    """The HSM looked at a command and said no; a value for the pipeline, not a fault.

    Args:
        code: `mac_invalid`, `pin_block_invalid`, `card_unknown`, `pan_invalid`, `key_unknown`, `key_usage`,
            `not_permitted`, `overloaded`, `expired` or `malformed`; further codes with the commands that have them.
        detail: one line free of card data.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class HsmUnavailable(Exception):
    """The HSM cannot be reached, did not answer in time, or has lost its token or its vault. Decline with 91/96."""


class Hsm(Protocol):
    """Raises HsmRefused or HsmUnavailable."""

    async def screen(self, request: Screen) -> Screened: ...

    async def dispatch(self, request: Dispatch) -> Dispatched: ...

    async def mac(self, request: GenerateMac) -> GeneratedMac: ...
