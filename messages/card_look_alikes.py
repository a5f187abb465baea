"""Things with many digits that are no card number: a text in, their places out; pure.

Called by `messages.card_numbers`, which does not search inside these places. A number that is partly in one and partly
beside it is still found there. So a row here may be wrong about a number only where the whole number has its form.
"""

from __future__ import annotations

import re

_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_TIME = r"(?:[T ,]{1,2}\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z| ?[+-]\d\d:?\d\d)?)?"
_DAY, _MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
# Each begins and ends where its digits do.
_OTHERS = re.compile(
    "|".join(
        (
            # UUIDs. The official Stripe client's keys have neither version nor variant; one in three million has no
            # letter at all. Source: RFC 9562, 4; `_generate_idempotency_key` of the official `stripe` package, 16.1.
            r"(?<![0-9A-Za-z-])(?=[0-9-]*[A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z-])",
            # Hashes and random ids: 32, 40 or 64 hexadecimal digits, some of them letters.
            r"(?<![0-9A-Za-z])(?=(?:[0-9]*[a-f]){4})[0-9a-f]{32}(?:[0-9a-f]{8}(?:[0-9a-f]{24})?)?(?![0-9A-Za-z])",
            rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}(?::\d{{1,5}}|/\d{{1,2}})?(?!\w|\.\d)",  # IPv4
            # IPv6, but for eight pairs of decimal digits: a card number in pairs.
            r"(?<![\w:])(?!\d\d(?::\d\d){7}(?!\w))(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}(?![\w:])",
            rf"(?<!\d)(?:19|20)\d\d(?P<a>[-/.]){_MONTH}(?P=a){_DAY}{_TIME}(?!\d)",  # 2026-11-30T12:34:56.789Z
            rf"(?<!\d){_DAY}(?P<b>[-/.]){_MONTH}(?P=b)(?:19|20)\d\d{_TIME}(?!\d)",  # 30.11.2026 12:34
            rf"(?<!\d){_MONTH}/{_DAY}/(?:19|20)\d\d{_TIME}(?!\d)",  # 11/30/2026
            r"(?<![\w.])-?\d{1,3}\.\d{3,15},? ?-?\d{1,3}\.\d{3,15}(?![\w.])",  # latitude, longitude
            # Fractions, such as 0.30000000000000004, as long as those of floating-point numbers: up to 17 digits.
            r"(?<![\w.,])-?(?:0\.\d{9,}|[1-9]\.\d{9,16}|[1-9]\d\.\d{9,15}|[1-9]\d\d\.\d{9,14})(?!\w|[.,]\d)",
            # With a comma it may be a list, such as 7,4242424242424242. So only the whole number is no part of a card.
            r"(?<![\w.,])-?\d{1,3},(?=\d{9,}(?!\w|[.,]\d))",
            r"(?<!\d)\(\d{2,5}\)",  # area code
            r"(?<![\d-])\d{3}-\d{7}-\d{7}(?![\d-])",  # order of Amazon's
            # IMEI, IMEISV. Source: GSMA TS.06, reporting body identifiers in use (35, 86, 01, 91, 98, 99).
            r"(?<!\d)(?:0\d|1[0-3]|35|86|9\d)[ -]\d{6}[ -]\d{6}[ -]\d{1,2}(?!\d)",
            r"(?<!\d)9[1-5]\d\d(?: \d{4}){4} \d\d(?!\d)",  # parcel of USPS
        )
    )
)
_IBAN = re.compile(r"(?<![0-9A-Za-z])[A-Z]{2}\d\d(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?(?![0-9A-Za-z])")
# Characters of an IBAN by country. Source: ISO 13616-1, IBAN registry of SWIFT.
_IBAN_LENGTHS = {
    code: length
    for length, codes in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for code in codes.split()
}


def look_alikes(text: str) -> list[tuple[int, int]]:
    """Where things are in `text` that look like a card number and are none, in order; they do not overlap."""
    found = [match.span() for match in _OTHERS.finditer(text)]
    ibans, at, plain = [], 0, crossed_out(text, found)
    while match := _IBAN.search(plain, at):
        at = match.end()
        if span := _iban(match):
            ibans.append(span)
            at = span[1]
    return sorted(found + ibans) if ibans else found


def crossed_out(text: str, spans: list[tuple[int, int]]) -> str:
    """`text` with letters in those places: no run of digits goes on there."""
    parts, at = [], 0
    for start, end in spans:
        parts += [text[at:start], "x" * (end - start)]
        at = end
    return "".join(parts) + text[at:]


def _iban(match: re.Match[str]) -> tuple[int, int] | None:
    """The place of the IBAN that begins there: as long as those of its country, other groups may follow.

    Source: ISO 13616-1, check digits by ISO/IEC 7064 MOD 97-10.
    """
    text, length, end = match.group(), _IBAN_LENGTHS.get(match.group()[:2], 0), 0
    for _ in range(length):
        end += text[end : end + 1] == " "
        end += 1
    if not length or end > len(text) or text[end : end + 1].isalnum():
        return None
    compact = text[:end].replace(" ", "")
    right = int("".join(str(int(letter, 36)) for letter in compact[4:] + compact[:4])) % 97 == 1
    return (match.start(), match.start() + end) if right else None
