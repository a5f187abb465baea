"""An officer's key at the command line: changes proposed, approved and rejected with its signature.

Paths of key files and requests go in; answers of the HSM come out. The passphrase is typed hidden, or read from the
file that CARDSWITCH_OFFICER_PASSPHRASE_FILE names; it is never an argument. Called by the commands of `cardswitch hsm`.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.config import Config
from console.errors import ConsoleError, UsageError
from console.hsm.hidden_input import ask_hidden
from console.hsm.officer import Officer, expect, open_officer

if TYPE_CHECKING:
    from hsm.officer_commands import Proposal, Proposals
    from hsm.officers import OfficerKey

PASSPHRASE_VARIABLE = "CARDSWITCH_OFFICER_PASSPHRASE_FILE"


def read_key(path: Path) -> OfficerKey:
    """Return the officer's key in a file.

    Raises:
        UsageError: it cannot be read, or the passphrase is wrong.
    """
    from hsm import process
    from hsm.errors import OfficerKeyError
    from hsm.officers import read_officer_key

    process.forbid_dumps()
    try:
        return read_officer_key(path, passphrase(f"Passphrase of {path.stem}"))
    except OfficerKeyError as error:
        raise UsageError(str(error), "cardswitch hsm officer create NAME makes a key") from None


def passphrase(question: str, *, twice: bool = False) -> str:
    """Return a passphrase, typed hidden or from a file that nobody else may read."""
    name = os.environ.get(PASSPHRASE_VARIABLE)
    if not name:
        return ask_hidden(question, f"name the file that has it in {PASSPHRASE_VARIABLE}", twice=twice)
    try:
        if stat.S_IMODE(Path(name).stat().st_mode) & 0o077:
            raise UsageError(f"{name}: others may read it", f"chmod 600 {name}")
        return Path(name).read_text("utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}: {getattr(error, 'strerror', None) or 'not a passphrase'}") from None


def list_proposals(officer: Officer) -> Proposals:
    """Return officers and waiting proposals."""
    from hsm.officer_commands import ListProposals, Proposals

    return expect(Proposals, officer.ask(ListProposals()))


def propose(config: Config, key_file: Path, request: Any, component: bytes = b"") -> Proposal:
    """Propose a change under an officer's signature.

    Args:
        component: the officer's own, of an import of components.
    Raises:
        ConsoleError: the HSM refuses it.
    """
    from hsm.officer_commands import Propose, Proposed
    from hsm.officers import proposal_text

    key = read_key(key_file)
    check_value = component_check_value(request, component)
    with open_officer(config) as officer:
        store = list_proposals(officer).store
        nonce, made_at = secrets.token_hex(16), int(time.time())
        text = proposal_text(store, request, key.name, nonce, made_at, check_value)
        message = Propose(
            request=request,
            officer=key.name,
            nonce=nonce,
            made_at=made_at,
            signature=key.sign(text),
            component=component,
        )
        return expect(Proposed, officer.ask(message)).proposal


def approve(config: Config, key_file: Path, proposal: Proposal, component: bytes = b"") -> Any:
    """Approve exactly what was shown; return what the change answers."""
    from hsm.officer_commands import Approve
    from hsm.officers import approval_text

    key = read_key(key_file)
    check_value = component_check_value(proposal.request, component)
    with open_officer(config) as officer:
        text = approval_text(list_proposals(officer).store, proposal, key.name, check_value)
        return officer.ask(Approve(id=proposal.id, officer=key.name, signature=key.sign(text), component=component))


def reject(config: Config, key_file: Path, number: str) -> Proposal:
    """Take a proposal away; return it."""
    from hsm.officer_commands import Reject
    from hsm.officers import rejection_text

    key = read_key(key_file)
    with open_officer(config) as officer:
        listed = list_proposals(officer)
        proposal = waiting(listed, number)
        officer.ask(
            Reject(id=number, officer=key.name, signature=key.sign(rejection_text(listed.store, proposal, key.name)))
        )
        return proposal


def waiting(listed: Proposals, number: str) -> Proposal:
    """Return the proposal of a number.

    Raises:
        ConsoleError: there is none.
    """
    for proposal in listed.proposals:
        if proposal.id == number:
            return proposal
    raise ConsoleError(f"no proposal {number!r} waits", "cardswitch hsm pending shows those that do")


def component_check_value(request: Any, component: bytes) -> str:
    """Return the check value of a component of an import, or an empty string where there is none."""
    from hsm.algorithms.check_value import clear_check_value

    return clear_check_value(algorithm_of(request), component) if component else ""


def algorithm_of(request: Any) -> str:
    """Return T, A or H: the kind of key that the components of an import are checked as.

    Raises:
        UsageError: there is no such role or algorithm.
    """
    from hsm.keys.roles import attributes_for

    try:
        return attributes_for(request.role, request.algorithm).algorithm
    except ValueError as error:
        raise UsageError(str(error)) from None
