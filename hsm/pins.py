"""The commands on PINs: keys by name and blocks go in, blocks, references and verdicts come out.

Called by the engine, which has found the PAN. A clear PIN lives in these functions alone, as Python text that cannot be
wiped, and so do the keys of one DUKPT transaction. Callers never learn why a block does not open: a wrong key, a wrong
PAN and a forged block look the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, cast

from hsm.algorithms import dukpt_aes, dukpt_tdes
from hsm.algorithms.pin_translation import check_reference, check_translation, translate_pin_block
from hsm.algorithms.pin_verification import (
    DECIMALIZATION_TABLE,
    default_validation_data,
    generate_offset,
    generate_pvv,
    verify_offset,
    verify_pvv,
)
from hsm.algorithms.pinblock import PinKey, RandomBytes, open_pin, pin_format
from hsm.algorithms.primitives import AesKey, TdesKey
from hsm.card_commands import (
    CardAnswer,
    ChangePin,
    GeneratePinReference,
    Ibm3624,
    PinBlock,
    PinMethod,
    PinReference,
    TranslatedPin,
    TranslatePin,
    Verified,
    VerifyPin,
    VisaPvv,
)
from hsm.commands import HsmRefused
from hsm.errors import PinBlockError, PinTranslationError
from hsm.keys.attributes import ALGORITHMS
from hsm.keys.keyring import HeldKey, Keyring
from hsm.keys.permissions import Operation

_KSN_BYTES = {"T": dukpt_tdes.KSN_BYTES, "A": dukpt_aes.KSN_BYTES}

Handler = Callable[[Any, str], CardAnswer]


def pin_handlers(
    keyring: Keyring,
    random_bytes: RandomBytes = os.urandom,
    tables: Collection[str] = (DECIMALIZATION_TABLE,),
) -> dict[type, Handler]:
    """Return what answers each PIN command, called with the request and the clear PAN of its card.

    `tables` are the decimalization tables of this installation; a caller who chose one could find a PIN by trying.

    A handler raises HsmRefused: `pin_block_invalid`, `pin_translation_forbidden`, `pan_invalid`, `malformed`,
    `key_unknown` or `key_usage`; and TokenError where the token failed.
    """
    return {
        TranslatePin: partial(translate_pin, keyring, random_bytes),
        VerifyPin: partial(verify_pin, keyring, tables),
        GeneratePinReference: partial(generate_pin_reference, keyring, tables),
        ChangePin: partial(change_pin, keyring, tables),
    }


def translate_pin(keyring: Keyring, random_bytes: RandomBytes, request: TranslatePin, pan: str) -> TranslatedPin:
    """Answer TranslatePin."""
    return TranslatedPin(
        pin_block=translate(keyring, request.pin, request.key_out, request.format_out, pan, random_bytes)
    )


def verify_pin(keyring: Keyring, tables: Collection[str], request: VerifyPin, pan: str) -> Verified:
    """Answer VerifyPin."""
    with _REFUSALS:
        return Verified(_right(keyring, tables, request.method, read_pin(keyring, request.pin, pan), pan))


def generate_pin_reference(
    keyring: Keyring, tables: Collection[str], request: GeneratePinReference, pan: str
) -> PinReference:
    """Answer GeneratePinReference; the block has to bind the PAN."""
    with _REFUSALS:
        check_reference(request.pin.format)
        return PinReference(value=_reference(keyring, tables, request.method, read_pin(keyring, request.pin, pan), pan))


def change_pin(keyring: Keyring, tables: Collection[str], request: ChangePin, pan: str) -> PinReference:
    """Answer ChangePin; both blocks are opened before any result, and the new one has to bind the PAN."""
    with _REFUSALS:
        check_reference(request.new.format)
        old, new = read_pin(keyring, request.old, pan), read_pin(keyring, request.new, pan)
        if not _right(keyring, tables, request.method, old, pan):
            return PinReference(value="", verified=False)
        return PinReference(value=_reference(keyring, tables, request.method, new, pan))


def translate(
    keyring: Keyring,
    pin: PinBlock,
    key_out: str,
    format_out: int,
    pan: str,
    random_bytes: RandomBytes = os.urandom,
) -> bytes:
    """Return the block under another zone PIN key, in another format where that is permitted.

    Raises:
        HsmRefused: see `pin_handlers`.
    """
    with _REFUSALS:
        check_translation(pin.format, format_out)
        _check_pan(pan)
        sealing = _sealing_key(keyring.key(key_out, Operation.PIN_ENCRYPT), format_out)
        for opening in _opening_keys(keyring, pin):
            try:
                return translate_pin_block(pin.block, pin.format, opening, format_out, sealing, pan, random_bytes)
            except PinBlockError:
                continue
        raise _unopened(pin)


def read_pin(keyring: Keyring, pin: PinBlock, pan: str) -> str:
    """Return the clear PIN of a block for use inside this process, never for a caller.

    Raises:
        HsmRefused: see `pin_handlers`.
    """
    with _REFUSALS:
        _check_pan(pan)
        for opening in _opening_keys(keyring, pin):
            try:
                return open_pin(pin.format, pin.block, pan, opening)
            except PinBlockError:
                continue
        raise _unopened(pin)


def _opening_keys(keyring: Keyring, pin: PinBlock) -> Iterator[PinKey]:
    length = pin_format(pin.format).block_bytes
    if len(pin.block) != length:
        raise HsmRefused("pin_block_invalid", f"a PIN block of format {pin.format} has {length} bytes")
    dukpt = bool(pin.ksn)
    candidates = keyring.candidates(pin.key, Operation.DUKPT_PIN if dukpt else Operation.PIN_DECRYPT)
    # While a zone goes from TDES to AES, one version fits the block and the other does not.
    fitting = [held for held in candidates if _fits(held, pin.format, dukpt=dukpt)]
    if not fitting:
        raise _misfit(candidates[0], pin.format)
    if dukpt:  # the standard of a terminal shows in the length of its serial number
        fitting = [held for held in fitting if len(pin.ksn) == _KSN_BYTES[held.attributes.algorithm]] or fitting
    for held in fitting:
        yield _transaction_key(held, pin) if dukpt else cast(PinKey, held.key)


def _transaction_key(held: HeldKey, pin: PinBlock) -> PinKey:
    if held.attributes.algorithm == "T":
        return dukpt_tdes.pin_key(cast(TdesKey, held.key), pin.ksn)
    bdk, algorithm = cast(AesKey, held.key), pin_format(pin.format).algorithm
    key_type = pin.ksn_key or ("TDES-2" if algorithm == "T" else f"AES-{bdk.bits}")
    if key_type.startswith("TDES") != (algorithm == "T"):
        raise ValueError(f"PIN block format {pin.format} takes a working key of {ALGORITHMS[algorithm]}")
    return dukpt_aes.working_key(bdk, pin.ksn, dukpt_aes.Usage.PIN_ENCRYPTION, key_type)


def _sealing_key(held: HeldKey, number: int) -> PinKey:
    if not _fits(held, number):
        raise _misfit(held, number)
    return cast(PinKey, held.key)


def _fits(held: HeldKey, number: int, *, dukpt: bool = False) -> bool:
    """Whether the format is for this kind of key; AES DUKPT derives keys of either kind."""
    own = held.attributes.algorithm
    return own == pin_format(number).algorithm or (dukpt and own == "A")


def _misfit(held: HeldKey, number: int) -> HsmRefused:
    wanted = ALGORITHMS[pin_format(number).algorithm]
    return HsmRefused(
        "key_usage", f"PIN block format {number} is for {wanted}; key {held.name!r} is {held.attributes.describe()}"
    )


def _unopened(pin: PinBlock) -> HsmRefused:
    return HsmRefused("pin_block_invalid", f"the block is none of format {pin.format} for this card under {pin.key!r}")


def _right(keyring: Keyring, tables: Collection[str], method: PinMethod, pin: str, pan: str) -> bool:
    if isinstance(method, VisaPvv):
        return any(
            verify_pvv(_verifying(held), pan, pin, method.key_index, method.pvv)
            for held in keyring.candidates(method.key, Operation.PVV_VERIFY)
        )
    data = _validation_data(method, tables, pan)
    return any(
        verify_offset(_verifying(held), data, pin, method.offset, method.decimalization_table)
        for held in keyring.candidates(method.key, Operation.OFFSET_VERIFY)
    )


def _reference(keyring: Keyring, tables: Collection[str], method: PinMethod, pin: str, pan: str) -> str:
    if isinstance(method, VisaPvv):
        key = _verifying(keyring.key(method.key, Operation.PVV_GENERATE))
        return generate_pvv(key, pan, pin, method.key_index)
    key = _verifying(keyring.key(method.key, Operation.OFFSET_GENERATE))
    data = _validation_data(method, tables, pan)
    return generate_offset(key, data, pin, method.decimalization_table)


def _validation_data(method: Ibm3624, tables: Collection[str], pan: str) -> str:
    """Return the validation data, which has to be this card's and under a table of ours.

    With those of another card, a block of a known PIN would reveal the other card's natural PIN; with tables of the
    caller's choice, a few references of one block reveal its digits.
    Source: Bond and Zieliński, "Decimalisation table attacks for PIN cracking" (2003).
    """
    if method.decimalization_table not in tables:
        raise ValueError("the decimalization table is none of [hsm] decimalization_tables")
    data = method.validation_data or default_validation_data(pan)
    if pan[-12:-1] not in data:
        raise ValueError("validation data has the last 11 digits of the card's number before the check digit")
    return data


def _verifying(held: HeldKey) -> TdesKey:
    if held.attributes.algorithm != "T":
        raise HsmRefused("key_usage", f"a PIN is verified with TDES; key {held.name!r} is {held.attributes.describe()}")
    return cast(TdesKey, held.key)


def _check_pan(pan: str) -> None:
    if not (12 <= len(pan) <= 19 and pan.isascii() and pan.isdigit()):
        raise HsmRefused("pan_invalid", "a PAN has 12 to 19 digits")


class _Refusals:
    """Turns what the algorithms raise into refusals. Without state, and no generator: it is entered for each PIN."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, PinTranslationError):
            raise HsmRefused("pin_translation_forbidden", str(error)) from None
        if isinstance(error, PinBlockError):
            raise HsmRefused("pin_block_invalid", str(error)) from None
        if isinstance(error, ValueError):
            raise HsmRefused("malformed", str(error)) from None


_REFUSALS = _Refusals()
