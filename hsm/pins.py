"""The commands on PINs: keys by name and blocks go in, blocks and verdicts come out.

Called by the engine. The clear block lives in these functions alone, as Python bytes that cannot be wiped.
"""

from __future__ import annotations

from hsm.algorithms.pinblock import decode_pin_block
from hsm.card_commands import PinBlock
from hsm.commands import HsmRefused
from hsm.errors import PinBlockError
from hsm.keys.keyring import Keyring
from hsm.keys.permissions import Operation


def translate(keyring: Keyring, pin: PinBlock, key_out: str, format_out: int, pan: str) -> bytes:
    """Return the block under another zone PIN key.

    Raises:
        HsmRefused: `key_unknown`, `key_usage` or `pin_block_invalid`.
    """
    target = keyring.key(key_out, Operation.PIN_ENCRYPT).key
    refusal = PinBlockError("a PIN block has 8 bytes")
    for held in keyring.candidates(pin.key, Operation.PIN_DECRYPT):
        try:
            if len(pin.block) != 8:
                raise refusal
            clear = held.key.decrypt(pin.block)  # type: ignore[union-attr]
            decode_pin_block(clear, pan)
        except PinBlockError as error:
            refusal = error
            continue
        return target.encrypt(clear)  # type: ignore[union-attr]
    raise HsmRefused("pin_block_invalid", str(refusal))
