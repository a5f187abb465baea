"""`cardswitch hsm audit show` and `verify`: the audit trail in, a table or the verdict out.

While no process of the HSM runs, the token is opened for the seals' key; else the process checks the seals, and the
trail is held against what it says of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.config import Config
from console.errors import ConsoleError
from console.hsm.officer import Officer, expect, hsm_runs, running_officer
from console.hsm.tables import print_json, print_records

if TYPE_CHECKING:
    from hsm.audit import Claim


def run_show(config: Config, last: int, key: str, as_json: bool) -> None:
    """Print the newest records."""
    from hsm.audit import read_records
    from hsm.errors import AuditError

    try:
        records = deque(
            (record for record in read_records(_trail(config)) if not key or _uses(record, key)), maxlen=last
        )
    except AuditError as error:
        raise ConsoleError(f"the audit trail: {error}", "cardswitch hsm audit verify says more") from None
    if as_json:
        print_json({"records": list(records)})
    else:
        print_records(records)


def run_verify(config: Config, as_json: bool) -> int:
    """Print the verdict. Returns the exit status: 1 if something in the trail is not as it was written."""
    from hsm.audit import verify_audit
    from hsm.errors import AuditError

    directory = _trail(config)
    problems: list[str] = []
    try:
        if hsm_runs(config):
            known = _running_chain(config)
            with running_officer(config) as officer:
                check = partial(_ask_for_wrong, officer)
                report = verify_audit(directory, check_claims=check)
                if report.problems:
                    # a segment may just have been written, or compressed
                    report = verify_audit(directory, check_claims=check)
            if report.last_record < known.records:
                problems.append(
                    f"the process has written {known.records} records, the trail ends with {report.last_record}"
                )
        else:
            report = _verify_with_seals(config, directory)
    except AuditError as error:
        raise ConsoleError(str(error)) from None
    problems = [*map(str, report.problems), *problems]
    if as_json:
        print_json(
            {
                "ok": not problems,
                "records": report.records,
                "last_record": report.last_record,
                "segments": report.segments,
                "first_segment": report.first_segment,
                "chain": report.chain,
                "sealed": report.sealed,
                "unsealed": report.unsealed,
                "problems": problems,
            }
        )
    else:
        _print(report, problems)
    return 1 if problems else 0


def _print(report: Any, problems: list[str]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for problem in problems:
        console.print(problem, style="red", markup=False)
    seals = f"seals checked, {report.unsealed} records after the last"
    verdict = "[bold red]The audit trail was altered.[/]" if problems else "[green]The audit trail is whole.[/]"
    console.print(f"{verdict} {report.records} records in {report.segments} segments; {seals}.")
    console.print(f"Last record {report.last_record}, chain {report.chain}", markup=False)


def _verify_with_seals(config: Config, directory: Path) -> Any:
    from console.hsm.token import open_token
    from hsm.audit import verify_audit

    with open_token(config) as token:
        return verify_audit(directory, token.seal_audit)


def _ask_for_wrong(officer: Officer, claims: Sequence[Claim]) -> Sequence[int]:
    """Have the process that holds the token check seals."""
    from hsm.audit_commands import CheckedSeals, CheckSeals

    return expect(CheckedSeals, officer.ask(CheckSeals(claims=tuple(claims)))).wrong


def _running_chain(config: Config) -> Any:
    from hsm.vault_commands import HsmStatus, ReadStatus

    with running_officer(config) as officer:
        return expect(HsmStatus, officer.ask(ReadStatus())).audit


def _trail(config: Config) -> Path:
    directory = config.state_path / "hsm" / "audit"
    if not directory.is_dir():
        raise ConsoleError(f"{directory}: there is no audit trail yet", "the HSM writes it with its first command")
    return directory


def _uses(record: dict[str, Any], key: str) -> bool:
    keys = record.get("keys", "")
    labels = keys.split() if isinstance(keys, str) else keys
    return any(label == key or label.rpartition("/")[0] == key for label in labels)
