"""Texts with a card number and texts without one: one table for everything that refuses, masks or looks for them.

Used by the tests of `messages.card_numbers`, the masks, the logs, the gateway, the tokenizer and the leak tests.
"""

from __future__ import annotations

import base64
from urllib.parse import quote

PAN = "4242424242424242"

# Numbers of each scheme and length that schemes publish for tests, or that follow from their ranges.
NUMBERS = {
    "visa": PAN,
    "visa, 13 digits": "4222222222222",
    "visa, 19 digits": "4000000000000000006",
    "mastercard": "5555555555554444",
    "mastercard, series 2": "2223003122003222",
    "amex": "378282246310005",
    "amex, 34": "343434343434343",
    "discover": "6011111111111117",
    "diners": "30569309025904",
    "diners, 36": "36227206271667",
    "diners, 38": "38520000023237",
    "jcb": "3530111333300000",
    "unionpay": "6200000000000005",
    "unionpay, 19 digits": "6205500000000000004",
    "maestro, 12 digits": "675900000000",
    "maestro, 16 digits": "6304000000000000",
    "mir": "2200000000000004",
}

_SEPARATORS = {
    "nothing": "",
    "blanks": " ",
    "hyphens": "-",
    "dots": ".",
    "slashes": "/",
    "underscores": "_",
    "commas": ",",
    "stars": "*",
    "two blanks": "  ",
    "tabs": "\t",
    "line ends": "\n",
    "carriage returns": "\r\n",
    "hyphens between blanks": " - ",
    "no-break spaces": "\u00a0",
    "narrow spaces": "\u202f",
    "ideographic spaces": "\u3000",
    "en dashes": "\u2013",
    "minus signs": "\u2212",
    "bullets": "\u2022",
    "middle dots": "\u00b7",
    "zero-width spaces": "\u200b",
    "soft hyphens": "\u00ad",
    "byte order marks": "\ufeff",
    "direction marks": "\u200e\u200f\u202a\u202c\u2066\u2069",
    "NUL-like controls": "\x01",
    "round brackets": ")(",
    "round brackets and blanks": ") (",
    "square brackets": "][",
    "square brackets and commas": "],[",
    "curly brackets": "}{",
    "angle brackets": "><",
}

BRACKETS = {"round": "()", "square": "[]", "curly": "{}", "angle": "<>"}

_SUPERSCRIPTS = str.maketrans("0123456789", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
_CIRCLED = str.maketrans("0123456789", "\u24ea\u2460\u2461\u2462\u2463\u2464\u2465\u2466\u2467\u2468")


def _digits_from(zero: int) -> dict[int, int]:
    return {48 + digit: zero + digit for digit in range(10)}


def _in_brackets(pan: str) -> dict[str, str]:
    """Name → a text that has some digits of `pan`, of 16 digits, in brackets."""
    groups = [pan[at : at + 4] for at in range(0, 16, 4)]
    first, second, third, fourth = groups
    made = {}
    for name, (left, right) in BRACKETS.items():
        made |= {
            f"first group in {name} brackets": f"{left}{first}{right} {second} {third} {fourth}",
            f"first group in {name} brackets and hyphens": f"{left}{first}{right}-{second}-{third}-{fourth}",
            f"first group in {name} brackets behind a word": f"Karte {left}{first}{right}{second} {third} {fourth}",
            f"second group in {name} brackets": f"{first} {left}{second}{right} {third} {fourth}",
            f"last group in {name} brackets": f"{first} {second} {third} {left}{fourth}{right}",
            f"every group in {name} brackets": "".join(f"{left}{group}{right}" for group in groups),
            f"every pair in {name} brackets": "".join(f"{left}{pan[at : at + 2]}{right}" for at in range(0, 16, 2)),
            **{
                f"first {size} digits in {name} brackets": f"{left}{pan[:size]}{right} {pan[size:]}"
                for size in (1, 2, 3, 4, 5, 6, 8)
            },
        }
    return made


def spellings(pan: str) -> dict[str, str]:
    """Name → a text that has the number `pan`, of 16 digits, and no other card number."""
    groups = [pan[at : at + 4] for at in range(0, 16, 4)]
    first, second, third, fourth = groups
    return {
        "every digit by itself": " ".join(pan),
        "zero-width between all digits": "\u200b".join(pan),
        "pairs": " ".join(pan[at : at + 2] for at in range(0, 16, 2)),
        "uneven groups": f"{pan[:5]} {pan[5:9]} {pan[9:12]} {fourth}",
        "different separators": f"{first}-{second} {third}/{fourth}",
        "full-width digits": pan.translate(_digits_from(0xFF10)),
        "Arabic digits": pan.translate(_digits_from(0x0660)),
        "Devanagari digits": pan.translate(_digits_from(0x0966)),
        "mathematical digits": pan.translate(_digits_from(0x1D7CE)),
        "superscripts": pan.translate(_SUPERSCRIPTS),
        "circled digits": pan.translate(_CIRCLED),
        "keycaps": "".join(f"{digit}\ufe0f\u20e3" for digit in pan),
        "underlined": "".join(f"{digit}\u0332" for digit in pan),
        "leading zeros": f"000{pan}",
        "filled to twenty digits": pan.zfill(20),
        "a fraction behind": f"{pan}.0",
        "an exponent": f"{pan[0]}.{pan[1:]}e15",
        "an expiry date behind": f"{pan} 12/31 123",
        "an expiry date and a code right behind": f"{pan}1231123",
        "another number in front": f"order 4711 {' '.join(groups)} 1231",
        "letters around": f"x{pan}y",
        "a word in front": f"card:{pan}",
        "an underscore in front": f"pan_{pan}",
        "a blank of a form in front": f"paid+with+{pan}",
        "a date in front": f"2026-11-30 {pan}",
        "a time in front": f"12:30:15 {pan}",
        "a telephone number in front": f"+49 221 123456 {' '.join(groups)}",
        "an area code in front": f"(0221) {' '.join(groups)}",
        "a number with an area code behind": f"{' '.join(groups)} (0221) 470412",
        "a date behind": f"{' '.join(groups)} 2026-11-30",
        "an IBAN in front": f"ES91 2100 0418 4502 0005 1332 {' '.join(groups)}",
        "an IBAN behind": f"{' '.join(groups)} ES91 2100 0418 4502 0005 1332",
        "the second of a list": f"7,{pan}",
        "behind a number of two digits and a dot": f"12.{pan}",
        "pairs with colons": ":".join(pan[at : at + 2] for at in range(0, 16, 2)),
        "groups as of an IMEI": f"{pan[:2]} {pan[2:8]} {pan[8:14]} {pan[14:]}",
        "pairs between longer separators": " - ".join(f"{group[:2]} {group[2:]}" for group in groups),
        "digits between longer separators": " / ".join(map(" ".join, groups)),
        "chip data, tag 5A": f"5A08{pan}5F2403301231",
        "chip data, tag 5A with padding": f"5a0a{pan}ffff5f2403301231",
        "chip data, tag 57": f"5711{pan}D30122010000000000F",
        "chip data, tag 9F6B behind other tags": f"9f02060000000010009f6b13{pan}d30122010000000000000f",
        "chip data, tag 56": f"5625{f'B{pan}^DOE/JANE^3012201'.encode().hex()}",
        "a UUID in front": f"42424242-4242-4242-0000-00000000000a {pan}",
        "an address in front": f"10.0.0.1 {pan}",
        "track 2": f";{pan}=30121010000000000000?",
        "track 2 with D": f"{pan}D30121010000000000000F",
        "track 1": f"%B{pan}^DOE/JANE^30121010000000000000?",
        "JSON": f'{{"number": "{pan}"}}',
        "a list of JSON": f'["{first}","{second}","{third}","{fourth}"]',
        "percent-encoded": quote(" ".join(groups)),
        "percent-encoded digits": "".join(f"%{ord(digit):02X}" for digit in pan),
        "percent-encoded twice": "%2520".join(groups),
        "percent-encoded full-width digits": quote(pan.translate(_digits_from(0xFF10))),
        "HTML entities": "&nbsp;".join(groups),
        "HTML character references": "".join(f"&#{ord(digit)};" for digit in pan),
        "HTML references in hexadecimal": "".join(f"&#x{ord(digit):x};" for digit in pan),
        "JSON escapes": "".join(f"\\u{ord(digit):04x}" for digit in pan),
        "backslash escapes": "".join(f"\\x{ord(digit):02x}" for digit in pan),
        "hexadecimal": pan.encode().hex(),
        "hexadecimal with blanks": pan.encode().hex(" "),
        "hexadecimal of groups": " ".join(groups).encode().hex().upper(),
        "hexadecimal of EBCDIC": pan.encode("cp037").hex().upper(),
        "base64": base64.b64encode(pan.encode()).decode(),
        "base64 of groups": base64.b64encode(" ".join(groups).encode()).decode(),
        "base64 without padding": base64.urlsafe_b64encode(pan.encode()).decode().rstrip("="),
        "base64 one byte later": base64.b64encode(f"x{pan}".encode()).decode(),
        "base64 two bytes later": base64.b64encode(f'{{"pan":"{pan}"}}'.encode()).decode(),
        "base64 in a path": "path/" + base64.b64encode(pan.encode()).decode(),
        **_in_brackets(pan),
        **{f"separated by {name}": separator.join(groups) for name, separator in _SEPARATORS.items()},
    }


# Name → a text that has exactly one card number in it, however it is written.
WITH_CARD_NUMBER: dict[str, str] = {
    **NUMBERS,
    **spellings(PAN),
    "an exponent that cuts zeros": "4.00000000000001E+15",
    "an end like a date": "4242-4242-4242-2006-12-26",
    "19 digits in brackets": "(4000)(0000)(0000)(0000)(006)",
    "15 digits in brackets": "(3782) 822463 10005",
}

# Name → a text that a careless search takes for a card number. All are of the shape that they are named after.
WITHOUT_CARD_NUMBER: dict[str, str] = {
    "nothing": "",
    "a wrong check digit": "4242424242424241",
    "a masked number": "424242******4242",
    "last four digits": "visa ending in 4242",
    "a surrogate": "9900001234567892",
    "a British mobile": "+447911123456",
    "a British number as 12 digits": "441632960961",
    "a German mobile": "+4915112345678",
    "a German mobile without +": "4915112345671",
    "a German number by 00": "004915112345671",
    "an Austrian mobile without +": "4366412345674",
    "a Brazilian mobile": "5511912345678",
    "an Italian mobile": "393331234567",
    "an Indonesian mobile": "6281234567890",
    "a Colombian mobile": "573001234567",
    "a Malaysian mobile": "601112345678",
    "a Mexican mobile": "525512345678",
    "a telephone number with an extension": "+49 221 4704-1234 ext 42",
    "two telephone numbers": "(415) 555-2671, (212) 555-0123, (415) 555-2671",
    "two telephone numbers with blanks": "(415) 555 2671 (212) 555 0163",
    "two telephone numbers with a country code": "+44 (20) 7946 0958 +44 (20) 7946 0959",
    "prices": "Items: 42.00, 72.00, 16.50, 89.99, 94.95, 49.99",
    "prices with blanks": "42.00 72.00 16.50 89.99 94.95 49.95",
    "prices with decimal commas": "42,00; 72,00; 16,50; 89,99; 94,95; 49,99",
    "quantities of one and two digits": "4, 24, 2, 42, 4, 24, 2, 42, 4, 2",
    "a fraction with a comma": "47,38193848273847",
    "two German telephone numbers": "030 45678901 / 030 45678902",
    "fifteen digits behind a +": "+378282246310005",
    "an IMEI": "356938035643809",
    "an IMEI in groups": "35-693803-564380-9",
    "an IMEISV in groups": "35-693803-564380-06",
    "an ICCID": "8949020000012345678",
    "an EAN": "4006381333931",
    "an EAN that passes Luhn": "4000000000006",
    "an ISBN": "978-3-16-148410-0",
    "an IBAN": "DE89 3704 0044 0532 0130 00",
    "a French IBAN": "FR76 3000 6000 0112 3456 7890 189",
    "a British IBAN": "GB29NWBK60161331926819",
    "an order number": "ORD-2026-0001234567",
    "an order of Amazon's": "302-1234567-1234564",
    "a UUID of digits": "42424242-4242-4242-0000-00000000000a",
    "a trace id": "4242424242a1b2c3d4e5f60718293a4b",
    "a time": "2026-11-30T10:20:30.123456+00:00",
    "a German time": "30.11.2026 10:20:30",
    "a time without separators": "20261130102030",
    "milliseconds": "1764484230123",
    "nanoseconds": "1764484230123456789",
    "an IP address": "192.168.100.200",
    "an IP address with its port": "54.239.128.100:65535",
    "an IPv6 address": "2001:db8:4242:4242:4242:4242:4242:4242",
    "a place": "40.712776, -74.005974",
    "a fraction": "0.30000000000000004",
    "a ratio": "4.242424242424242",
    "a DHL parcel": "00340434161094042557",
    "a UPS parcel": "1Z999AA10123456784",
    "a USPS parcel": "9400 1000 0000 0000 0000 00",
    "an amount": "4242424242",
    "a telephone number behind a word": "call +44 7911 123456 before 30.11.2026 10:20",
    "a hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "base64 of words": base64.b64encode(b"no number at all in here").decode(),
}
