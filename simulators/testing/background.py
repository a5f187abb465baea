"""A trio program in a thread: a service that says when it is ready goes in, blocking calls into it come out.

Simulators for tests run in one each, so that tests need no event loop and may block.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import trio

from simulators.errors import SimulatorError

T = TypeVar("T")

READY_S = 10.0
STOP_S = 10.0


class Background:
    """One service in one thread.

    Args:
        service: runs until cancelled; calls `task_status.started(value)` once it serves.
        name: of the thread.
    Raises:
        Exception: the service's exception before it was ready.
        SimulatorError: it was not ready within 10 s.
    """

    def __init__(self, service: Callable[..., Awaitable[Any]], name: str) -> None:
        self._ready = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope: trio.CancelScope | None = None
        self._thread = threading.Thread(target=self._run, args=(service,), name=name, daemon=True)
        self._thread.start()
        if not self._ready.wait(READY_S):
            raise SimulatorError(f"{name} was not ready within {READY_S:g} s")
        if self._error is not None:
            raise self._error

    @property
    def value(self) -> Any:
        """The service's value when it was ready."""
        return self._value

    def call(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Run an async function in the service's loop and wait for it.

        Raises:
            SimulatorError: the service has ended.
        """
        try:
            return trio.from_thread.run(function, *arguments, trio_token=self._alive())
        except (trio.RunFinishedError, trio.Cancelled):
            raise SimulatorError(f"{self._thread.name} has ended") from self._error

    def do(self, function: Callable[..., T], *arguments: object) -> T:
        """The same for a plain function."""
        try:
            return trio.from_thread.run_sync(function, *arguments, trio_token=self._alive())
        except (trio.RunFinishedError, trio.Cancelled):
            raise SimulatorError(f"{self._thread.name} has ended") from self._error

    def stop(self) -> None:
        """End the service; twice is once.

        Raises:
            Exception: its earlier exception.
        """
        if self._thread.is_alive() and self._token is not None and self._scope is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(STOP_S)
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _alive(self) -> trio.lowlevel.TrioToken:
        if self._token is None or not self._thread.is_alive():
            raise SimulatorError(f"{self._thread.name} has ended") from self._error
        return self._token

    def _run(self, service: Callable[..., Awaitable[Any]]) -> None:
        try:
            trio.run(self._main, service)
        except BaseException as error:  # it is raised again where somebody waits
            self._error = _innermost(error)
        finally:
            self._ready.set()

    async def _main(self, service: Callable[..., Awaitable[Any]]) -> None:
        async with trio.open_nursery() as nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._scope = nursery.cancel_scope
            self._value = await nursery.start(service)
            self._ready.set()


def _innermost(error: BaseException) -> BaseException:
    """The exception that nurseries have wrapped, where it is one error only."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
