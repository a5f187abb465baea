"""Dialects for others: a `Dialect` in, the specification of another product out, as a dict for JSON.

Called by `cardswitch spec export`. A setting that the other product cannot express, and without which the bytes on the
wire would differ, is an error that lists all of them; parts that are only left out (names, rules, parts of elements)
are a warning.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from messages.dialect import Dialect, Element
from messages.errors import SpecError
from messages.exporters import moov_spec, pyiso8583_dict
from messages.exporters.exported import Exported

__all__ = ["FORMATS", "Exported", "export"]

_EXPORTERS: dict[str, Callable[[Dialect], Exported]] = {
    "pyiso8583": pyiso8583_dict.export,
    "moov": moov_spec.export,
}
FORMATS = tuple(_EXPORTERS)


def export(dialect: Dialect, to: str, *, leave_out: bool = False) -> Exported:
    """A dialect in another product's words.

    Args:
        dialect: any.
        to: one of `FORMATS`.
        leave_out: elements that the other product cannot express are left out, with a warning.

    Raises:
        SpecError: lists what the other product cannot express.
    """
    if to not in _EXPORTERS:
        raise SpecError(dialect.name, [f"there is no exporter to {to!r}, known are {', '.join(FORMATS)}"])
    make = _EXPORTERS[to]
    if not leave_out:
        return make(dialect)
    kept, lacking = {}, []
    for number, element in dialect.elements.items():
        try:
            make(_with(dialect, {number: element}))
        except SpecError as error:
            problems = [problem for problem in error.problems if problem.startswith(f"elements.{number}: ")]
            lacking += [f"{problem}: it is left out" for problem in problems]
            if problems:
                continue
        kept[number] = element
    made = make(_with(dialect, kept))
    return Exported(spec=made.spec, warnings=(*lacking, *made.warnings))


def _with(dialect: Dialect, elements: dict[int, Element]) -> Dialect:
    return msgspec.structs.replace(dialect, elements=elements)
