"""The vault's commands over real PostgreSQL and keys in memory: commands for the tests of this folder."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hsm.commands import HsmRefused
from hsm.engine import Engine
from hsm.errors import CiphertextError
from hsm.keys.keyring import Sealed
from hsm.software import SoftwareKey, SoftwareKeyring
from hsm.vault.cards import CardCache, Numbers
from hsm.vault.database import Database as VaultDatabase
from hsm.vault.desk import Handler, vault_handlers
from hsm.vault.vault import Vault
from hsm.vault_commands import CardNumber, ImportCards, ImportedCards, Tokenize
from tests.conftest import Database

VISA, MASTERCARD, AMEX = "4242424242424242", "5555555555554444", "378282246310005"
DOMAIN, OTHER = "acct_one", "acct_other"
SEAL_KEY = bytes(range(32))


class RotatingKeyring(SoftwareKeyring):
    """Data keys with versions; `rotate` makes the next, `retire` destroys one."""

    def __init__(self) -> None:
        self.token_cryptogram = secrets.token_bytes(32)
        keys = {
            "token-cryptogram": SoftwareKey("token-cryptogram", self.token_cryptogram),
            "zak-pos": SoftwareKey("mac", secrets.token_bytes(32)),
        }
        super().__init__(keys, secrets.token_bytes(32), secrets.token_bytes(32))
        self._numbers = itertools.count(1)
        self._versions: dict[str, AESGCM] = {}
        self.rotate()

    def rotate(self) -> str:
        self.newest = f"pan-{next(self._numbers)}"
        self._versions[self.newest] = AESGCM(self.new_key(self.newest))
        return self.newest

    def new_key(self, name: str) -> bytes:
        return secrets.token_bytes(32)

    def retire(self, name: str) -> None:
        del self._versions[name]

    def seal(self, clear: bytes, nonce: bytes, associated: bytes) -> Sealed:
        return Sealed(self.newest, nonce, self._versions[self.newest].encrypt(nonce, clear, associated))

    def unseal(self, sealed: Sealed, associated: bytes) -> bytes:
        key = self._versions.get(sealed.key_version)
        if key is None:
            raise CiphertextError(f"there is no data key {sealed.key_version}")
        try:
            return key.decrypt(sealed.nonce, sealed.ciphertext, associated)
        except InvalidTag:
            raise CiphertextError(f"a ciphertext under {sealed.key_version} is not authentic") from None


class Counter:
    """An open handler of vault commands: `ask` answers a command as the service would."""

    def __init__(self, database: VaultDatabase, keyring: RotatingKeyring, numbers: Numbers) -> None:
        self.keyring = keyring
        self.database = database
        self.cards = CardCache(1000)
        self.engine = Engine(keyring, self.cards, numbers)
        self.vault = Vault(database, self.cards, numbers)
        self._handlers = self.handlers_with(lambda data: hmac.digest(SEAL_KEY, data, "sha256"))

    def handlers_with(self, seal: Callable[[bytes], bytes]) -> dict[type, Handler]:
        return vault_handlers(self.vault, lambda: self.engine, seal)

    async def ask(self, request: Any) -> Any:
        return await self._handlers[type(request)](request)

    async def refusal(self, request: Any) -> str:
        with pytest.raises(HsmRefused) as caught:
            await self.ask(request)
        return caught.value.code

    async def token(self, pan: str = VISA, kind: str = "pm", domain: str = DOMAIN, expiry: str = "3012") -> Any:
        return await self.ask(Tokenize(pan=pan, expiry=expiry, kind=kind, domain=domain))

    async def card(self, pan: str = VISA, expiry: str = "3012") -> str:
        """Store a card and return its `card_…`."""
        answer: ImportedCards = await self.ask(ImportCards(cards=(CardNumber(pan, expiry),)))
        return answer.cards[0].token


@asynccontextmanager
async def opened(
    database: Database, keyring: RotatingKeyring | None = None, numbers: Numbers | None = None
) -> AsyncIterator[Counter]:
    """A handler of its own, as in one HSM process."""
    connections = VaultDatabase(database.dsn("cardswitch_vault"), 5.0)
    await connections.open()
    try:
        yield Counter(connections, keyring or RotatingKeyring(), numbers or Numbers())
    finally:
        await connections.close()


def at_counter(database: Database, test: Callable[[Counter], Awaitable[None]], **options: Any) -> None:
    """Run `test` at a desk over `database`."""

    async def run() -> None:
        async with opened(database, **options) as counter:
            await test(counter)

    asyncio.run(run())
