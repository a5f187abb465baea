"""Uses of a network token, as tables and pure functions: its life, its domain, its cryptogram.

Rows and payments go in; nothing, the next state, or HsmRefused comes out. Called by `hsm.vault.network_tokens` and, for
a payment, first by the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec

from hsm.algorithms.primitives import AesKey
from hsm.algorithms.token_cryptogram import Cryptogram, cryptogram_matches, parse_cryptogram
from hsm.commands import HsmRefused, NetworkTokenUse
from hsm.errors import TokenCryptogramError
from hsm.keys.keyring import Keyring
from hsm.keys.permissions import Operation
from hsm.vault_commands import NetworkToken

NETWORK_TOKEN_BIN = "990001"
NETWORK_TOKEN_KEY = "token-cryptogram"

# (state, change) → state. Other changes are refused with the code of the state.
TRANSITIONS = {
    ("active", "suspend"): "suspended",
    ("suspended", "resume"): "active",
    ("active", "delete"): "deleted",
    ("suspended", "delete"): "deleted",
}
CHANGES = ("suspend", "resume", "delete")
# The domain that a token may be restricted to. Inferred from the token domain restriction controls of the EMVCo Payment
# Tokenisation Specification.
CHANNELS = {
    "ecom": "card not present, over the internet",
    "moto": "card not present, by mail or telephone",
    "recurring": "initiated by the merchant with stored credentials",
    "contactless": "a device at a terminal, contactless",
    "pos": "a card at a terminal",
}


class NetworkTokenRow(msgspec.Struct, frozen=True):
    """A row of `vault.network_tokens`; columns that a deleted token has lost are None."""

    id: str
    domain: str
    state: str
    card: str | None
    merchant: str
    channel: str
    expiry: str
    counter: int
    key_version: str | None
    nonce: bytes | None
    ciphertext: bytes | None
    used_by: str

    def __repr__(self) -> str:
        return f"NetworkTokenRow({self.id!r})"

    def shown(self, dpan: str = "") -> NetworkToken:
        """Return what may be known of it."""
        return NetworkToken(
            id=self.id,
            domain=self.domain,
            state=self.state,
            card=self.card or "",
            merchant=self.merchant,
            channel=self.channel,
            expiry=self.expiry,
            counter=self.counter,
            dpan=dpan,
        )


class PresentedNetworkToken(msgspec.Struct, frozen=True):
    """A payment with a network token: the facts that the engine has without its row.

    `authentic` says whether `cryptogram` was made for this number and an expiry; it asks the key. `keys` are those that
    take part, with their versions, for the audit.
    """

    fingerprint: bytes
    cryptogram: Cryptogram
    use: NetworkTokenUse
    authentic: Callable[[str], bool]
    keys: str

    def __repr__(self) -> str:
        return "PresentedNetworkToken(…)"


def present(keyring: Keyring, dpan: str, use: NetworkTokenUse | None, key_name: str) -> PresentedNetworkToken:
    """Return a payment for `NetworkTokens.take`.

    Raises:
        HsmRefused: `cryptogram_invalid` where there is none or it cannot be read; `key_unknown`, `key_usage`.
    """
    if use is None or not use.cryptogram:
        raise HsmRefused("cryptogram_invalid", "a network token pays with a cryptogram")
    try:
        cryptogram = parse_cryptogram(use.cryptogram)
    except TokenCryptogramError as error:
        raise HsmRefused("cryptogram_invalid", str(error)) from None
    held = keyring.candidates(key_name, Operation.TOKEN_CRYPTOGRAM_VERIFY)
    keys = [cast(AesKey, version.key) for version in held]  # usage "10" is AES only
    return PresentedNetworkToken(
        keyring.fingerprint(dpan),
        cryptogram,
        use,
        lambda expiry: any(cryptogram_matches(key, dpan, expiry, cryptogram) for key in keys),
        f"{held[0].name}/{held[0].version} fingerprint/1",
    )


def next_state(state: str, change: str) -> str:
    """Return the state after a change.

    Raises:
        HsmRefused: `malformed` for a change that there is none of, else `network_token_` and the present state.
    """
    if change not in CHANGES:
        raise HsmRefused("malformed", f"change is {', '.join(CHANGES)}")
    after = TRANSITIONS.get((state, change))
    if after is None:
        raise HsmRefused(f"network_token_{state}", f"the network token is {state}")
    return after


def check_usable(row: NetworkTokenRow, month: str) -> None:
    """Raise HsmRefused unless the token is active and has not expired by `month` (YYMM)."""
    if row.state != "active":
        raise HsmRefused(f"network_token_{row.state}", f"the network token is {row.state}")
    if row.expiry < month:
        raise HsmRefused("network_token_expired", "the network token has expired")


def check_domain(row: NetworkTokenRow, use: NetworkTokenUse) -> None:
    """Raise HsmRefused `domain_restricted` where the token may not be used at this merchant or in this channel."""
    if row.merchant and row.merchant != use.merchant:
        raise HsmRefused("domain_restricted", "the network token belongs to another merchant")
    if row.channel and row.channel != use.channel:
        raise HsmRefused("domain_restricted", "the network token may not be used in this channel")
