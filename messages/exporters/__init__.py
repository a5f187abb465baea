"""Dialects for others: a `Dialect` in, the specification of another product out, as a dict for JSON.

Called by `cardswitch spec export`. What the other product has no words for, and would put other bytes on the wire
without, is an error that lists all of it; what only is missing (names, rules, the inside of elements) is a warning.
"""

from __future__ import annotations

from collections.abc import Callable

from messages.dialect import Dialect
from messages.errors import SpecError
from messages.exporters import moov_spec, pyiso8583_dict
from messages.exporters.exported import Exported

__all__ = ["FORMATS", "Exported", "export"]

_EXPORTERS: dict[str, Callable[[Dialect], Exported]] = {
    "pyiso8583": pyiso8583_dict.export,
    "moov": moov_spec.export,
}
FORMATS = tuple(_EXPORTERS)


def export(dialect: Dialect, to: str) -> Exported:
    """A dialect in another product's words.

    Args:
        dialect: any.
        to: one of `FORMATS`.

    Raises:
        SpecError: lists what the other product cannot express.
    """
    if to not in _EXPORTERS:
        raise SpecError(dialect.name, [f"there is no exporter to {to!r}, known are {', '.join(FORMATS)}"])
    return _EXPORTERS[to](dialect)
