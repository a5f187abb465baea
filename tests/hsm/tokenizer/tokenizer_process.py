"""Runs the tokenizer as a process of its own: `python -m tests.hsm.tokenizer.tokenizer_process`, settings on stdin."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from hsm.tokenizer.config import TokenizerConfig
from hsm.tokenizer.server import serve_tokenizer


class Settings(msgspec.Struct):
    """The settings of the process."""

    config: TokenizerConfig
    state: str
    dsn: str


class TokenizerProcess:
    """A running process; `log` is what it wrote to standard error."""

    def __init__(self, settings: Settings) -> None:
        self.state = Path(settings.state)
        self.state.mkdir(parents=True, exist_ok=True)
        self._log = self.state / "tokenizer.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.hsm.tokenizer.tokenizer_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(settings))
        self._process.stdin.close()
        assert self._process.stdout.readline() == b"ready\n", self.log
        scheme = "https" if settings.config.certificate else "http"
        self.port = int(self._process.stdout.readline())
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        status = self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return status


@contextmanager
def serving(state: Path, dsn: str = "postgresql://nobody@/none?host=/nonexistent", **settings: Any) -> Iterator[Any]:
    """A tokenizer on a free port; `settings` are those of [tokenizer]. Its HSM is the one in `state`, if any."""
    config = TokenizerConfig(**{"listen": "127.0.0.1:0", **settings})
    process = TokenizerProcess(Settings(config, str(state), dsn))
    try:
        yield process
    finally:
        status = process.stop()
    assert status == 0, process.log


def main() -> None:
    """Serve; "ready" and the port on standard output say that callers can connect."""
    settings = msgspec.json.decode(sys.stdin.buffer.read(), type=Settings)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    uvloop.run(
        serve_tokenizer(
            settings.config,
            state_directory=Path(settings.state),
            dsn=settings.dsn,
            ready=_say_ready,
        )
    )


def _say_ready() -> None:
    # The port that the system chose is that of this process's only listening TCP socket.
    inodes = {Path(f"/proc/self/fd/{name}").resolve().name for name in _descriptors()}
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            print("ready", int(fields[1].partition(":")[2], 16), sep="\n", flush=True)


def _descriptors() -> list[str]:
    return [path.name for path in Path("/proc/self/fd").iterdir()]


if __name__ == "__main__":
    main()
