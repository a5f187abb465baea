"""The control socket of a worker: one JSON line with a command in, result lines out, then a last line with "ok".

    {"cmd": "links"}                                                → a line for each link, see `LinkStatus`
    {"cmd": "exchange-key", "link": "alpha", "kind": "pin"}         → {"ok": true, "version": 2, "kcv": "…", …}
    {"cmd": "suspend", "link": "alpha"}                             → as links, that link; resume likewise
    {"cmd": "echo", "link": "alpha"}                                → a line for each connection, `ManagementStatus`;
                                                                      sign-on and sign-off likewise
    {"cmd": "circuits"}                                             → a line for each issuer link, see `CircuitStatus`
    {"cmd": "reload", "digest": "5f1c…"}                            → {"ok": true, …}, see `Reloaded`; the digest of the
                                                                      file that is meant may be left out

Served inside the worker on a unix socket that only its user may open; `ask` is the blocking other end, for the command
line. Nothing on it is secret: keys appear by name and check value.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from hsm.commands import HsmRefused, HsmUnavailable
from hsm.key_commands import KeyInfo
from switch.advices import AdviceSender
from switch.errors import ControlError, KeyExchangeFailed, SwitchError, WireError
from switch.links.acquirer_port import AcquirerPort
from switch.links.issuer_line import IssuerLine
from switch.links.key_exchange import KeyExchange
from switch.links.permissions import Permissions
from switch.links.rules import RULES
from switch.reload import Reloader, ReloadRefused
from switch.routing.choice import Choice

log = structlog.get_logger("switch.control")

MAX_COMMAND_BYTES = 4096
MAX_CONNECTIONS = 8
TIMEOUT_S = 90.0  # of one connection: a key exchange with its repeats
HSM_S = 2.0  # longest wait for the check values of keys

Part = IssuerLine | AcquirerPort


class KeyStatus(msgspec.Struct, frozen=True):
    """One version of a key of a link."""

    kind: str
    name: str
    version: int
    status: str
    kcv: str
    created_at: int


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A link as one worker sees it; seconds are ago, None for never.

    `state` is that of the connection that carries traffic, or else of the last one; where there is none, `connecting`
    where we dial and `listening` where the peer does. `in_flight` are requests without an answer, ours or theirs,
    `backlog` stored advices that wait. `keys` is None where the hsm did not say.
    """

    worker: int
    link: str
    side: str  # issuer or acquirer
    state: str
    connections: int
    in_flight: int
    backlog: int
    heard_s: float | None
    echo_s: float | None
    keys: tuple[KeyStatus, ...] | None
    circuit: str = ""  # of an issuer link: closed, open or half_open
    identity: tuple[str, ...] = ()  # the peer's proof of identity; () for none
    # The rules in force, as the last reload left them; times in seconds.
    permissions: Permissions | None = None  # None: all that its side may send
    max_age_s: float
    advice_max_age_s: float
    max_ahead_s: float
    rate: float
    queue: int
    queue_s: float


class ManagementStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The peer's answer on one connection; `code` is DE 39, "" where no answer came in time.

    `state`: of the connection, after that.
    """

    worker: int
    link: str
    peer: str
    code: str
    elapsed_s: float
    state: str


class CircuitStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An issuer link as routing sees it in one worker; of `ended` requests in the window `failed` did so.

    `fit`: requests may be sent to it, as far as the link is concerned. `since_s`: seconds since the last change of the
        circuit, None where it has never changed.
    """

    worker: int
    link: str
    fit: bool
    circuit: str
    since_s: float | None
    failed: int
    ended: int


class ControlServer:
    """Answers operators in one worker; arguments are its parts, most by link name."""

    def __init__(
        self,
        worker: int,
        lines: Mapping[str, IssuerLine],
        ports: Mapping[str, AcquirerPort],
        senders: Mapping[str, AdviceSender],
        exchanges: Mapping[str, KeyExchange],
        choice: Choice | None = None,
        reloader: Reloader | None = None,
    ) -> None:
        self._worker = worker
        self._sides = {**dict.fromkeys(lines, "issuer"), **dict.fromkeys(ports, "acquirer")}
        self._parts: dict[str, Part] = {**lines, **ports}
        self._senders = senders
        self._exchanges = exchanges
        self._lines = lines
        self._choice = choice
        self._reloader = reloader
        self._slots = trio.Semaphore(MAX_CONNECTIONS)

    async def run(self, path: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen on `path` (made with mode 0600, an old socket is replaced) until cancelled. Raises WireError."""
        sock = trio.socket.from_stdlib_socket(_bound(path))
        try:
            task_status.started()
            await trio.serve_listeners(self._converse, [trio.SocketListener(sock)])
        finally:
            sock.close()
            _remove(path)

    async def _converse(self, stream: trio.SocketStream) -> None:
        try:
            async with self._slots, stream:
                with trio.move_on_after(TIMEOUT_S):
                    async for answer in self._answers(await _line(stream)):
                        await stream.send_all(msgspec.json.encode(answer) + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except Exception:
            log.exception("control_failed")

    async def _answers(self, line: bytes) -> AsyncIterator[object]:
        try:
            command = msgspec.json.decode(line, type=dict[str, Any])
            match command.get("cmd"):
                case "links":
                    for name in self._parts:
                        yield await self._link(name)
                    yield {"ok": True}
                case "suspend" | "resume" as what:
                    name = self._named(command)
                    connections = self._parts[name].connections
                    (connections.suspend if what == "suspend" else connections.resume)()
                    yield await self._link(name)
                    yield {"ok": True}
                case "sign-on" | "sign-off" | "echo" as what:
                    for told in await self._managed(self._named(command), what):
                        yield told
                    yield {"ok": True}
                case "exchange-key":
                    exchanged = await self._exchange(str(command.get("link", "")), str(command.get("kind", "")))
                    yield {"ok": True, **msgspec.to_builtins(exchanged)}
                case "circuits":
                    for status in self._circuits():
                        yield status
                    yield {"ok": True}
                case "reload" if self._reloader is not None:
                    reloaded = await self._reloader.reload(str(command.get("digest", "")))
                    yield {"ok": True, **msgspec.to_builtins(reloaded)}
                case other:
                    yield {"ok": False, "code": "unknown", "error": f"unknown command {other!r}"}
        except ControlError as error:
            yield {"ok": False, "code": error.code, "error": str(error)}
        except KeyExchangeFailed as failed:
            yield {"ok": False, "code": failed.outcome, "error": str(failed)}
        except ReloadRefused as refused:
            yield {"ok": False, "code": "invalid", "error": "\n".join(refused.problems)}
        except (SwitchError, msgspec.MsgspecError) as error:
            yield {"ok": False, "code": "malformed", "error": str(error)}

    def _named(self, command: dict[str, Any]) -> str:
        link = str(command.get("link", ""))
        if link not in self._parts:
            raise ControlError("no_link", f"there is no link {link!r}; there are {', '.join(self._parts)}")
        return link

    async def _managed(self, name: str, what: str) -> list[ManagementStatus]:
        connections = self._parts[name].connections
        ask = {"sign-on": connections.sign_on, "sign-off": connections.sign_off, "echo": connections.echo}[what]
        return [
            ManagementStatus(
                worker=self._worker,
                link=name,
                peer=told.peer,
                code=told.code,
                elapsed_s=round(told.elapsed_s, 6),
                state=told.state,
            )
            for told in await ask()
        ]

    async def _exchange(self, link: str, kind: str) -> object:
        if link not in self._parts:
            raise KeyExchangeFailed("no_link", f"there is no link {link!r}; there are {', '.join(self._parts)}")
        exchange = self._exchanges.get(link)
        if exchange is None:
            raise KeyExchangeFailed("no_key", f"link {link} has no {kind} key to exchange")
        return await exchange.start(kind)

    async def _link(self, name: str) -> LinkStatus:
        part = self._parts[name]
        now = trio.current_time()
        sessions = part.sessions
        shown = part.session or (sessions[-1] if sessions else None)
        echoes = [session.echoed_at for session in sessions if session.echoed_at is not None]
        return LinkStatus(
            worker=self._worker,
            link=name,
            side=self._sides[name],
            state=str(shown.state) if shown is not None else "connecting" if part.link.dials else "listening",
            connections=len(sessions),
            in_flight=part.in_flight,
            backlog=self._senders[name].backlog,
            heard_s=round(now - max(session.heard_at for session in sessions), 3) if sessions else None,
            echo_s=round(now - max(echoes), 3) if echoes else None,
            keys=await self._keys(name),
            circuit=self._circuit(name),
            identity=part.link.identity,
            **{name: getattr(part.link, name) for name in RULES},
        )

    def _circuit(self, name: str) -> str:
        breaker = self._choice.breakers.get(name) if self._choice is not None else None
        return str(breaker.state) if breaker is not None else ""

    def _circuits(self) -> list[CircuitStatus]:
        now = trio.current_time()
        found = []
        for name, breaker in (self._choice.breakers if self._choice is not None else {}).items():
            failed, ended = breaker.failing(now)
            found.append(
                CircuitStatus(
                    worker=self._worker,
                    link=name,
                    fit=self._lines[name].fit,
                    circuit=str(breaker.state),
                    since_s=None if breaker.changed_at is None else round(now - breaker.changed_at, 3),
                    failed=failed,
                    ended=ended,
                )
            )
        return found

    async def _keys(self, name: str) -> tuple[KeyStatus, ...] | None:
        exchange = self._exchanges.get(name)
        if exchange is None:
            return ()
        found: list[KeyStatus] = []
        try:
            with trio.fail_after(HSM_S):
                for kind in exchange.keys:
                    found += [_shown(kind, info) for info in await exchange.infos(kind) if info.status != "retired"]
        except (HsmRefused, HsmUnavailable, trio.TooSlowError):
            return None
        return tuple(found)


def ask(path: Path, command: str, timeout_s: float = TIMEOUT_S, **arguments: str) -> list[dict[str, Any]]:
    """Send one command to a worker's control socket and wait for its result lines; blocking.

    Returns:
        The result lines; for commands without lines one dict with the values of the last line.
    Raises:
        ControlError: no worker there, or it says no; with the `code` of its answer.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            sock.sendall(msgspec.json.encode({"cmd": command, **arguments}) + b"\n")
            with sock.makefile("rb") as file:
                lines = [msgspec.json.decode(line, type=dict[str, Any]) for line in file.read().splitlines()]
    except OSError as error:
        raise ControlError("away", f"{path}: {error.strerror or error}; does the worker run?") from None
    except msgspec.MsgspecError:
        raise ControlError("broken", f"{path}: the answer is no JSON") from None
    if not lines:
        raise ControlError("away", f"{path}: the worker hung up")
    last = lines.pop()
    if not last.pop("ok", False):
        raise ControlError(str(last.get("code", "broken")), str(last.get("error", "broken answer")))
    return lines or ([last] if last else [])


def _shown(kind: str, info: KeyInfo) -> KeyStatus:
    return KeyStatus(kind, info.name, info.version, info.status, info.kcv, info.created_at)


async def _line(stream: trio.SocketStream) -> bytes:
    data = b""
    while b"\n" not in data:
        part = await stream.receive_some(MAX_COMMAND_BYTES)
        data += part
        if not part or len(data) > MAX_COMMAND_BYTES:
            break
    return data.partition(b"\n")[0]


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _bound(path: Path) -> socket.socket:
    """A listening unix socket that only this user may open."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        sock.setblocking(False)
        mask = os.umask(0o177)  # from its first moment
        try:
            sock.bind(str(path))
        finally:
            os.umask(mask)
        sock.listen(MAX_CONNECTIONS)
    except OSError as error:
        sock.close()
        raise WireError(f"cannot listen on {path}: {error.strerror or error}") from error
    return sock
