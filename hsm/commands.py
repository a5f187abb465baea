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


class Screen(msgspec.Struct, frozen=True, tag="screen", kw_only=True):
    """Verify the MAC (if given), then identify the card (if `pan` is given).

    `pan` is 12–19 digits: a card's, or a surrogate of ours where `surrogate` is True.
    A card that the vault has not seen yet is stored.
    """

    pan: str = ""
    expiry: str = ""  # YYMM, DE 14; stored with a card seen for the first time
    surrogate: bool = False
    mac: MacCheck | None = None
    trace_id: str = ""

    def __repr__(self) -> str:
        return f"Screen(surrogate={self.surrogate}, trace_id={self.trace_id!r})"


class Screened(msgspec.Struct, frozen=True, tag="screened"):
    """The card without its number: `token` "card_…", `fingerprint` 16 bytes.

    `bin` is the first 8 digits; of a PAN shorter than 16 digits the first 6, so that `bin` and `masked_pan`
    never make up a number.
    """

    token: str = ""
    fingerprint: bytes = b""
    masked_pan: str = ""
    bin: str = ""


class Dispatch(msgspec.Struct, frozen=True, tag="dispatch", kw_only=True):
    """What goes out to an issuer: the PAN behind `token`, the PIN block under the issuer's key.

    `pin_block` is 8 bytes, ISO 9564 format 0, under `pin_key_in`; empty where there is no PIN.
    """

    token: str
    pin_block: bytes = b""
    pin_key_in: str = ""
    pin_key_out: str = ""
    trace_id: str = ""

    def __repr__(self) -> str:
        return f"Dispatch(token={self.token!r}, trace_id={self.trace_id!r})"


class Dispatched(msgspec.Struct, frozen=True, tag="dispatched"):
    pan: str = ""
    expiry: str = ""
    pin_block: bytes = b""

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


class HsmRefused(Exception):
    """The HSM looked at a command and said no; a value for the pipeline, not a fault.

    Args:
        code: `mac_invalid`, `pin_block_invalid`, `card_unknown`, `pan_invalid`, `key_unknown`, `key_usage`,
            `overloaded` or `malformed`.
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
