"""The command line: arguments in, one command of this package run, its exit status out.

Known errors are one line, what is wrong and what to do, with exit status 1 (or 2 where the input is wrong); a
traceback is shown with `--debug` only. Everything heavy is imported inside the commands: `decode` starts in a tenth
of a second.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from console.errors import ConsoleError, UsageError
from console.gateway_commands import gateway_app
from console.hsm.commands import hsm_app
from console.link_commands import link_app
from console.options import ConfigOption, JsonOption, StateOption, load, load_running, run_process
from console.route_commands import route_app
from console.saf_commands import saf_app
from console.sim_commands import sim_app
from console.spec_commands import spec_app
from console.vault.commands import vault_app

app = typer.Typer(
    name="cardswitch",
    help="A card-network switch: ISO 8583, a payment HSM, a double-entry ledger and a Stripe-shaped merchant API.",
    epilog="Errors are one line; add --debug to any command for a traceback.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
ledger_app = typer.Typer(help="The double-entry journal.", no_args_is_help=True)
bench_app = typer.Typer(help="Measure this machine.", no_args_is_help=True)
app.add_typer(hsm_app, name="hsm")
app.add_typer(vault_app, name="vault")
app.add_typer(gateway_app, name="gateway")
app.add_typer(link_app, name="link")
app.add_typer(route_app, name="route")
app.add_typer(saf_app, name="saf")
app.add_typer(spec_app, name="spec")
app.add_typer(sim_app, name="sim")
app.add_typer(ledger_app, name="ledger")
app.add_typer(bench_app, name="bench")

SpecOption = Annotated[str, typer.Option("--spec", "-s", help="Dialect: a name in specs/ or a file.")]
FileOption = Annotated[Path | None, typer.Option("--file", help="File with a message on each line, or - (stdin).")]
SourceArgument = Annotated[str | None, typer.Argument(help="The message, a file with one on each line, or - (stdin).")]


@app.command()
def up(
    config: ConfigOption = None,
    state: StateOption = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Switch workers, instead of the TOML's.")] = None,
    issuers: Annotated[bool, typer.Option("--issuers/--no-issuers", help="Simulate the issuers of the TOML.")] = True,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Use free ports instead of the TOML's.")] = False,
) -> None:
    """Start all processes and keep them running until Ctrl-C."""
    from console.up import run_up

    run_up(load(config, state, workers), issuers=issuers, ports="free" if free_ports else "configured")


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit after the script; status 0 only if all agrees.")] = False,
    config: ConfigOption = None,
    state: StateOption = None,
    svg: Annotated[Path | None, typer.Option(hidden=True, help="Write the picture of docs/ to this file.")] = None,
) -> None:
    """Run a scripted shop day on real parts in front of you."""
    from console.demo import run_demo

    raise typer.Exit(run_demo(load(config, state), once=once, svg=svg))


@app.command()
def switch(
    worker: Annotated[int, typer.Option(min=0, max=63, help="Number of this worker, from 0.")] = 0,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Run one switch worker."""
    run_process("switch", config, state, worker=worker)


@app.command()
def reload(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Have running workers take their file again: routes, limits, rules of links; name settings that need a restart."""
    from console.reload import run_reload

    raise typer.Exit(run_reload(load_running(config, state), as_json))


@app.command()
def tokenizer(config: ConfigOption = None, state: StateOption = None) -> None:
    """Run the tokenization endpoint: the one place where card data enters by JSON."""
    run_process("tokenizer", config, state)


@app.command(hidden=True)
def postgresql(config: ConfigOption = None, state: StateOption = None) -> None:
    """Run the embedded PostgreSQL (used by up)."""
    run_process("postgresql", config, state)


@sim_app.command("acquirer")
def sim_acquirer(
    name: Annotated[str | None, typer.Argument(help="Name of an acquirer link of the configuration.")] = None,
    scenario: Annotated[Path | None, typer.Option(help="Scenario file: cards, mix, pace, faults.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Send these messages: JSON or hex, one a line.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Requests at most.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.01, help="Seconds at most.")] = None,
    rate: Annotated[float | None, typer.Option(min=0, help="Requests a second; 0: as fast as answers come.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Customers at the same time.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of cards, amounts and faults.")] = None,
    book: Annotated[Path | None, typer.Option(help="File of its book.")] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run an acquirer simulator: it replays a file, makes up a shop day, or load-tests."""
    from functools import cache

    from console.acquirer_command import AcquirerRun, run_acquirer

    wanted = AcquirerRun(
        name=name,
        scenario=scenario,
        replay=replay,
        count=count,
        seconds=seconds,
        rate=rate,
        concurrency=concurrency,
        seed=seed,
        book=book,
    )
    raise typer.Exit(run_acquirer(cache(lambda: load_running(config, state)), wanted, as_json))


@app.command()
def decode(
    message: SourceArgument = None,
    spec: SpecOption = "iso87-ascii",
    file: FileOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Bytes as they are, one message a file; else hex.")] = False,
    in_base64: Annotated[bool, typer.Option("--base64", help="Base64 instead of hex.")] = False,
    as_json: JsonOption = False,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show card data.")] = False,
) -> None:
    """Show messages: hex, base64 or bytes in, a table or JSON out."""
    from console.codec_commands import decode

    raise typer.Exit(decode(message, spec, as_json, unmasked, raw=raw, in_base64=in_base64, file=file))


@app.command()
def encode(
    message: SourceArgument = None,
    spec: SpecOption = "iso87-ascii",
    file: FileOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Bytes as they are instead of hex.")] = False,
    in_base64: Annotated[bool, typer.Option("--base64", help="Base64 instead of hex.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the bytes of messages in JSON, in hex."""
    from console.codec_commands import encode

    raise typer.Exit(encode(message, spec, as_json, raw=raw, in_base64=in_base64, file=file))


@app.command()
def send(
    message: Annotated[str | None, typer.Argument(help="The message as JSON, a file, or - (stdin).")] = None,
    to: Annotated[str, typer.Option("--to", help=r"An [\[acquirer]] link's name, or host:port.")] = "pos",
    mti: Annotated[str | None, typer.Option(help="MTI, instead of JSON.")] = None,
    element: Annotated[list[str] | None, typer.Option("--set", help="NUMBER=VALUE; repeatable.")] = None,
    spec: Annotated[str | None, typer.Option("--spec", "-s", help="Dialect, where --to is an address.")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Ask for a PIN and put it into DE 52.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, max=300, help="Seconds to wait for the answer.")] = 10.0,
    unmasked: Annotated[bool, typer.Option("--unmasked", help="Show card data.")] = False,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send one message to a link and show the answer."""
    from console.send import Request, run_send

    request = Request(message=message, mti=mti, elements=tuple(element or ()), to=to, spec=spec, ask_pin=pin)
    run_send(load_running(config, state), request, timeout, as_json, unmasked)


@ledger_app.command("migrate")
def ledger_migrate(
    set_passwords: Annotated[
        bool,
        typer.Option("--set-passwords", help="Give roles that exist this machine's passwords; others are locked out."),
    ] = False,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the database roles that are missing, and update the database's schema."""
    from console.ledger_commands import run_migrate

    run_migrate(load_running(config, state), as_json, set_passwords)


@ledger_app.command("verify")
def ledger_verify(
    everything: Annotated[
        bool, typer.Option("--all", help="From the first payment, not from the last verified seal.")
    ] = False,
    head: Annotated[str, typer.Option("--head", help="NUMBER:DIGEST of a seal that was noted elsewhere.")] = "",
    without_token: Annotated[bool, typer.Option("--without-token", help="Do not check the seals' MACs.")] = False,
    settled: Annotated[Path | None, typer.Option(help="File of fees that were settled outside of the books.")] = None,
    max_unsealed: Annotated[
        float, typer.Option("--max-unsealed", min=1, help="Seconds after which an outcome must have its seal.")
    ] = 60.0,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the journal since the last verified seal: zero sums, hash chain, the token's MACs, nothing changed."""
    from console.ledger_verification import run_verify

    loaded = load_running(config, state)
    raise typer.Exit(run_verify(loaded, everything, head, not without_token, as_json, settled, max_unsealed))


@ledger_app.command("trial-balance")
def ledger_trial_balance(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Sum of every account; debits equal credits."""
    from console.ledger_commands import run_trial_balance

    raise typer.Exit(run_trial_balance(load_running(config, state), as_json))


@app.command()
def prove(
    config: ConfigOption = None,
    state: StateOption = None,
    wait: Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait for queues to drain.")] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Compare the issuers' books, the ledger and the acquirers' books."""
    from console.prove_command import run_prove

    raise typer.Exit(run_prove(load_running(config, state), wait, as_json))


@bench_app.command("switch")
def bench_switch(
    seconds: Annotated[float, typer.Option(min=0.5, max=3600, help="Duration of the measurement.")] = 10.0,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Switch workers.")] = None,
    in_flight: Annotated[int, typer.Option("--in-flight", min=1, max=5000, help="Requests at a time.")] = 160,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Authorizations a second of a whole system on this machine."""
    from console.bench.switch import run_bench

    raise typer.Exit(run_bench(load(config, None, workers), seconds, in_flight, as_json))


@bench_app.command("flood")
def bench_flood(
    seconds: Annotated[
        float, typer.Option(min=1, max=120, help="Duration of the measurement without and with each flood.")
    ] = 10.0,
    rate: Annotated[float, typer.Option(min=1, max=2000, help="The other acquirers' requests a second.")] = 100.0,
    only: Annotated[list[str] | None, typer.Option(help="A kind of flood; repeatable. All by default.")] = None,
    hold: Annotated[bool, typer.Option("--assert", help="Status 1 where a bound is broken.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Switch workers.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Waiting time of other acquirers while strangers flood the port of their link."""
    from console.bench.flood import run_flood_bench

    raise typer.Exit(run_flood_bench(load(config, None, workers), seconds, rate, only or [], as_json, hold))


@bench_app.command("hsm")
def bench_hsm(
    seconds: Annotated[float, typer.Option(min=0.2, max=600, help="Duration of each measurement.")] = 2.0,
    in_flight: Annotated[int, typer.Option("--in-flight", min=1, max=1000, help="Commands at a time.")] = 64,
    only: Annotated[list[str] | None, typer.Option("--only", help="One command of the table; repeatable.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Commands a second of an HSM process, beside the bare PKCS#11 calls."""
    from console.bench.hsm import run_bench

    raise typer.Exit(run_bench(load(config, None), seconds, in_flight, only or [], as_json))


@bench_app.command("codec")
def bench_codec(as_json: JsonOption = False) -> None:
    """Microseconds a message, beside pyiso8583."""
    from console.bench import codec as bench_codec

    bench_codec.run(as_json)


@app.command()
def doctor(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """List what is missing on this machine, and the command that mends it."""
    from console.doctor_command import run_doctor

    raise typer.Exit(run_doctor(config, state, as_json))


def main() -> None:
    """Entry point of the `cardswitch` script."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) != len(sys.argv) - 1
    sys.exit(run(arguments, debug))


def run(arguments: list[str], debug: bool = False) -> int:
    """Run one command; known errors become one line on standard error. Returns the exit status."""
    try:
        result = app(arguments, prog_name="cardswitch", standalone_mode=False)
    except ConsoleError as error:
        return _fail(error, str(error), error.exit_code, debug)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
        return 141
    except BaseException as error:
        if isinstance(error, BaseExceptionGroup) and error.split(KeyboardInterrupt)[1] is None:
            print("interrupted", file=sys.stderr)  # the form of Ctrl-C while several tasks run
            return 130
        if not isinstance(error, Exception):
            raise
        known = _known(error)
        if known is not None:
            return _fail(error, str(known), known.exit_code, debug)
        if debug:
            raise
        from console.logging import masked_text

        text = masked_text(" ".join(str(error).split()))[:300]
        print(
            f"cardswitch: {type(error).__name__}: {text}; run it again with --debug for the traceback", file=sys.stderr
        )
        return 1
    return result if isinstance(result, int) else 0


def _fail(error: BaseException, text: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    from console.logging import masked_text

    # An error may quote what it was given: a message, a card number in the wrong place.
    print(f"cardswitch: {masked_text(text)}", file=sys.stderr)
    return code


def _known(error: Exception) -> ConsoleError | None:
    """Errors of the parts that say by themselves what is wrong and what to do."""
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # typer's own: a wrong command line
        return UsageError(" ".join(str(error.format_message()).split()).rstrip("."), "see --help")
    for module, names in {
        "console.postgresql": ("PostgresqlError",),
        "hsm.errors": ("ConfigurationError", "KeyStoreError"),
        "gateway.errors": ("ConfigurationError",),
        "console.migration": ("MigrationError",),
        "console.database_roles": ("RolesError",),
        "messages.errors": ("MessagesError",),
    }.items():
        for name in names:
            loaded: Any = sys.modules.get(module)
            if loaded is not None and isinstance(error, getattr(loaded, name, ())):
                return ConsoleError(str(error))
    return None


if __name__ == "__main__":
    main()
