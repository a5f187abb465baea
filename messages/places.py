"""The place where a card was used, in words: DE 43 of 1987, 40 characters, and that of 1993, name\\street\\city\\…;
pure.

Called by `messages.counterparts`. Both name the country: two letters there, three here.

Source: ISO 8583:1987 DE 43 (1–23 name and address, 24–36 city, 37–38 state, 39–40 country); ISO 8583:1993 DE 43
(name, street and city each up to a backslash, 10 postal code, 3 region, 3 country).
"""

from __future__ import annotations

from messages.countries import ALPHA_2, ALPHA_3

_NAME, _CITY, _STATE, _COUNTRY = slice(0, 23), slice(23, 36), slice(36, 38), slice(38, 40)
_END = "\\"
_POSTAL_CODE, _REGION, _ALPHA_3 = 10, slice(10, 13), slice(13, 16)
_TAIL = 16


def place_1993(de43: str) -> str:
    """DE 43 of 1987 → that of 1993, without street and postal code, which it does not have apart."""
    name, city = (de43[part].rstrip().replace(_END, "/") for part in (_NAME, _CITY))
    country = ALPHA_3.get(de43[_COUNTRY], de43[_COUNTRY])
    return f"{name}{_END}{_END}{city}{_END}{'':{_POSTAL_CODE}}{de43[_STATE]:3}{country:3}"


def place_1987(de43: str) -> str | None:
    """DE 43 of 1993 → that of 1987, names cut to their room; None where it has another shape than the standard's."""
    parts = de43.split(_END)
    if len(parts) != 4 or len(parts[3]) != _TAIL:
        return None
    name, _, city, tail = parts
    region, country = tail[_REGION], tail[_ALPHA_3]
    return f"{name[:23]:23}{city[:13]:13}{region[:2]}{ALPHA_2.get(country, country[:2])}"
