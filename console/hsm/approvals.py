"""`cardswitch hsm officer …`, `pending`, `approve` and `reject`: dual control at the command line.

The command line goes in; tables or JSON come out. The officer sees the proposal itself, which is what the signature
covers. The work is in `hsm.dual_control`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from console.errors import ConsoleError, UsageError
from console.options import ConfigOption, JsonOption, StateOption, load_running

officer_app = typer.Typer(help="Security officers: their key pairs, and the registered ones.", no_args_is_help=True)

AsOption = Annotated[
    Path | None,
    typer.Option("--as", envvar="CARDSWITCH_OFFICER_KEY", help="Key file of the officer who signs."),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Number of the proposal, of: hsm pending.")]


@officer_app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Name of the officer.")],
    directory: Annotated[Path, typer.Option(help="Directory of the two files.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Make an officer's key pair: NAME.key stays with the officer, NAME.card is registered. It needs no HSM."""
    from console.hsm.signing import passphrase
    from console.hsm.tables import print_json
    from hsm import process
    from hsm.errors import OfficerKeyError
    from hsm.officers import fingerprint, new_officer_key, write_officer_key

    process.forbid_dumps()
    try:
        key = new_officer_key(name)
        files = write_officer_key(key, directory, passphrase(f"New passphrase of {name}", twice=True))
    except OfficerKeyError as error:
        raise UsageError(str(error)) from None
    if as_json:
        print_json({"name": name, "key": str(files[0]), "card": str(files[1]), "fingerprint": fingerprint(key.card)})
        return
    print(f"{files[0]}: the private key, which stays with {name}")
    print(f"{files[1]}: the card that gets registered, fingerprint {fingerprint(key.card)}")


@officer_app.command("list")
def list_officers(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """The registered officers with the fingerprints of their keys."""
    _show_officers(_listed(load_running(config, state)), as_json)


@officer_app.command("add")
def add(
    card: Annotated[Path, typer.Argument(help="Card of the new officer, NAME.card.")],
    signer: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose one more officer."""
    from hsm.officer_commands import AddOfficer

    propose_change(load_running(config, state), signer, AddOfficer(card=read_cards([card])[0]), as_json)


@officer_app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="Name of the officer.")],
    signer: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose to remove an officer; at least two stay."""
    from hsm.officer_commands import RemoveOfficer

    propose_change(load_running(config, state), signer, RemoveOfficer(name=name), as_json)


@officer_app.command("end-dual-control")
def end_dual_control(
    signer: AsOption = None, config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """Propose to remove all officers. With [hsm] dual_control = false one person alone then changes keys."""
    from hsm.officer_commands import EndDualControl

    propose_change(load_running(config, state), signer, EndDualControl(), as_json)


def pending(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """The proposals that wait for an officer's approval."""
    from console.hsm.tables import moment, print_json, print_rows

    listed = _listed(load_running(config, state))
    if as_json:
        print_json({"enforced": listed.enforced, "proposals": [_plain(proposal) for proposal in listed.proposals]})
        return
    if not listed.proposals:
        print("no proposals wait")
        return
    rows = [
        (proposal.id, *_summary(proposal), proposal.proposer, moment(proposal.made_at), moment(proposal.expires_at))
        for proposal in listed.proposals
    ]
    print_rows(("ID", "change", "of", "proposed by", "at", "expires"), rows)


def approve(
    number: IdArgument,
    signer: AsOption = None,
    component_file: Annotated[Path | None, typer.Option(help="Own component in a file, instead of typed.")] = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a proposal, and approve it: it is done at once, or once all components have been entered."""
    from console.hsm import signing
    from hsm.key_commands import ImportComponents

    loaded = load_running(config, state)
    key_file = _signer(signer)
    proposal = signing.waiting(_listed(loaded), number)
    for line in described(proposal):
        print(line, file=sys.stderr)  # standard output is for what the change answers
    component = b""
    if isinstance(proposal.request, ImportComponents):
        component = own_component(component_file, signing.algorithm_of(proposal.request))
    elif component_file is not None:
        raise UsageError("--component-file goes with an import of components")
    if not yes and not component and not _confirmed("Approve exactly this?"):
        raise typer.Abort
    show_result(signing.approve(loaded, key_file, proposal, component), as_json)


def reject(
    number: IdArgument,
    signer: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject a proposal, or withdraw an own one."""
    from console.hsm import signing
    from console.hsm.tables import print_json, printable

    proposal = signing.reject(load_running(config, state), _signer(signer), number)
    if as_json:
        print_json({"rejected": _plain(proposal)})
    else:
        print(printable(f"rejected: {' '.join(_summary(proposal))}, proposed by {proposal.proposer}"))


def add_commands(app: typer.Typer) -> None:
    """Put the commands under `cardswitch hsm`."""
    app.add_typer(officer_app, name="officer")
    for name, command in (("pending", pending), ("approve", approve), ("reject", reject)):
        app.command(name)(command)


def propose_change(config: Any, signer: Path | None, request: Any, as_json: bool, component: bytes = b"") -> None:
    """Propose a change and say how it goes on."""
    from console.hsm import signing
    from console.hsm.tables import moment, print_json

    proposal = signing.propose(config, _signer(signer), request, component)
    if as_json:
        print_json({"proposed": _plain(proposal)})
        return
    for line in described(proposal):
        print(line)
    print(f"\nIt waits for another officer until {moment(proposal.expires_at)}: cardswitch hsm approve {proposal.id}")


def own_component(file: Path | None, algorithm: str) -> bytes:
    """Return an officer's own component, typed or from a file."""
    from console.hsm.ceremony import ask_components, read_components

    (component,) = read_components([file]) if file is not None else ask_components(1, algorithm)
    return component


def read_cards(files: list[Path]) -> tuple[Any, ...]:
    """Return the officers' cards in files."""
    from hsm.errors import OfficerKeyError
    from hsm.officers import read_card

    try:
        return tuple(read_card(file) for file in files)
    except OfficerKeyError as error:
        raise UsageError(str(error), "cardswitch hsm officer create NAME makes one") from None


def register_officers(config: Any, files: list[Path]) -> None:
    """Register the first officers and say who they are."""
    from console.hsm.officer import expect, open_officer
    from hsm.officer_commands import Proposals, RegisterOfficers

    cards = read_cards(files)
    with open_officer(config) as officer:
        listed = expect(Proposals, officer.ask(RegisterOfficers(cards=cards)))
    for line in _officer_lines(listed):
        print(line, file=sys.stderr)


def described(proposal: Any) -> list[str]:
    """Return everything that a signature under a proposal covers, in lines of printable ASCII."""
    import msgspec

    from console.hsm.tables import moment, printable
    from hsm.dual_control import command_of

    request = msgspec.to_builtins(proposal.request, builtin_types=(bytes,))
    fields = [
        f"  {name}: {_shown(value)}"
        for name, value in request.items()
        if name != "type" and value not in ("", 0, False, [], ())
    ]
    lines = [
        f"proposal {proposal.id}: {command_of(proposal.request)}",
        *fields,
        *(f"  {fact}" for fact in proposal.facts),
        *(f"  component of {one.officer}: check value {one.check_value}" for one in proposal.entered),
        f"  proposed by {proposal.proposer} at {moment(proposal.made_at)}, expires {moment(proposal.expires_at)}",
    ]
    return [printable(line) for line in lines]


def show_result(answer: Any, as_json: bool) -> None:
    """Print what an approved change has answered."""
    from console.hsm.ledger_head import show_accepted
    from console.hsm.tables import key_json, print_json, print_keys
    from hsm.key_commands import KeyBlock, KeyList
    from hsm.ledger_commands import LedgerSealsChecked
    from hsm.officer_commands import Proposals, Proposed

    match answer:
        case LedgerSealsChecked():
            show_accepted(answer, as_json)
        case KeyList():
            if as_json:
                print_json({"keys": [key_json(key) for key in answer.keys]})
            else:
                print_keys(answer.keys)
        case KeyBlock():
            if as_json:
                print_json(answer)
            else:
                print(f"{answer.name} version {answer.version}, KCV {answer.kcv}:", file=sys.stderr)
                print(answer.block)
        case Proposals():
            _show_officers(answer, as_json)
        case Proposed():
            if as_json:
                print_json({"proposed": _plain(answer.proposal)})
            else:
                print(f"taken; further components are missing: cardswitch hsm approve {answer.proposal.id}")
        case _:
            raise ConsoleError(f"the HSM answered with {type(answer).__name__}")


def _confirmed(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        raise UsageError("nobody is there to be asked", "add --yes") from None


def _signer(signer: Path | None) -> Path:
    if signer is None:
        raise UsageError("an officer signs this", "--as YOUR.key, or CARDSWITCH_OFFICER_KEY")
    return signer


def _listed(config: Any) -> Any:
    from console.hsm.officer import open_officer
    from console.hsm.signing import list_proposals

    with open_officer(config) as officer:
        return list_proposals(officer)


def _show_officers(listed: Any, as_json: bool) -> None:
    from console.hsm.tables import print_json
    from hsm.officers import fingerprint

    if as_json:
        officers = [{"name": card.name, "fingerprint": fingerprint(card)} for card in listed.officers]
        print_json({"enforced": listed.enforced, "officers": officers})
        return
    for line in _officer_lines(listed):
        print(line)


def _officer_lines(listed: Any) -> list[str]:
    from hsm.officers import fingerprint

    if not listed.enforced:
        return ["no officers are registered: dual control is not enforced"]
    return [f"officer {card.name}: fingerprint {fingerprint(card)}" for card in listed.officers]


def _summary(proposal: Any) -> tuple[str, str]:
    from hsm.dual_control import command_of
    from hsm.ledger_commands import AcceptLedgerHead

    request = proposal.request
    card = getattr(request, "card", None)
    if isinstance(request, AcceptLedgerHead):
        return command_of(request), f"{request.number}:{request.digest.hex()}"
    names = [getattr(request, "name", "") or (card.name if card is not None else ""), getattr(request, "under", "")]
    return command_of(request), " under ".join(name for name in names if name)


def _plain(proposal: Any) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(proposal, builtin_types=(bytes,))
    plain["request"] = {
        name: value.hex() if isinstance(value, bytes) else value for name, value in plain["request"].items()
    }
    return plain


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items() if name != "signature")
    return value.hex() if isinstance(value, bytes) else str(value)
