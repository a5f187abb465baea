"""The commands behind the tokenization endpoint, and the one that asks the process how it is.

The tokenizer sends these over the same unix socket; the switch does not. Refusals as in `hsm.commands`, and
`token_unknown`, `token_used`.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Tokenize(msgspec.Struct, frozen=True, tag="tokenize", kw_only=True):
    """Store a card and make a name for it that merchants may hold.

    Args:
        pan: 12–19 digits.
        expiry: YYMM.
        source: instead of both, a `tok_…`, which is used up.
        kind: `tok` (pays once), `pm` (may be used again) or empty: only the card, for the test names.
        domain: the merchant's account ("acct_…"); the token means nothing to others.
    """

    pan: str = ""
    expiry: str = ""
    source: str = ""
    kind: str = ""
    domain: str = ""
    trace_id: str = ""

    def __repr__(self) -> str:
        return f"Tokenize(kind={self.kind!r}, trace_id={self.trace_id!r})"


class ResolveToken(msgspec.Struct, frozen=True, tag="resolve", kw_only=True):
    """Ask what a `tok_…` or `pm_…` stands for.

    `consume` uses up a `tok_…`; asking again with the same `used_by`, if it is not empty, gives the same answer, so
    that a caller that lost the answer can repeat its question. A token of another `domain` is unknown.
    """

    id: str
    consume: bool = False
    used_by: str = ""
    domain: str = ""
    trace_id: str = ""


class CardToken(msgspec.Struct, frozen=True, tag="card_token", kw_only=True):
    """What may be known of a tokenized card. `surrogate` is for the gateway's messages, never for merchants.

    `fingerprint` is 32 hex digits, `expiry` YYMM, `bin` 6–8 digits, `created_at` seconds since 1970.
    """

    id: str
    surrogate: str
    fingerprint: str
    bin: str
    last4: str
    expiry: str
    used: bool = False
    created_at: int = 0

    def __repr__(self) -> str:
        return f"CardToken({self.id!r})"


class ReadStatus(msgspec.Struct, frozen=True, tag="status"):
    """Ask whether token and vault work, and for the metrics."""


class HsmStatus(msgspec.Struct, frozen=True, tag="status_read"):
    """`metrics` is in the Prometheus text format; key names with their check values are in `keys`."""

    token: bool
    vault: bool
    keys: dict[str, str]
    metrics: str


class VaultHsm(Protocol):
    """Raises HsmRefused or HsmUnavailable."""

    async def tokenize(self, request: Tokenize) -> CardToken: ...

    async def resolve(self, request: ResolveToken) -> CardToken: ...

    async def status(self) -> HsmStatus: ...
