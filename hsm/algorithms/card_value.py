"""Card verification values: CVV, CVV2, iCVV, Visa's dCVV, and the CAVV output of Visa's 3-D Secure.

A CVK pair (for dCVV an issuer master key), the PAN and a few digits go in, 3 digits come out. Called by
`hsm.card_values` and by simulators of issuers and access control servers. Mastercard calls the first three CVC1, CVC2
and Chip CVC: the same calculation. Mastercard's CVC3 and its accountholder authentication values (SPA, SPA2, IAV) are
other algorithms and not here.
"""

from __future__ import annotations

import hmac

from hsm.algorithms.decimalization import decimal_digits
from hsm.algorithms.emv_keys import card_key
from hsm.algorithms.mac import retail_mac
from hsm.algorithms.primitives import TdesKey

VALUE_DIGITS = 3
MIN_PAN_DIGITS = 12
MAX_PAN_DIGITS = 19

# The service code in each static value; None: that of the card's stripe, which may be none of the others, or a reader
# of the stripe could compute with it in another's place. Source: Visa and Mastercard as documented in the host manuals
# of payment HSMs (payShield CW, AWS Payment Cryptography GenerateCardValidationData, IBM CCA CSNBCSG).
SERVICE_CODES = {"cvv": None, "cvv2": "000", "icvv": "999"}


def service_code(kind: str, given: str = "") -> str:
    """Return the service code that goes into the value of a kind of SERVICE_CODES.

    Args:
        given: 3 digits; may be empty where the kind has a fixed one.
    Raises:
        ValueError: an unknown kind, not 3 digits, or not the code of this kind.
    """
    if kind not in SERVICE_CODES:
        raise ValueError("the kinds of static card verification values are cvv, cvv2 and icvv")
    fixed = SERVICE_CODES[kind]
    if fixed is not None:
        if given not in ("", fixed):
            raise ValueError(f"the service code of {kind} is {fixed}")
        return fixed
    if given in SERVICE_CODES.values():
        raise ValueError(f"the service code of {kind} is that of the stripe, not 000 or 999")
    return _digits(given, 3, "a service code")


def card_value(cvk: TdesKey, pan: str, expiry: str, service_code: str) -> str:
    """Return the card verification value, 3 digits.

    Args:
        cvk: the CVK pair, A the left half.
        pan: 12–19 digits.
        expiry: 4 digits, YYMM (an issuer that computes over MMYY gives that).
        service_code: 3 digits.
    Raises:
        ValueError: a field of another shape, or a key that was not made to be used in halves.
    Source: IBM z/OS ICSF Application Programmer's Guide, CVV generation algorithm (from Visa's Payment Technology
        Standards Manual).
    """
    check_pan(pan)
    _digits(expiry, 4, "an expiry date")
    _digits(service_code, 3, "a service code")
    # Encrypting the left half under CVK A, adding the right one and encrypting under the pair is ISO 9797-1 MAC
    # algorithm 3 over two blocks.
    return decimal_digits(retail_mac(cvk, bytes.fromhex((pan + expiry + service_code).ljust(32, "0"))), VALUE_DIGITS)


def dynamic_card_value(imk: TdesKey, pan: str, psn: str, atc: str, expiry: str, service_code: str) -> str:
    """Return the dCVV of a contactless magnetic-stripe transaction, 3 digits.

    Args:
        imk: the issuer master key for dynamic values; the card's key is derived from it by EMV option A.
        pan: 12–19 digits; the ATC takes the place of its first four.
        psn: 2 digits.
        atc: 4 digits as they stand in the track data (decimal, or hexadecimal where the card writes it so).
        expiry: 4 digits, YYMM.
        service_code: 3 digits, that of the track data.
    Raises:
        ValueError: a field of another shape.
    Source: inferred from the public worked examples of the Visa Contactless Payment Specification's dCVV (ATC over the
        PAN, card key in place of the CVK pair); key usage and inputs: AWS Payment Cryptography,
        DynamicCardVerificationValue.
    """
    check_pan(pan)
    _digits(expiry, 4, "an expiry date")
    _digits(service_code, 3, "a service code")
    if len(atc) != 4 or not set(atc) <= set("0123456789ABCDEFabcdef"):
        raise ValueError("a transaction counter has 4 digits")
    with card_key(imk, pan, psn) as key:
        return decimal_digits(
            retail_mac(key, bytes.fromhex((atc + pan[4:] + expiry + service_code).ljust(32, "0"))), VALUE_DIGITS
        )


def cavv_output(cvk: TdesKey, pan: str, atn: str, result_code: str) -> str:
    """Return the CAVV output of 3-D Secure, 3 digits: the CVV calculation with other digits.

    Args:
        cvk: the CAVV key pair.
        pan: 12–19 digits; the rightmost 16 enter, a shorter one padded with zeros on the left.
        atn: the last 4 digits of the authentication tracking number, in the place of the expiry date.
        result_code: authentication results code, 1 digit, and second factor authentication code, 2 digits, in the
            place of the service code.
    Raises:
        ValueError: a field of another shape.
    Source: Visa 3-D Secure, CAVV with ATN (usage 3), as its tables D-2, D-3 and D-7 and their example stand in public
        ACS code (Go package gocavv).
    """
    check_pan(pan)
    _digits(atn, 4, "the end of an authentication tracking number")
    _digits(result_code, 3, "an authentication result")
    return card_value(cvk, pan[-16:].rjust(16, "0"), atn, result_code)


def values_match(calculated: str, received: str) -> bool:
    """Whether `received` is the calculated value; takes the same time for any digits."""
    return hmac.compare_digest(calculated.encode(), received.encode())


def check_pan(pan: str) -> None:
    """Raise ValueError unless a PAN has 12–19 digits."""
    if not (MIN_PAN_DIGITS <= len(pan) <= MAX_PAN_DIGITS and pan.isascii() and pan.isdigit()):
        raise ValueError("a PAN has 12 to 19 digits")


def _digits(value: str, length: int, what: str) -> str:
    if len(value) != length or not (value.isascii() and value.isdigit()):
        raise ValueError(f"{what} has {length} digits")
    return value
