"""A dialect as pyiso8583's specification; called by `messages.exporters`.

The spec itself is made by `messages.pyiso8583_spec`, which our own codec and its tests use too.
"""

from __future__ import annotations

from messages.charsets import page_of
from messages.dialect import Dialect
from messages.exporters.exported import Exported
from messages.pyiso8583_spec import spec_of

_NO_CODEC = "cp1047"


def export(dialect: Dialect) -> Exported:
    """A dialect as a pyiso8583 spec.

    Raises:
        SpecError: lists what pyiso8583 has no words for.
    """
    spec = spec_of(dialect)
    warnings = [
        f"elements.{number}.parts: left out, pyiso8583 does not take elements apart"
        for number, element in dialect.elements.items()
        if element.parts is not None
    ]
    pages = {dialect.mti_encoding, dialect.bitmap_encoding}
    for element in dialect.elements.values():
        pages |= {page_of(element.encoding), element.length_encoding if element.length_kind else ""}
    if _NO_CODEC in pages:
        warnings.append(f"Python has no codec {_NO_CODEC}: register one before you use the spec")
    return Exported(spec=spec, warnings=tuple(warnings))
