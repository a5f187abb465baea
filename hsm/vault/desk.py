"""The vault's commands and who does them: a table of handlers for `hsm.service`.

A request goes in, its answer comes out, or HsmRefused, VaultError, CiphertextError or TokenError is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from hsm.commands import HsmRefused
from hsm.engine import Engine, NewCard, UnknownSurrogate, UnknownToken
from hsm.key_commands import Rewrap, Rewrapped
from hsm.vault.cards import SURROGATE_BIN, Card, card_token, check_expiry
from hsm.vault.deletions import Deletions
from hsm.vault.imports import import_cards
from hsm.vault.rewrap import Rewrapper
from hsm.vault.vault import Vault
from hsm.vault_commands import (
    CardToken,
    ChangeNetworkToken,
    DeleteCard,
    Detokenize,
    Detokenized,
    GenerateTokenCryptogram,
    ImportCards,
    ImportedCards,
    NetworkToken,
    ProveDeletion,
    ProvisionNetworkToken,
    ReadNetworkToken,
    ResolveToken,
    TokenCryptogram,
    Tokenize,
)

log = structlog.get_logger(__name__)

Handler = Callable[[Any], Coroutine[Any, Any, Any]]

# The purposes for which a number may be requested; the log has it with each. The audit has the caller, and no purpose.
PURPOSES = {
    "authorization": "a payment outside this switch",
    "clearing": "a clearing or settlement file",
    "dispute": "a chargeback's or a retrieval request's papers",
    "migration": "the merchant's cards go to another vault",
    "investigation": "fraud is being looked into",
}
KINDS = ("", "tok", "pm")
_LONGEST_DOMAIN = 100


def vault_handlers(vault: Vault, engine: Callable[[], Engine], seal: Callable[[bytes], bytes]) -> dict[type, Handler]:
    """Return a handler for each of the vault's commands, `Rewrap` among them.

    Args:
        vault: over an open database.
        engine: returns the engine over the token that is open now.
        seal: HMAC-SHA-256 by a key of the token, 32 bytes for any bytes; for proofs of deletion.
    """
    desk = Desk(vault, engine)
    deletions = Deletions(vault.database, vault.cards, vault.numbers, seal)
    return {
        Tokenize: desk.tokenize,
        ResolveToken: vault.resolve,
        Detokenize: desk.detokenize,
        ImportCards: desk.import_cards,
        DeleteCard: deletions.delete,
        ProveDeletion: deletions.prove,
        ProvisionNetworkToken: desk.provision,
        ReadNetworkToken: vault.network_tokens.read,
        ChangeNetworkToken: vault.network_tokens.change,
        GenerateTokenCryptogram: desk.cryptogram,
        Rewrap: desk.rewrap,
    }


class Desk:
    """The commands that need both the token and the vault."""

    def __init__(self, vault: Vault, engine: Callable[[], Engine]) -> None:
        self._vault = vault
        self._engine = engine
        self._rewrapper = Rewrapper(vault.database, vault.numbers)

    async def tokenize(self, request: Tokenize) -> CardToken:
        """Store a card and name it, or exchange a `tok_…`.

        Raises:
            HsmRefused: `malformed`, `pan_invalid`, `token_unknown` or `token_used`.
        """
        if request.kind not in KINDS:
            raise HsmRefused("malformed", "kind is tok, pm or empty")
        if len(request.domain) > _LONGEST_DOMAIN:
            raise HsmRefused("malformed", f"a domain has at most {_LONGEST_DOMAIN} characters")
        if request.source:
            if not request.kind:
                raise HsmRefused("malformed", "a token is exchanged for a tok or a pm")
            return await self._vault.exchange(request.source, request.kind, request.domain)
        check_expiry(request.expiry)
        card = await self._card(request.pan, request.expiry)
        if not request.kind:
            return card_token(card, request.expiry)
        try:
            return await self._vault.issue(request.kind, card, request.expiry, request.domain)
        except HsmRefused:  # erased between the two: it is a new card now
            card = await self._card(request.pan, request.expiry)
            return await self._vault.issue(request.kind, card, request.expiry, request.domain)

    async def detokenize(self, request: Detokenize) -> Detokenized:
        """Return number and expiry.

        Raises:
            HsmRefused: `malformed`, `token_unknown` (no such token in this domain), `card_unknown`.
        """
        if request.purpose not in PURPOSES:
            raise HsmRefused("malformed", f"purpose is {', '.join(PURPOSES)}")
        card, expiry = await self._named(request.id, request.domain)
        pan, own_expiry = self._engine().reveal(card)
        log.warning(  # so that no usual level filters it: nothing else has the purpose
            "detokenized",
            token=card.token,
            purpose=request.purpose,
            domain=request.domain,
            trace_id=request.trace_id,
        )
        return Detokenized(pan, expiry or own_expiry)

    async def import_cards(self, request: ImportCards) -> ImportedCards:
        return await import_cards(request, self._vault, self._engine)

    async def provision(self, request: ProvisionNetworkToken) -> NetworkToken:
        """Make a network token for a card that is named, or given by its number."""
        if bool(request.pan) == bool(request.source):
            raise HsmRefused("malformed", "give either source or pan")
        engine = self._engine()
        if request.pan:
            card, expiry = await self._card(request.pan, request.expiry), ""
        elif request.source.startswith(("card_", SURROGATE_BIN)):
            card, expiry = await self._named(request.source, "")
        else:
            card, expiry = await self._named(request.source, request.domain)
        expiry = expiry or engine.reveal(card)[1]
        return await self._vault.network_tokens.provision(request, card, expiry, engine.keyring)

    async def cryptogram(self, request: GenerateTokenCryptogram) -> TokenCryptogram:
        return await self._vault.network_tokens.cryptogram(request, self._engine().keyring)

    async def rewrap(self, request: Rewrap) -> Rewrapped:
        return await self._rewrapper.rewrap(request, self._engine().keyring)

    async def _card(self, pan: str, expiry: str) -> Card:
        found = self._engine().identify(pan, expiry)
        if not isinstance(found, NewCard):
            return found
        card = await self._vault.find(found)
        assert card is not None, "the vault stores a new card or fails"
        return card

    async def _named(self, name: str, domain: str) -> tuple[Card, str]:
        """Return the card of a name, and the expiry of the name where it has its own."""
        if name.startswith(("tok_", "pm_")):
            return await self._vault.card_of(name, domain)
        if domain:
            raise HsmRefused("token_unknown", "no such token in this domain")
        if name.startswith("card_"):
            card = self._vault.cards.by_token(name) or await self._vault.find(UnknownToken(name))
        else:
            card = self._vault.cards.by_surrogate(name) or await self._vault.find(UnknownSurrogate(name))
        if card is None:
            raise HsmRefused("card_unknown", "no such card")
        return card, ""
