"""The rules of the composite commands, the same for the HSM process and for its stand-in in memory.

A request goes in; the answer comes out, or `Missing` where the card is not in the cache and the vault has to be asked
first. No I/O here: the keyring computes, the cache remembers. Called by `hsm.server` and `hsm.software`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any, get_args

import msgspec

from hsm.algorithms.mac import MAC_BYTES, calculate_mac, mac_matches
from hsm.algorithms.pin_verification import DECIMALIZATION_TABLE
from hsm.card_commands import CardRequest, PinBlock
from hsm.card_values import card_value_handlers
from hsm.commands import (
    Dispatch,
    Dispatched,
    GeneratedMac,
    GenerateMac,
    HsmRefused,
    MacCheck,
    MacTemplate,
    MacVerified,
    Screen,
    Screened,
    VerifyMac,
)
from hsm.cryptograms import cryptogram_handlers
from hsm.keys.keyring import NONCE_BYTES, Keyring, Sealed
from hsm.keys.permissions import Operation
from hsm.pins import pin_handlers, translate
from hsm.vault.cards import SURROGATE_BIN, Card, CardCache, Numbers, shown_digits, valid_pan
from hsm.vault.network_token_rules import NETWORK_TOKEN_BIN, NETWORK_TOKEN_KEY, PresentedNetworkToken, present
from messages.mask import mask_pan

# The data and fingerprint keys that the command under way has used, for the audit: `pan/1 fingerprint/1`.
data_keys_used: ContextVar[str] = ContextVar("data_keys_used", default="")

MAX_LEADING = 11  # digits of a card that routing may look at
_PAN_ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "ascii": lambda pan: pan.encode("ascii"),
    "ebcdic": lambda pan: pan.encode("cp500"),
    "bcd": lambda pan: bytes.fromhex(pan if len(pan) % 2 == 0 else "0" + pan),
}


class NewCard(msgspec.Struct, frozen=True, gc=False):
    """Not in the cache: the vault returns the row of this fingerprint, or stores this candidate."""

    candidate: Card


class UnknownSurrogate(msgspec.Struct, frozen=True, gc=False):
    """Not in the cache: the vault returns the card of this surrogate, if it has one."""

    surrogate: str


class UnknownToken(msgspec.Struct, frozen=True, gc=False):
    """Not in the cache: the vault returns the card of this token, if it has one."""

    token: str


class NamedNetworkToken(msgspec.Struct, frozen=True, gc=False):
    """A network token that is only compared: the vault returns the card behind it, whatever the token's state."""

    fingerprint: bytes


Missing = NewCard | UnknownSurrogate | UnknownToken | PresentedNetworkToken | NamedNetworkToken


class Engine:
    """Applies the rules.

    Args:
        keyring: where the keys are.
        cards: the cards known without asking the vault.
        numbers: makes tokens, surrogates and nonces.
        network_token_bin: numbers that begin so are network tokens of ours, and no cards.
        network_token_key: the key of their cryptograms.
        decimalization_tables: those of PIN offsets.
    """

    def __init__(
        self,
        keyring: Keyring,
        cards: CardCache,
        numbers: Numbers,
        *,
        network_token_bin: str = NETWORK_TOKEN_BIN,
        network_token_key: str = NETWORK_TOKEN_KEY,
        decimalization_tables: Sequence[str] = (DECIMALIZATION_TABLE,),
    ) -> None:
        self.cards = cards
        self.keyring = keyring
        self._keyring = keyring
        self._numbers = numbers
        self._network_token_bin = network_token_bin
        self._network_token_key = network_token_key
        self._tables = decimalization_tables
        pins = pin_handlers(keyring, tables=decimalization_tables)
        on_card = {**pins, **card_value_handlers(keyring), **cryptogram_handlers(keyring)}
        self._on_card = on_card
        # By request type, everything that needs nobody else; a handler of a card may answer `Missing`.
        self.handlers: dict[type, Callable[..., Any]] = {
            Screen: self.screen,
            Dispatch: self.dispatch,
            GenerateMac: self.mac,
            VerifyMac: self.verify_mac,
            **dict.fromkeys(get_args(CardRequest), self.on_card),
        }

    def with_keys(self, keyring: Keyring) -> Engine:
        """Return the same rules and cards over other keys."""
        return Engine(
            keyring,
            self.cards,
            self._numbers,
            network_token_bin=self._network_token_bin,
            network_token_key=self._network_token_key,
            decimalization_tables=self._tables,
        )

    def screen(self, request: Screen) -> Screened | Missing:
        """Verify the MAC before anything else, then find the card in the cache."""
        if request.mac is not None:
            self._verify(request.mac)
        if not request.pan:
            return Screened()
        if request.surrogate:
            card = self.cards.by_surrogate(request.pan)
            return UnknownSurrogate(request.pan) if card is None else self.screened(request, card)
        if request.compare:
            return self.compared(request.pan)
        if request.pan.startswith(self._network_token_bin):
            presented = present(self._keyring, request.pan, request.network_token, self._network_token_key)
            data_keys_used.set(presented.keys)
            return presented
        found = self.identify(request.pan, request.expiry)
        return found if isinstance(found, NewCard) else self.screened(request, found)

    def compared(self, pan: str) -> Screened | NamedNetworkToken:
        """Return the fingerprint and the masked number of a PAN; the vault is asked for network tokens only.

        A stored candidate would fill the vault with mistyped numbers.
        """
        if not valid_pan(pan) or pan.startswith(SURROGATE_BIN):
            raise HsmRefused("pan_invalid", "a PAN has 12 to 19 digits, and is no surrogate")
        fingerprint = self._keyring.fingerprint(pan)
        data_keys_used.set("fingerprint/1")
        if pan.startswith(self._network_token_bin):
            return NamedNetworkToken(fingerprint)
        return Screened(fingerprint=fingerprint, masked_pan=mask_pan(pan))

    def screened(self, request: Screen, card: Card) -> Screened:
        """Return what `screen` answers for a card; its leading digits only where they are asked for."""
        return Screened(card.token, card.fingerprint, card.masked_pan, card.bin, self._leading(request, card))

    def dispatch(self, request: Dispatch, card: Card | None = None) -> Dispatched | Missing:
        """Return the PAN of the token and the PIN block under the issuer's key.

        `card` is the vault's answer to an `UnknownToken` that this method returned before.
        """
        card = card or self.cards.by_token(request.token)
        if card is None:
            return UnknownToken(request.token)
        pan, expiry = self.reveal(card)
        block = mac = b""
        if request.pin_block:
            pin = PinBlock(
                block=request.pin_block,
                key=request.pin_key_in,
                format=request.pin_format_in,
                ksn=request.ksn,
                ksn_key=request.ksn_key,
            )
            block = translate(self._keyring, pin, request.pin_key_out, request.pin_format_out, pan)
        if request.mac is not None:
            mac = self._mac(request.mac.key, filled(request.mac, pan, block))
        return Dispatched(pan, expiry, block, mac)

    def on_card(self, request: CardRequest, card: Card | None = None) -> Any:
        """Answer a command on PINs, card values or cryptograms, whose card is named by token or by number.

        `card` is the vault's answer to an `UnknownToken` that this method returned before.
        """
        if request.pan:
            if request.token:
                raise HsmRefused("malformed", "a card is named by token or by pan, not both")
            if not valid_pan(request.pan) or request.pan.startswith(SURROGATE_BIN):
                raise HsmRefused("pan_invalid", "a PAN has 12 to 19 digits, and is no surrogate")
            return self._on_card[type(request)](request, request.pan)
        if not request.token:
            raise HsmRefused("malformed", "a card is named by token or by pan")
        card = card or self.cards.by_token(request.token)
        if card is None:
            return UnknownToken(request.token)
        return self._on_card[type(request)](request, self.reveal(card)[0])

    def mac(self, request: GenerateMac) -> GeneratedMac:
        return GeneratedMac(self._mac(request.key, request.data))

    def verify_mac(self, request: VerifyMac) -> MacVerified:
        self._verify(request.check)
        return MacVerified()

    def identify(self, pan: str, expiry: str) -> Card | NewCard:
        """Return the cached card of a clear PAN, or a candidate for the vault, already encrypted."""
        if not valid_pan(pan):
            raise HsmRefused("pan_invalid", "a PAN has 12 to 19 digits")
        if pan.startswith((SURROGATE_BIN, self._network_token_bin)):
            raise HsmRefused("pan_invalid", "a surrogate or a network token is in the place of a PAN")
        if expiry and not (len(expiry) == 4 and expiry.isascii() and expiry.isdigit()):
            raise HsmRefused("malformed", "expiry is YYMM")  # which month it is, is the issuer's matter
        fingerprint = self._keyring.fingerprint(pan)
        data_keys_used.set("fingerprint/1")
        card = self.cards.by_fingerprint(fingerprint)
        if card is not None:
            return card
        token = self._numbers.identifier("card_")
        sealed = self._keyring.seal(f"{pan}={expiry}".encode(), self._numbers.random_bytes(NONCE_BYTES), token.encode())
        data_keys_used.set(f"fingerprint/1 {data_key_label(sealed.key_version)}")
        leading, last4 = shown_digits(pan)
        surrogate = self._numbers.surrogate()
        return NewCard(
            Card(
                token,
                fingerprint,
                surrogate,
                sealed.key_version,
                sealed.nonce,
                sealed.ciphertext,
                leading,
                last4,
                len(pan),
            )
        )

    def reveal(self, card: Card) -> tuple[str, str]:
        """Return PAN and expiry (YYMM, or empty) of a card."""
        sealed = Sealed(card.key_version, card.nonce, card.ciphertext)
        data_keys_used.set(data_key_label(card.key_version))
        pan, _, expiry = self._keyring.unseal(sealed, card.token.encode()).decode("ascii").partition("=")
        return pan, expiry

    def _leading(self, request: Screen, card: Card) -> str:
        digits = min(request.leading, MAX_LEADING)
        if digits <= 0:
            return ""
        if not (request.surrogate or request.pan.startswith(self._network_token_bin)):
            return request.pan[:digits]  # the card's own number
        used = data_keys_used.get()
        leading = self.reveal(card)[0][:digits]
        data_keys_used.set(f"{used} {data_keys_used.get()}".lstrip())
        return leading

    def _mac(self, key: str, data: bytes) -> bytes:
        held = self._keyring.key(key, Operation.MAC_GENERATE)
        return calculate_mac(held.attributes.usage, held.key, data)[:MAC_BYTES]

    def _verify(self, check: MacCheck) -> None:
        for held in self._keyring.candidates(check.key, Operation.MAC_VERIFY):
            mac = calculate_mac(held.attributes.usage, held.key, check.data)
            if mac_matches(mac[:MAC_BYTES], check.mac):
                return
        raise HsmRefused("mac_invalid", f"the MAC does not match under key {check.key!r}")


def filled(template: MacTemplate, pan: str, pin_block: bytes) -> bytes:
    """Return the message of a template with PAN and PIN block in their holes.

    Raises:
        HsmRefused: `malformed`, a hole is not inside the message, or there is no PIN block for it.
    """
    data = template.data
    if template.pan_at >= 0:
        encode = _PAN_ENCODINGS.get(template.pan_encoding)
        if encode is None:
            raise HsmRefused("malformed", f"pan_encoding is one of {', '.join(_PAN_ENCODINGS)}")
        data = _put(data, template.pan_at, encode(pan))
    if template.pin_at >= 0:
        if not pin_block:
            raise HsmRefused("malformed", "pin_at is for a message with a PIN block")
        data = _put(data, template.pin_at, pin_block.hex().upper().encode() if template.pin_hex else pin_block)
    return data


def _put(data: bytes, at: int, value: bytes) -> bytes:
    end = at + len(value)
    if end > len(data):
        raise HsmRefused("malformed", "a hole of the template is not inside the message")
    return data[:at] + value + data[end:]


@cache
def data_key_label(data_key: str) -> str:
    """Return `pan/1` for the data key `pan-1`; there are as many as versions."""
    return "/".join(data_key.rsplit("-", 1))


def not_found(missing: Missing) -> HsmRefused:
    """Return the refusal for what the vault does not have either."""
    if isinstance(missing, UnknownSurrogate):
        return HsmRefused("card_unknown", "no card has this surrogate")
    if isinstance(missing, PresentedNetworkToken | NamedNetworkToken):
        return HsmRefused("network_token_deleted", "the card of this network token was erased")
    return HsmRefused("card_unknown", "no card has this token")
