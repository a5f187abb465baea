"""`cardswitch doctor`: the findings of `console.doctor` as a table or as JSON; status 1 where something is missing."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from console.doctor import MISSING, OK, WARNING, Finding, findings, http_finding, tokenizer_finding, webhook_finding
from console.errors import ConsoleError

_STYLES = {OK: "green", WARNING: "yellow", MISSING: "bold red"}
UP_OPTIONS = ("--no-issuers", "--free-ports")
_MARKS = {OK: "✓", WARNING: "!", MISSING: "✗"}


def run_doctor(config_file: Path | None, state: Path | None, as_json: bool) -> int:
    """Print what is missing. Returns the exit status: 1 if something required is."""
    found = _findings(config_file, state)
    if as_json:
        import msgspec

        print(msgspec.json.encode({"checks": found, "ok": _passes(found)}).decode())
    else:
        _print(found, next_command(config_file, state, found))
    return 0 if _passes(found) else 1


def _findings(config_file: Path | None, state: Path | None) -> list[Finding]:
    try:
        from console.config import load_config

        config = load_config(config_file, state)
    except ConsoleError as error:
        problem = "\n".join(line.strip() for line in str(error).splitlines())
        return [
            *findings({}, state or Path(".cardswitch")),
            Finding("configuration", MISSING, problem, "correct the configuration file"),
        ]
    except ImportError as error:
        return [
            *findings({}, state or Path(".cardswitch")),
            Finding("configuration", WARNING, f"could not be read: {error}", "make setup"),
        ]
    from console.doctor_database import database_findings
    from console.doctor_hsm import hsm_findings
    from console.doctor_links import gateway_finding, link_finding
    from console.doctor_start import start_findings
    from console.supervisor import is_running

    running = is_running(config.state_path)
    addresses = {} if running else {**config.listeners(), **config.simulated_listeners()}
    embedded = not config.postgresql.dsn
    found = findings(addresses, config.state_path, config.hsm.module or None, embedded=embedded)
    found += database_findings(config) + start_findings(config, running=running)
    found += hsm_findings(config.hsm_config(), config.state_path)
    found += [tokenizer_finding(config.tokenizer), webhook_finding(config.gateway)]
    found += [link_finding(config), gateway_finding(config)]
    found += [http_finding("gateway.http", config.gateway.http), http_finding("tokenizer.http", config.tokenizer.http)]
    return [*found, Finding("configuration", OK, config.source)]


def _passes(found: list[Finding]) -> bool:
    return all(finding.state != MISSING for finding in found)


def next_command(config_file: Path | None, state: Path | None, found: list[Finding]) -> str:
    """The start of the checked system, with the options that the findings ask for."""
    options = [f"{name} {quote(str(path))}" for name, path in (("--config", config_file), ("--state", state)) if path]
    advice = " ".join(finding.mend for finding in found if finding.state == WARNING)
    options += [option for option in UP_OPTIONS if option in advice]
    return " ".join(["cardswitch up", *options])


def _print(found: list[Finding], command: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("", "check", "found", "the remedy"):
        table.add_column(title, overflow="fold")
    for finding in found:
        style = _STYLES[finding.state]
        table.add_row(
            f"[{style}]{_MARKS[finding.state]}[/]",
            finding.check,
            escape(finding.detail),
            f"[bold]{escape(finding.mend)}[/]",
        )
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=200)
    console.print(table)
    if _passes(found):
        console.print(f"Ready: {command}", soft_wrap=True, markup=False)
    else:
        console.print("[bold red]Something required is missing.[/]")
