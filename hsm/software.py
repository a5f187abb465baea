"""An HSM in memory, for the simulation and unit tests: the same rules, no token, no vault, no process.

Clear keys go in; it answers as the HSM process does. Never use it where real cards flow: keys and PANs are in this
process.
"""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hsm.algorithms.check_value import clear_key
from hsm.client import HsmCaller
from hsm.commands import (
    Dispatch,
    Dispatched,
    GeneratedMac,
    GenerateMac,
    HsmRefused,
    HsmUnavailable,
    Screen,
    Screened,
)
from hsm.config import KeyConfig
from hsm.engine import Engine, Missing, NamedNetworkToken, NewCard, not_found
from hsm.errors import CiphertextError
from hsm.key_commands import AcceptLinkKey, ActivateKey, KeyBlock, KeyList, ListKeys, RenewLinkKey
from hsm.keys.attributes import ROLES
from hsm.keys.keyring import FINGERPRINT_BYTES, HeldKey, Sealed, usable
from hsm.keys.permissions import Operation
from hsm.software_link_keys import SoftwareLinkKeys
from hsm.vault.cards import Card, CardCache, Numbers, card_token, check_expiry
from hsm.vault.network_token_rules import PresentedNetworkToken
from hsm.vault.network_token_table import KeptNetworkTokens
from hsm.vault.network_tokens import NetworkTokens
from hsm.vault_commands import (
    CardToken,
    ChangeNetworkToken,
    GenerateTokenCryptogram,
    HsmStatus,
    NetworkToken,
    ProvisionNetworkToken,
    ReadNetworkToken,
    ReadStatus,
    ResolveToken,
    Tokenize,
)
from hsm.wire import Request, tag_of

DATA_KEY = "pan-1"
_MISSING = frozenset(get_args(Missing))


class SoftwareKey(msgspec.Struct, frozen=True):
    """A clear key of a role of `hsm.keys.attributes.ROLES`; `algorithm` is one of the role's, empty for its default."""

    role: str
    value: bytes
    algorithm: str = ""

    def __repr__(self) -> str:
        return f"SoftwareKey({self.role!r})"

    def held(self, name: str) -> HeldKey:
        """Return the key as a keyring holds it."""
        algorithms = ROLES[self.role].algorithms
        attributes = algorithms[self.algorithm or next(iter(algorithms))]
        return HeldKey(name, 1, attributes, "", clear_key(attributes.algorithm, self.value))


class SoftwareKeyring:
    """`hsm.keys.keyring.Keyring` over clear keys."""

    def __init__(self, keys: Mapping[str, SoftwareKey], data_key: bytes, fingerprint_key: bytes) -> None:
        self._keys: dict[str, tuple[HeldKey, ...]] = {name: (key.held(name),) for name, key in keys.items()}
        self._data_key = AESGCM(data_key)
        self._fingerprint_key = fingerprint_key

    def replace(self, name: str, versions: tuple[HeldKey, ...]) -> None:
        """Take these versions of a key from now on, the one in force first."""
        self._keys[name] = versions

    def key(self, name: str, operation: Operation) -> HeldKey:
        return usable(name, operation, self._keys)[0]

    def candidates(self, name: str, operation: Operation) -> Sequence[HeldKey]:
        return usable(name, operation, self._keys)

    def fingerprint(self, pan: str) -> bytes:
        mac = hmac.HMAC(self._fingerprint_key, hashes.SHA256())
        mac.update(pan.encode())
        return mac.finalize()[:FINGERPRINT_BYTES]

    def seal(self, clear: bytes, nonce: bytes, associated: bytes) -> Sealed:
        return Sealed(DATA_KEY, nonce, self._data_key.encrypt(nonce, clear, associated))

    def unseal(self, sealed: Sealed, associated: bytes) -> bytes:
        try:
            return self._data_key.decrypt(sealed.nonce, sealed.ciphertext, associated)
        except InvalidTag:
            raise CiphertextError(f"a ciphertext under {sealed.key_version} is not authentic") from None


class SoftwareHsm(HsmCaller):
    """Every command on payments, cards and link keys in memory, as `hsm.client.HsmCaller` has them over a socket.

    Commands that need the vault's database or an officer (erasure, network tokens, ceremonies) are `malformed` here.

    Args:
        keys: clear link keys by name, e.g. `{"zpk-pos": SoftwareKey("pin", …)}`; see `software_keys`.
        seed: makes tokens, surrogates and internal keys repeatable; leave out for random ones.
        parties: the holder of the other end, by key name, for keys that are exchanged under the key `zmk-<party>`.
        now: seconds since 1970, for the times of keys.
    Set `available` to False and every command raises HsmUnavailable, as when the process is gone.
    """

    def __init__(
        self,
        keys: Mapping[str, SoftwareKey] | None = None,
        *,
        seed: int | None = None,
        parties: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.available = True
        if seed is None:
            numbers = Numbers()
        else:
            ticks = iter(range(1_700_000_000_000, 2_000_000_000_000))
            numbers = Numbers(random.Random(seed).randbytes, lambda: next(ticks))
        self._numbers = numbers
        self._tokens: dict[str, CardToken] = {}
        self._used_by: dict[str, str] = {}
        self._domains: dict[str, str] = {}
        keyring = SoftwareKeyring(keys or {}, numbers.random_bytes(32), numbers.random_bytes(32))
        zmks = {name: keys[f"zmk-{party}"].value for name, party in (parties or {}).items()} if keys else {}
        clear = {name: (key.held(name).attributes, key.value) for name, key in (keys or {}).items()}
        self._link_keys = SoftwareLinkKeys(clear, zmks, keyring.replace, numbers.random_bytes, now)
        self._engine = Engine(keyring, CardCache(10_000_000), numbers)
        self._network_tokens = NetworkTokens(KeptNetworkTokens(), numbers)
        self._handlers: dict[type, Callable[[Any], Any]] = {
            **self._engine.handlers,
            Screen: self.screen,
            Tokenize: self.tokenize,
            ResolveToken: self.resolve,
            RenewLinkKey: self.renew_link_key,
            AcceptLinkKey: self.accept_link_key,
            ActivateKey: self.activate_key,
            ListKeys: self.list_keys,
            ProvisionNetworkToken: self.provision_network_token,
            ReadNetworkToken: self._network_tokens.read,
            ChangeNetworkToken: self._network_tokens.change,
            GenerateTokenCryptogram: lambda request: self._network_tokens.cryptogram(request, keyring),
            ReadStatus: lambda _: self.status(),
        }

    async def ask(self, request: Request) -> object:
        handler = self._handlers.get(type(request))
        if handler is None:
            raise HsmRefused("malformed", f"{tag_of(type(request))} is for a process with a token and a vault")
        self._check()
        answer = handler(request)
        if type(answer) in _MISSING:
            raise not_found(answer)
        return await answer if inspect.iscoroutine(answer) else answer

    async def screen(self, request: Screen) -> Screened:
        self._check()
        answer = self._engine.screen(request)
        if isinstance(answer, NewCard):
            self._engine.cards.add(answer.candidate)
            return self._engine.screened(request, answer.candidate)
        if isinstance(answer, Screened):
            return answer
        if isinstance(answer, PresentedNetworkToken):
            card = self._engine.cards.by_token(await self._network_tokens.take(answer))
            assert card is not None, "cards in memory stay"
            return self._engine.screened(request, card)
        if isinstance(answer, NamedNetworkToken):
            named = self._engine.cards.by_token(await self._network_tokens.behind(answer.fingerprint) or "")
            if named is not None:
                return self._engine.screened(request, named)
        raise not_found(answer)

    async def dispatch(self, request: Dispatch) -> Dispatched:
        self._check()
        answer = self._engine.dispatch(request)
        if isinstance(answer, Dispatched):
            return answer
        raise not_found(answer)

    async def mac(self, request: GenerateMac) -> GeneratedMac:
        self._check()
        return self._engine.mac(request)

    async def renew_link_key(self, request: RenewLinkKey) -> KeyBlock:
        self._check()
        return self._link_keys.renew(request.name, request.version)

    async def accept_link_key(self, request: AcceptLinkKey) -> KeyList:
        self._check()
        return KeyList((self._link_keys.accept(request.name, request.block),))

    async def activate_key(self, request: ActivateKey) -> KeyList:
        self._check()
        return KeyList((self._link_keys.activate(request.name, request.version),))

    async def list_keys(self, request: ListKeys) -> KeyList:
        self._check()
        return KeyList(self._link_keys.infos(request.name))

    async def tokenize(self, request: Tokenize) -> CardToken:
        self._check()
        if request.kind not in ("", "tok", "pm") or (request.source and not request.kind):
            raise HsmRefused("malformed", "kind is tok, pm or empty")
        if request.source:
            if not request.source.startswith("tok_"):
                raise HsmRefused("token_unknown", "no such token")
            source = await self.resolve(ResolveToken(id=request.source, consume=True, domain=request.domain))
            token = msgspec.structs.replace(source, id=self._numbers.identifier(f"{request.kind}_"), used=False)
        else:
            check_expiry(request.expiry)
            card = self._card(request.pan, request.expiry)
            name = self._numbers.identifier(f"{request.kind}_") if request.kind else ""
            token = card_token(card, request.expiry, name)
        if token.id:
            self._tokens[token.id] = token
            self._domains[token.id] = request.domain
        return token

    async def resolve(self, request: ResolveToken) -> CardToken:
        self._check()
        token = self._tokens.get(request.id)
        if token is None or self._domains[request.id] != request.domain:
            raise HsmRefused("token_unknown", "no such token")
        if not request.consume or not request.id.startswith("tok_"):
            return token
        if token.used and not (request.used_by and self._used_by[request.id] == request.used_by):
            raise HsmRefused("token_used", "a tok_ pays once")
        self._used_by[request.id] = request.used_by
        self._tokens[request.id] = msgspec.structs.replace(token, used=True)
        return self._tokens[request.id]

    async def provision_network_token(self, request: ProvisionNetworkToken) -> NetworkToken:
        """Make a network token for a card that is named by its number, its surrogate or a token."""
        self._check()
        if bool(request.pan) == bool(request.source):
            raise HsmRefused("malformed", "give either source or pan")
        cards, expiry = self._engine.cards, ""
        if request.pan:
            card: Card | None = self._card(request.pan, request.expiry)
        elif request.source.startswith(("tok_", "pm_")):
            token = await self.resolve(ResolveToken(id=request.source, domain=request.domain))
            card, expiry = cards.by_surrogate(token.surrogate), token.expiry
        else:
            card = cards.by_token(request.source) or cards.by_surrogate(request.source)
        if card is None:
            raise HsmRefused("card_unknown", "no such card")
        expiry = expiry or self._engine.reveal(card)[1]
        return await self._network_tokens.provision(request, card, expiry, self._engine.keyring)

    async def status(self) -> HsmStatus:
        self._check()
        return HsmStatus(True, True, {}, "")

    def add_card(self, pan: str, expiry: str = "") -> str:
        """Store a card as the tokenizer would and return its surrogate, 16 digits; `expiry` is YYMM."""
        return self._card(pan, expiry).surrogate

    def _card(self, pan: str, expiry: str) -> Card:
        found = self._engine.identify(pan, expiry)
        if isinstance(found, NewCard):
            self._engine.cards.add(found.candidate)
            return found.candidate
        return found

    def _check(self) -> None:
        if not self.available:
            raise HsmUnavailable("the HSM is switched off")


def software_keys(configured: Iterable[KeyConfig], *, seed: int | None = None) -> dict[str, SoftwareKey]:
    """Make a clear key for each configured one, of the length its role has; repeatable with a seed."""
    source = random.Random(seed) if seed is not None else random.SystemRandom()
    made = {}
    for key in configured:
        algorithms = ROLES[key.usage].algorithms
        length = algorithms[key.algorithm or next(iter(algorithms))].length
        made[key.name] = SoftwareKey(key.usage, source.randbytes(length), key.algorithm)
    return made
