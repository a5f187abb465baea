"""The HSM protocol from a caller's side, without I/O: requests become frames, frames become answers.

`ClientProtocol` numbers requests, matches answers and turns refusals into exceptions; `hsm.trio_client` and
`hsm.asyncio_client` move the bytes.
"""

from __future__ import annotations

from itertools import count
from typing import TypeVar

import msgspec

from hsm.card_commands import (
    ChangePin,
    GenerateCardValue,
    GeneratedCardValue,
    GeneratePinReference,
    PinReference,
    ProtectedScript,
    ProtectScript,
    TranslatedPin,
    TranslatePin,
    Verified,
    VerifiedCryptogram,
    VerifyCardValue,
    VerifyCryptogram,
    VerifyPin,
)
from hsm.commands import (
    Dispatch,
    Dispatched,
    GeneratedMac,
    GenerateMac,
    HsmRefused,
    HsmUnavailable,
    MacVerified,
    Screen,
    Screened,
    VerifyMac,
)
from hsm.errors import ProtocolError
from hsm.key_commands import (
    AcceptLinkKey,
    ActivateKey,
    ExportKey,
    GenerateKey,
    ImportBlock,
    ImportComponents,
    KeyBlock,
    KeyList,
    ListKeys,
    RenewLinkKey,
    RetireKey,
    Rewrap,
    Rewrapped,
    RotateKey,
)
from hsm.vault_commands import (
    CardToken,
    ChangeNetworkToken,
    DeleteCard,
    DeletionProof,
    Detokenize,
    Detokenized,
    GenerateTokenCryptogram,
    HsmStatus,
    ImportCards,
    ImportedCards,
    NetworkToken,
    ProveDeletion,
    ProvisionNetworkToken,
    ReadNetworkToken,
    ReadStatus,
    ResolveToken,
    TokenCryptogram,
    Tokenize,
)
from hsm.wire import (
    EXPIRED,
    MAX_BUDGET_MS,
    Answer,
    FrameReader,
    Refused,
    Request,
    Unavailable,
    decode_answer,
    encode_body,
    frame,
)

Outcome = Answer | HsmRefused | HsmUnavailable

_IDS = 2**32

Expected = TypeVar("Expected")


class ClientProtocol:
    """One connection's state; a new connection has a new protocol.

    Args:
        timeout_s: longest wait of callers for an answer, which the HSM gets; 0: as long as the HSM allows.
    """

    def __init__(self, timeout_s: float = 0.0) -> None:
        self._reader = FrameReader()
        self._numbers = count(1)
        self._budget_ms = max(1, min(int(timeout_s * 1000), MAX_BUDGET_MS)) if timeout_s else 0

    def send(self, request: Request) -> tuple[int, bytes]:
        """Return the number of a request and the bytes to send.

        Raises:
            HsmRefused: `malformed`, the request is too long for a frame.
        """
        number = next(self._numbers) % _IDS
        try:
            return number, frame(number, encode_body(request), self._budget_ms)
        except ProtocolError as error:
            raise HsmRefused("malformed", str(error)) from None

    def receive(self, data: bytes) -> list[tuple[int, Outcome]]:
        """Return the answers that `data` completes, by number; refusals are exceptions to be raised at the caller.

        Raises:
            ProtocolError: the other side broke the protocol; the connection cannot go on.
        """
        return [(number, _outcome(body)) for number, _, body in self._reader.receive(data)]


class HsmCaller:
    """The commands as methods, over any transport; `hsm.commands.Hsm` and `hsm.vault_commands.VaultHsm`.

    Every method raises HsmRefused or HsmUnavailable.
    """

    async def ask(self, request: Request) -> object:
        """Return the answer to a request, or raise what came instead of it."""
        raise NotImplementedError

    async def screen(self, request: Screen) -> Screened:
        return _expect(Screened, await self.ask(request))

    async def dispatch(self, request: Dispatch) -> Dispatched:
        return _expect(Dispatched, await self.ask(request))

    async def mac(self, request: GenerateMac) -> GeneratedMac:
        return _expect(GeneratedMac, await self.ask(request))

    async def verify_mac(self, request: VerifyMac) -> MacVerified:
        return _expect(MacVerified, await self.ask(request))

    async def tokenize(self, request: Tokenize) -> CardToken:
        return _expect(CardToken, await self.ask(request))

    async def resolve(self, request: ResolveToken) -> CardToken:
        return _expect(CardToken, await self.ask(request))

    async def renew_link_key(self, request: RenewLinkKey) -> KeyBlock:
        return _expect(KeyBlock, await self.ask(request))

    async def accept_link_key(self, request: AcceptLinkKey) -> KeyList:
        return _expect(KeyList, await self.ask(request))

    async def activate_key(self, request: ActivateKey) -> KeyList:
        return _expect(KeyList, await self.ask(request))

    async def list_keys(self, request: ListKeys) -> KeyList:
        return _expect(KeyList, await self.ask(request))

    async def generate_key(self, request: GenerateKey) -> KeyList:
        return _expect(KeyList, await self.ask(request))

    async def import_components(self, request: ImportComponents) -> KeyList:
        return _expect(KeyList, await self.ask(request))

    async def import_block(self, request: ImportBlock) -> KeyList:
        return _expect(KeyList, await self.ask(request))

    async def export_key(self, request: ExportKey) -> KeyBlock:
        return _expect(KeyBlock, await self.ask(request))

    async def rotate_key(self, request: RotateKey) -> KeyList:
        return _expect(KeyList, await self.ask(request))

    async def retire_key(self, request: RetireKey) -> KeyList:
        return _expect(KeyList, await self.ask(request))

    async def rewrap(self, request: Rewrap) -> Rewrapped:
        return _expect(Rewrapped, await self.ask(request))

    async def translate_pin(self, request: TranslatePin) -> TranslatedPin:
        return _expect(TranslatedPin, await self.ask(request))

    async def verify_pin(self, request: VerifyPin) -> Verified:
        return _expect(Verified, await self.ask(request))

    async def pin_reference(self, request: GeneratePinReference) -> PinReference:
        return _expect(PinReference, await self.ask(request))

    async def change_pin(self, request: ChangePin) -> PinReference:
        return _expect(PinReference, await self.ask(request))

    async def card_value(self, request: GenerateCardValue) -> GeneratedCardValue:
        return _expect(GeneratedCardValue, await self.ask(request))

    async def verify_card_value(self, request: VerifyCardValue) -> Verified:
        return _expect(Verified, await self.ask(request))

    async def verify_cryptogram(self, request: VerifyCryptogram) -> VerifiedCryptogram:
        return _expect(VerifiedCryptogram, await self.ask(request))

    async def protect_script(self, request: ProtectScript) -> ProtectedScript:
        return _expect(ProtectedScript, await self.ask(request))

    async def detokenize(self, request: Detokenize) -> Detokenized:
        return _expect(Detokenized, await self.ask(request))

    async def import_cards(self, request: ImportCards) -> ImportedCards:
        return _expect(ImportedCards, await self.ask(request))

    async def delete_card(self, request: DeleteCard) -> DeletionProof:
        return _expect(DeletionProof, await self.ask(request))

    async def prove_deletion(self, request: ProveDeletion) -> DeletionProof:
        return _expect(DeletionProof, await self.ask(request))

    async def provision_network_token(self, request: ProvisionNetworkToken) -> NetworkToken:
        return _expect(NetworkToken, await self.ask(request))

    async def read_network_token(self, request: ReadNetworkToken) -> NetworkToken:
        return _expect(NetworkToken, await self.ask(request))

    async def change_network_token(self, request: ChangeNetworkToken) -> NetworkToken:
        return _expect(NetworkToken, await self.ask(request))

    async def generate_token_cryptogram(self, request: GenerateTokenCryptogram) -> TokenCryptogram:
        return _expect(TokenCryptogram, await self.ask(request))

    async def status(self) -> HsmStatus:
        return _expect(HsmStatus, await self.ask(ReadStatus()))


def _expect(kind: type[Expected], answer: object) -> Expected:
    if not isinstance(answer, kind):
        raise HsmUnavailable(f"the HSM answered with {type(answer).__name__}")
    return answer


def _outcome(body: bytes) -> Outcome:
    try:
        answer: Answer = decode_answer(body)
    except msgspec.MsgspecError:
        raise ProtocolError("the HSM's answer cannot be read") from None
    if isinstance(answer, Refused):
        if answer.code == EXPIRED:
            return HsmUnavailable(answer.detail)  # to the caller the same as no answer in time
        return HsmRefused(answer.code, answer.detail)
    if isinstance(answer, Unavailable):
        return HsmUnavailable(answer.reason)
    return answer
