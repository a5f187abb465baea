"""Reload: a running worker takes those settings of its file that need no restart.

It takes whole sections (`TAKEN`) and the rules of the links that it runs (`switch.links.rules`). SIGHUP or a command on
the control socket asks for it; `console/` gives the function that reads the file, and names the settings that need a
restart (`console.reload_table`). All or nothing: a file with an error changes nothing. The change is one step of the
worker's event loop, so each message is judged by the old settings or by the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec
import structlog
import trio

from switch.advices import AdviceSender
from switch.config import SwitchConfig, running_contradictions
from switch.errors import ConfigError, SwitchError
from switch.links.link_end import LinkEnd
from switch.links.permissions import Permitted
from switch.links.rules import changed_rules, with_rules_of
from switch.links.settings import Link
from switch.meters import Meters
from switch.online import Online
from switch.routing.table import RoutingTable

log = structlog.get_logger("switch.reload")

# Fields of the configuration → sections of the file that a reload takes whole.
TAKEN = {
    "routes": "route",
    "breakers": "breaker",
    "stand_ins": "stand_in",
    "fraud": "fraud",
    "rates": "rates",
    "saf": "saf",
}
# Fields of the configuration → sections of the file that are links: a reload takes their rules.
LINKS = {"acquirers": "acquirer", "issuers": "issuer"}


class NeedsRestart(msgspec.Struct, frozen=True):
    """A setting that is not in force as the file has it.

    Args:
        setting: its path, `acquirer[north].listen`; of a whole entry `acquirer[north]`.
        processes: those that take it at their start only, by group: up, postgresql, hsm, switch, tokenizer, gateway,
            issuers (simulated ones).
        change: `new` and `removed` are about whole entries.
    """

    setting: str
    processes: tuple[str, ...]
    change: Literal["changed", "new", "removed"] = "changed"


class Reread(msgspec.Struct, frozen=True):
    """The file as it is now.

    Args:
        restart: settings that differ from those that the process started with, and that no reload takes.
        digest: of everything that the file says; "" where nobody compares it.
    """

    config: SwitchConfig
    restart: tuple[NeedsRestart, ...] = ()
    digest: str = ""


Read = Callable[[], Reread]
"""Reads the file, in a thread of its own. Raises ConfigError with every error."""


class Reloaded(msgspec.Struct, frozen=True):
    """The reply of a worker.

    Args:
        taken: sections that it has replaced, and settings of links as `acquirer[north].permissions`.
        restart: settings that have changed and are not in force.
        certificates: links whose TLS files cannot be used; the former ones stay in force.
    """

    worker: int
    taken: tuple[str, ...]
    restart: tuple[NeedsRestart, ...] = ()
    certificates: tuple[str, ...] = ()


OTHER_FILE = (
    "the file is not the one that the command has read: it was changed meanwhile, or this worker reads another one "
    "(--config); run cardswitch reload again"
)


class ReloadRefused(SwitchError):
    """Nothing was changed; `problems` lists why."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Reloader:
    """Reloads in one worker, one at a time.

    Args:
        config: the configuration that the worker started with.
        links: its links by name.
        read: None where there is no file, in simulations.
        certificates: has the links look at their TLS files again; returns the links whose files cannot be used.
    """

    def __init__(
        self,
        worker: int,
        config: SwitchConfig,
        online: Online,
        senders: Mapping[str, AdviceSender],
        links: Mapping[str, LinkEnd],
        meters: Meters,
        read: Read | None,
        certificates: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._worker = worker
        self._config = config
        self._online = online
        self._senders = senders
        self._links = links
        self._meters = meters
        self._read = read
        self._certificates = certificates
        self._lock = trio.Lock()

    async def reload(self, digest: str = "") -> Reloaded:
        """Take what can be taken.

        Args:
            digest: the expected digest of the file, see `Reread`; "" for any.

        Raises:
            ReloadRefused: the file has errors, is another one, or names what only a restart brings.
        """
        if self._read is None:
            raise ReloadRefused(("this worker has no configuration file",))
        async with self._lock:
            try:
                reread, table = await trio.to_thread.run_sync(_read_whole, self._read)
                if digest not in ("", reread.digest):
                    raise ConfigError("reload", (OTHER_FILE,))
                done = self._take(reread, table)
            except ConfigError as error:
                self._meters.count("reloads", "refused")
                log.error("reload_refused", problems=list(error.problems))
                raise ReloadRefused(error.problems) from error
        self._meters.count("reloads", "ok")
        log.info("reloaded", taken=list(done.taken), restart=[entry.setting for entry in done.restart])
        return done

    def _take(self, reread: Reread, table: RoutingTable) -> Reloaded:
        wanted, present = reread.config, self._config
        merged = with_taken(present, wanted)
        if problems := running_contradictions(present, merged):
            raise ConfigError("reload", tuple(problems))
        changed = {name: getattr(wanted, name) for name in TAKEN if getattr(wanted, name) != getattr(present, name)}
        ruled = [_Ruled(*pair, Permitted(pair[2].permissions)) for pair in _pairs(present, wanted)]
        # Only the first step may fail, and nothing waits: all settings come into force together, or none does.
        if changed:
            self._online.use(merged, table)
            for sender in self._senders.values():
                sender.settings = merged.saf
        for entry in ruled:
            self._links[entry.link.name].use(entry.wanted, entry.permitted)
        self._config = merged
        for entry in ruled:
            entry.record()
        taken = (*(TAKEN[name] for name in changed), *(setting for entry in ruled for setting in entry.settings))
        return Reloaded(self._worker, taken, reread.restart, tuple(self._certificates()))

    async def on_signal(self) -> None:
        """Reload; errors are in the log, and the worker goes on with its former settings."""
        try:
            await self.reload()
        except ReloadRefused:
            pass
        except Exception:
            self._meters.count("failures", "reload")
            log.exception("reload_failed")


class _Ruled(msgspec.Struct, frozen=True):
    """A link of `section` with other rules than before; `permitted` are the new permissions, compiled."""

    section: str
    link: Link
    wanted: Link
    permitted: Permitted

    @property
    def settings(self) -> tuple[str, ...]:
        return tuple(f"{self.section}[{self.link.name}].{name}" for name in changed_rules(self.link, self.wanted))

    def record(self) -> None:
        """Log each rule that changes, so that the log shows which rights a link had at any time."""
        for name in changed_rules(self.link, self.wanted):
            before, after = (msgspec.to_builtins(getattr(link, name)) for link in (self.link, self.wanted))
            log.warning("link_rule_changed", link=self.link.name, setting=name, before=before, after=after)


def with_taken(present: SwitchConfig, wanted: SwitchConfig) -> SwitchConfig:
    """A configuration with everything of another one that a reload takes."""
    sections = {name: getattr(wanted, name) for name in TAKEN}
    links = {
        name: tuple(with_rules_of(link, _named(getattr(wanted, name), link)) for link in getattr(present, name))
        for name in LINKS
    }
    return msgspec.structs.replace(present, **sections, **links)


def _pairs(present: SwitchConfig, wanted: SwitchConfig) -> list[tuple[str, Link, Link]]:
    """Links of both configurations whose rules differ: section, as it is, as it is wanted."""
    found: list[tuple[str, Link, Link]] = []
    for name, section in LINKS.items():
        pairs = ((link, _named(getattr(wanted, name), link)) for link in getattr(present, name))
        found += [(section, link, other) for link, other in pairs if changed_rules(link, other)]
    return found


def _named(links: Iterable[Link], link: Link) -> Link:
    """The link of the same name; `link` itself where the file has it no more, because it runs until the restart."""
    return next((other for other in links if other.name == link.name), link)


def _read_whole(read: Read) -> tuple[Reread, RoutingTable]:
    """The file and its routing table, which takes seconds where there are very many routes: not in trio's thread."""
    reread = read()
    return reread, RoutingTable(reread.config.routes)
