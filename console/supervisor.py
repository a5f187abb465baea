"""A whole system on one machine: a configuration and a state directory in, all processes running and ready out.

`cardswitch up`, the demo, the bench and the end-to-end tests start a `System`; leaving it stops every process that
it started. One state directory belongs to one system at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

import msgspec

from console.children import Children, ChildSpec, Event, Status
from console.config import Config, StateConfig, load_config, write_effective
from console.embedded import server_pid
from console.errors import StartError
from console.ports import busy_ports, listening_sockets, on_free_ports, require_free
from console.private_files import open_private, passed_mode, private_directory
from messages.address import address_of

# Payments in the switch's memory have to end before the HSM and the database go; SIGKILL after this.
STOP_GRACE_S = 20.0
_LONGEST_SOCKET_PATH = 107

Ports = Literal["configured", "free", "free-if-busy"]


class System:
    """All processes of one configuration; make it with `System.start`, use it as a context manager.

    Attributes:
        config: as it runs, with the ports that were taken.
        moved: settings whose port was busy and is another one now (`ports="free-if-busy"`).
    """

    def __init__(
        self,
        config: Config,
        children: Children,
        lock: IO[str],
        moved: tuple[str, ...],
        sockets: tuple[socket.socket, ...],
    ) -> None:
        self.config = config
        self.moved = moved
        self._children = children
        self._lock = lock
        self._sockets = sockets

    @classmethod
    def start(
        cls,
        config: Config,
        state: Path | None = None,
        *,
        ports: Ports = "configured",
        issuers: bool = True,
        timeout_s: float = 60.0,
        on_event: Callable[[Event], None] = lambda event: None,
        longest_pause_s: float = 10.0,
    ) -> System:
        """Start everything and return when every process is ready and every link to a simulated issuer is up.

        Args:
            config: the configuration.
            state: state directory, instead of the configuration's.
            ports: "free" takes free ports for all listeners; "free-if-busy" only if one of them is in use.
            issuers: whether the issuers of the configuration are simulated here.
            on_event: called for each process that becomes ready, dies or is started again (from another thread).
            longest_pause_s: the cap of the back-off before a dead process is started again.

        Raises: StartError; nothing is left running then.
        """
        if state is not None:
            overridden = tuple(sorted({*config.overridden, "state"}))
            config = msgspec.structs.replace(config, state=StateConfig(str(state.absolute())), overridden=overridden)
        lock = _locked(config)
        sockets: dict[str, socket.socket] = {}
        try:
            config, moved = _with_ports(config, ports, issuers)
            _check_sockets(config)
            write_effective(config, config_file(config.state_path))
            sockets = listening_sockets(config)
            children = Children(
                child_specs(config, issuers, {address: shared.fileno() for address, shared in sockets.items()}),
                config.log_path,
                _environment(),
                on_event,
                longest_pause_s=longest_pause_s,
            )
            system = cls(config, children, lock, moved, tuple(sockets.values()))
            children.start()
        except BaseException:
            for shared in sockets.values():
                shared.close()
            lock.close()
            raise
        try:
            deadline = time.monotonic() + timeout_s
            children.wait_ready(timeout_s)
            if issuers:  # those of others may be away for hours: the switch starts, and dials until they are there
                system.wait_links(deadline - time.monotonic())
        except BaseException:
            system.stop()
            raise
        return system

    def __enter__(self) -> System:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Stop every process that was started: SIGTERM, after `grace_s` SIGKILL. Twice is once."""
        self._children.stop(grace_s)
        for shared in self._sockets:
            shared.close()
        with contextlib.suppress(OSError):
            config_file(self.config.state_path).unlink()
        if not self._lock.closed:
            self._lock.close()

    def statuses(self) -> list[Status]:
        return self._children.statuses()

    def pid(self, name: str) -> int:
        """The pid of a process by its name: hsm, tokenizer, gateway, postgresql, switch-0, issuer-alpha, …"""
        pids = self._children.pids()
        if name == "postgresql" and (server := server_pid(self.config.state_path)) is not None:
            return server
        if name not in pids:
            raise StartError(f"{name} does not run", f"running: {', '.join(pids)}")
        return pids[name]

    def wait_child(self, name: str, timeout_s: float = 20.0, other_than: int | None = None) -> int:
        """The pid of `name` once it is ready and is not `other_than`, for a caller that has killed that one."""
        if name != "postgresql":
            return self._children.wait_child(name, timeout_s, other_than)
        # Its child only watches the server, which is what callers mean.
        deadline = time.monotonic() + timeout_s
        while True:
            self._children.wait_child(name, max(0.0, deadline - time.monotonic()))
            server = server_pid(self.config.state_path)
            if server is not None and server != other_than and Path(f"/proc/{server}").exists():
                return server
            time.sleep(0.02)

    def wait_links(self, timeout_s: float = 20.0) -> None:
        """Return when every switch worker says that it is ready: links up, database and HSM reached."""
        if not self.config.switch.metrics or not self.config.runs_switch:
            return
        host, port = address_of(self.config.switch.metrics)
        deadline = time.monotonic() + timeout_s
        for worker in range(self.config.switch.workers):
            while True:
                said = _readyz(host, port + worker)
                if said == "":
                    break
                if time.monotonic() > deadline:
                    raise StartError(f"switch-{worker} is not ready: {said}", f"look at {self.config.log_path}")
                time.sleep(0.02)

    def addresses(self) -> dict[str, str]:
        """Addresses for users: name → URL or host:port."""
        found = {"gateway": f"http://{self.config.gateway.listen}"} if self.config.runs_gateway else {}
        if self.config.runs_switch:
            found["tokenizer"] = self.config.tokenizer.public_url()
        for side, links in (("acquirer", self.config.acquirer), ("issuer", self.config.issuer)):
            found.update({f"{side} {link.name}": self.config.placed(link).listen for link in links if link.listen})
        if self.config.switch.metrics and self.config.runs_switch:
            host, port = address_of(self.config.switch.metrics)
            for worker in range(self.config.switch.workers):
                found[f"metrics {worker}"] = f"http://{host}:{port + worker}/metrics"
        return found

    def control_socket(self, issuer: str) -> Path:
        """The control socket of a simulated issuer."""
        return control_socket(self.config, issuer)

    def pids_by_group(self) -> dict[str, list[int]]:
        """Running processes with their descendants, by group: switch, hsm, postgresql, issuers, gateway."""
        from console.process_table import descendants

        groups: dict[str, list[int]] = {}
        for status in self.statuses():
            if status.pid is not None:
                groups.setdefault(status.group, []).extend([status.pid, *descendants(status.pid)])
        return groups

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of each process's log, for a failed test."""
        parts = []
        for status in self.statuses():
            text = "\n  ".join(self._children.log_tail(status.name, lines))
            parts.append(f"--- {status.name} ({status.state}, {status.restarts} restarts)\n  {text}")
        return "\n".join(parts)


def child_specs(config: Config, issuers: bool, sockets: Mapping[str, int]) -> list[ChildSpec]:
    """The processes of a system in starting order; the switch's workers share `sockets`."""
    file = str(config_file(config.state_path))
    command = (sys.executable, "-m", "console.cli")

    def spec(name: str, group: str, arguments: tuple[str, ...], needs: tuple[str, ...]) -> ChildSpec:
        return ChildSpec(name, group, (*command, *arguments, "--config", file), needs)

    gateway = [spec("gateway", "gateway", ("gateway",), ("hsm",))] if config.runs_gateway else []
    if not config.runs_switch:  # the database is another machine's, and so is its schema
        return [spec("hsm", "hsm", ("hsm",), ()), *gateway]
    specs = [
        spec("postgresql", "postgresql", ("postgresql",), ()),
        spec("hsm", "hsm", ("hsm",), ("postgresql",)),
    ]
    if issuers:
        specs += [
            spec(f"issuer-{link.name}", "issuers", ("sim", "issuer", link.name), ("hsm",)) for link in config.issuer
        ]
    specs += [
        spec(f"switch-{number}", "switch", ("switch", "--worker", str(number)), ("hsm",))._replace(sockets=sockets)
        for number in range(config.switch.workers)
    ]
    return [*specs, spec("tokenizer", "tokenizer", ("tokenizer",), ("hsm",)), *gateway]


def config_file(state: Path) -> Path:
    """The configuration of the system that runs in `state`, with the ports it really has."""
    return state / "run" / "config.json"


def control_socket(config: Config, issuer: str) -> Path:
    return config.state_path / "run" / f"issuer-{issuer}.sock"


def running_config(config: Config) -> Config:
    """The configuration of the system that runs in `config`'s state directory, else `config` itself."""
    file = config_file(config.state_path)
    return load_config(file) if file.exists() and is_running(config.state_path) else config


def is_running(state: Path) -> bool:
    """Whether a system holds the lock of this state directory."""
    try:
        with (state / "lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _locked(config: Config) -> IO[str]:
    state = config.state_path
    try:
        private_directory(state, passed_mode())
        file = os.fdopen(open_private(state / "lock", os.O_APPEND | os.O_RDWR), "a+")
    except OSError as error:
        raise StartError(f"{state} cannot be used: {error.strerror}", "choose another directory with --state") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read(32).strip() or "unknown"
        file.close()
        raise StartError(
            f"{state} is in use by the cardswitch with pid {owner}", "stop that one, or choose another with --state"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _with_ports(config: Config, ports: Ports, issuers: bool) -> tuple[Config, tuple[str, ...]]:
    if ports == "free":
        return on_free_ports(config, issuers), ()
    wanted = {**config.listeners(), **(config.simulated_listeners() if issuers else {})}
    if ports == "free-if-busy":
        busy = busy_ports(wanted)
        if busy:
            return on_free_ports(config, issuers), tuple(str(port) for port in busy)
        return config, ()
    require_free(wanted)
    return config, ()


def _check_sockets(config: Config) -> None:
    if problem := long_socket(config):
        raise StartError(problem, "choose a shorter --state")


def long_socket(config: Config) -> str:
    """Why a unix socket of this configuration cannot be made for its path's length; "" where all can."""
    sockets = [
        *config.hsm_sockets(),
        *(control_socket(config, link.name) for link in config.issuer),
        config.worker_socket(config.switch.workers - 1),
    ]
    longest = max(sockets, key=lambda path: len(os.fsencode(path)))
    if len(os.fsencode(longest)) <= _LONGEST_SOCKET_PATH:
        return ""
    return f"{longest} is too long for a unix socket ({_LONGEST_SOCKET_PATH} bytes)"


def _environment() -> dict[str, str]:
    """Children find the packages where this process found them, installed or not."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH", "")
    # Their configuration names the state directory; one that the user's environment names may be another system's.
    return {"PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root, "CARDSWITCH_STATE": ""}


def _readyz(host: str, port: int) -> str:
    """ "" where the worker is ready, else what it says."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read(2000).decode("utf-8", "replace").strip()
    except OSError as error:
        return str(error)
    except http.client.HTTPException as error:
        return f"no HTTP: {error}"
    finally:
        connection.close()
    if answer.status == 200:
        return ""
    with contextlib.suppress(ValueError):
        body = json.dumps(json.loads(body))
    return body[:300] or f"status {answer.status}"
