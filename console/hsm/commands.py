"""`cardswitch hsm …`: the HSM process, and what officers do with its keys.

The command line goes in; tables or JSON come out. Each command asks through `console.hsm.officer`: the running process,
or the token itself where none runs. Key values are never arguments: they are typed hidden, read from files, or come as
key blocks. The work is in `hsm.key_desk`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from console.errors import ConsoleError, UsageError
from console.hsm.approvals import AsOption, add_commands, propose_change, register_officers
from console.options import ConfigOption, JsonOption, StateOption, load_running, run_process

hsm_app = typer.Typer(help="The HSM: PKCS#11 token, keys, vault. Without a command: run the process.")
key_app = typer.Typer(help="Keys: generate, import, export, list, rotate, retire.", no_args_is_help=True)
component_app = typer.Typer(help="Key components for custodians.", no_args_is_help=True)
audit_app = typer.Typer(help="The audit trail: each use of a key, with user and command.", no_args_is_help=True)
backup_app = typer.Typer(help="Copies of keys and token in the state directory.", no_args_is_help=True)
hsm_app.add_typer(key_app, name="key")
hsm_app.add_typer(component_app, name="component")
hsm_app.add_typer(audit_app, name="audit")
hsm_app.add_typer(backup_app, name="backup")
add_commands(hsm_app)

NameArgument = Annotated[str, typer.Argument(help="Name of the key; the configuration names those of links.")]
RoleOption = Annotated[str, typer.Option("--role", help="Its role: pin, mac, bdk, cvk, pvk, zmk, imk-ac, …")]
PartyOption = Annotated[str, typer.Option("--party", help="The holder of the other end.")]
AlgorithmOption = Annotated[str, typer.Option("--algorithm", help="One of the role's; default: its first.")]
VersionOption = Annotated[int, typer.Option("--version", min=1, help="Version of the key.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@hsm_app.callback(invoke_without_command=True)
def hsm(context: typer.Context, config: ConfigOption = None, state: StateOption = None) -> None:
    """The HSM: PKCS#11 token, keys, vault. Without a command: run the process."""
    if context.invoked_subcommand is None:
        run_process("hsm", config, state)
        return
    for name in ("config", "state"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(
                f"--{name} goes behind the command", f"cardswitch hsm {context.invoked_subcommand} … --{name}"
            )


@hsm_app.command("init")
def init(
    officer: Annotated[
        list[Path] | None, typer.Option(help="Card of one of the first officers; once for each, two at least.")
    ] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open the token, making it and its keys where there are none, and show their check values; with officers, begin
    dual control."""
    loaded = load_running(config, state)
    if officer:
        register_officers(loaded, officer)
    keys = _asked_keys(loaded)
    _show(keys, as_json, f"{len(keys)} keys")


@hsm_app.command("status")
def status(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Show whether the process runs, with token, vault and audit trail."""
    from console.hsm.status import run_status

    raise typer.Exit(run_status(load_running(config, state), as_json))


@hsm_app.command("accept-ledger-head")
def accept_ledger_head(
    head: Annotated[str, typer.Argument(help="NUMBER:DIGEST, as ledger verify prints it.")],
    yes: YesOption = False,
    signer: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on sealing the ledger from this seal: after its database was restored from a backup. It takes two officers:
    --as proposes it."""
    from console.hsm.ledger_head import accept_request, run_accept

    request = accept_request(head)
    if signer is not None:
        propose_change(load_running(config, state), signer, request, as_json)
        return
    run_accept(load_running(config, state), request, yes, as_json)


@key_app.command("list")
def key_list(
    name: Annotated[str, typer.Argument(help="Only this key.")] = "",
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """All versions of all keys with their check values; no key is shown."""
    keys = _asked_keys(load_running(config, state), name)
    if name and not keys:
        raise ConsoleError(f"there is no key {name!r}", "cardswitch hsm key list shows the names")
    _show(keys, as_json)


@key_app.command("generate")
def key_generate(
    name: NameArgument,
    role: RoleOption,
    party: PartyOption = "",
    algorithm: AlgorithmOption = "",
    mode: Annotated[str, typer.Option(help="X9.143 mode of use, narrower than the role's.")] = "",
    exportability: Annotated[str, typer.Option(help="E (under a trusted key), S or N (never).")] = "",
    signer: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key in the token. A zone master key takes two officers: --as proposes it."""
    from hsm.key_commands import GenerateKey

    request = GenerateKey(
        name=name, role=role, party=party, algorithm=algorithm, mode=mode, exportability=exportability
    )
    if role == "zmk" and signer is not None:
        propose_change(load_running(config, state), signer, request, as_json)
    else:
        _show(_changed_keys(load_running(config, state), request), as_json)


@key_app.command("import")
def key_import(
    name: NameArgument,
    role: RoleOption,
    block: Annotated[str, typer.Option(help="Key block (TR-31, X9.143).")] = "",
    block_file: Annotated[Path | None, typer.Option(help="File with a key block; - reads standard input.")] = None,
    under: Annotated[str, typer.Option(help="Zone master key that the block is under.")] = "",
    components: Annotated[int, typer.Option(help="Ask that many custodians, 2 or 3, for their components.")] = 0,
    component_file: Annotated[list[Path] | None, typer.Option(help="A component in a file; once for each.")] = None,
    kcv: Annotated[str, typer.Option(help="Check value that the key must have.")] = "",
    party: PartyOption = "",
    algorithm: AlgorithmOption = "",
    adjust_parity: Annotated[bool, typer.Option("--adjust-parity", help="Correct wrong TDES parity.")] = False,
    pending: Annotated[bool, typer.Option("--pending", help="In force only after: hsm key activate.")] = False,
    signer: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import a key: from a key block under a zone master key, or from the components of two or three custodians. It
    takes two officers: --as proposes it, with the officer's own component."""
    from console.hsm.key_import import Source, import_key, import_proposal

    source = Source(
        block=block, block_file=block_file, under=under, components=components, files=tuple(component_file or ())
    )
    loaded = load_running(config, state)
    common = {"name": name, "role": role, "party": party, "adjust_parity": adjust_parity}
    if signer is not None:
        request, component = import_proposal(source, common, algorithm=algorithm, kcv=kcv, pending=pending)
        propose_change(loaded, signer, request, as_json, component)
        return
    _show(import_key(loaded, source, common, algorithm=algorithm, kcv=kcv, pending=pending), as_json)


@key_app.command("export")
def key_export(
    name: NameArgument,
    under: Annotated[str, typer.Option(help="Zone master key to put it under.")],
    version: Annotated[str, typer.Option("--version", help="Version of the key block: B (TDES) or D (AES).")] = "",
    signer: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a key block of the version in force, its name and KCV on standard error. It takes two officers: --as
    proposes it, and the approval prints the block."""
    from hsm.key_commands import ExportKey, KeyBlock

    request = ExportKey(name=name, under=under, block_version=version.upper())
    loaded = load_running(config, state)
    if signer is not None:
        propose_change(loaded, signer, request, as_json)
        return
    exported = _asked(loaded, request, KeyBlock)
    if as_json:
        _print_json(exported)
        return
    print(f"{exported.name} version {exported.version}, KCV {exported.kcv}, under {under}:", file=sys.stderr)
    print(exported.block)


@key_app.command("rotate")
def key_rotate(
    name: NameArgument, config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """Make the next version of a key; that of the data key (pan) encrypts all new cards."""
    from hsm.key_commands import RotateKey

    _show(_changed_keys(load_running(config, state), RotateKey(name=name)), as_json)


@key_app.command("activate")
def key_activate(
    name: NameArgument,
    version: VersionOption,
    signer: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a pending version in force; the former one is accepted for a while longer.

    It takes two officers: --as proposes it.
    """
    from hsm.key_commands import ActivateKey

    loaded, request = load_running(config, state), ActivateKey(name=name, version=version)
    if signer is not None:
        propose_change(loaded, signer, request, as_json)
    else:
        _show(_changed_keys(loaded, request), as_json)


@key_app.command("retire")
def key_retire(
    name: NameArgument,
    version: VersionOption,
    yes: YesOption = False,
    signer: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retire a version for good: its value is destroyed, in the backups too. It takes two officers: --as
    proposes it."""
    from hsm.key_commands import RetireKey

    loaded = load_running(config, state)
    if signer is not None:
        propose_change(loaded, signer, RetireKey(name=name, version=version), as_json)
        return
    _confirm(f"Destroy {name} version {version}? It cannot be had back.", yes)
    _show(_changed_keys(loaded, RetireKey(name=name, version=version)), as_json)


@component_app.command("generate")
def component_generate(
    length: Annotated[int, typer.Option(help="Bytes of the key: 16, 24 or 32.")],
    algorithm: Annotated[str, typer.Option(help="TDES or AES, for check values; default: TDES up to 24 bytes.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a random component and show it to its custodian; it is kept nowhere. Each custodian makes an own one."""
    from console.hsm.ceremony import generate_component

    generate_component(length, algorithm.upper(), as_json)


@hsm_app.command("rewrap")
def rewrap(
    batch: Annotated[int, typer.Option(min=1, max=500, help="Cards in a transaction.")] = 500,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Re-encrypt stored cards under the newest data key, with progress; the HSM goes on serving."""
    from console.hsm.rewrap import run_rewrap

    run_rewrap(load_running(config, state), batch, as_json)


@audit_app.command("show")
def audit_show(
    last: Annotated[int, typer.Option("--last", min=1, help="That many records, the newest last.")] = 40,
    key: Annotated[str, typer.Option(help="Only uses of this key.")] = "",
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show records of the audit trail, in their stored form; nothing is checked."""
    from console.hsm.audit import run_show

    run_show(load_running(config, state), last, key, as_json)


@audit_app.command("verify")
def audit_verify(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Check that nothing in the trail was changed, removed, reordered or cut off; status 1 if something was."""
    from console.hsm.audit import run_verify

    raise typer.Exit(run_verify(load_running(config, state), as_json))


@backup_app.command("list")
def backup_list(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Copies that the HSM made before and after changes of keys, and whether they are intact."""
    from console.hsm.backups import run_list

    run_list(load_running(config, state), as_json)


@hsm_app.command("restore")
def restore(
    number: Annotated[int, typer.Option("--number", min=0, help="Number of the copy; default: the last good one.")] = 0,
    yes: YesOption = False,
    signer: AsOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a copy back; the present files are set aside, never deleted. The HSM must not run. It takes two officers: the
    first --as proposes it, the second does it."""
    from console.hsm.backups import run_restore

    loaded = load_running(config, state)
    _confirm("Put a copy back in place of token and keys as they are?", yes)
    run_restore(loaded, number, as_json, signer)


def _asked(config: Any, request: Any, kind: Any) -> Any:
    from console.hsm.officer import expect, open_officer

    with open_officer(config) as officer:
        return expect(kind, officer.ask(request))


def _asked_keys(config: Any, name: str = "") -> tuple[Any, ...]:
    from hsm.key_commands import KeyList, ListKeys

    found: tuple[Any, ...] = _asked(config, ListKeys(name=name), KeyList).keys
    return found


def _changed_keys(config: Any, request: Any) -> tuple[Any, ...]:
    from hsm.key_commands import KeyList

    found: tuple[Any, ...] = _asked(config, request, KeyList).keys
    return found


def _show(keys: tuple[Any, ...], as_json: bool, title: str = "") -> None:
    from console.hsm.tables import key_json, print_keys

    if as_json:
        _print_json({"keys": [key_json(key) for key in keys]})
    else:
        print_keys(keys, title)


def _print_json(value: Any) -> None:
    from console.hsm.tables import print_json

    print_json(value)


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to be asked", "add --yes")
    if not typer.confirm(question):
        raise typer.Abort
