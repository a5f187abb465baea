"""Options that most commands have, and what they become: the configuration, with the state directory in it.

Called by `console.cli` and by the groups of commands that have modules of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="CARDSWITCH_CONFIG",
        help="Configuration file. Default: ./cardswitch.toml, else the one that comes with cardswitch.",
    ),
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", envvar="CARDSWITCH_STATE", help="State directory, instead of the configuration's."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]


def load(config: Path | None, state: Path | None, workers: int | None = None) -> Any:
    """Return the configuration as the command line changes it; ConfigError for one that is wrong."""
    from console.config import load_config
    from console.logging import configure

    configure("cardswitch", level="warning")  # on standard error; processes of a system log to files of their own
    return load_config(config, state=state, workers=workers)


def load_running(config: Path | None, state: Path | None) -> Any:
    """Return the configuration of the system that runs in the state directory, if one does."""
    from console.supervisor import running_config

    return running_config(load(config, state))


def run_process(kind: str, config: Path | None, state: Path | None, **options: Any) -> None:
    """Be one process of the system until it is stopped."""
    from console.processes import run_process

    run_process(kind, load(config, state), options)
