"""Meanings of elements and codes, by version of the standard; data, read by code that shows or translates messages.

`describe`, `element_name` and `element_format` answer for a version by its year; `messages.mti.describe_mti` does for
message types, `messages.dictionary.emv` for tags of chip data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from messages.dictionary import iso1987, iso1993, iso2003

_NAMES: dict[str, Mapping[int, str]] = {
    "1987": iso1987.ELEMENT_NAMES,
    "1993": iso1993.ELEMENT_NAMES,
    "2003": iso2003.ELEMENT_NAMES,
}
_FORMATS: dict[str, Mapping[int, str]] = {
    "1987": iso1987.FORMATS,
    "1993": iso1993.FORMATS,
    "2003": iso2003.FORMATS,
}
_DESCRIBE: dict[str, Callable[[int, str], str]] = {
    "1987": iso1987.describe,
    "1993": iso1993.describe,
    "2003": iso2003.describe,
}

_PROCESSING_CODE = 3


def describe(version: str, number: int, value: str) -> str:
    """The meaning of an element's value, "" where it is obvious or the value is malformed; never repeats the value.

    Args:
        version: "1987", "1993" or "2003".
        number: data element, as that version numbers it.
        value: as in a `Message`.
    """
    if number == _PROCESSING_CODE:  # one list of codes in all versions
        version = "1987"
    return _DESCRIBE[version](number, value)


def element_name(version: str, number: int) -> str:
    """The name of an element in a version of the standard, "" for a number that it does not have."""
    return _NAMES[version].get(number, "")


def element_format(version: str, number: int) -> str:
    """The notation of an element in a version of the standard: "n..19", "an 12", "b 64"; "" if it has none."""
    return _FORMATS[version].get(number, "")
