"""The kind of an element in the standard, for files that call everything "text" or "packed".

Called by the JSON importers. Amounts, times and numbers are digits for every user of a message, so they are digits here
too, even where a foreign file would allow more.

Source: the formats of ISO 8583:1987, 1993 and 2003 (`messages.dictionary`).
"""

from __future__ import annotations

from messages.dictionary import iso1987, iso1993, iso2003

_FORMATS = {"1987": iso1987.FORMATS, "1993": iso1993.FORMATS, "2003": iso2003.FORMATS}
_RESPONSE_CODE_SIZES = {2: "1987", 3: "1993", 4: "2003"}  # DE 39: an 2, n 3, n 4


def version_of(response_code_size: int) -> str:
    """The version of the standard that has a DE 39 of so many characters; 1987 where none has."""
    return _RESPONSE_CODE_SIZES.get(response_code_size, "1987")


def standard_kind(number: int, version: str) -> str:
    """ "n", "z", "b" …, "" for an element that the version does not have."""
    notation = _FORMATS[version].get(number, "")
    return notation.partition(".")[0].partition(" ")[0]
