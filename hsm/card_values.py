"""The commands on card verification values: a key by name and card data go in, a value or a verdict comes out.

Called by the service, which has found the PAN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from hsm.algorithms.card_value import (
    VALUE_DIGITS,
    card_value,
    cavv_output,
    check_pan,
    dynamic_card_value,
    service_code,
    values_match,
)
from hsm.algorithms.primitives import TdesKey
from hsm.card_commands import CardValue, GenerateCardValue, GeneratedCardValue, Verified, VerifyCardValue
from hsm.commands import HsmRefused
from hsm.keys.keyring import HeldKey, Keyring
from hsm.keys.permissions import Operation

# Which fields of CardValue each kind needs, and which it may have; the others stay as they are made.
NEEDED = {
    "cvv": {"expiry", "service_code"},
    "cvv2": {"expiry"},
    "icvv": {"expiry"},
    "dcvv": {"expiry", "service_code", "atc"},
    "cavv": {"atn", "result_code"},
}
OPTIONAL = {"cvv": set[str](), "cvv2": {"service_code"}, "icvv": {"service_code"}, "dcvv": {"psn"}, "cavv": set[str]()}
_UNUSED = {"expiry": "", "service_code": "", "atc": "", "psn": "00", "atn": "", "result_code": ""}


def card_value_handlers(keyring: Keyring) -> dict[type, Callable[[Any, str], Any]]:
    """Return what answers each command on card values, called with the request and the clear PAN of its card.

    A handler raises HsmRefused: `malformed`, `pan_invalid`, `key_unknown` or `key_usage`; and TokenError where the
    token failed.
    """
    return {GenerateCardValue: partial(generate, keyring), VerifyCardValue: partial(verify, keyring)}


def generate(keyring: Keyring, request: GenerateCardValue, pan: str) -> GeneratedCardValue:
    """Answer GenerateCardValue."""
    wanted = request.card_value
    with refusals(pan):
        check_fields(wanted)
        held = keyring.key(wanted.key, _operation(wanted, Operation.CARD_VALUE_GENERATE))
        return GeneratedCardValue(value=_value(tdes_key(held), wanted, pan))


def verify(keyring: Keyring, request: VerifyCardValue, pan: str) -> Verified:
    """Answer VerifyCardValue."""
    wanted, value = request.card_value, request.value
    with refusals(pan):
        check_fields(wanted)
        if len(value) != VALUE_DIGITS or not (value.isascii() and value.isdigit()):
            raise ValueError(f"a card verification value has {VALUE_DIGITS} digits")
        candidates = keyring.candidates(wanted.key, _operation(wanted, Operation.CARD_VALUE_VERIFY))
        return Verified(any(values_match(_value(tdes_key(held), wanted, pan), value) for held in candidates))


def check_fields(wanted: CardValue) -> None:
    """Raise ValueError for an unknown kind, a field that is missing, and one that does not enter the value."""
    if wanted.kind not in NEEDED:
        raise ValueError(f"the kinds of card values are {', '.join(NEEDED)}")
    given = {field for field, unused in _UNUSED.items() if getattr(wanted, field) != unused}
    missing = NEEDED[wanted.kind] - given
    if missing:
        raise ValueError(f"{wanted.kind} needs {', '.join(sorted(missing))}")
    surplus = given - NEEDED[wanted.kind] - OPTIONAL[wanted.kind]
    if surplus:
        raise ValueError(f"{wanted.kind} takes no {', '.join(sorted(surplus))}")


@contextmanager
def refusals(pan: str) -> Iterator[None]:
    """Turn what the algorithms say about data of a wrong shape into refusals; their texts never show the data."""
    try:
        check_pan(pan)
    except ValueError as error:
        raise HsmRefused("pan_invalid", str(error)) from None
    try:
        yield
    except ValueError as error:
        raise HsmRefused("malformed", str(error)) from None


def tdes_key(held: HeldKey) -> TdesKey:
    """Return the key for algorithms that are made of triple DES; HsmRefused `key_usage` for another kind."""
    if held.attributes.algorithm != "T":
        raise HsmRefused("key_usage", f"this is done with TDES; key {held.name!r} is {held.attributes.describe()}")
    return cast(TdesKey, held.key)


def _operation(wanted: CardValue, static: Operation) -> Operation:
    return Operation.DYNAMIC_CARD_VALUE if wanted.kind == "dcvv" else static


def _value(key: TdesKey, wanted: CardValue, pan: str) -> str:
    if wanted.kind == "dcvv":
        return dynamic_card_value(key, pan, wanted.psn, wanted.atc, wanted.expiry, wanted.service_code)
    if wanted.kind == "cavv":
        return cavv_output(key, pan, wanted.atn, wanted.result_code)
    return card_value(key, pan, wanted.expiry, service_code(wanted.kind, wanted.service_code))
