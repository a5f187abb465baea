"""`cardswitch vault delete|proof`: a name of a card in, the proof that it was erased out."""

from __future__ import annotations

import getpass
import json
import sys
from typing import TYPE_CHECKING

import msgspec

from console.config import Config
from console.errors import UsageError
from console.hsm.officer import expect, running_officer

if TYPE_CHECKING:
    from hsm.vault_commands import DeletionProof


def run_delete(config: Config, name: str, reason: str, by: str, sure: bool, as_json: bool) -> None:
    """Erase a card and print the proof.

    Raises:
        UsageError: another reason than there are, or nobody to ask whether this is meant.
        ConsoleError: the HSM refuses.
    """
    from hsm.vault.deletions import REASONS
    from hsm.vault_commands import DeleteCard, DeletionProof

    if reason not in REASONS:
        listed = "".join(f"\n  {code}: {meaning}" for code, meaning in REASONS.items())
        raise UsageError(f"{reason!r} is no reason for a deletion", f"give one of{listed}")
    if not sure:
        if not sys.stdin.isatty():
            raise UsageError("this erases the card for all merchants, for good", "say --yes if that is meant")
        import typer

        typer.confirm(f"Erase the card of {name} for all merchants, for good?", abort=True, err=True)
    with running_officer(config) as officer:
        request = DeleteCard(id=name, reason=reason, by=by or getpass.getuser())
        proof = expect(DeletionProof, officer.ask(request))
    if as_json:
        print(_as_json(proof))
    else:
        _print(proof, "erased")


def run_proof(config: Config, name: str, as_json: bool) -> int:
    """Verify the chain of deletions and print the proof. Returns the exit status: 1 where the chain is broken."""
    from hsm.vault_commands import DeletionProof, ProveDeletion

    with running_officer(config) as officer:
        proof = expect(DeletionProof, officer.ask(ProveDeletion(id=name)))
    if as_json:
        print(_as_json(proof))
    else:
        _print(proof, "was erased")
        if not proof.problems:
            print(f"chain     {proof.chained} deletions, each follows the one before; sealed by the token")
        for problem in proof.problems:
            print(f"BROKEN    {problem}")
    return 1 if proof.problems else 0


def _print(proof: DeletionProof, verb: str) -> None:
    record = json.loads(proof.record)
    print(f"card      {record['card']} {verb} on {record['deleted_at']}")
    print(f"reason    {record['reason']}, asked for by {record['by']}")
    print(f"with it   {record['tokens']} tokens, {record['network_tokens']} network tokens")
    print(f"record    {record['number']}")
    print(f"digest    {proof.digest}")
    print(f"follows   {proof.previous}")
    print(f"seal      {proof.seal}")


def _as_json(proof: DeletionProof) -> str:
    plain = msgspec.to_builtins(proof)
    return json.dumps(
        {**plain, "record": json.loads(proof.record), "record_text": proof.record, "whole": not proof.problems}
    )
