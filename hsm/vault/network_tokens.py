"""Network tokens: a number in a card's place that one requestor may use, in one domain, with a cryptogram each time.

Commands on them come in from `hsm.vault.desk`, payments with them from `Vault.find`; out come `NetworkToken`s, and for
a payment the card behind. The rules are in `hsm.vault.network_token_rules`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from hsm.algorithms.primitives import AesKey
from hsm.algorithms.token_cryptogram import (
    HIGHEST_COUNTER,
    UNPREDICTABLE_BYTES,
    make_cryptogram,
)
from hsm.commands import HsmRefused
from hsm.engine import data_key_label, data_keys_used
from hsm.errors import VaultError
from hsm.keys.keyring import NONCE_BYTES, Keyring, Sealed
from hsm.keys.permissions import Operation
from hsm.vault.cards import Card, Numbers, check_expiry
from hsm.vault.network_token_rules import (
    CHANNELS,
    NETWORK_TOKEN_BIN,
    NETWORK_TOKEN_KEY,
    NetworkTokenRow,
    PresentedNetworkToken,
    check_domain,
    check_usable,
    next_state,
)
from hsm.vault.network_token_table import NetworkTokenTable
from hsm.vault_commands import (
    ChangeNetworkToken,
    GenerateTokenCryptogram,
    NetworkToken,
    ProvisionNetworkToken,
    ReadNetworkToken,
    TokenCryptogram,
)

_ATTEMPTS = 4


class NetworkTokens:
    """The rows and what is done to them.

    Args:
        table: the rows.
        numbers: makes ids, numbers and nonces, and knows the time.
        bin: the first 6–8 digits of the numbers made here.
        key_name: the key of the cryptograms, role `token-cryptogram`.
    """

    def __init__(
        self,
        table: NetworkTokenTable,
        numbers: Numbers,
        bin: str = NETWORK_TOKEN_BIN,
        key_name: str = NETWORK_TOKEN_KEY,
    ) -> None:
        self._table = table
        self._numbers = numbers
        self._bin = bin
        self._key_name = key_name

    async def provision(
        self, request: ProvisionNetworkToken, card: Card, expiry: str, keyring: Keyring
    ) -> NetworkToken:
        """Store a new token for a card; `expiry` is the one that the source of it has.

        Raises:
            HsmRefused: `malformed`; `card_unknown` where the card was erased meanwhile.
        """
        expiry = request.expiry or expiry
        check_expiry(expiry)
        if not 1 <= len(request.domain) <= 100 or len(request.merchant) > 15:
            raise HsmRefused("malformed", "domain has 1 to 100 characters, merchant at most 15")
        if request.channel and request.channel not in CHANNELS:
            raise HsmRefused("malformed", f"channel is {', '.join(CHANNELS)} or empty")
        for _ in range(_ATTEMPTS):
            name, dpan = self._numbers.identifier("nt_"), self._numbers.number(self._bin)
            sealed = keyring.seal(dpan.encode(), self._numbers.random_bytes(NONCE_BYTES), name.encode())
            data_keys_used.set(f"fingerprint/1 {data_key_label(sealed.key_version)}")
            row = NetworkTokenRow(
                name, request.domain, "active", card.token, request.merchant, request.channel, expiry, 0,
                sealed.key_version, sealed.nonce, sealed.ciphertext, "",
            )  # fmt: skip
            if await self._table.insert(row, keyring.fingerprint(dpan)):
                return row.shown(dpan)
        raise VaultError("the vault found no free network token")

    async def read(self, request: ReadNetworkToken) -> NetworkToken:
        """Return a token of the domain; HsmRefused `network_token_unknown` otherwise."""
        return (await self._row(request.id, request.domain)).shown()

    async def change(self, request: ChangeNetworkToken) -> NetworkToken:
        """Move a token to its next state; refusals as in `next_state`, and `network_token_unknown`."""
        for _ in range(_ATTEMPTS):
            row = await self._row(request.id, request.domain)
            after = next_state(row.state, request.change)
            changed = await self._table.change(row.id, row.state, after)
            if changed is not None:
                return changed.shown()
        raise VaultError("the network token is being changed by others")

    async def cryptogram(self, request: GenerateTokenCryptogram, keyring: Keyring) -> TokenCryptogram:
        """Count up and make the cryptogram; the counter is durable before it leaves.

        Raises:
            HsmRefused: `malformed`, `cryptogram_replayed` for a counter that is not higher than the last, and as in
                `check_usable`.
        """
        if request.unpredictable and len(request.unpredictable) != UNPREDICTABLE_BYTES:
            raise HsmRefused("malformed", f"an unpredictable number has {UNPREDICTABLE_BYTES} bytes")
        if not 0 <= request.counter <= HIGHEST_COUNTER:
            raise HsmRefused("malformed", "a counter is 1 to 2**32-1, or 0 for the next")
        held = keyring.key(self._key_name, Operation.TOKEN_CRYPTOGRAM_GENERATE)
        row = await self._row(request.id, request.domain)
        check_usable(row, self._month())
        dpan = _number(row, keyring)
        data_keys_used.set(f"{held.name}/{held.version} {data_key_label(row.key_version or '')}")
        counter = await self._table.issue(row.id, request.counter)
        if counter is None:
            check_usable(await self._row(request.id, request.domain), self._month())
            raise HsmRefused("cryptogram_replayed", "the counter of a network token only rises")
        unpredictable = request.unpredictable or self._numbers.random_bytes(UNPREDICTABLE_BYTES)
        made = make_cryptogram(cast(AesKey, held.key), dpan, row.expiry, counter, unpredictable)
        return TokenCryptogram(dpan=dpan, expiry=row.expiry, counter=counter, cryptogram=made.encode())

    async def take(self, presented: PresentedNetworkToken) -> str:
        """Let a network token pay once, durably; returns the `card_…` behind it.

        Raises:
            HsmRefused: `network_token_unknown`, `cryptogram_invalid`, `domain_restricted`, `cryptogram_replayed`, and
                as in `check_usable`.
        """
        for _ in range(_ATTEMPTS):
            row = await self._table.find(presented.fingerprint)
            if row is None:
                raise HsmRefused("network_token_unknown", "no such network token")
            check_usable(row, self._month())
            if not presented.authentic(row.expiry):
                raise HsmRefused("cryptogram_invalid", "the cryptogram does not match")
            check_domain(row, presented.use)
            if await self._table.take(row.id, presented.cryptogram.counter, presented.use.used_by):
                assert row.card is not None, "an active network token has a card"
                return row.card
            if presented.cryptogram.counter <= row.counter:
                raise HsmRefused("cryptogram_replayed", "the cryptogram was used before")
            # Something changed between the two statements: see what.
        raise HsmRefused("cryptogram_replayed", "the cryptogram was used before")

    async def behind(self, fingerprint: bytes) -> str | None:
        """Return the `card_…` behind a number in any state of the token, None where there is none any more."""
        row = await self._table.find(fingerprint)
        return None if row is None else row.card

    async def _row(self, name: str, domain: str) -> NetworkTokenRow:
        row = await self._table.read(name, domain)
        if row is None:
            raise HsmRefused("network_token_unknown", "no such network token")
        return row

    def _month(self) -> str:
        return f"{datetime.fromtimestamp(self._numbers.now_ms() / 1000, UTC):%y%m}"


def _number(row: NetworkTokenRow, keyring: Keyring) -> str:
    assert row.key_version and row.nonce and row.ciphertext, "an active network token has a number"
    return keyring.unseal(Sealed(row.key_version, row.nonce, row.ciphertext), row.id.encode()).decode("ascii")
