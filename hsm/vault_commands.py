"""The commands of the vault: tokens and their domains, network tokens, import, deletion with proof; and the status.

The tokenizer sends `Tokenize` and `ResolveToken`, officers the rest, over unix sockets. Refusals as in `hsm.commands`,
and `token_unknown`, `token_used`, `network_token_unknown`, `network_token_active`, `network_token_suspended`,
`network_token_deleted`, `network_token_expired`, `domain_restricted`, `cryptogram_invalid`, `cryptogram_replayed` and
`card_unknown`.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from hsm.key_commands import KeyInfo


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
    """Resolve a `tok_…` or `pm_…`.

    `consume` uses up a `tok_…`; asking again with the same `used_by`, if it is not empty, gives the same answer, so
    that a caller that lost the answer can repeat its question. A token of another `domain` is unknown.
    """

    id: str
    consume: bool = False
    used_by: str = ""
    domain: str = ""
    trace_id: str = ""


class CardToken(msgspec.Struct, frozen=True, tag="card_token", kw_only=True):
    """Public facts about a tokenized card. `surrogate` is for the gateway's messages, never for merchants.

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


class Detokenize(msgspec.Struct, frozen=True, tag="detokenize", kw_only=True):
    """Ask for the number behind a token; not for the tokenizer. The audit has the caller, the log the purpose.

    Args:
        id: a `tok_…` or `pm_…` of `domain`; or, with an empty domain, a `card_…` or a surrogate.
        purpose: one of `hsm.vault.desk.PURPOSES`.
    """

    id: str
    purpose: str
    domain: str = ""
    trace_id: str = ""


class Detokenized(msgspec.Struct, frozen=True, tag="detokenized"):
    """`expiry` is YYMM: the token's own, of a card or surrogate the card's, empty where it is not known."""

    pan: str
    expiry: str

    def __repr__(self) -> str:
        return "Detokenized(…)"


class CardNumber(msgspec.Struct, frozen=True, array_like=True):
    """A card of an import: 12–19 digits, and YYMM."""

    pan: str
    expiry: str

    def __repr__(self) -> str:
        return "CardNumber(…)"


class ImportCards(msgspec.Struct, frozen=True, tag="import_cards", kw_only=True):
    """Store up to 500 cards; the same card again gives the same token.

    With a `domain` the tokens are `pm_…` of that merchant, without one `card_…`.
    """

    cards: tuple[CardNumber, ...]
    domain: str = ""
    trace_id: str = ""

    def __repr__(self) -> str:
        return f"ImportCards({len(self.cards)} cards)"


class ImportedCard(msgspec.Struct, frozen=True, array_like=True):
    """The token of a card; or only `refused`, a code: `pan_invalid` or `malformed`. `fingerprint` is 16 bytes."""

    token: str = ""
    fingerprint: bytes = b""
    bin: str = ""
    last4: str = ""
    refused: str = ""


class ImportedCards(msgspec.Struct, frozen=True, tag="imported_cards"):
    """In the order of the command."""

    cards: tuple[ImportedCard, ...]


class DeleteCard(msgspec.Struct, frozen=True, tag="delete_card", kw_only=True):
    """Erase a card and all that the vault holds of it, of every domain; answered by DeletionProof.

    Args:
        id: a `card_…`, a surrogate, or any `tok_…` or `pm_…` of the card.
        reason: one of `hsm.vault.deletions.REASONS`.
        by: the requester, in the requester's own words; 1–100 printable characters, no card data.
    The same again gives the proof again.
    """

    id: str
    reason: str
    by: str
    trace_id: str = ""


class ProveDeletion(msgspec.Struct, frozen=True, tag="prove_deletion", kw_only=True):
    """Verify the chain of deletions and give the proof for one card; DeletionProof, or `card_unknown`."""

    id: str
    trace_id: str = ""


class DeletionProof(msgspec.Struct, frozen=True, tag="deletion_proof", kw_only=True):
    """The record of a deletion: JSON, as `hsm.vault.deletions.DeletionRecord` has it.

    `digest` is SHA-256 over `previous` (the digest of the record before) and `record`; `seal` an HMAC by the token over
    the digest. All three are hex. `problems` says what is wrong with the chain of `chained` records, after
    `ProveDeletion`.
    """

    record: str
    previous: str
    digest: str
    seal: str
    chained: int = 0
    problems: tuple[str, ...] = ()


class ProvisionNetworkToken(msgspec.Struct, frozen=True, tag="provision_network_token", kw_only=True):
    """Make a network token (DPAN) for a card; answered by NetworkToken with its number, the one time.

    Args:
        source: a `tok_…` or `pm_…` of `domain`, or a `card_…`, or a surrogate.
        pan: instead, the number of a card.
        domain: the requester that may use it (the token requestor); never empty.
        merchant: the only DE 42 it may be used at; empty: any.
        channel: the only one of `hsm.vault.network_token_rules.CHANNELS` it may be used in; empty: any.
        expiry: of the network token, YYMM; empty: the card's.
    """

    domain: str
    source: str = ""
    pan: str = ""
    merchant: str = ""
    channel: str = ""
    expiry: str = ""
    trace_id: str = ""

    def __repr__(self) -> str:
        return f"ProvisionNetworkToken(domain={self.domain!r}, trace_id={self.trace_id!r})"


class ReadNetworkToken(msgspec.Struct, frozen=True, tag="read_network_token", kw_only=True):
    """Ask for the state of a network token `nt_…` of `domain`; answered by NetworkToken without its number."""

    id: str
    domain: str
    trace_id: str = ""


class ChangeNetworkToken(msgspec.Struct, frozen=True, tag="change_network_token", kw_only=True):
    """`change` is `suspend`, `resume` or `delete`; answered by NetworkToken without its number."""

    id: str
    domain: str
    change: str
    trace_id: str = ""


class NetworkToken(msgspec.Struct, frozen=True, tag="network_token", kw_only=True):
    """A network token; `state` is active, suspended or deleted, `counter` the last one that a payment was taken with.

    `card` is the `card_…` behind it, empty once it is deleted. `dpan` is there only when it was just made.
    """

    id: str
    domain: str
    state: str
    card: str = ""
    merchant: str = ""
    channel: str = ""
    expiry: str = ""
    counter: int = 0
    dpan: str = ""

    def __repr__(self) -> str:
        return f"NetworkToken({self.id!r}, {self.state})"


class GenerateTokenCryptogram(msgspec.Struct, frozen=True, tag="generate_token_cryptogram", kw_only=True):
    """Make what one payment with a network token needs; answered by TokenCryptogram.

    Args:
        unpredictable: 4 bytes of the requestor's; empty: made here.
        counter: 1–2**32-1 and higher than any before; 0: the next.
    """

    id: str
    domain: str
    unpredictable: bytes = b""
    counter: int = 0
    trace_id: str = ""


class TokenCryptogram(msgspec.Struct, frozen=True, tag="token_cryptogram", kw_only=True):
    """`cryptogram` is 20 bytes, as `hsm.algorithms.token_cryptogram` lays them out; they fit where a CAVV fits."""

    dpan: str
    expiry: str
    counter: int
    cryptogram: bytes

    def __repr__(self) -> str:
        return f"TokenCryptogram(counter={self.counter})"


class ReadStatus(msgspec.Struct, frozen=True, tag="status"):
    """Ask whether token and vault work, and for the metrics."""


class AuditStatus(msgspec.Struct, frozen=True):
    """State of the audit trail: number of its last record, segment, chain (hex), and the write error, if any."""

    records: int = 0
    segment: int = 0
    chain: str = ""
    failure: str = ""


class HsmStatus(msgspec.Struct, frozen=True, tag="status_read"):
    """The state of the process.

    `metrics` is in the Prometheus text format; `keys` are the names of those in force with their check values,
    `key_list` all versions. `since` is when the token was last lost or found, in seconds since 1970; `queued` the
    commands that wait. `dual_control` is as `hsm.dual_control.DualControl.state`.
    """

    token: bool
    vault: bool
    keys: dict[str, str]
    metrics: str
    since: float = 0.0
    queued: int = 0
    key_list: tuple[KeyInfo, ...] = ()
    audit: AuditStatus = AuditStatus()
    dual_control: str = ""


VaultRequest = (
    Tokenize
    | ResolveToken
    | Detokenize
    | ImportCards
    | DeleteCard
    | ProveDeletion
    | ProvisionNetworkToken
    | ReadNetworkToken
    | ChangeNetworkToken
    | GenerateTokenCryptogram
)
VaultAnswer = CardToken | Detokenized | ImportedCards | DeletionProof | NetworkToken | TokenCryptogram


class VaultHsm(Protocol):
    """Raises HsmRefused or HsmUnavailable."""

    async def tokenize(self, request: Tokenize) -> CardToken: ...

    async def resolve(self, request: ResolveToken) -> CardToken: ...

    async def status(self) -> HsmStatus: ...
