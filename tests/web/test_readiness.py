"""Answers of health pages: a dependency is asked ten times a second at most, however many ask."""

from __future__ import annotations

import asyncio

import pytest

from web.readiness import KEEP_S, Kept


class Dependency:
    """Counts how often it is asked; answers when `answering` is set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0
        self.answering = asyncio.Event()
        self.answering.set()

    async def __call__(self) -> int:
        self.asked += 1
        await self.answering.wait()
        return self.asked


def test_an_answer_is_kept_for_a_moment() -> None:
    async def main() -> None:
        dependency = Dependency()
        kept = Kept(dependency, clock=lambda: dependency.now)
        assert [await kept.get() for _ in range(100)] == [1] * 100
        dependency.now += KEEP_S * 0.99
        assert await kept.get() == 1
        dependency.now += KEEP_S * 0.02
        assert [await kept.get() for _ in range(100)] == [2] * 100

    asyncio.run(main())


def test_callers_at_once_share_one_question_and_one_that_leaves_takes_nothing_away() -> None:
    async def main() -> None:
        dependency = Dependency()
        dependency.answering.clear()
        kept = Kept(dependency)
        callers = [asyncio.create_task(kept.get()) for _ in range(100)]
        await asyncio.sleep(0)
        callers[0].cancel()
        await asyncio.sleep(0)
        dependency.answering.set()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1:] == [1] * 99 and dependency.asked == 1

    asyncio.run(main())


def test_a_question_that_fails_is_asked_again() -> None:
    async def main() -> None:
        asked = 0

        async def fails() -> int:
            nonlocal asked
            asked += 1
            raise OSError

        kept = Kept(fails)
        for _ in range(2):
            with pytest.raises(OSError):
                await kept.get()
        assert asked == 2

    asyncio.run(main())
