"""The commands on card verification values: a key by name and card data go in, a value or a verdict comes out.

Called by the service with the PAN already found. Handlers raise HsmRefused: `key_unknown`, `key_usage` or `malformed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hsm.card_commands import GenerateCardValue, GeneratedCardValue, Verified, VerifyCardValue
from hsm.commands import HsmRefused
from hsm.keys.keyring import Keyring


def card_value_handlers(keyring: Keyring) -> dict[type, Callable[[Any, str], Any]]:
    """Return the handlers by request type; each takes the request and the PAN, and returns the answer."""

    def generate(request: GenerateCardValue, pan: str) -> GeneratedCardValue:
        raise HsmRefused("malformed", "card values are not made yet")

    def verify(request: VerifyCardValue, pan: str) -> Verified:
        raise HsmRefused("malformed", "card values are not verified yet")

    return {GenerateCardValue: generate, VerifyCardValue: verify}
