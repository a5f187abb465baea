"""The rules of the composite commands, the same for the HSM process and for its stand-in in memory.

A request goes in; the answer comes out, or `Missing` where the card is not in the cache and the vault has to be asked
first. No I/O here: the keyring computes, the cache remembers. Called by `hsm.server` and `hsm.software`.
"""

from __future__ import annotations

import msgspec

from hsm.algorithms.mac import MAC_BYTES, calculate_mac, mac_matches
from hsm.card_commands import PinBlock
from hsm.commands import Dispatch, Dispatched, GeneratedMac, GenerateMac, HsmRefused, MacCheck, Screen, Screened
from hsm.keys.keyring import NONCE_BYTES, Keyring, Sealed
from hsm.keys.permissions import Operation
from hsm.pins import translate
from hsm.vault.cards import SURROGATE_BIN, Card, CardCache, Numbers, shown_digits, valid_pan


class NewCard(msgspec.Struct, frozen=True, gc=False):
    """Not in the cache: the vault returns the row of this fingerprint, or stores this candidate."""

    candidate: Card


class UnknownSurrogate(msgspec.Struct, frozen=True, gc=False):
    """Not in the cache: the vault returns the card of this surrogate, if it has one."""

    surrogate: str


class UnknownToken(msgspec.Struct, frozen=True, gc=False):
    """Not in the cache: the vault returns the card of this token, if it has one."""

    token: str


Missing = NewCard | UnknownSurrogate | UnknownToken


class Engine:
    """Applies the rules.

    Args:
        keyring: where the keys are.
        cards: the cards known without asking the vault.
        numbers: makes tokens, surrogates and nonces.
    """

    def __init__(self, keyring: Keyring, cards: CardCache, numbers: Numbers) -> None:
        self.cards = cards
        self._keyring = keyring
        self._numbers = numbers

    def screen(self, request: Screen) -> Screened | Missing:
        """Verify the MAC before anything else, then find the card in the cache."""
        if request.mac is not None:
            self._verify(request.mac)
        if not request.pan:
            return Screened()
        if request.surrogate:
            card = self.cards.by_surrogate(request.pan)
            return UnknownSurrogate(request.pan) if card is None else screened(card)
        found = self.identify(request.pan, request.expiry)
        return found if isinstance(found, NewCard) else screened(found)

    def dispatch(self, request: Dispatch, card: Card | None = None) -> Dispatched | Missing:
        """Return the PAN of the token and the PIN block under the issuer's key.

        `card` is the vault's answer to an `UnknownToken` that this method returned before.
        """
        card = card or self.cards.by_token(request.token)
        if card is None:
            return UnknownToken(request.token)
        pan, expiry = self.reveal(card)
        if not request.pin_block:
            return Dispatched(pan, expiry)
        pin = PinBlock(block=request.pin_block, key=request.pin_key_in, format=request.pin_format_in, ksn=request.ksn)
        return Dispatched(pan, expiry, translate(self._keyring, pin, request.pin_key_out, request.pin_format_out, pan))

    def mac(self, request: GenerateMac) -> GeneratedMac:
        held = self._keyring.key(request.key, Operation.MAC_GENERATE)
        return GeneratedMac(calculate_mac(held.attributes.usage, held.key, request.data)[:MAC_BYTES])

    def identify(self, pan: str, expiry: str) -> Card | NewCard:
        """Return the cached card of a clear PAN, or a candidate for the vault, already encrypted."""
        if not valid_pan(pan):
            raise HsmRefused("pan_invalid", "a PAN has 12 to 19 digits")
        if pan.startswith(SURROGATE_BIN):
            raise HsmRefused("pan_invalid", "a number of the surrogate range stands where a PAN is expected")
        if expiry and not (len(expiry) == 4 and expiry.isascii() and expiry.isdigit()):
            raise HsmRefused("malformed", "expiry is YYMM")  # which month it is, is the issuer's matter
        fingerprint = self._keyring.fingerprint(pan)
        card = self.cards.by_fingerprint(fingerprint)
        if card is not None:
            return card
        token = self._numbers.identifier("card_")
        sealed = self._keyring.seal(f"{pan}={expiry}".encode(), self._numbers.random_bytes(NONCE_BYTES), token.encode())
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
        pan, _, expiry = self._keyring.unseal(sealed, card.token.encode()).decode("ascii").partition("=")
        return pan, expiry

    def _verify(self, check: MacCheck) -> None:
        for held in self._keyring.candidates(check.key, Operation.MAC_VERIFY):
            mac = calculate_mac(held.attributes.usage, held.key, check.data)
            if mac_matches(mac[:MAC_BYTES], check.mac):
                return
        raise HsmRefused("mac_invalid", f"the MAC does not match under key {check.key!r}")


def screened(card: Card) -> Screened:
    """Return what `screen` answers for a card."""
    return Screened(card.token, card.fingerprint, card.masked_pan, card.bin)


def not_found(missing: Missing) -> HsmRefused:
    """Return the refusal for what the vault does not have either."""
    if isinstance(missing, UnknownSurrogate):
        return HsmRefused("card_unknown", "no card has this surrogate")
    return HsmRefused("card_unknown", "no card has this token")
