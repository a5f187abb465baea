"""`cardswitch hsm rewrap`: stored cards brought under the newest data key, batch by batch, with a progress bar."""

from __future__ import annotations

import sys
import time
from typing import Any

from console.config import Config
from console.errors import ConsoleError
from console.hsm.officer import expect, running_officer
from console.hsm.tables import print_json


def run_rewrap(config: Config, batch: int, as_json: bool) -> None:
    """Rewrap until nothing is left.

    Raises:
        ConsoleError: the HSM does not run, refuses, or gets no further.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from hsm.key_commands import Rewrap, Rewrapped

    done, started = 0, time.monotonic()
    columns = (TextColumn("cards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(file=sys.stderr), disable=as_json)
    with running_officer(config) as officer, bar as progress:
        task: Any = progress.add_task("cards", total=None)
        while True:
            answer = expect(Rewrapped, officer.ask(Rewrap(limit=batch)))
            done += answer.done
            progress.update(task, completed=done, total=done + answer.left)
            if not answer.left:
                break
            if not answer.done:
                raise ConsoleError(f"{answer.left} cards are left and none could be done", "look at the log of hsm")
    seconds = time.monotonic() - started
    if as_json:
        print_json({"done": done, "left": 0, "seconds": round(seconds, 3)})
    else:
        print(f"{done} cards are under the newest data key, in {seconds:.1f} s")
