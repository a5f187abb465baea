"""Which configured keys would keep the HSM from starting: one finding a key, with who has to act and the command.

`[hsm]` with `[[key]]` and the state directory go in; findings as in `console.doctor` come out. Called by
`console.doctor_hsm`. The key file is read as it is: its seals are checked by the HSM, which has the token.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from console.doctor import MISSING, OK, Finding

if TYPE_CHECKING:
    from hsm.config import HsmConfig
    from hsm.keys.configured import KeyFault
    from hsm.keys.control import Control
    from hsm.keys.records import KeyFile, KeyRecord
    from hsm.officer_commands import Proposal

NAME = "hsm keys"
_SIGN = " --as OFFICER.key"
_REGISTER = "cardswitch hsm init --officer A.card --officer B.card"


def key_findings(config: HsmConfig, state: Path, now: float) -> list[Finding]:
    """A finding for each configured key that the HSM would not start with, all of them, and one about the keys at
    large.

    Args:
        config: `[hsm]` with `[[key]]` as `keys`.
        state: the state directory.
        now: seconds since 1970; proposals that have expired wait for nobody.
    """
    from hsm.errors import KeyStoreError
    from hsm.keys.backup import list_backups
    from hsm.keys.configured import key_faults
    from hsm.keys.records import unsealed_key_file

    directory = state / "hsm"
    file = directory / "keys.json"
    if not file.exists() and any("keys.json" in copy.files for copy in list_backups(directory)):
        return [Finding(NAME, MISSING, f"{file} is missing, and there are copies of it", "cardswitch hsm restore")]
    try:
        content = unsealed_key_file(file)
    except KeyStoreError as error:
        return [Finding(NAME, MISSING, str(error), "cardswitch hsm restore, or run this as the HSM's user")]
    make = config.provisions and not content.control.enforced
    faults = key_faults(config.keys, partial(_versions, content), make=make)
    found = [_finding(fault, content.control, config, now) for fault in faults]
    if make:
        found += _zmk_findings(config, content, state / "exchange")
    if found:
        stop = f"the HSM will not start: {', '.join(finding.check.removeprefix('hsm key ') for finding in found)}"
        return [*found, Finding(NAME, MISSING, f"{stop}; {_officers(content.control, config)}", "mend each, see above")]
    return [Finding(NAME, OK, _summary(config, content, make=make))]


def _versions(content: KeyFile, name: str) -> list[KeyRecord]:
    return sorted((record for record in content.keys if record.name == name), key=lambda record: record.version)


def _finding(fault: KeyFault, control: Control, config: HsmConfig, now: float) -> Finding:
    key = fault.key
    check, detail = f"hsm key {key.name}", f"{key.usage} with {key.party}: {fault.what}"
    waiting = [
        one.proposal
        for one in control.waiting
        if getattr(one.proposal.request, "name", "") == key.name and one.proposal.expires_at > now
    ]
    if not fault.missing:
        return Finding(check, MISSING, detail, fault.fix)
    if waiting:
        detail = "; ".join([detail, *(_waits(proposal, control) for proposal in waiting)])
        return Finding(check, MISSING, detail, "; ".join(f"cardswitch hsm approve {one.id}{_SIGN}" for one in waiting))
    return Finding(check, MISSING, detail, _command(fault, control, config))


def _command(fault: KeyFault, control: Control, config: HsmConfig) -> str:
    """The command that brings a key, with the second officer where it takes two."""
    if not control.enforced and not config.dual_control:
        return fault.fix
    command, _, imported = fault.fix.partition(", or ")
    if imported and fault.key.usage != "zmk":
        return f"{command} (one person alone), or {imported}{_SIGN} and another officer's approval"
    first = "" if control.enforced else f"{_REGISTER}; then "
    return f"{first}{command}{_SIGN}, and another officer: cardswitch hsm approve ID{_SIGN}"


def _waits(proposal: Proposal, control: Control) -> str:
    """The awaited step of a proposal, and the officers who may take it."""
    from hsm.dual_control import command_of
    from hsm.key_commands import ImportComponents

    taken = {proposal.proposer, *(entered.officer for entered in proposal.entered)}
    able = " or ".join(card.name for card in control.officers if card.name not in taken) or "another officer"
    what = "approval"
    if isinstance(proposal.request, ImportComponents):
        left = proposal.request.count - len(proposal.entered)
        what = "one more component" if left == 1 else f"{left} more components"
    return f"proposal {proposal.id} ({command_of(proposal.request)}, by {proposal.proposer}) waits for {what} of {able}"


def _zmk_findings(config: HsmConfig, content: KeyFile, exchange: Path) -> list[Finding]:
    """Zone master keys of a test system that are others than those in the files of their parties."""
    from hsm.errors import KeyStoreError
    from hsm.keys.provisioning import zmk_name, zmk_problem

    found = []
    for party in sorted({key.party for key in config.keys}):
        name = zmk_name(party)
        record = next((one for one in content.keys if one.name == name and one.status == "active"), None)
        try:
            problem = "" if record is None else zmk_problem(record, party, exchange)
        except KeyStoreError as error:
            problem = str(error)
        if problem:
            found.append(Finding(f"hsm key {name}", MISSING, problem, f"rm {exchange / party}.zmk, or import its key"))
    return found


def _officers(control: Control, config: HsmConfig) -> str:
    if control.enforced:
        return f"officers: {', '.join(card.name for card in control.officers)}"
    return f"no officers are registered: {_REGISTER}" if config.dual_control else "one person alone changes keys"


def _summary(config: HsmConfig, content: KeyFile, *, make: bool) -> str:
    wanted = {key.name for key in config.keys}
    in_force = {record.name for record in content.keys if record.status == "active"} & wanted
    pending = [f"{record.name}/{record.version}" for record in content.keys if record.status == "pending"]
    parts = [f"{len(in_force)} of {len(wanted)} configured keys are in force"]
    if make and wanted - in_force:
        parts.append("the others are made at the next start")
    if pending:
        parts.append(f"pending: {', '.join(pending)}")
    return "; ".join(parts)
