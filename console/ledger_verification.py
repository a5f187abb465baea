"""`cardswitch ledger verify`: a configuration in, the verdict on the ledger out; and how far it has been verified.

The last seal that was found whole is kept in `<state>/ledger/verified.json`, outside of the database; the next run
begins there. The token checks the MACs of the seals: through the socket of the HSM's process where one runs, else it is
opened here. Called by the commands of the console and by the demo.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from console.config import Config, require_switch
from console.database_roles import AUDITOR
from console.errors import ConsoleError, UsageError
from console.ledger_access import in_ledger
from console.settled_fees import settled_lines

if TYPE_CHECKING:
    from rich.console import Console

    from hsm.ledger_commands import LedgerSealsChecked
    from ledger.verify import AskToken, Claim, Report, TokenSeals, Verified

_DIGEST_HEX = 64
_NUMBER_DIGITS = 18
_PATIENCE_S = 30.0
MAX_UNSEALED_S = 60.0
"""Age of an outcome without a seal that is a fault; the switch seals each second."""


def run_verify(
    config: Config,
    everything: bool,
    noted: str,
    token: bool,
    as_json: bool,
    settled: Path | None = None,
    max_unsealed_s: float = MAX_UNSEALED_S,
) -> int:
    """Print the verification. Returns the exit status: 1 where something is wrong.

    Args:
        everything: from the first outcome, not from the last seal that was verified.
        noted: `NUMBER:DIGEST` of a seal that was noted elsewhere, or empty.
        token: have the token check the seals' MACs.
        settled: file of findings that were settled outside of the books.
        max_unsealed_s: age from which an outcome without a seal is wrong.
    """
    from rich.console import Console

    require_switch(config)
    lines = settled_lines(settled) if settled is not None else frozenset()
    head = seal_named(noted, "--head") if noted else None
    with _progress(shown=not as_json) as progress:
        report = verification_of(
            config,
            everything=everything,
            noted=head,
            token=token,
            settled=lines,
            max_unsealed_s=max_unsealed_s,
            progress=progress,
        )
    if as_json:
        plain = {"whole": report.whole, **msgspec.to_builtins(report)}
        del plain["verified"]
        print(msgspec.json.encode(plain).decode())
    else:
        print_verification(Console(highlight=False, soft_wrap=True), report)
    return 0 if report.whole else 1


def verification_of(
    config: Config,
    *,
    everything: bool = False,
    noted: tuple[int, str] | None = None,
    token: bool = True,
    settled: Collection[str] = (),
    max_unsealed_s: float = MAX_UNSEALED_S,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Verify by the auditor's role, and keep how far the ledger is whole.

    Raises: ConsoleError where the database or the token is away.
    """
    from ledger.verify import verify

    file = config.state_path / "ledger" / "verified.json"
    since = None if everything else _read(file)
    with _token(config) if token else contextlib.nullcontext() as ask_token:

        async def work(connection: Any) -> Report:
            return await verify(
                connection,
                now=datetime.now(UTC),
                since=since,
                ask_token=ask_token,
                noted=noted,
                settled=settled,
                max_unsealed_s=max_unsealed_s,
                progress=progress,
            )

        report = in_ledger(config, AUDITOR, work)
    if report.verified is not None and token:
        _write(file, report.verified)
    return report


def print_verification(console: Console, report: Report) -> None:
    """Each check with what it found, and the head of the chain."""
    from rich.markup import escape

    for check in report.checks:
        mark = "[green]✓[/]" if not check.problems else "[bold red]✗[/]"
        if check.name == "seal-macs" and not report.token_asked and not check.problems:
            mark = "[yellow]?[/]"
        console.print(f"{mark} {escape(check.says)}")
        for problem in check.problems:
            console.print(f"    [red]{escape(problem)}[/]")
        for line in check.settled:
            console.print(f"    [yellow]settled: {escape(line)}[/]")
    console.print(verification_text(report))
    if report.head:
        console.print(f"head: {report.head}:{report.digest}")
        console.print("note it elsewhere; compare it later with: cardswitch ledger verify --head NUMBER:DIGEST")
    if not report.token_asked:
        console.print("[yellow]the MACs of the seals were not checked: run it without --without-token[/]")


def verification_text(report: Report) -> str:
    """The verification in one line."""
    wrong = [check.name for check in report.checks if check.problems]
    outcome = f"wrong: {', '.join(wrong)}" if wrong else "whole"
    if settled := sum(len(check.settled) for check in report.checks):
        outcome += f", but for {settled} settled outside of the books"
    since = f", {report.checked} of them after seal {report.since}, verified before" if report.since else ""
    return (
        f"{outcome}; {report.intents} intents, {report.outcomes} outcomes{since}, {report.postings} lines, "
        f"{report.seals} seals ({report.unsealed} outcomes not sealed yet)"
    )


def seal_named(text: str, place: str) -> tuple[int, str]:
    """Number and digest (64 hexadecimal digits) of a seal that is written `NUMBER:DIGEST`.

    Raises: UsageError that names `place`.
    """
    number, _, digest = text.strip().lower().partition(":")
    if not (
        number.isascii()
        and number.isdigit()
        and len(number) <= _NUMBER_DIGITS
        and len(digest) == _DIGEST_HEX
        and _is_hex(digest)
    ):
        raise UsageError(f"{place} is no NUMBER:DIGEST", "copy the line `head:` of cardswitch ledger verify")
    return int(number), digest


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdef" for character in text)


@contextlib.contextmanager
def _progress(shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("outcomes verified", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def _token(config: Config) -> Iterator[AskToken]:
    """Give what asks the token: the process of the HSM where one runs, else the token itself.

    Raises: ConsoleError where neither can be asked.
    """
    from console.hsm.officer import hsm_runs

    if hsm_runs(config):
        yield _by_socket(config.caller_socket("auditor"))
        return
    if not (config.state_path / "hsm").is_dir():
        raise ConsoleError(
            f"there is no HSM in {config.state_path}, whose token signs the ledger's seals",
            "name the state directory with --state, or leave the MACs out with --without-token",
        )
    from console.hsm.token import open_token
    from hsm.ledger_commands import LedgerSealsChecked
    from hsm.ledger_seals import LedgerWitness

    with open_token(config) as token:
        witness = LedgerWitness(config.state_path / "hsm", token.seal_audit)

        async def ask(claims: Sequence[Claim]) -> TokenSeals:
            return _answer(LedgerSealsChecked(witness.wrong(claims), witness.head, witness.problem))

        yield ask


def _by_socket(path: Path) -> AskToken:
    async def ask(claims: Sequence[Claim]) -> TokenSeals:
        from console.hsm.officer import expect, refusal
        from hsm.asyncio_client import open_hsm
        from hsm.commands import HsmRefused, HsmUnavailable
        from hsm.ledger_commands import CheckLedgerSeals, LedgerSealsChecked

        try:
            async with open_hsm(path, timeout_s=_PATIENCE_S) as hsm:
                answer = await hsm.ask(CheckLedgerSeals(claims=tuple(claims)))
        except HsmRefused as error:
            raise refusal(error.code, error.detail) from None
        except HsmUnavailable as error:
            fix = f"see that this user may use {path}: [[caller]] auditor in the configuration"
            raise ConsoleError(f"the HSM does not check the ledger's seals: {error}", fix) from None
        return _answer(expect(LedgerSealsChecked, answer))

    return ask


def _answer(answer: LedgerSealsChecked) -> TokenSeals:
    from ledger.verify import TokenSeals

    head = answer.head
    if head is None:
        return TokenSeals(answer.wrong, problem=answer.problem)
    return TokenSeals(answer.wrong, head.first, head.number, head.digest, answer.problem)


def _read(file: Path) -> Verified | None:
    from ledger.verify import Verified

    try:
        return msgspec.json.decode(file.read_bytes(), type=Verified)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ConsoleError(f"{file} cannot be read: {error}", "verify from the start: ledger verify --all") from None


def _write(file: Path, verified: Verified) -> None:
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = file.with_name(file.name + ".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(msgspec.json.encode(verified))
        temporary.replace(file)
    except OSError as error:
        raise ConsoleError(
            f"{file}: {error.strerror}", "the verdict is right, only the next run starts earlier"
        ) from None
