"""Reload: a worker takes routes, breakers, stand-ins, fraud rules and limits of stored advices from its file again.

SIGHUP or a command on the control socket asks for it; `console/` gives the function that reads the file. All or
nothing: a file with an error changes nothing. Settings that cannot be changed in a running worker are named and left
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec
import structlog
import trio

from switch.advices import AdviceSender
from switch.config import SwitchConfig
from switch.errors import ConfigError, SwitchError
from switch.meters import Meters
from switch.online import Online
from switch.routing.settings import breaker_contradictions, routing_contradictions, stand_in_contradictions
from switch.routing.table import RoutingTable

log = structlog.get_logger("switch.reload")

# Fields of the configuration → sections of the file: those that a reload takes, and those that need a restart.
TAKEN = {
    "routes": "route",
    "breakers": "breaker",
    "stand_ins": "stand_in",
    "fraud": "fraud",
    "rates": "rates",
    "saf": "saf",
}
LEFT = {"settings": "switch", "acquirers": "acquirer", "issuers": "issuer", "fees": "fees", "merchants": "merchant"}


class Reread(msgspec.Struct, frozen=True):
    """The file as it is now; `restart` are sections outside the switch that have changed."""

    config: SwitchConfig
    restart: tuple[str, ...] = ()


Read = Callable[[], Reread]
"""Reads the file, in a thread of its own. Raises ConfigError with every error."""


class Reloaded(msgspec.Struct, frozen=True):
    """The reply of a worker: sections that it has taken, and sections that have changed and need a restart."""

    worker: int
    taken: tuple[str, ...]
    restart: tuple[str, ...]


class ReloadRefused(SwitchError):
    """Nothing was changed; `problems` lists why."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Reloader:
    """Reloads in one worker, one at a time.

    Args:
        config: the configuration that the worker started with.
        read: None where there is no file, in simulations.
        certificates: has the links look at their TLS files again; returns the links whose files cannot be used.
    """

    def __init__(
        self,
        worker: int,
        config: SwitchConfig,
        online: Online,
        senders: Mapping[str, AdviceSender],
        meters: Meters,
        read: Read | None,
        certificates: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._worker = worker
        self._config = config
        self._online = online
        self._senders = senders
        self._meters = meters
        self._read = read
        self._certificates = certificates
        self._lock = trio.Lock()

    async def reload(self) -> Reloaded:
        """Take what can be taken.

        Raises:
            ReloadRefused: the file has errors, or names what only a restart brings.
        """
        if self._read is None:
            raise ReloadRefused(("this worker has no configuration file",))
        async with self._lock:
            try:
                reread, table = await trio.to_thread.run_sync(_read_whole, self._read)
                done = self._take(reread, table)
            except ConfigError as error:
                self._meters.count("reloads", "refused")
                log.error("reload_refused", problems=list(error.problems))
                raise ReloadRefused(error.problems) from error
        self._meters.count("reloads", "ok")
        log.info("reloaded", taken=list(done.taken), restart=list(done.restart))
        return done

    def _take(self, reread: Reread, table: RoutingTable) -> Reloaded:
        wanted, present = reread.config, self._config
        problems = tuple(
            f"{problem} (of the links that run)"
            for problem in (
                *routing_contradictions(wanted.routes, present.issuers, present.acquirers),
                *breaker_contradictions(wanted.breakers, present.issuers),
                *stand_in_contradictions(wanted.stand_ins, present.issuers),
            )
        )
        if problems:
            raise ConfigError("reload", problems)
        changed = {name: getattr(wanted, name) for name in TAKEN if getattr(wanted, name) != getattr(present, name)}
        self._config = msgspec.structs.replace(present, **changed)
        if changed:
            self._online.use(self._config, table)
            for sender in self._senders.values():
                sender.settings = self._config.saf
        taken = [TAKEN[name] for name in changed]
        failed = [f"tls of {name}" for name in self._certificates()]
        restart = [section for name, section in LEFT.items() if getattr(wanted, name) != getattr(present, name)]
        return Reloaded(self._worker, tuple(taken), tuple(sorted({*restart, *reread.restart, *failed})))

    async def on_signal(self) -> None:
        """Reload; errors are in the log, and the worker goes on with its former settings."""
        try:
            await self.reload()
        except ReloadRefused:
            pass
        except Exception:
            self._meters.count("failures", "reload")
            log.exception("reload_failed")


def _read_whole(read: Read) -> tuple[Reread, RoutingTable]:
    """The file and its routing table, which takes seconds where there are very many routes: not in trio's thread."""
    reread = read()
    return reread, RoutingTable(reread.config.routes)
