"""Officers' key pairs: Ed25519, the private key in a file under a passphrase, the public key in the key store.

Names, texts and files go in; cards, signatures and verdicts come out. Called by `hsm.dual_control`, which verifies, and
by the console, which signs. Each signed text starts with its purpose and names the key store, so that a signature of
one purpose or store is none in another. Source: RFC 8032 (Ed25519); RFC 5958 and RFC 8018 (the private key's file).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hsm.errors import OfficerKeyError
from hsm.officer_commands import Controlled, OfficerCard, Proposal

MAX_OFFICER_NAME = 32
MIN_PASSPHRASE = 12
_LARGEST_FILE = 4096
_FINGERPRINT_DIGITS = 16


class OfficerKey:
    """An officer's private key in memory."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.name = name
        self._key = key

    def __repr__(self) -> str:
        return f"OfficerKey({self.name!r})"

    @property
    def card(self) -> OfficerCard:
        """The registered part."""
        public_key = self._key.public_key().public_bytes_raw().hex()
        signature = self._key.sign(card_text(self.name, public_key)).hex()
        return OfficerCard(name=self.name, public_key=public_key, signature=signature)

    def sign(self, text: bytes) -> str:
        """Return the signature of a text, 128 hexadecimal digits."""
        return self._key.sign(text).hex()


def new_officer_key(name: str) -> OfficerKey:
    """Return a new key pair.

    Raises:
        OfficerKeyError: the name is empty, too long, or has other characters than letters, digits, - and _.
    """
    if not is_officer_name(name):
        raise OfficerKeyError(f"an officer's name is letters, digits, - and _, {MAX_OFFICER_NAME} at most")
    return OfficerKey(name, Ed25519PrivateKey.generate())


def is_officer_name(name: str) -> bool:
    plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return plain and len(name) <= MAX_OFFICER_NAME


def write_officer_key(key: OfficerKey, directory: Path, passphrase: str) -> tuple[Path, Path]:
    """Write `NAME.key` (mode 0600, encrypted under the passphrase) and `NAME.card`; return both paths.

    Raises:
        OfficerKeyError: the passphrase is shorter than 12 characters, or a file is there already or cannot be written.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise OfficerKeyError(f"a passphrase has {MIN_PASSPHRASE} characters or more")
    private = key._key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode()),
    )
    key_file, card_file = directory / f"{key.name}.key", directory / f"{key.name}.card"
    for path, content in ((key_file, private), (card_file, msgspec.json.encode(key.card) + b"\n")):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        except OSError as error:
            raise OfficerKeyError(f"{path}: {error.strerror}") from None
    return key_file, card_file


def read_officer_key(path: Path, passphrase: str) -> OfficerKey:
    """Return the key in `NAME.key`; the officer's name is the file's.

    Raises:
        OfficerKeyError: the file cannot be read, others may read it, or the passphrase is wrong.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise OfficerKeyError(f"{path}: others may read it: chmod 600 {path}")
        content = path.read_bytes()[:_LARGEST_FILE]
    except OSError as error:
        raise OfficerKeyError(f"{path}: {error.strerror}") from None
    try:
        key = serialization.load_pem_private_key(content, passphrase.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise OfficerKeyError(f"{path}: the passphrase is wrong, or it is no officer's key") from None
    if not isinstance(key, Ed25519PrivateKey) or not is_officer_name(path.stem):
        raise OfficerKeyError(f"{path}: it is no officer's key")
    return OfficerKey(path.stem, key)


def read_card(path: Path) -> OfficerCard:
    """Return the card in `NAME.card`.

    Raises:
        OfficerKeyError: it cannot be read, or it is not a card that its owner signed.
    """
    try:
        card = msgspec.json.decode(path.read_bytes()[:_LARGEST_FILE], type=OfficerCard)
    except OSError as error:
        raise OfficerKeyError(f"{path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise OfficerKeyError(f"{path}: it is no officer's card") from None
    if not is_card(card):
        raise OfficerKeyError(f"{path}: the card is not signed by its own key")
    return card


def is_card(card: OfficerCard) -> bool:
    """Whether a card has a proper name and is signed by its own key."""
    return is_officer_name(card.name) and verified(card, card_text(card.name, card.public_key), card.signature)


def verified(card: OfficerCard, text: bytes, signature: str) -> bool:
    """Whether a signature of a text is the officer's."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(card.public_key))
        key.verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(card: OfficerCard) -> str:
    """Return what officers compare: the first 16 hexadecimal digits of SHA-256 over the public key, in groups."""
    digits = hashlib.sha256(bytes.fromhex(card.public_key)).hexdigest()[:_FINGERPRINT_DIGITS].upper()
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def card_text(name: str, public_key: str) -> bytes:
    return _text("card", name, public_key)


def proposal_text(
    store: str, request: Controlled, officer: str, nonce: str, made_at: int, component_check_value: str
) -> bytes:
    """Return the text that a proposer signs; the check value is that of the own component, or empty."""
    return _text("propose", store, request, officer, nonce, made_at, component_check_value)


def approval_text(store: str, proposal: Proposal, officer: str, component_check_value: str) -> bytes:
    """Return the text that an approver signs: the whole proposal, with its facts and the components entered so far."""
    return _text("approve", store, proposal, officer, component_check_value)


def rejection_text(store: str, proposal: Proposal, officer: str) -> bytes:
    return _text("reject", store, proposal, officer)


def restore_text(store: str, copy: str, officer: str, made_at: int) -> bytes:
    """Return the text that puts a copy back: `copy` is the SHA-256 of its manifest, in hex."""
    return _text("restore", store, copy, officer, made_at)


def _text(purpose: str, *parts: Any) -> bytes:
    return b"cardswitch officer: " + purpose.encode() + b"\n" + msgspec.json.encode(parts, order="sorted")
