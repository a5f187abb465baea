"""The commands on EMV cryptograms and issuer scripts: keys by name and chip data go in, verdicts and MACs come out.

Called by the service with the PAN already found. Handlers raise HsmRefused: `key_unknown`, `key_usage`,
`pin_block_invalid` or `malformed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hsm.card_commands import ProtectedScript, ProtectScript, VerifiedCryptogram, VerifyCryptogram
from hsm.commands import HsmRefused
from hsm.keys.keyring import Keyring


def cryptogram_handlers(keyring: Keyring) -> dict[type, Callable[[Any, str], Any]]:
    """Return the handlers by request type; each takes the request and the PAN, and returns the answer."""

    def verify(request: VerifyCryptogram, pan: str) -> VerifiedCryptogram:
        raise HsmRefused("malformed", "cryptograms are not verified yet")

    def protect(request: ProtectScript, pan: str) -> ProtectedScript:
        raise HsmRefused("malformed", "scripts are not protected yet")

    return {VerifyCryptogram: verify, ProtectScript: protect}
