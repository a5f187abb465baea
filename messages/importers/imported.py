"""The result of an importer: a dialect and the parts lost on the way; and the collection of problems.

Every importer of this package fills a `Findings` while it reads, and ends in `Imported` or in a `SpecError` that lists
all of it.
"""

from __future__ import annotations

import math
import re

import msgspec

from messages.dialect import Dialect
from messages.errors import SpecError

_LONGEST = 500  # characters of a line


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A dialect from a foreign file.

    Args:
        dialect: has the same bytes.
        origin: "jpos", "moov" or "pyiso8583".
        warnings: settings of the file that the dialect lacks, each with its line or path; the bytes are right without.
    """

    dialect: Dialect
    origin: str
    warnings: tuple[str, ...] = ()


class Findings:
    """Problems and warnings of one file, in the order of the file.

    Args:
        source: name of the file, for errors.
    """

    _MOST = 200  # a file of another kind would be wrong in each line

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def problem(self, where: str, text: str) -> None:
        """Something that makes the file useless."""
        if len(self.problems) == self._MOST:
            self.problems.append("there are more problems, not shown")
        elif len(self.problems) < self._MOST:
            self.problems.append(_shown(f"{where}: {text}" if where else text))

    def warning(self, where: str, text: str) -> None:
        """Something that is left out and does not change bytes."""
        if len(self.warnings) < self._MOST:
            self.warnings.append(_shown(f"{where}: {text}" if where else text))

    def stop(self) -> None:
        """Ends the import where there is a problem.

        Raises:
            SpecError: all problems.
        """
        if self.problems:
            raise SpecError(self.source, sorted(self.problems, key=_line_of))


def _line_of(problem: str) -> float:
    """The place of a problem in the file; problems without a line come last, in their order."""
    found = re.match(r"line ([0-9]+):", problem)
    return int(found[1]) if found else math.inf


def _shown(text: str) -> str:
    """A line for a terminal: names come from a file that somebody else wrote."""
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return "".join(character if character.isprintable() else "?" for character in text)
