"""Failures on the HSM's side; refusals and unavailability, which callers meet, are in `hsm.commands`."""

from __future__ import annotations


class HsmError(Exception):
    """The root of this module; the text names keys, files and rules, never data."""


class ConfigurationError(HsmError):
    """The module, the socket or a key of the configuration cannot be used; the text says which and why."""


class TokenError(HsmError):
    """The PKCS#11 token failed or is gone."""


class CiphertextError(HsmError):
    """A ciphertext of the vault is not what its data key made; the token works."""


class KeyStoreError(HsmError):
    """A stored key cannot be read, does not unwrap or does not have its check value."""


class KeyBlockError(HsmError):
    """A key block that is malformed, not authentic, or not for this HSM; the text names fields, never key bytes."""


class KeyValueError(HsmError):
    """A key or component that may not enter the HSM: length, parity, equal or weak parts; the text shows none of it."""


class OfficerKeyError(HsmError):
    """An officer's key file or card that cannot be used; the text shows nothing of the key or the passphrase."""


class PinBlockError(HsmError):
    """A PIN block whose format, length or padding is wrong; the text never contains the PIN or the block."""


class PinTranslationError(HsmError):
    """A translation between PIN block formats that is forbidden."""


class TokenCryptogramError(HsmError):
    """A network token's cryptogram that cannot be read; the text never contains its bytes."""


class VaultError(HsmError):
    """The vault's database cannot be reached."""


class ProtocolError(HsmError):
    """The other side of the socket broke the framing; the connection cannot go on."""


class AuditError(HsmError):
    """The audit trail cannot be written or read; commands are refused until it can."""
