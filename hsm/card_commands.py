"""The commands on PINs, card verification values and EMV cryptograms, as their callers see them.

A caller that issues cards, or stands in for an issuer, sends these. A card is named by `token` ("card_…") or by `pan`,
never both; keys by name. Whether something verified is a value of the answer; a key that may not do it, a block that is
none or a field of another shape is an `HsmRefused`.
"""

from __future__ import annotations

import msgspec


class _Secret(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that no repr shows."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


class PinBlock(_Secret, frozen=True, kw_only=True):
    """An encrypted PIN block: 8 bytes in ISO 9564 formats 0, 1 and 3, 16 in format 4.

    `key` names a zone PIN key, or a base derivation key with `ksn` of 10 bytes (TDES) or 12 bytes (AES). With AES the
    PIN key of the transaction is one of `hsm.algorithms.dukpt_aes.KEY_TYPES`; where `ksn_key` is empty, AES of the base
    derivation key's length for format 4, TDES-2 for the others.
    """

    block: bytes
    key: str
    format: int = 0
    ksn: bytes = b""
    ksn_key: str = ""


class VisaPvv(_Secret, frozen=True, kw_only=True, tag="pvv"):
    """The Visa PIN verification value: PVK pair `key`, key index 0–9, `pvv` 4 digits (empty where it is generated)."""

    key: str
    key_index: int = 1
    pvv: str = ""


class Ibm3624(_Secret, frozen=True, kw_only=True, tag="ibm3624"):
    """The IBM 3624 method: `offset` 4–12 digits (empty where it is generated).

    `validation_data` is 16 hex digits with the last 11 of the PAN before its check digit in them (empty: the rightmost
    16 of the PAN, padded with 0 on the right as in `hsm.algorithms.pin_verification`); `decimalization_table` is one of
    `[hsm] decimalization_tables`.
    """

    key: str
    offset: str = ""
    validation_data: str = ""
    decimalization_table: str = "0123456789012345"


PinMethod = VisaPvv | Ibm3624


class TranslatePin(_Secret, frozen=True, kw_only=True, tag="translate_pin"):
    """Bring a PIN block under another zone PIN key, in another format where PCI PIN allows it."""

    pin: PinBlock
    key_out: str
    format_out: int = 0
    token: str = ""
    pan: str = ""
    trace_id: str = ""


class TranslatedPin(_Secret, frozen=True, kw_only=True, tag="pin_translated"):
    pin_block: bytes


class VerifyPin(_Secret, frozen=True, kw_only=True, tag="verify_pin"):
    """Verify a PIN block against a PVV or an offset."""

    pin: PinBlock
    method: PinMethod
    token: str = ""
    pan: str = ""
    trace_id: str = ""


class Verified(msgspec.Struct, frozen=True, tag="verified"):
    """Whether what was given is right."""

    verified: bool


class GeneratePinReference(_Secret, frozen=True, kw_only=True, tag="pin_reference"):
    """Make the PVV or the offset of the PIN in a block."""

    pin: PinBlock
    method: PinMethod
    token: str = ""
    pan: str = ""
    trace_id: str = ""


class PinReference(_Secret, frozen=True, kw_only=True, tag="pin_reference_made"):
    """`value` is the PVV or the offset; empty where the old PIN did not verify."""

    value: str
    verified: bool = True


class ChangePin(_Secret, frozen=True, kw_only=True, tag="change_pin"):
    """Verify the old PIN against `method`, then make the reference of the new one; answered by PinReference."""

    old: PinBlock
    new: PinBlock
    method: PinMethod
    token: str = ""
    pan: str = ""
    trace_id: str = ""


class CardValue(_Secret, frozen=True, kw_only=True):
    """Which card verification value is meant, and what enters it besides the PAN.

    `kind` is `cvv` (service code of the stripe), `cvv2` (service code 000), `icvv` (999), `dcvv` (with `atc`, four
    digits as in the track data, and `psn`) or `cavv` (3-D Secure: `atn`, its last four digits, for the expiry date;
    `result_code`, three digits, for the service code). `expiry` is YYMM, `service_code` three digits; `key` names a
    CVK pair, for `dcvv` an issuer master key for dynamic values.
    """

    kind: str
    key: str
    expiry: str = ""
    service_code: str = ""
    atc: str = ""
    psn: str = "00"
    atn: str = ""
    result_code: str = ""


class GenerateCardValue(_Secret, frozen=True, kw_only=True, tag="card_value"):
    card_value: CardValue
    token: str = ""
    pan: str = ""
    trace_id: str = ""


class GeneratedCardValue(_Secret, frozen=True, kw_only=True, tag="card_value_made"):
    value: str


class VerifyCardValue(_Secret, frozen=True, kw_only=True, tag="verify_card_value"):
    """Answered by Verified; `value` is 3 digits."""

    card_value: CardValue
    value: str
    token: str = ""
    pan: str = ""
    trace_id: str = ""


class Chip(_Secret, frozen=True, kw_only=True):
    """The card and the transaction as EMV counts them.

    `scheme` is one of `hsm.algorithms.emv_schemes.SCHEMES`; `psn` two digits; `atc` 2 bytes; `unpredictable` 4 bytes,
    for the schemes that take it.
    """

    scheme: str
    psn: str = "00"
    atc: bytes
    unpredictable: bytes = b""


class VerifyCryptogram(_Secret, frozen=True, kw_only=True, tag="verify_cryptogram"):
    """Verify an ARQC (or TC, AAC) and make the ARPC.

    Args:
        key: an IMK-AC.
        data: the card's input of the cryptogram, 1–1024 bytes, not padded.
        cryptogram: 8 bytes, DE 55 tag 9F26.
        arc: authorisation response code, 2 bytes: ARPC method 1; or
        csu: card status update, 4 bytes, with `proprietary` of 0–8 bytes: ARPC method 2. Neither: no ARPC.
    """

    key: str
    chip: Chip
    data: bytes
    cryptogram: bytes
    arc: bytes = b""
    csu: bytes = b""
    proprietary: bytes = b""
    token: str = ""
    pan: str = ""
    trace_id: str = ""


class VerifiedCryptogram(_Secret, frozen=True, kw_only=True, tag="cryptogram_verified"):
    """`arpc` is 8 bytes (method 1) or 4 (method 2); empty where the cryptogram is wrong or none was asked for."""

    verified: bool
    arpc: bytes = b""


class ProtectScript(_Secret, frozen=True, kw_only=True, tag="protect_script"):
    """Secure messaging for an issuer script command.

    Args:
        mac_key: an IMK-SMI.
        encryption_key: an IMK-SMC where `confidential` or `pin` is given.
        cryptogram: the ARQC of the transaction, 8 bytes, plus 1 for each script command before this one where the
            scheme counts so: session keys are derived from it.
        command: the header CLA INS P1 P2 Lc, 5–255 bytes; the scheme's bytes between it and the data in the MAC (ATC
            and cryptogram) are added.
        confidential: data to encrypt, 0–240 bytes; a PIN never comes in here in the clear, see `pin`.
        pin: instead, the new PIN under a zone PIN key, for PIN CHANGE.
        current_pin: with `pin`, the old one, where the PIN block of the scheme takes it.
        ac_key: with `pin`, an IMK-AC, where the PIN block of the scheme takes it.
        mac_length: 4–8 bytes.
    """

    mac_key: str
    encryption_key: str = ""
    chip: Chip
    cryptogram: bytes
    command: bytes
    confidential: bytes = b""
    pin: PinBlock | None = None
    current_pin: PinBlock | None = None
    ac_key: str = ""
    mac_length: int = 8
    token: str = ""
    pan: str = ""
    trace_id: str = ""


class ProtectedScript(_Secret, frozen=True, kw_only=True, tag="script_protected"):
    """`data` is the encrypted data field, empty where there was none; `mac` covers command and encrypted data."""

    data: bytes
    mac: bytes


CardRequest = (
    TranslatePin
    | VerifyPin
    | GeneratePinReference
    | ChangePin
    | GenerateCardValue
    | VerifyCardValue
    | VerifyCryptogram
    | ProtectScript
)
CardAnswer = TranslatedPin | Verified | PinReference | GeneratedCardValue | VerifiedCryptogram | ProtectedScript
