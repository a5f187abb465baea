"""`cardswitch spec check|import|export`: dialects of our own and of others in, problems, files and specifications out.

Standard output has only the requested thing, so that it can go to a file; warnings go to standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from console.errors import ConsoleError, UsageError
from console.options import JsonOption

if TYPE_CHECKING:
    from messages.importers import Imported

spec_app = typer.Typer(help="Dialects: check, import, export.", no_args_is_help=True)

OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write, which must not exist; else standard output.")
]


@spec_app.command("check")
def spec_check(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Dialect files, jPOS XML, moov or pyiso8583 JSON, names in specs/.", show_default="all in specs/"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check whether each file is a dialect, and list all its faults; status 1 if one is not."""
    import msgspec

    from messages.dialect import dialect_names

    rows = [checked(name) for name in files or dialect_names()]
    if as_json:
        print(msgspec.json.encode({"files": rows}).decode())
    else:
        for row in rows:
            _print_checked(row)
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


@spec_app.command("import")
def spec_import(
    file: Annotated[str, typer.Argument(help="jPOS packager (XML), moov-io/iso8583 or pyiso8583 spec (JSON).")],
    origin: Annotated[
        Literal["jpos", "moov", "pyiso8583"] | None,
        typer.Option("--from", help="Origin of the file, if its content does not show it."),
    ] = None,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn another product's specification into a dialect file (TOML), to be changed and given rules."""
    import msgspec

    from messages.dialect import dialect_names
    from messages.exporters.dialect_file import text_of

    if origin is None and (file.lower().endswith(".toml") or file in dialect_names()):
        raise UsageError(f"{file} is a dialect of ours already", "give a file of another product, or use it as it is")
    imported = _imported(file, origin)
    comment = f"From {Path(file).name} ({imported.origin}) by `cardswitch spec import`."
    text = text_of(imported.dialect, "\n".join([comment, *imported.warnings]))
    if output is not None:
        _write(output, text)
    if as_json:
        print(msgspec.json.encode({**_summary(file, imported), "toml": text}).decode())
        return
    for warning in imported.warnings:
        print(f"cardswitch: {file}: {warning}", file=sys.stderr)
    if output is None:
        print(text, end="")
    else:
        print(f"{output}: {len(imported.dialect.elements)} elements, from {file}")


@spec_app.command("export")
def spec_export(
    name: Annotated[str, typer.Argument(help="A dialect: a name in specs/ or a file.")],
    to: Annotated[Literal["pyiso8583", "moov"], typer.Option("--to", help="The other product.")],
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Leave out elements that it cannot express, instead of an error.")
    ] = False,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a dialect as another product's specification (JSON); features that it cannot express are an error."""
    import msgspec

    from messages.dialect import load_dialect
    from messages.errors import SpecError
    from messages.exporters import export

    dialect = load_dialect(name)
    try:
        exported = export(dialect, to, leave_out=leave_out)
    except SpecError as error:
        fix = "change the elements, or leave them out with --leave-out:"
        raise ConsoleError(_listed(f"{name} cannot be said in {to}; {fix}", error.problems)) from None
    text = msgspec.json.format(msgspec.json.encode(exported.spec), indent=2).decode() + "\n"
    if output is not None:
        _write(output, text)
    if as_json:
        warnings = list(exported.warnings)
        print(
            msgspec.json.encode({"name": dialect.name, "to": to, "warnings": warnings, "spec": exported.spec}).decode()
        )
        return
    for warning in exported.warnings:
        print(f"cardswitch: {name}: {warning}", file=sys.stderr)
    if output is None:
        print(text, end="")
    else:
        print(f"{output}: {len(dialect.elements)} elements of {name} for {to}")


def checked(name: str) -> dict[str, Any]:
    """The report on one dialect, by its name or file."""
    from messages.dialect import is_foreign, load_dialect
    from messages.errors import SpecError
    from messages.importers import Imported

    try:
        if is_foreign(name):
            imported = _imported(name, None)
        else:
            imported = Imported(dialect=load_dialect(name), origin="cardswitch")
    except SpecError as error:
        return {"file": name, "ok": False, "problems": list(error.problems)}
    return {**_summary(name, imported), "ok": True, "problems": []}


def _imported(file: str, origin: str | None) -> Imported:
    from messages.importers import read

    return read(file, origin)


def _summary(file: str, imported: Imported) -> dict[str, Any]:
    dialect = imported.dialect
    return {
        "file": file,
        "origin": imported.origin,
        "name": dialect.name,
        "version": dialect.version,
        "mti": dialect.mti_encoding,
        "bitmap": dialect.bitmap_encoding,
        "elements": len(dialect.elements),
        "composites": [number for number, element in dialect.elements.items() if element.parts is not None],
        "rules": list(dialect.rules),
        "warnings": list(imported.warnings),
    }


def _print_checked(row: dict[str, Any]) -> None:
    if not row["ok"]:
        problems = row["problems"]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        print(_listed(f"{row['file']}: {count}", problems))
        return
    inside = f", {len(row['composites'])} with parts" if row["composites"] else ""
    rules = f", rules for {len(row['rules'])} types" if row["rules"] else ""
    print(
        _listed(
            f"{row['file']}: {row['name']} ({row['origin']}), ISO 8583:{row['version']}, type in {row['mti']}, "
            f"bitmap in {row['bitmap']}, {row['elements']} elements{inside}{rules}",
            [f"note: {warning}" for warning in row["warnings"]],
        )
    )


def _listed(heading: str, entries: list[str] | tuple[str, ...]) -> str:
    return "".join([heading, *(f"\n  {entry}" for entry in entries)])


def _write(path: Path, text: str) -> None:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already", "name another file with --output, or remove it") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "name another file with --output") from None
