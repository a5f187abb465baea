"""Runs the HSM as a process of its own: `python -m tests.hsm.hsm_process` with its settings on standard input."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import structlog
import uvloop

from hsm.config import HsmConfig
from hsm.server import serve_hsm


class Settings(msgspec.Struct):
    """The settings of the process."""

    config: HsmConfig
    state: str
    dsn: str


def main() -> None:
    """Serve; "ready" on standard output says that callers can connect."""
    settings = msgspec.json.decode(sys.stdin.buffer.read(), type=Settings)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    uvloop.run(
        serve_hsm(
            settings.config,
            state_directory=Path(settings.state),
            dsn=settings.dsn,
            ready=lambda: print("ready", flush=True),
        )
    )


if __name__ == "__main__":
    main()
