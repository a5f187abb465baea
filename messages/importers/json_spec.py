"""Specifications in JSON: a file of moov-io/iso8583 or of pyiso8583 in, a dialect out.

Called by `messages.importers` for files that do not start with a tag. Which of the two it is shows in its keys: moov's
has "fields", pyiso8583's has "t" and "p" beside its elements.
"""

from __future__ import annotations

from messages.errors import SpecError
from messages.importers import moov_spec, pyiso8583_dict
from messages.importers.imported import Imported
from messages.importers.json_tree import parse


def read(data: bytes, name: str, source: str, origin: str | None = None) -> Imported:
    """A dialect from a JSON specification.

    Args:
        data: the JSON.
        name: of the dialect, where the file does not say one.
        source: name of the file, for errors.
        origin: "moov" or "pyiso8583"; None: its keys decide.

    Raises:
        SpecError: every problem, with its path.
    """
    plain = parse(data, source)
    if origin == "moov" or (origin is None and isinstance(plain.get("fields"), dict)):
        return moov_spec.read(plain, name, source)
    if origin == "pyiso8583" or (origin is None and "t" in plain and "p" in plain):
        return pyiso8583_dict.read(plain, name, source)
    raise SpecError(
        source,
        ['is neither a specification of moov-io/iso8583 ("fields") nor one of pyiso8583 ("t", "p" and elements)'],
    )
