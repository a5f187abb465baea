"""`cardswitch route explain`: why a card takes its route, and whether the links of that route are fit now.

A number and what is known of a request go in; the rules of the configuration are held against it
(`switch.routing.explanation`), each worker that runs says how its circuits are; a table or JSON comes out. The number
itself is never shown.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.errors import UsageError
from console.options import ConfigOption, JsonOption, StateOption, load_running

if TYPE_CHECKING:
    from rich.table import Table

    from console.config import Config
    from switch.routing.explanation import Finding, Known

route_app = typer.Typer(help="The routing table: which issuer link a card goes to, and why.", no_args_is_help=True)

SHORTEST_PAN, LONGEST_PAN = 12, 19
STYLES = {"wins": "bold green", "depends": "yellow", "no": "dim", "beaten": "dim"}


@route_app.command("explain")
def route_explain(
    number: Annotated[
        str, typer.Argument(metavar="PAN-OR-BIN", help="A card number, or its first digits; - for standard input.")
    ],
    mti: Annotated[str | None, typer.Option(help="Message type, as in 0100.")] = None,
    processing_code: Annotated[str | None, typer.Option("--processing-code", help="DE 3, 6 digits.")] = None,
    currency: Annotated[str | None, typer.Option(help="As in EUR.")] = None,
    amount: Annotated[int | None, typer.Option(min=0, help="In minor units: 2500 is 25.00 EUR.")] = None,
    acquirer: Annotated[str | None, typer.Option(help="The link of the request.")] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Each route that fits a card, why it wins or does not, and the state of its links."""
    import msgspec

    from switch.routing.explanation import Known

    if number == "-":
        number = sys.stdin.readline(LONGEST_PAN + 2).strip()
    known = Known(mti, processing_code, currency.upper() if currency else None, amount, acquirer)
    explanation = explain(load_running(config, state), number, known)
    if as_json:
        print(msgspec.json.encode(explanation).decode())
    else:
        _print(explanation)


def explain(config: Config, number: str, known: Known) -> dict[str, Any]:
    """Everything that is shown, as plain data.

    Raises: UsageError for what is no card number, no such acquirer or no value of its element.
    """
    import msgspec

    from switch.routing.explanation import explained
    from switch.routing.settings import LEADING_DIGITS
    from switch.routing.table import RoutingTable

    _check(config, number, known)
    findings = explained(RoutingTable(config.route), number[:LEADING_DIGITS], known)
    winner = next((finding for finding in findings if finding.verdict == "wins"), None)
    running, circuits = _circuits(config)
    return {
        "number": _shown(number),
        "route": None if winner is None else winner.number,
        "rules": [msgspec.to_builtins(finding) for finding in findings],
        "links": _links(findings, circuits),
        "running": running,
    }


def _check(config: Config, number: str, known: Known) -> None:
    """The fault of the question. The number itself is never shown: it may be a card's."""
    if not (number.isascii() and number.isdecimal() and len(number) <= LONGEST_PAN):
        raise UsageError(
            f"that is no card number: it must be up to {LONGEST_PAN} digits", "give a PAN or its first digits"
        )
    if known.mti is not None and not (len(known.mti) == 4 and known.mti.isdecimal() and known.mti[3] in "024"):
        raise UsageError("--mti must be 4 digits as in 0100, without a repeat's last digit")
    if known.processing_code is not None and not (
        len(known.processing_code) == 6 and known.processing_code.isdecimal()
    ):
        raise UsageError("--processing-code must be 6 digits, as DE 3")
    if known.currency is not None and not (len(known.currency) == 3 and known.currency.isalpha()):
        raise UsageError("--currency must be three letters as in EUR")
    if known.acquirer is not None and config.acquirer_link(known.acquirer) is None:
        names = ", ".join(link.name for link in config.acquirer)
        raise UsageError(f"there is no acquirer {known.acquirer!r}", f"use one of {names}")


def _shown(number: str) -> str:
    """A card number masked; fewer digits than make up one as they are."""
    from messages.mask import mask_pan

    return mask_pan(number) if len(number) >= SHORTEST_PAN else number


def _circuits(config: Config) -> tuple[bool, dict[str, list[dict[str, Any]]]]:
    """Whether a worker answers, and what each says of each link."""
    from switch.control import ask
    from switch.errors import ControlError

    found: dict[str, list[dict[str, Any]]] = {}
    running = False
    for number in range(config.switch.workers):
        try:
            for row in ask(config.worker_socket(number), "circuits"):
                found.setdefault(row.pop("link"), []).append(row)
            running = True
        except ControlError:
            continue  # a system that does not run is no error here
    return running, found


def _links(findings: list[Finding], circuits: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The links of the routes that win or may win, in their order."""
    names = [name for finding in findings if finding.verdict in ("wins", "depends") for name, _ in finding.targets]
    return [{"link": name, "workers": circuits.get(name, [])} for name in dict.fromkeys(names)]


def _print(explanation: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=200)
    if not explanation["rules"]:
        console.print(f"{explanation['number']}: no route; it is declined with DE 39 = 15")
        return
    console.print(_rules_table(explanation))
    if explanation["running"]:
        console.print(_links_table(explanation["links"]))
    else:
        console.print("no worker of the switch answers, so nothing is known of the links")


def _rules_table(explanation: dict[str, Any]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"routes for {explanation['number']}", title_justify="left")
    for title in ("", "route", "links", "why"):
        table.add_column(title)
    for rule in explanation["rules"]:
        style = STYLES[rule["verdict"]]
        links = ", ".join(f"{name} ({part})" for name, part in rule["targets"])
        table.add_row(
            f"[{style}]{rule['verdict']}[/]",
            f"{rule['number']}: {escape(rule['label'])}",
            escape(links),
            escape(rule["reason"]),
        )
    return table


def _links_table(links: list[dict[str, Any]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("link", "worker", "fit", "circuit", "since", "failed"):
        table.add_column(title, justify="right" if title == "failed" else "left")
    for link in links:
        for row in link["workers"]:
            table.add_row(
                escape(link["link"]),
                str(row["worker"]),
                "yes" if row["fit"] else "[bold red]no[/]",
                row["circuit"] if row["circuit"] == "closed" else f"[bold red]{row['circuit']}[/]",
                "start" if row["since_s"] is None else f"{row['since_s']:.1f} s",
                f"{row['failed']} of {row['ended']}",
            )
    return table
