"""The commands on EMV cryptograms and issuer scripts: keys by name and chip data go in, verdicts and MACs come out.

Called by the service, which has found the PAN. A new PIN on its way into a script is opened and sealed in here, as
Python text that cannot be wiped.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import partial
from typing import Any

from hsm.algorithms.emv_cryptograms import (
    CRYPTOGRAM_BYTES,
    application_cryptogram,
    arpc_method_1,
    arpc_method_2,
    check_cryptogram,
)
from hsm.algorithms.emv_keys import card_key_tail
from hsm.algorithms.emv_schemes import ChipData, CryptogramKeys, Scheme, cryptogram_keys, scheme_named, script_key
from hsm.algorithms.emv_scripts import encrypt_script_data, iso2_pin_block, script_mac, visa_pin_block
from hsm.algorithms.pinblock import pin_format
from hsm.card_commands import Chip, PinBlock, ProtectedScript, ProtectScript, VerifiedCryptogram, VerifyCryptogram
from hsm.card_values import refusals, tdes_key
from hsm.commands import HsmRefused
from hsm.keys.keyring import Keyring
from hsm.keys.permissions import Operation
from hsm.pins import read_pin


def cryptogram_handlers(keyring: Keyring) -> dict[type, Callable[[Any, str], Any]]:
    """Return what answers each command on chips, called with the request and the clear PAN of its card.

    A handler raises HsmRefused: `malformed`, `pan_invalid`, `key_unknown` or `key_usage`, with a PIN also
    `pin_block_invalid` or `pin_translation_forbidden`; and TokenError where the token failed.
    """
    return {VerifyCryptogram: partial(verify, keyring), ProtectScript: partial(protect, keyring)}


def verify(keyring: Keyring, request: VerifyCryptogram, pan: str) -> VerifiedCryptogram:
    """Answer VerifyCryptogram."""
    with refusals(pan):
        scheme, chip = scheme_named(request.chip.scheme), _chip(request.chip, pan)
        method = _arpc_method(request, scheme)
        check_cryptogram(request.cryptogram)
        for held in keyring.candidates(request.key, Operation.CRYPTOGRAM):
            with cryptogram_keys(scheme, tdes_key(held), chip) as keys:
                made = application_cryptogram(keys.cryptogram, request.data, scheme.padding)
                if hmac.compare_digest(made, request.cryptogram):
                    return VerifiedCryptogram(verified=True, arpc=_arpc(keys, method, request))
        return VerifiedCryptogram(verified=False)


def protect(keyring: Keyring, request: ProtectScript, pan: str) -> ProtectedScript:
    """Answer ProtectScript."""
    with refusals(pan):
        scheme, chip = scheme_named(request.chip.scheme), _chip(request.chip, pan)
        _check_script(request)
        mac_key = tdes_key(keyring.key(request.mac_key, Operation.SCRIPT_INTEGRITY))
        data = _encrypted(keyring, request, scheme, chip)
        message = request.command
        if scheme.script_transaction:
            message += chip.atc + request.cryptogram
        with script_key(scheme, mac_key, chip, request.cryptogram) as key:
            return ProtectedScript(data=data, mac=script_mac(key, message + data, request.mac_length))


def _chip(chip: Chip, pan: str) -> ChipData:
    return ChipData(pan, chip.psn, chip.atc, chip.unpredictable)


def _arpc_method(request: VerifyCryptogram, scheme: Scheme) -> int:
    """Return 1 or 2, or 0 where no ARPC is wanted, once everything that enters it is known to be right."""
    if request.arc and request.csu:
        raise ValueError("an ARPC is made from an authorisation response code or from a card status update, not both")
    if len(request.arc) not in (0, 2):
        raise ValueError("an authorisation response code has 2 bytes")
    if len(request.csu) not in (0, 4):
        raise ValueError("a card status update has 4 bytes")
    if request.proprietary and not request.csu:
        raise ValueError("proprietary authentication data goes with a card status update")
    if len(request.proprietary) > 8:
        raise ValueError("proprietary authentication data has 0 to 8 bytes")
    method = 1 if request.arc else 2 if request.csu else 0
    if method and method not in scheme.arpc_methods:
        raise ValueError(f"{request.chip.scheme} has no ARPC method {method}")
    return method


def _arpc(keys: CryptogramKeys, method: int, request: VerifyCryptogram) -> bytes:
    if method == 1:
        return arpc_method_1(keys.arpc, request.cryptogram, request.arc)
    if method == 2:
        return arpc_method_2(keys.arpc, request.cryptogram, request.csu, request.proprietary)
    return b""


def _check_script(request: ProtectScript) -> None:
    if not 5 <= len(request.command) <= 255:
        raise ValueError("the header of a script command has 5 bytes or more")
    if len(request.cryptogram) != CRYPTOGRAM_BYTES:
        raise ValueError("a cryptogram has 8 bytes")
    if not 4 <= request.mac_length <= 8:
        raise ValueError("the MAC of a script command has 4 to 8 bytes")
    if request.pin and request.confidential:
        raise ValueError("a script command has a PIN or other data, not both")
    if bool(request.encryption_key) != bool(request.pin or request.confidential):
        raise ValueError("an encryption key goes with a PIN or other data to encrypt")
    if (request.current_pin or request.ac_key) and not request.pin:
        raise ValueError("a current PIN and a cryptogram key go with a new PIN")


def _encrypted(keyring: Keyring, request: ProtectScript, scheme: Scheme, chip: ChipData) -> bytes:
    if not request.encryption_key:
        return b""
    master = tdes_key(keyring.key(request.encryption_key, Operation.SCRIPT_CONFIDENTIALITY))
    clear = request.confidential
    if request.pin:
        clear = _pin_block(keyring, request, request.pin, scheme, chip)
    with script_key(scheme, master, chip, request.cryptogram) as key:
        return encrypt_script_data(key, clear, scheme.encryption)


def _pin_block(keyring: Keyring, request: ProtectScript, new: PinBlock, scheme: Scheme, chip: ChipData) -> bytes:
    """Return the clear block of PIN CHANGE; both blocks that come in have to bind the PAN."""
    current = request.current_pin
    form = scheme.pin_block_with_current if current else scheme.pin_block
    if not form:
        raise ValueError(f"{request.chip.scheme} takes no current PIN")
    if (form == "visa") != bool(request.ac_key):
        raise ValueError("a cryptogram key goes with Visa's PIN blocks, and only with them")
    for block in (new, current):
        if block is not None:
            _check_bound(block)
    if form == "iso2":
        return iso2_pin_block(read_pin(keyring, new, chip.pan))
    ac_key = tdes_key(keyring.key(request.ac_key, Operation.CRYPTOGRAM))
    tail = card_key_tail(ac_key, chip.pan, chip.psn, scheme.option)
    old = read_pin(keyring, current, chip.pan) if current else ""
    return visa_pin_block(tail, read_pin(keyring, new, chip.pan), old)


def _check_bound(block: PinBlock) -> None:
    # As for references: of a block that binds no PAN, a script could put the PIN of one card onto another.
    if not pin_format(block.format).binds_pan:
        raise HsmRefused(
            "pin_translation_forbidden", f"PIN block format {block.format} to a script: the block does not bind the PAN"
        )
