"""`cardswitch sim …`: issuers and networks as processes, their scenario files checked, their books, talking to them.

`sim acquirer` is in `console.acquirer_command`. Running simulators are asked over their control sockets
(`simulators.control`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from console.errors import ConsoleError, UsageError
from console.options import ConfigOption, JsonOption, StateOption, load, load_running, run_process

if TYPE_CHECKING:
    from simulators.book import BookLine

sim_app = typer.Typer(help="Simulators for tests.", no_args_is_help=True)

LinkName = Annotated[str | None, typer.Argument(help=r"Name of an [\[issuer]] of the configuration.")]
ScenarioOption = Annotated[Path | None, typer.Option(help="Scenario file: accounts, balances, faults.")]
ListenOption = Annotated[str | None, typer.Option(help="host:port, instead of the scenario's.")]
DialOption = Annotated[str | None, typer.Option(help="host:port of a switch that accepts.")]
ControlOption = Annotated[Path | None, typer.Option(help="Path of its control socket.")]
BookOption = Annotated[Path | None, typer.Option(help="A file that keeps its book over a restart.")]
SocketOption = Annotated[Path | None, typer.Option(help="Control socket of a simulator that has no name here.")]


@sim_app.command("issuer")
def sim_issuer(
    name: LinkName = None,
    scenario: ScenarioOption = None,
    listen: ListenOption = None,
    dial: DialOption = None,
    control: ControlOption = None,
    book: BookOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Run an issuer simulator with accounts, PINs, chip keys and a book of its own."""
    _run("issuer", name, scenario, (listen, dial, control, book), config, state)


@sim_app.command("network")
def sim_network(
    name: LinkName = None,
    scenario: Annotated[Path | None, typer.Option(help="Scenario file: the link, and each issuer behind it.")] = None,
    listen: ListenOption = None,
    dial: DialOption = None,
    control: ControlOption = None,
    book: BookOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Run a network simulator: one link, a sign-on of its own, several issuers behind it, settlement totals."""
    _run("network", name, scenario, (listen, dial, control, book), config, state)


@sim_app.command("check")
def sim_check(
    files: Annotated[list[str], typer.Argument(help="Scenario files, or names of specs/.")],
    kind: Annotated[
        Literal["issuer", "network", "acquirer"] | None,
        typer.Option("--as", help="Kind of scenario; default: by their keys."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List all faults of scenario files; status 2 if there are any."""
    raise typer.Exit(check(files, kind or "", as_json))


@sim_app.command("book")
def sim_book(
    name: Annotated[str | None, typer.Argument(help=r"Name of a simulated [\[issuer]]; all of them without.")] = None,
    format_: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="Form of the lines.")] = "jsonl",
    totals: Annotated[bool, typer.Option("--totals", help="Settlement totals instead of transactions.")] = False,
    file: Annotated[Path | None, typer.Option(help="A book file, of an issuer, a network or an acquirer.")] = None,
    socket: SocketOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Instead of standard output.")] = None,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Export a simulator's book: a line for each transaction."""
    from simulators.book import write_rows

    rows = list(_rows(name, file, socket, totals, config, state))
    if output is None:
        write_rows(sys.stdout, rows, format_)
        return
    try:
        with output.open("w", encoding="utf-8", newline="") as target:
            write_rows(target, rows, format_)
    except OSError as error:
        raise ConsoleError(f"{output}: {error.strerror}", "choose another file") from None
    print(f"{len(rows):,} lines in {output}", file=sys.stderr)


@sim_app.command("ask")
def sim_ask(
    name: Annotated[str | None, typer.Argument(help=r"Name of a simulated [\[issuer]]; - with --socket.")] = None,
    command: Annotated[str, typer.Argument(help="stats, fault, chargeback, manage, …; help lists them.")] = "help",
    arguments: Annotated[list[str] | None, typer.Argument(help="KEY=VALUE; a value may be JSON.")] = None,
    socket: SocketOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Talk to a running simulator: set faults, start chargebacks, cut over, drop connections. JSON lines out."""
    import msgspec

    from simulators.control import ask
    from simulators.control_commands import COMMANDS
    from simulators.errors import ControlError

    if command == "help" or name is None:
        for known, text in COMMANDS.items():
            print(f"{known:<13} {text}")
        return
    path = socket or _socket(name, config, state)
    try:
        rows = ask(path, command, **_values(arguments or []))
    except ControlError as error:
        raise ConsoleError(str(error), "cardswitch sim ask NAME help lists what it takes") from None
    for row in rows:
        print(msgspec.json.encode(row).decode())


def check(files: list[str], kind: str, as_json: bool) -> int:
    """Print the problems of scenario files. Returns the exit status."""
    from simulators.errors import ScenarioError
    from simulators.scenario_file import read_scenario

    found: dict[str, dict[str, Any]] = {}
    for file in files:
        try:
            known, scenario = read_scenario(file, kind)
            found[file] = {"kind": known, "summary": repr(scenario), "problems": []}
        except ScenarioError as error:
            found[file] = {"kind": kind, "summary": "", "problems": list(error.problems)}
    if as_json:
        import msgspec

        print(msgspec.json.encode(found).decode())
    else:
        for file, result in found.items():
            print(
                *(f"{file}: {problem}" for problem in result["problems"]), sep="\n", end="\n" * bool(result["problems"])
            )
            if not result["problems"]:
                print(f"{file}: right, {result['summary']}")
    return 2 if any(result["problems"] for result in found.values()) else 0


def _run(
    kind: str,
    name: str | None,
    scenario: Path | None,
    places: tuple[str | None, str | None, Path | None, Path | None],
    config: Path | None,
    state: Path | None,
) -> None:
    if name is not None:
        if any(place is not None for place in places):
            raise UsageError(
                "a simulator with a name has the address, socket and book of its link", "leave out the name, or these"
            )
        run_process("issuer", config, state, name=name, scenario=scenario)
        return
    if scenario is None:
        raise UsageError("neither a link nor a scenario is given", "name an [[issuer]], or give --scenario FILE")
    from console.sim_process import Standalone, run_standalone

    listen, dial, control, book = places
    wanted = Standalone(kind=kind, scenario=scenario, listen=listen, dial=dial, control=control, book=book)
    run_standalone(lambda: load(config, state), wanted)


def _rows(
    name: str | None, file: Path | None, socket: Path | None, totals: bool, config: Path | None, state: Path | None
) -> Any:
    """Lines of a book, wherever it is: a file, a running simulator, what a stopped one has left."""
    from simulators.control import ask, ask_book
    from simulators.errors import BookError, ControlError

    try:
        if file is not None:
            if totals:
                raise UsageError("a book file has no totals", "ask the running simulator: --socket or its name")
            return read_any_book(file)
        if socket is not None:
            return ask(socket, "totals") if totals else ask_book(socket)
        running = load_running(config, state)
        names = [name] if name is not None else [link.name for link in running.issuer]
        rows: list[Any] = []
        for known in names:
            path = _socket(known, config, state)
            try:
                rows += ask(path, "totals") if totals else ask_book(path)
            except ControlError:
                if totals or (path.exists() and _answers(path)):
                    raise
                rows += _left_book(running, known)
        return rows
    except BookError as error:
        raise ConsoleError(str(error), "name the file of a book, or ask the running simulator") from None
    except ControlError as error:
        raise ConsoleError(str(error)) from None


def _answers(path: Path) -> bool:
    """Whether somebody is behind a socket; a process that was killed leaves it there."""
    from simulators.control import ask
    from simulators.errors import ControlError

    try:
        ask(path, "stats", timeout_s=5.0)
    except ControlError:
        return False
    return True


def _left_book(config: Any, name: str) -> list[BookLine]:
    from console.sim_process import book_path

    path = book_path(config, name)
    if not path.exists():
        raise ConsoleError(f"{name} is not running and has left no book", "start it, or name another")
    return read_any_book(path, name)


def read_any_book(path: Path, name: str = "") -> list[BookLine]:
    """The lines of a book file: an acquirer's, or the records of an issuer or a network.

    Args:
        name: the link of an issuer's or network's records; the file's own name without.
    Raises: BookError.
    """
    from simulators.book import read_book
    from simulators.errors import BookError
    from simulators.issuer.book import IssuerBook

    try:
        data = path.read_bytes()
    except OSError as error:
        raise BookError(f"{path}: {error.strerror}") from None
    if not data.startswith(b"["):
        return read_book(path)
    book = IssuerBook(name or path.stem)
    try:
        book.restore(data)
    except ValueError as error:
        raise BookError(f"{path}: {error}") from None
    return list(book.lines())


def _socket(name: str, config: Path | None, state: Path | None) -> Path:
    from console.supervisor import control_socket

    running = load_running(config, state)
    if running.issuer_link(name) is None:
        known = ", ".join(link.name for link in running.issuer)
        raise UsageError(f"there is no issuer {name!r}", f"use one of [[issuer]]: {known}; or --socket")
    return control_socket(running, name)


def _values(arguments: list[str]) -> dict[str, Any]:
    """KEY=VALUE as what they say: JSON where it is, else text."""
    import msgspec

    values: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise UsageError(f"{key!r} is no KEY=VALUE", "for example amount_minor=500")
        try:
            values[key] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            values[key] = text
    return values
