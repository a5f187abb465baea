"""Reload: the configuration of a running system read again, and its workers asked to take what can be taken.

`cardswitch reload`, SIGHUP to `cardswitch up` and SIGHUP to a worker end here. All or nothing: a file with an error
changes nothing. Workers also start with the settings that they have taken from then on.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from console.config import Config, load_config, write_effective
from console.errors import ConfigError, ConsoleError, UsageError

if TYPE_CHECKING:
    from switch.reload import Reread

# Sections outside the switch; workers name their own.
RESTART = ("state", "log", "postgresql", "hsm", "tokenizer", "gateway", "key", "caller")
# Sections that a running system takes, as `switch.reload.TAKEN` has them.
TAKEN = ("route", "breaker", "stand_in", "fraud", "rates", "saf")


def reread(running: Config) -> Reread:
    """The present file of a worker. Raises `switch.errors.ConfigError` with every error."""
    from switch.errors import ConfigError as SwitchConfigError
    from switch.reload import Reread

    try:
        wanted = wanted_config(running)
    except ConfigError as error:
        raise SwitchConfigError(error.source, error.problems) from None
    except UsageError as error:
        raise SwitchConfigError(running.origin, (str(error),)) from None
    restart = tuple(name for name in RESTART if getattr(wanted, name) != getattr(running, name))
    return Reread(wanted.switch_config(), restart)


def wanted_config(running: Config) -> Config:
    """The file as it is now, with what the command line of the running system has decided instead.

    Raises: ConfigError with every error; UsageError where the file cannot be read.
    """
    wanted = load_config(Path(running.origin))
    replace = msgspec.structs.replace
    if "state" in running.overridden:
        wanted = replace(wanted, state=running.state)
    if "workers" in running.overridden:
        wanted = replace(wanted, switch=replace(wanted.switch, workers=running.switch.workers))
    return _on_ports_of(running, wanted) if "ports" in running.overridden else wanted


def run_reload(running: Config, as_json: bool) -> int:
    """Have every worker read its file again, and say what each has done. Returns the exit status: 1 where one is away.

    Raises: ConfigError with every error, and nothing has changed; ConsoleError where no worker answers.
    """
    done, failed = reload_workers(running)
    if as_json:
        print(msgspec.json.encode({"workers": done, "away": failed}).decode())
        return 1 if failed else 0
    for row in done:
        taken = ", ".join(row["taken"]) or "nothing new"
        print(f"worker {row['worker']}: {taken}")
    restart = sorted({section for row in done for section in row["restart"]})
    if restart:
        print(f"changed too, but needs a restart: {', '.join(restart)}")
    for reason in failed:
        print(f"cardswitch: {reason}", file=sys.stderr)
    return 1 if failed else 0


def reload_workers(running: Config) -> tuple[list[dict[str, Any]], list[str]]:
    """Sections that each worker has taken and those that need a restart; and why others were not asked."""
    from console.supervisor import config_file, is_running
    from switch.control import ask
    from switch.errors import ControlError

    wanted = wanted_config(running)
    done: list[dict[str, Any]] = []
    failed: list[str] = []
    for number in range(running.switch.workers):
        try:
            done += ask(running.worker_socket(number), "reload")
        except ControlError as error:
            if error.code == "invalid":
                raise ConfigError(running.origin, tuple(str(error).splitlines())) from None
            failed.append(str(error))
    if not done:
        raise ConsoleError(f"no worker of the switch answers: {', '.join(failed[-1:])}", "start cardswitch up first")
    if is_running(running.state_path):
        # A worker that is started again reads this file.
        kept = {name: getattr(wanted, name) for name in TAKEN}
        write_effective(msgspec.structs.replace(running, **kept), config_file(running.state_path))
    return done, failed


@contextmanager
def reloading(running: Config) -> Iterator[None]:
    """Reload on SIGHUP; not on a terminal, whose end sends one, too."""
    if sys.stdin is not None and sys.stdin.isatty():
        yield
        return
    log = structlog.get_logger("console")

    def work() -> None:
        try:
            done, failed = reload_workers(running)
            log.info("reloaded", workers=done, away=failed)
        except ConsoleError as error:
            log.error("reload_refused", error=str(error))
        except Exception:
            log.exception("reload_failed")

    def start(number: int, frame: object) -> None:
        threading.Thread(target=work, name="reload", daemon=True).start()

    former = signal.signal(signal.SIGHUP, start)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, former)


def _on_ports_of(running: Config, wanted: Config) -> Config:
    """Free ports were taken instead of the file's: their settings are those that run."""
    replace = msgspec.structs.replace
    listens = {link.name: link.listen for link in running.acquirer}
    addresses = {link.name: link.address for link in running.issuer}
    return replace(
        wanted,
        tokenizer=replace(wanted.tokenizer, listen=running.tokenizer.listen, url=running.tokenizer.url),
        gateway=replace(wanted.gateway, listen=running.gateway.listen, tokenizer_url=running.gateway.tokenizer_url),
        acquirer=tuple(replace(link, listen=listens.get(link.name, link.listen)) for link in wanted.acquirer),
        issuer=tuple(replace(link, address=addresses.get(link.name, link.address)) for link in wanted.issuer),
        switch=replace(wanted.switch, metrics=running.switch.metrics),
    )
