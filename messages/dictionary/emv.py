"""Tags of chip data: a tag in, its name and format out, what some values mean, and which may be shown.

Called by code that shows DE 55. Showing fails closed: a tag that is not on the list of harmless ones is masked, so that
a tag nobody thought of gives nothing away.

Source: EMV Book 3, annexes A (data elements), C1 (application interchange profile), C5 (terminal verification
results), C6 (transaction status information); EMV Book 4, annexes A1 (terminal type), A4 (CVM results).
"""

from __future__ import annotations

import msgspec

from messages.dictionary.iso1987 import PROCESSING_CODES, RESPONSE_CODES


class Tag(msgspec.Struct, frozen=True):
    """Description of a tag.

    Args:
        name: the standard's.
        format: "n 12", "ans 1-16", "b 8"; sizes of kind b are bytes.
        harmless: its value may be shown to anybody: no card number, name, expiry, track, PIN, nor a script.
    """

    name: str
    format: str
    harmless: bool = False


_HARMLESS = {
    "42": ("Issuer Identification Number", "n 6"),
    "4F": ("Application Identifier (AID), card", "b 5-16"),
    "50": ("Application Label", "ans 1-16"),
    "5F28": ("Issuer Country Code", "n 3"),
    "5F2A": ("Transaction Currency Code", "n 3"),
    "5F2D": ("Language Preference", "an 2-8"),
    "5F34": ("PAN Sequence Number", "n 2"),
    "5F36": ("Transaction Currency Exponent", "n 1"),
    "82": ("Application Interchange Profile", "b 2"),
    "84": ("Dedicated File (DF) Name", "b 5-16"),
    "87": ("Application Priority Indicator", "b 1"),
    "89": ("Authorisation Code", "an 6"),
    "8A": ("Authorisation Response Code", "an 2"),
    "8E": ("Cardholder Verification Method List", "b 10-252"),
    "91": ("Issuer Authentication Data", "b 8-16"),
    "95": ("Terminal Verification Results", "b 5"),
    "9A": ("Transaction Date", "n 6"),
    "9B": ("Transaction Status Information", "b 2"),
    "9C": ("Transaction Type", "n 2"),
    "9F01": ("Acquirer Identifier", "n 6-11"),
    "9F02": ("Amount, Authorised", "n 12"),
    "9F03": ("Amount, Other", "n 12"),
    "9F06": ("Application Identifier (AID), terminal", "b 5-16"),
    "9F07": ("Application Usage Control", "b 2"),
    "9F08": ("Application Version Number, card", "b 2"),
    "9F09": ("Application Version Number, terminal", "b 2"),
    "9F0D": ("Issuer Action Code, default", "b 5"),
    "9F0E": ("Issuer Action Code, denial", "b 5"),
    "9F0F": ("Issuer Action Code, online", "b 5"),
    "9F10": ("Issuer Application Data", "b 1-32"),
    "9F12": ("Application Preferred Name", "ans 1-16"),
    "9F15": ("Merchant Category Code", "n 4"),
    "9F16": ("Merchant Identifier", "ans 15"),
    "9F1A": ("Terminal Country Code", "n 3"),
    "9F1C": ("Terminal Identification", "an 8"),
    "9F1E": ("Interface Device Serial Number", "an 8"),
    "9F21": ("Transaction Time", "n 6"),
    "9F26": ("Application Cryptogram", "b 8"),
    "9F27": ("Cryptogram Information Data", "b 1"),
    "9F33": ("Terminal Capabilities", "b 3"),
    "9F34": ("Cardholder Verification Method Results", "b 3"),
    "9F35": ("Terminal Type", "n 2"),
    "9F36": ("Application Transaction Counter", "b 2"),
    "9F37": ("Unpredictable Number", "b 4"),
    "9F39": ("Point-of-Service Entry Mode", "n 2"),
    "9F40": ("Additional Terminal Capabilities", "b 5"),
    "9F41": ("Transaction Sequence Counter", "n 4-8"),
    "9F42": ("Application Currency Code", "n 3"),
    "9F4C": ("ICC Dynamic Number", "b 2-8"),
    "9F4E": ("Merchant Name and Location", "ans"),
    "9F53": ("Transaction Category Code", "an 1"),
    "9F5B": ("Issuer Script Results", "b"),
    "9F66": ("Terminal Transaction Qualifiers", "b 4"),
    "9F6C": ("Card Transaction Qualifiers", "b 2"),
}
# Named, so that one knows what was masked.
_MASKED = {
    "56": ("Track 1 Data", "ans 1-76"),
    "57": ("Track 2 Equivalent Data", "b 1-19"),
    "5A": ("Application Primary Account Number (PAN)", "cn 1-19"),
    "5F20": ("Cardholder Name", "ans 2-26"),
    "5F24": ("Application Expiration Date", "n 6"),
    "5F25": ("Application Effective Date", "n 6"),
    "5F30": ("Service Code", "n 3"),
    "5F50": ("Issuer URL", "ans"),
    "5F53": ("International Bank Account Number (IBAN)", "an 1-34"),
    "70": ("Record Template", "b"),
    "71": ("Issuer Script Template 1", "b"),
    "72": ("Issuer Script Template 2", "b"),
    "77": ("Response Message Template", "b"),
    "83": ("Command Template", "b"),
    "86": ("Issuer Script Command", "b 1-261"),
    "99": ("Transaction PIN Data", "b"),
    "9F0B": ("Cardholder Name, extended", "ans 27-45"),
    "9F11": ("Issuer Code Table Index", "n 2"),
    "9F17": ("PIN Try Counter", "b 1"),
    "9F18": ("Issuer Script Identifier", "b 4"),
    "9F19": ("Token Requestor ID", "n 11"),
    "9F1F": ("Track 1 Discretionary Data", "ans"),
    "9F20": ("Track 2 Discretionary Data", "cn"),
    "9F24": ("Payment Account Reference (PAR)", "an 29"),
    "9F25": ("Last 4 Digits of PAN", "n 4"),
    "9F4B": ("Signed Dynamic Application Data", "b"),
    "9F4D": ("Log Entry", "b 2"),
    "9F5D": ("Available Offline Spending Amount", "n 12"),
    "9F6B": ("Track 2 Data, contactless", "b 1-19"),
    "9F6E": ("Form Factor Indicator, or Third Party Data", "b 4-32"),
    "9F7C": ("Customer Exclusive Data", "b 1-32"),
}

TAGS: dict[str, Tag] = {
    **{tag: Tag(name, notation, harmless=True) for tag, (name, notation) in _HARMLESS.items()},
    **{tag: Tag(name, notation) for tag, (name, notation) in _MASKED.items()},
}

# Source: EMV Book 3 annex C5: for each byte its bits from the highest on.
_VERIFICATION = (
    (
        "offline data authentication not performed",
        "SDA failed",
        "ICC data missing",
        "card on the exception file",
        "DDA failed",
        "CDA failed",
        "SDA selected",
    ),
    (
        "different application versions",
        "expired application",
        "application not yet effective",
        "service not allowed for the card product",
        "new card",
    ),
    (
        "cardholder verification failed",
        "unrecognised CVM",
        "PIN try limit exceeded",
        "PIN required, no PIN pad",
        "PIN required, not entered",
        "online PIN entered",
    ),
    (
        "above the floor limit",
        "lower consecutive offline limit exceeded",
        "upper consecutive offline limit exceeded",
        "selected randomly for online",
        "merchant forced online",
    ),
    (
        "default TDOL used",
        "issuer authentication failed",
        "script failed before the final cryptogram",
        "script failed after the final cryptogram",
    ),
)
# Source: EMV Book 3 annex C6.
_STATUS = (
    (
        "offline data authentication performed",
        "cardholder verification performed",
        "card risk management performed",
        "issuer authentication performed",
        "terminal risk management performed",
        "script processing performed",
    ),
)
# Source: EMV Book 3 annex C1.
_PROFILE = (
    ("", "SDA", "DDA", "cardholder verification", "terminal risk management", "issuer authentication", "", "CDA"),
)
_BITS = {"95": (5, _VERIFICATION), "9B": (2, _STATUS), "82": (2, _PROFILE)}

# High two bits of 9F27. Source: EMV Book 3 section 6.5.5.4.
_CRYPTOGRAMS = ("AAC, declined", "TC, approved offline", "ARQC, asks the issuer", "reserved")

# Low six bits of the first byte of 9F34. Source: EMV Book 3 annex C3.
_CARDHOLDER_VERIFICATIONS = {
    0x00: "fails",
    0x01: "plaintext PIN by the card",
    0x02: "enciphered PIN online",
    0x03: "plaintext PIN by the card and signature",
    0x04: "enciphered PIN by the card",
    0x05: "enciphered PIN by the card and signature",
    0x1E: "signature",
    0x1F: "no verification required",
    0x3F: "no verification performed",
}
_VERIFICATION_RESULTS = ("unknown", "failed", "successful")

# Source: EMV Book 4 annex A1.
_TERMINAL_OWNERS = {"1": "financial institution", "2": "merchant", "3": "cardholder"}
_TERMINAL_ENVIRONMENTS = {
    "1": "attended, online only",
    "2": "attended, offline with online capability",
    "3": "attended, offline only",
    "4": "unattended, online only",
    "5": "unattended, offline with online capability",
    "6": "unattended, offline only",
}


def is_harmless(tag: str) -> bool:
    """Whether the value of a tag, in upper-case hex, may be shown."""
    known = TAGS.get(tag)
    return known is not None and known.harmless


def describe_tag(tag: str, value: str) -> str:
    """The meaning of a value, "" where it is obvious; never repeats the value.

    Args:
        tag: upper-case hex.
        value: hex, as in a tree.
    """
    try:
        data = bytes.fromhex(value)
    except ValueError:
        return ""
    if tag in _BITS and len(data) == _BITS[tag][0]:
        return _set_bits(data, _BITS[tag][1])
    if tag == "9F27" and len(data) == 1:
        return _CRYPTOGRAMS[data[0] >> 6]
    if tag == "9F34" and len(data) == 3:
        method = _CARDHOLDER_VERIFICATIONS.get(data[0] & 0x3F, "unknown method")
        result = _VERIFICATION_RESULTS[data[2]] if data[2] < len(_VERIFICATION_RESULTS) else "unknown"
        return f"{method}: {result}"
    if tag == "9F35" and len(data) == 1:
        owner, environment = _TERMINAL_OWNERS.get(value[0]), _TERMINAL_ENVIRONMENTS.get(value[1])
        return f"{owner}, {environment}" if owner and environment else "unknown terminal type"
    if tag == "9C" and len(data) == 1:
        return str(PROCESSING_CODES.get(value, "unknown transaction type"))
    if tag == "8A" and len(data) == 2:
        return str(RESPONSE_CODES.get(data.decode("latin-1"), "unknown response code"))
    return ""


def _set_bits(data: bytes, names: tuple[tuple[str, ...], ...]) -> str:
    meanings = [
        name
        for byte, row in zip(data, names, strict=False)
        for place, name in enumerate(row)
        if name and byte & 0x80 >> place
    ]
    return ", ".join(meanings) or "nothing set"
