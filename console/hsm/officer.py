"""Officers' way to the HSM: through its officer socket while it runs, else by holding the token themselves.

The configuration goes in; `open_officer` gives an `Officer`, whose `ask` takes the commands of `hsm.key_commands`
either way. A failure comes out as one line with its remedy. Called by the commands of `cardswitch hsm`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from console.config import Config
from console.errors import ConsoleError

Expected = TypeVar("Expected")

# An export or an import is some hundred PKCS#11 calls; behind a busy queue it waits.
_PATIENCE_S = 30.0

# The remedy of a refusal, by its code.
_FIXES = {
    "key_unknown": "cardswitch hsm key list shows the names",
    "key_usage": "cardswitch hsm key list shows what each key may do",
    "approval_needed": "propose it as an officer with --as YOUR.key; or see [hsm] dual_control",
    "proposal_unknown": "cardswitch hsm pending shows those that wait",
    "not_permitted": "cardswitch hsm pending shows who has a part in a change; [[caller]] officer, which commands pass",
    "overloaded": "try again",
    "expired": "try again",
}


class Officer(Protocol):
    """Takes commands; `running` says whether a process of the HSM answers them.

    `ask` raises ConsoleError where the HSM refuses, and where it cannot answer.
    """

    running: bool

    def ask(self, request: Any) -> Any: ...


@contextmanager
def open_officer(config: Config) -> Iterator[Officer]:
    """Give the way to the HSM that there is.

    Raises:
        ConsoleError: the process runs and does not let this user in, or the token cannot be opened.
    """
    from hsm.errors import ConfigurationError, HsmError
    from hsm.keys.holder import hold_lock

    path = config.caller_socket("officer")
    refused = _refused(path)
    if refused is None:
        yield _Running(path)
        return
    directory = config.state_path / "hsm"
    try:
        lock = hold_lock(directory)
    except ConfigurationError:
        raise _no_way_in(path, refused) from None
    except OSError as error:
        raise ConsoleError(f"{directory}: {error.strerror}", "choose another directory with --state") from None
    try:
        from console.hsm.token import offline_officer

        with offline_officer(config) as officer:
            yield officer
    except HsmError as error:
        raise ConsoleError(str(error)) from None
    finally:
        lock.close()


@contextmanager
def running_officer(config: Config) -> Iterator[Officer]:
    """Give the way to the process that runs, for commands that the token alone cannot do.

    Raises:
        ConsoleError: nobody answers at its officer socket.
    """
    path = config.caller_socket("officer")
    refused = _refused(path)
    if refused is not None:
        if hsm_runs(config):
            raise _no_way_in(path, refused)
        raise ConsoleError("the HSM does not run", "start it: cardswitch up")
    yield _Running(path)


def hsm_runs(config: Config) -> bool:
    """Whether a process holds the token."""
    from hsm.errors import ConfigurationError
    from hsm.keys.holder import hold_lock

    if _refused(config.caller_socket("officer")) is None:
        return True
    if not (config.state_path / "hsm" / "lock").exists():
        return False
    try:
        hold_lock(config.state_path / "hsm").close()
    except ConfigurationError:
        return True
    return False


def expect(kind: type[Expected], answer: object) -> Expected:
    """Return the answer if it is of the kind that its command has."""
    if not isinstance(answer, kind):
        raise ConsoleError(f"the HSM answered with {type(answer).__name__}", "are console and HSM of one version?")
    return answer


def refusal(code: str, detail: str) -> ConsoleError:
    """Return a refusal of the HSM as a line with what to do."""
    return ConsoleError(f"the HSM refused ({code}): {detail}", _FIXES.get(code, ""))


def _refused(path: Path) -> OSError | None:
    """Return why nobody answers at a socket; None where somebody does."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(str(path))
    except OSError as error:
        return error
    finally:
        probe.close()
    return None


def _no_way_in(path: Path, error: OSError) -> ConsoleError:
    fix = "it may be starting; or [[caller]] officer has no socket"
    if isinstance(error, PermissionError):
        fix = "be the user that the HSM runs as, or one of [[caller]] officer"
    return ConsoleError(f"the HSM runs, but its officer socket {path} cannot be used: {error.strerror or error}", fix)


class _Running:
    """Asks over the socket, a connection a command."""

    running = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, request: Any) -> Any:
        from hsm.commands import HsmRefused, HsmUnavailable

        try:
            return asyncio.run(self._ask(request))
        except HsmRefused as error:
            raise refusal(error.code, error.detail) from None
        except HsmUnavailable as error:
            raise ConsoleError(f"the HSM did not answer: {error}", "cardswitch hsm status says how it is") from None

    async def _ask(self, request: Any) -> Any:
        from hsm.asyncio_client import open_hsm

        async with open_hsm(self._path, timeout_s=_PATIENCE_S) as hsm:
            return await hsm.ask(request)
