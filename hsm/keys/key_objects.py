"""Key objects in the token: made, taken in, wrapped for the disk, unwrapped for use.

X9.143 attributes go in, wrapped values or keys ready for use come out. Called by the key store.

A key is wrapped in the parts that it is used in, because PKCS#11 cannot take a key apart: whole, its left half (for
retail MACs and card verification values) and XOR a mask (DUKPT; key blocks of versions A and C). A double-length TDES
key is K1 K2 K1 here: SoftHSM does neither double length nor single DES under OpenSSL 3.

Values are made inside the token and stay there, but for: `take` (imports: the caller has the value already), keys used
under a mask (made of the token's random bytes in Python), and `reveal` (exports). There a Python bytes object has the
clear key for the length of the call; it cannot be wiped, only let go.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any

import msgspec
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.constants import DEFAULT
from pkcs11.exceptions import MechanismInvalid

from hsm.algorithms.check_value import check_value
from hsm.algorithms.components import odd_parity
from hsm.algorithms.dukpt_tdes import DUKPT_MASK
from hsm.keys.attributes import KeyAttributes
from hsm.keys.token import Token, token_errors
from hsm.keys.token_keys import TokenAesKey, TokenHmacKey, TokenKey, TokenTdesKey

WHOLE = "whole"
LEFT_HALF = "left"
_MASK = "xor-"
_KINDS = {"T": KeyType.DES3, "A": KeyType.AES, "H": KeyType.GENERIC_SECRET}
_HALF_BYTES = 8
_TDES_BYTES = 24
_HMAC_BYTES = 32
_HALVED_USAGES = frozenset({"C0", "M3"})
# Keys that decrypt and authenticate key blocks of versions A and C. Source: TR-31:2018, 5.3.2.2.
_BLOCK_MASKS = (b"\x45" * 8, b"\x4d" * 8)
_MASKS_OF = {"B0": (DUKPT_MASK,), "K0": _BLOCK_MASKS, "K1": _BLOCK_MASKS}
_BOTH_WAYS = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT
_DERIVING = MechanismFlag.ENCRYPT | MechanismFlag.DERIVE
# Uses that the token allows a key, besides the one for its check value (TDES: encrypt, AES: CMAC).
_USES = {
    "B0": MechanismFlag.ENCRYPT,
    "C0": _BOTH_WAYS,
    "K0": _BOTH_WAYS | MechanismFlag.SIGN,
    "K1": _BOTH_WAYS | MechanismFlag.SIGN,
    "M1": MechanismFlag.ENCRYPT,
    "M3": _BOTH_WAYS,
    "M6": MechanismFlag.SIGN,
    "M7": MechanismFlag.SIGN,
    "P0": _BOTH_WAYS,
    "V1": MechanismFlag.ENCRYPT,
    "V2": MechanismFlag.ENCRYPT,
    "10": MechanismFlag.SIGN | MechanismFlag.ENCRYPT,
}
_CHECKED_BY = {"T": MechanismFlag.ENCRYPT, "A": MechanismFlag.SIGN, "H": MechanismFlag.SIGN}


class WrappedKey(msgspec.Struct, frozen=True):
    """A key under the storage key: upper-case hex by part (RFC 3394), with the key's check value."""

    kcv: str
    parts: dict[str, str]


class KeyObjects:
    """Makes and opens key objects of an open token."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def make(self, attributes: KeyAttributes) -> WrappedKey:
        """Return a new random key; TokenError where the token fails."""
        if attributes.algorithm != "T":
            with token_errors("making a key"):
                return self._wrapped(attributes, {WHOLE: self._generated(attributes, 8 * attributes.length)})
        if not _masks(attributes):
            try:
                with token_errors("making a key"):
                    if attributes.length == _TDES_BYTES:
                        return self._wrapped(attributes, {WHOLE: self._generated(attributes, None)})
                    return self._wrapped(attributes, self._derived_parts(attributes))
            except _CannotDerive:
                pass
        return self.take(odd_parity(self._token.random_bytes(attributes.length)), attributes)

    def take(self, value: bytes, attributes: KeyAttributes) -> WrappedKey:
        """Return a key that came from outside in the clear; its length and parity have been checked."""
        with token_errors("taking a key in"):
            parts = {part: self._created(attributes, piece) for part, piece in _pieces(value, attributes).items()}
            return self._wrapped(attributes, parts)

    def open(self, parts: Mapping[str, str], attributes: KeyAttributes) -> TokenKey:
        """Return a key ready for use, not extractable.

        Raises:
            TokenError: a part does not unwrap.
            ValueError: a part is missing or is not hexadecimal.
        """
        with token_errors("unwrapping a key"):
            handles = {part: self._unwrapped(wrapped, attributes) for part, wrapped in parts.items()}
        if handles.keys() != _part_names(attributes):
            raise ValueError("the key has other parts than its usage takes")
        return _key(handles, attributes)

    def reveal(self, parts: Mapping[str, str], attributes: KeyAttributes) -> bytes:
        """Return the clear value, `attributes.length` bytes, for the making of a key block.

        Raises:
            TokenError: it does not unwrap, or the token gives out no values.
        """
        with token_errors("revealing a key"):
            handle = self._unwrapped(parts[WHOLE], attributes, extractable=True)
            try:
                value: bytes = handle[Attribute.VALUE]
            finally:
                handle.destroy()
        return value[: attributes.length]

    def _generated(self, attributes: KeyAttributes, bits: int | None) -> Any:
        return self._token.session.generate_key(
            _KINDS[attributes.algorithm],
            bits,
            store=False,
            capabilities=_uses(attributes),
            template=_template(extractable=True),
        )

    def _derived_parts(self, attributes: KeyAttributes) -> dict[str, Any]:
        """Return K1 K2 K1, and K1 K1 K1 where it is needed, from a base key that is forgotten at once: equal blocks
        encrypt to equal blocks, and the token gives what it derives odd parity."""
        base = self._token.session.generate_key(
            KeyType.DES3, None, store=False, capabilities=MechanismFlag.DERIVE, template=_template(extractable=False)
        )
        try:
            seed = self._token.random_bytes(2 * _HALF_BYTES)
            left = seed[:_HALF_BYTES]
            shapes = {WHOLE: seed + left, LEFT_HALF: left * 3}
            return {part: _derive(base, shapes[part], attributes) for part in _part_names(attributes)}
        except MechanismInvalid:
            raise _CannotDerive from None
        finally:
            base.destroy()

    def _created(self, attributes: KeyAttributes, piece: bytes) -> Any:
        return self._token.session.create_object(
            {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: _KINDS[attributes.algorithm],
                Attribute.VALUE: piece,
                Attribute.TOKEN: False,
                **dict.fromkeys(_attributes_of(_uses(attributes)), True),
                **_template(extractable=True),
            }
        )

    def _wrapped(self, attributes: KeyAttributes, handles: dict[str, Any]) -> WrappedKey:
        # Extractable only as these session objects: wrapping asks for it. Keys in use are unwrapped without.
        try:
            kcv = check_value(attributes.algorithm, _key(handles, attributes))
            wrap = self._token.storage_key.wrap_key
            parts = {
                part: wrap(handle, mechanism=Mechanism.AES_KEY_WRAP).hex().upper() for part, handle in handles.items()
            }
        finally:
            for handle in handles.values():
                handle.destroy()
        return WrappedKey(kcv, parts)

    def _unwrapped(self, wrapped: str, attributes: KeyAttributes, *, extractable: bool = False) -> Any:
        return self._token.storage_key.unwrap_key(
            ObjectClass.SECRET_KEY,
            _KINDS[attributes.algorithm],
            bytes.fromhex(wrapped),
            mechanism=Mechanism.AES_KEY_WRAP,
            store=False,
            capabilities=_uses(attributes),
            template=_template(extractable=extractable) | {Attribute.SENSITIVE: not extractable},
        )


class _CannotDerive(Exception):
    """The token has no DES3_ECB_ENCRYPT_DATA."""


def _key(handles: Mapping[str, Any], attributes: KeyAttributes) -> TokenKey:
    whole = handles[WHOLE]
    match attributes.algorithm:
        case "A":
            return TokenAesKey(whole, 8 * attributes.length)
        case "H":
            return TokenHmacKey(whole)
        case _:
            masked = {mask: handles[_mask_name(mask)] for mask in _masks(attributes)}
            return TokenTdesKey(whole, handles.get(LEFT_HALF), masked, 8 * attributes.length)


def _pieces(value: bytes, attributes: KeyAttributes) -> dict[str, bytes]:
    if attributes.algorithm == "A":
        return {WHOLE: value}
    if attributes.algorithm == "H":
        # SoftHSM wraps whole blocks of 8 bytes, and takes 32 bytes or more. HMAC itself fills a key up to 64 bytes with
        # zeros (RFC 2104, 2), so these change nothing.
        return {WHOLE: value.ljust(_HMAC_BYTES, b"\0") + bytes(-len(value) % 8 if len(value) > _HMAC_BYTES else 0)}
    pieces = {WHOLE: value, LEFT_HALF: value[:_HALF_BYTES] * 3}
    for mask in _masks(attributes):
        pieces[_mask_name(mask)] = bytes(left ^ right for left, right in zip(value, cycle(mask), strict=False))
    return {part: (pieces[part] + pieces[part][:_HALF_BYTES])[:_TDES_BYTES] for part in _part_names(attributes)}


def _part_names(attributes: KeyAttributes) -> set[str]:
    halved = {LEFT_HALF} if attributes.algorithm == "T" and attributes.usage in _HALVED_USAGES else set()
    return {WHOLE} | halved | {_mask_name(mask) for mask in _masks(attributes)}


def _masks(attributes: KeyAttributes) -> tuple[bytes, ...]:
    return _MASKS_OF.get(attributes.usage, ()) if attributes.algorithm == "T" else ()


def _mask_name(mask: bytes) -> str:
    return _MASK + mask.hex()


def _uses(attributes: KeyAttributes) -> MechanismFlag:
    return _USES.get(attributes.usage, _DERIVING) | _CHECKED_BY[attributes.algorithm]


def _template(*, extractable: bool) -> dict[Attribute, Any]:
    return {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: extractable}


def _attributes_of(uses: MechanismFlag) -> Iterator[Attribute]:
    for flag in MechanismFlag:
        if flag & uses:
            yield Attribute[str(flag.name)]


def _derive(base: Any, data: bytes, attributes: KeyAttributes) -> Any:
    # The mechanism's parameter is CK_KEY_DERIVATION_STRING_DATA, which python-pkcs11 passes on as bytes.
    buffer = ctypes.create_string_buffer(data, len(data))
    return base.derive_key(
        KeyType.DES3,
        8 * len(data),
        mechanism=Mechanism.DES3_ECB_ENCRYPT_DATA,
        mechanism_param=struct.pack("@PN", ctypes.addressof(buffer), len(data)),
        capabilities=_uses(attributes),
        # SoftHSM knows the length of a triple DES key and refuses one as an argument.
        template=_template(extractable=True) | {Attribute.VALUE_LEN: DEFAULT},
    )
