"""Key components in front of their custodians: asked for one at a time, hidden, each with its own check value.

Key strokes, files or random bytes go in; components come out, or are shown. Called by `cardswitch hsm key import` and
`cardswitch hsm component generate`. No component is an argument of a command or stays on the screen; two custodians
must see to it that neither watches the other.
"""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import typer

from console.errors import ConsoleError, UsageError
from console.hsm.hidden_input import ask_hidden
from console.hsm.tables import grouped, print_json

_TRIES = 3


def ask_components(count: int, algorithm: str) -> tuple[bytes, ...]:
    """Return the components that `count` custodians type, each confirmed by its check value.

    Args:
        count: 1 to 3; one custodian at a time where each has an own session.
        algorithm: T, A or H, for the check values.
    Raises:
        ConsoleError: a custodian did not get it right three times.
    """
    from hsm import process

    process.forbid_dumps()
    return tuple(_ask_component(number, count, algorithm) for number in range(1, count + 1))


def read_components(files: list[Path]) -> tuple[bytes, ...]:
    """Return the components in files: hexadecimal, one a file; others than the owner must not be able to read them.

    Raises:
        UsageError: a file that cannot be read, that others may read, or that holds something else.
    """
    found = []
    for file in files:
        try:
            if stat.S_IMODE(file.stat().st_mode) & 0o077:
                raise UsageError(f"{file}: others may read it", f"chmod 600 {file}")
            component = component_of(file.read_text("ascii"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file}: {getattr(error, 'strerror', None) or 'not a component'}") from None
        if component is None:
            raise UsageError(f"{file}: not a component", "it has 32, 48 or 64 hexadecimal digits")
        found.append(component)
    return tuple(found)


def generate_component(length: int, algorithm: str, as_json: bool) -> None:
    """Make a random component and show it with its check value; nothing of it is kept.

    Args:
        length: 16, 24 or 32 bytes.
        algorithm: TDES, AES, or empty: TDES up to 24 bytes. Parity bits are random, as in any component.
    Raises:
        UsageError: a length that the algorithm does not have.
    """
    import secrets

    from hsm import process
    from hsm.algorithms.check_value import clear_check_value

    process.forbid_dumps()
    code = {"TDES": "T", "AES": "A", "": "A" if length == 32 else "T"}.get(algorithm)
    if code is None:
        raise UsageError(f"there is no algorithm {algorithm!r}", "use TDES or AES")
    if length not in {"T": (16, 24), "A": (16, 24, 32)}[code]:
        raise UsageError(f"a component has no {length} bytes", "--length 16, 24 or 32; TDES has 16 or 24")
    component = secrets.token_bytes(length)
    kcv = clear_check_value(code, component)
    if as_json:
        print_json({"component": component.hex().upper(), "kcv": kcv})
        return
    terminal = sys.stdout.isatty() and sys.stdin.isatty()
    if terminal:
        typer.prompt("Custodian, alone at the screen: press Enter", default="", show_default=False)
    print(f"component:    {grouped(component.hex().upper())}")
    print(f"check value:  {kcv}")
    if terminal:
        typer.prompt("Write it down and press Enter; it is shown once", default="", show_default=False)
        print("\x1b[2J\x1b[3J\x1b[H", end="", flush=True)


def key_check_value(components: tuple[bytes, ...], algorithm: str, *, adjust_parity: bool) -> str:
    """Return the check value of the key that components make up.

    Raises:
        UsageError: they make none that may be used.
    """
    from hsm.algorithms.check_value import clear_check_value
    from hsm.algorithms.components import check_key, combine_components
    from hsm.errors import KeyValueError

    try:
        key = check_key(algorithm, combine_components(components), adjust_parity=adjust_parity)
    except KeyValueError as error:
        fix = "check the components, or add --adjust-parity" if "parity" in str(error) else "check the components"
        raise UsageError(str(error), fix) from None
    return clear_check_value(algorithm, key)


def component_of(text: str) -> bytes | None:
    """Return a component of 16, 24 or 32 bytes in hexadecimal, spaces allowed; None for anything else."""
    try:
        component = bytes.fromhex("".join(text.split()))
    except ValueError:
        return None
    return component if len(component) in (16, 24, 32) else None


def _ask_component(number: int, count: int, algorithm: str) -> bytes:
    from hsm.algorithms.check_value import clear_check_value

    whose = f" of custodian {number} of {count}" if count > 1 else ""
    for _ in range(_TRIES):
        text = ask_hidden(f"Component{whose}", "name the file that has it with --component-file")
        component = component_of(text)
        if component is None:
            print("not a component: it has 32, 48 or 64 hexadecimal digits")
            continue
        kcv = clear_check_value(algorithm, component)
        print(f"Check value of the component{whose}: {kcv}")
        if typer.confirm("Is it the one on your paper?"):
            _clear_lines(3, f"component{whose} taken, check value {kcv}")
            return component
    raise ConsoleError(f"no component{whose} was entered", "start again; nothing was imported")


def _clear_lines(count: int, instead: str) -> None:
    """Take the last lines off a terminal: the number of typed digits, and the confirmation."""
    if sys.stdout.isatty():
        print("\x1b[1A\x1b[2K" * count, end="")
        print(instead, flush=True)
