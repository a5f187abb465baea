"""Reload: the configuration of a running system read again, and its workers asked to take what can be taken.

`cardswitch reload`, SIGHUP to `cardswitch up` and SIGHUP to a worker end here. All or nothing: a file with an error
changes nothing. Workers also start with the settings that they have taken from then on.
"""

from __future__ import annotations

import hashlib
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog

from console.config import Config, load_config, write_effective
from console.errors import ConfigError, ConsoleError, UsageError
from console.reload_table import needs_restart
from switch.errors import ConfigError as SwitchConfigError
from switch.errors import ControlError
from switch.links.rules import with_rules_of
from switch.reload import LINKS, TAKEN, NeedsRestart, Reloaded, Reread


class Done(msgspec.Struct, frozen=True):
    """A reload of all workers.

    Args:
        workers: the replies.
        restart: all settings that have changed and are not in force, in the order of the file.
        away: reasons of workers that have not taken the file, or not all of it.
    """

    workers: tuple[Reloaded, ...]
    restart: tuple[NeedsRestart, ...] = ()
    away: tuple[str, ...] = ()


def reread(running: Config) -> Reread:
    """The present file of a worker. Raises `switch.errors.ConfigError` with every error."""
    try:
        wanted = wanted_config(running)
    except ConfigError as error:
        raise SwitchConfigError(error.source, error.problems) from None
    except UsageError as error:
        raise SwitchConfigError(running.origin, (str(error),)) from None
    return Reread(wanted.switch_config(), needs_restart(running, wanted), digest_of(wanted))


def digest_of(wanted: Config) -> str:
    """SHA-256 of everything that a configuration says, hexadecimal; not of where it was read from."""
    said = msgspec.structs.replace(wanted, source="", origin="", overridden=())
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


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
    """Have every worker read its file again; print the settings that each has taken, and those that need a restart.

    Returns: the exit status, 1 where a worker has not taken everything.
    Raises: ConfigError with every error, and nothing has changed; ConsoleError where no worker answers.
    """
    done = reload_workers(running)
    if as_json:
        print(msgspec.json.encode(done).decode())
        return 1 if done.away else 0
    for row in done.workers:
        print(f"worker {row.worker}: {', '.join(row.taken) or 'nothing new'}")
    if done.restart:
        print(f"changed in {running.origin}, in force after a restart (of cardswitch up, if it runs them):")
        width = max(len(_shown(entry)) for entry in done.restart)
        for entry in done.restart:
            print(f"  {_shown(entry):{width}}  {', '.join(entry.processes)}")
    for reason in done.away:
        print(f"cardswitch: {reason}", file=sys.stderr)
    return 1 if done.away else 0


def _shown(entry: NeedsRestart) -> str:
    return entry.setting if entry.change == "changed" else f"{entry.setting} ({entry.change})"


def reload_workers(running: Config) -> Done:
    """Ask each worker in turn.

    Raises: ConfigError with every error of the file, and nothing has changed; ConsoleError where no worker answers.
    """
    from console.supervisor import config_file, is_running
    from switch.control import ask

    wanted = wanted_config(running)
    if not running.runs_switch:  # a machine with nothing but a gateway has no worker to ask
        return Done((), needs_restart(running, wanted))
    digest = digest_of(wanted)
    done: list[Reloaded] = []
    failed: list[str] = []
    for number in range(running.switch.workers):
        try:
            [answer] = ask(running.worker_socket(number), "reload", digest=digest)
        except ControlError as error:
            if error.code == "invalid" and not done:
                raise ConfigError(running.origin, tuple(str(error).splitlines())) from None
            refused = f"worker {number} refuses, and goes on as before: " if error.code == "invalid" else ""
            failed.append(refused + "; ".join(str(error).splitlines()))
            continue
        done.append(msgspec.convert(answer, Reloaded))
        if len(done) == 1 and is_running(running.state_path):
            # A restarted worker reads this file.
            write_effective(with_taken(running, wanted), config_file(running.state_path))
    if not done:
        raise ConsoleError(f"no worker of the switch answers: {', '.join(failed[-1:])}", "start cardswitch up first")
    failed += [
        f"worker {row.worker}: the TLS files of {name} cannot be used, those before stay in force; the reason is "
        "certificate_refused in its log"
        for row in done
        for name in row.certificates
    ]
    restart = {entry.setting: entry for row in done for entry in row.restart}
    return Done(tuple(done), tuple(restart.values()), tuple(failed))


def with_taken(running: Config, wanted: Config) -> Config:
    """The configuration that runs after a reload: `running` with all settings of `wanted` that workers take."""
    sections: dict[str, Any] = {name: getattr(wanted, name) for name in TAKEN.values()}
    for section in LINKS.values():
        named = {link.name: link for link in getattr(wanted, section)}
        links = getattr(running, section)
        sections[section] = tuple(with_rules_of(link, named.get(link.name, link)) for link in links)
    return msgspec.structs.replace(running, **sections)


@contextmanager
def reloading(running: Config) -> Iterator[None]:
    """Reload on SIGHUP; not on a terminal, whose end sends one, too."""
    if sys.stdin is not None and sys.stdin.isatty():
        yield
        return
    log = structlog.get_logger("console")

    def work() -> None:
        try:
            done = reload_workers(running)
            log.info("reloaded", **msgspec.to_builtins(done))
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
