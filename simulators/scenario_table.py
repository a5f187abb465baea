"""Tables of scenario files: TOML in, structs out, and every problem listed, not the first one only.

Called by the scenario readers of the simulators.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from simulators.errors import ScenarioError

S = TypeVar("S", bound=msgspec.Struct)


def read_table(name_or_path: str) -> tuple[str, dict[str, Any]]:
    """A scenario file as a table, with what to call it; a name without a path is one of specs/.

    Raises:
        ScenarioError: no such file, or no TOML.
    """
    source, text = _read(name_or_path)
    try:
        return source, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(source, (str(error),)) from None


def read_struct(table: object, kind: type[S], where: str, problems: list[str]) -> S | None:
    """A table as a struct; the faults of its keys join `problems`, and then there is no struct.

    Args:
        where: goes before each problem, "" for the top of a file.
    """
    if not isinstance(table, dict):
        problems.append(f"{where}expected a table")
        return None
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    before = len(problems)
    for name, value in table.items():
        if name not in fields:
            problems.append(f"{where}{name}: unknown; there are {', '.join(sorted(fields))}")
            continue
        try:
            msgspec.convert(value, fields[name].type)
        except msgspec.ValidationError as error:
            problems.append(f"{where}{name}: {error}{_choice(fields[name].type)}")
    problems += [f"{where}{name}: missing" for name, field in fields.items() if field.required and name not in table]
    return msgspec.convert(table, kind) if len(problems) == before else None


def struct_of(table: object, kind: type[S]) -> S:
    """A table that is given by itself, on a control socket or by a test, as a struct.

    Raises:
        ValueError: every problem, in the form of those of a file.
    """
    problems: list[str] = []
    found = read_struct(table, kind, "", problems)
    if found is None:
        raise ValueError("; ".join(problems))
    return found


def _choice(kind: Any) -> str:
    """Allowed values of a key, where they are a few words."""
    return f"; there are {', '.join(get_args(kind))}" if get_origin(kind) is Literal else ""


def partial_struct(table: object, kind: type[S], **standing: Any) -> S | None:
    """A struct of those keys of a table that are right by themselves, so that they can be looked at together.

    Args:
        standing: placeholders for required fields that are missing or wrong; without it there is no struct then.
    """
    if not isinstance(table, dict):
        return None
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    good: dict[str, Any] = dict(standing)
    for name, value in table.items():
        try:
            good[name] = msgspec.convert(value, fields[name].type)
        except (KeyError, msgspec.ValidationError):
            continue
    if any(field.required and name not in good for name, field in fields.items()):
        return None
    return kind(**good)


def read_structs(rows: object, kind: type[S], where: str, problems: list[str], within: str = "") -> list[tuple[int, S]]:
    """A list of tables ([[where]]) as structs with their numbers from 1; those with problems are left out.

    Args:
        within: of which other table it is a part: "[[issuer]] 2 ".
    """
    if not isinstance(rows, list):
        problems.append(f"{within}[[{where}]]: expected a list of tables")
        return []
    found = [
        (number, read_struct(row, kind, f"{within}[[{where}]] {number}: ", problems))
        for number, row in enumerate(rows, 1)
    ]
    return [(number, row) for number, row in found if row is not None]


def _read(name_or_path: str) -> tuple[str, str]:
    path = Path(name_or_path)
    try:
        if path.suffix == "" and path.name == name_or_path:
            found = resources.files("specs") / f"{name_or_path}.toml"
            if not found.is_file():
                known = sorted(
                    Path(entry.name).stem
                    for entry in resources.files("specs").iterdir()
                    if entry.name.startswith("scenario-")
                )
                raise ScenarioError(
                    name_or_path,
                    (f"no such scenario; there are {', '.join(known)}; a file has a slash in its name",),
                )
            return f"specs/{name_or_path}.toml", found.read_text("utf-8")
        return str(path), path.read_text("utf-8")
    except OSError as error:
        raise ScenarioError(name_or_path, (error.strerror or "cannot be read",)) from None
    except UnicodeDecodeError:
        raise ScenarioError(name_or_path, ("not UTF-8",)) from None
