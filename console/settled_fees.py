"""Differences in returned fees that were settled outside of the books: a file in, the findings of `ledger verify` out.

The journal has no correcting entry, so that a finding about books of an earlier version stays. Two people settle it
with the merchant and write it down; `ledger verify --settled FILE` then shows it as settled. The books do not change.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from console.errors import ConfigError, UsageError
from console.validation import problems

PEOPLE = 2
_LARGEST = 1 << 20


class SettledFee(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[settled]]`: the finding word for word, why and how it was settled, and who settled it."""

    line: str
    reason: str
    by: tuple[str, ...]


class _SettledFees(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    settled: tuple[SettledFee, ...] = ()


def settled_lines(file: Path) -> frozenset[str]:
    """The findings that a file says were settled.

    Raises: UsageError where it cannot be read; ConfigError with everything that is wrong in it.
    """
    try:
        if file.stat().st_size > _LARGEST:
            raise UsageError(f"{file} is larger than {_LARGEST >> 20} MB", "give a file of settled findings")
        table = tomllib.loads(file.read_text())
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", "give a file of settled findings") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), (str(error),)) from None
    if found := problems(_SettledFees, table):
        raise ConfigError(str(file), tuple(found))
    entries = msgspec.convert(table, _SettledFees).settled
    if found := [problem for number, entry in enumerate(entries) for problem in _problems(number, entry)]:
        raise ConfigError(str(file), tuple(found))
    return frozenset(entry.line.strip() for entry in entries)


def _problems(number: int, entry: SettledFee) -> list[str]:
    found = []
    for name in ("line", "reason"):
        if not getattr(entry, name).strip():
            found.append(f"settled[{number}].{name}: is empty")
    people = {name.strip().casefold() for name in entry.by} - {""}
    if len(people) < PEOPLE:
        found.append(f"settled[{number}].by: {PEOPLE} people settle a difference")
    return found
