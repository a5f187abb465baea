"""Questions that arrive while another is under way, asked together.

Keys with a payload go in one at a time, a future each comes out; `ask` gets them as one mapping. Called by the vault:
one INSERT for all cards that many waiting screens have seen for the first time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

from hsm.errors import VaultError

Key = TypeVar("Key", bound=Hashable)
Payload = TypeVar("Payload")
Answer = TypeVar("Answer")


class Batches(Generic[Key, Payload, Answer]):
    """One question at a time is under way; further ones wait for the next.

    Args:
        ask: gets payloads by key, returns answers by key; a key without an answer resolves to None.
        max_batch: keys in one question.
        max_waiting: keys that wait; above it VaultError.
    """

    def __init__(
        self,
        ask: Callable[[dict[Key, Payload]], Awaitable[Mapping[Key, Answer]]],
        *,
        max_batch: int = 512,
        max_waiting: int = 8192,
    ) -> None:
        self._ask = ask
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: dict[Key, tuple[Payload, asyncio.Future[Answer | None]]] = {}
        self._worker: asyncio.Task[None] | None = None
        self._asked: list[Payload] = []

    @property
    def unanswered(self) -> list[Payload]:
        """The waiting and the running questions."""
        return [*self._asked, *(payload for payload, _ in self._waiting.values())]

    def submit(self, key: Key, payload: Payload) -> asyncio.Future[Answer | None]:
        """Return the future of this key's answer; it is shared by all who ask for the same key, so never cancel it.

        Raises:
            VaultError: too many are waiting.
        """
        known = self._waiting.get(key)
        if known is not None:
            return known[1]
        if len(self._waiting) >= self._max_waiting:
            raise VaultError("too many questions wait for the vault")
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._waiting[key] = (payload, future)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return future

    async def _work(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[: self._max_batch]
            batch = {key: self._waiting.pop(key) for key in keys}
            self._asked = [payload for payload, _ in batch.values()]
            try:
                answers = await self._ask({key: payload for key, (payload, _) in batch.items()})
            except BaseException as error:
                for _, future in batch.values():
                    if not future.done():
                        future.set_exception(error if isinstance(error, Exception) else VaultError("shutting down"))
                if not isinstance(error, Exception):
                    raise
            else:
                for key, (_, future) in batch.items():
                    if not future.done():
                        future.set_result(answers.get(key))
            finally:
                self._asked = []
