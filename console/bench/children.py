"""Processes of a measurement: modules of this checkout, started, talked to by pipes, ended with the block."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from console.errors import ConsoleError

_PATIENCE_S = 10


@contextlib.contextmanager
def started(module: str, *arguments: str, errors: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m module` with standard input and output as pipes; `errors` as `subprocess.Popen`'s stderr.

    In a session of its own: Ctrl-C is for the measurement, which then ends the process.
    """
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def output_of(process: subprocess.Popen[bytes], name: str) -> bytes:
    """The standard output of a process, once it has ended.

    Args:
        name: name of the process, for the error.

    Raises: ConsoleError with the last line of its standard error where it failed.
    """
    output, errors = process.communicate()
    if process.returncode != 0:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise ConsoleError(f"{name} failed: {last[0]}", "run it again with --debug")
    return output
