"""The vault against real PostgreSQL: batches, races, surrogates, and a database that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
import pytest

from console.database_roles import OWNER
from hsm.engine import NewCard, UnknownSurrogate, UnknownToken
from hsm.errors import VaultError
from hsm.vault.batches import Batches
from hsm.vault.cards import Card, CardCache, Numbers
from hsm.vault.database import Database as VaultDatabase
from hsm.vault.vault import Vault
from tests.conftest import Database
from tests.hsm.conftest import execute, until
from tests.hsm.test_cards import card


class Counting:
    """Wraps a vault database and counts the questions."""

    def __init__(self, database: VaultDatabase) -> None:
        self._database = database
        self.questions = 0

    @property
    def available(self) -> bool:
        return self._database.available

    async def run(self, function: Callable[[Any], Awaitable[Any]]) -> Any:
        self.questions += 1
        return await self._database.run(function)


class FixedNumbers(Numbers):
    """Makes the given surrogates."""

    def __init__(self, surrogates: list[str]) -> None:
        super().__init__()
        self._surrogates = surrogates

    def surrogate(self) -> str:
        return self._surrogates.pop(0)


@asynccontextmanager
async def opened(dsn: str, numbers: Numbers | None = None) -> AsyncIterator[tuple[Vault, Any, CardCache]]:
    database = VaultDatabase(dsn, 2.0)
    await database.open()
    counting: Any = Counting(database)
    cache = CardCache(1000)
    try:
        yield Vault(counting, cache, numbers or Numbers()), counting, cache
    finally:
        await database.close()


def dsn_of(database: Database) -> str:
    return database.dsn("cardswitch_vault")


def test_new_cards_of_many_callers_are_one_statement(database: Database) -> None:
    async def test() -> None:
        async with opened(dsn_of(database)) as (vault, counting, cache):
            cards = [card(number) for number in range(100)]
            found = await asyncio.gather(*(vault.find(NewCard(item)) for item in cards))
            assert found == cards and len(cache) == 100
            assert counting.questions == 1
            assert await vault.find(UnknownToken("card_7")) == cards[7]
            assert await vault.find(UnknownSurrogate(cards[8].surrogate)) == cards[8]
            assert await vault.find(UnknownToken("card_none")) is None
            assert await vault.find(UnknownSurrogate("9900009999999999")) is None

    asyncio.run(test())


def test_the_first_row_of_a_fingerprint_stays(database: Database) -> None:
    async def test() -> None:
        async with opened(dsn_of(database)) as (one, _, _), opened(dsn_of(database)) as (other, _, _):
            candidates = [msgspec.structs.replace(card(1), token=f"card_{name}") for name in ("a", "b")]
            found = await asyncio.gather(one.find(NewCard(candidates[0])), other.find(NewCard(candidates[1])))
            assert found[0] == found[1] and found[0] in candidates

    asyncio.run(test())


def test_processes_that_store_the_same_cards_do_not_deadlock(database: Database) -> None:
    async def test() -> None:
        async with opened(dsn_of(database)) as (one, _, _), opened(dsn_of(database)) as (other, _, _):
            forth, back = range(300), range(299, -1, -1)
            tokens = await asyncio.gather(
                *(one.find(NewCard(card(number))) for number in forth),
                *(other.find(NewCard(card(number))) for number in back),
            )
            assert [item.token for item in tokens[:300] if item] == [f"card_{number}" for number in forth]
            assert [item.token for item in tokens[300:] if item] == [f"card_{number}" for number in back]

    asyncio.run(test())


def test_a_surrogate_that_is_taken_is_replaced(database: Database) -> None:
    async def test() -> None:
        numbers = FixedNumbers([card(1).surrogate, "9900000000000777"])
        async with opened(dsn_of(database), numbers) as (vault, _, _):
            await vault.find(NewCard(card(1)))
            second = await vault.find(NewCard(msgspec.structs.replace(card(2), surrogate=card(1).surrogate)))
            assert second is not None and second.surrogate == "9900000000000777"
            assert second.token == "card_2"

    asyncio.run(test())


def test_a_database_that_is_away_is_said_at_once_and_found_again(database: Database) -> None:
    owner = database.server.dsn(OWNER, "postgres")

    async def test() -> None:
        async with opened(dsn_of(database)) as (vault, _, _):
            await vault.find(NewCard(card(1)))
            allow = f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS "
            terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
            await asyncio.to_thread(execute, owner, allow + "false")
            await asyncio.to_thread(execute, owner, terminate, database.name)

            async def is_away() -> bool:  # the backend takes a moment to die
                try:
                    await vault.find(UnknownToken("card_1"))
                except VaultError:
                    return True
                return False

            await until(is_away)
            assert not vault.available
            with pytest.raises(VaultError):
                vault.find(UnknownToken("card_1"))  # at once: not even a future
            await asyncio.to_thread(execute, owner, allow + "true")
            await until(lambda: vault.available)
            assert await vault.find(UnknownToken("card_1")) == card(1)

    asyncio.run(test())


def test_a_database_that_was_never_there(tmp_path: Any) -> None:
    async def test() -> None:
        async with opened(f"postgresql://x@/x?host={tmp_path}") as (vault, _, _):
            assert not vault.available
            with pytest.raises(VaultError):
                vault.find(NewCard(card(1)))

    asyncio.run(test())


def test_the_role_may_not_change_or_delete_cards(database: Database) -> None:
    for sql in (
        "DELETE FROM vault.cards",
        "UPDATE vault.cards SET ciphertext = ''",
        "DELETE FROM vault.tokens",
        "UPDATE vault.tokens SET card = ''",
        "TRUNCATE vault.cards CASCADE",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            execute(dsn_of(database), sql)


@pytest.mark.parametrize("role", ["cardswitch_gateway", "cardswitch_ledger"])
def test_other_roles_do_not_see_the_vault(database: Database, role: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        execute(database.dsn(role), "SELECT 1 FROM vault.cards")


def test_batches_group_what_waits_and_share_answers() -> None:
    async def test() -> None:
        asked: list[list[int]] = []

        async def ask(questions: dict[int, str]) -> dict[int, str]:
            asked.append(sorted(questions))
            await asyncio.sleep(0)
            return {key: payload for key, payload in questions.items() if key != 3}

        batches: Batches[int, str, str] = Batches(ask, max_batch=3, max_waiting=5)
        first = batches.submit(1, "one")
        assert batches.submit(1, "again") is first
        others = [batches.submit(number, str(number)) for number in (2, 3, 4, 5)]
        with pytest.raises(VaultError, match="too many"):
            batches.submit(6, "six")
        assert await first == "one"
        assert await asyncio.gather(*others) == ["2", None, "4", "5"]
        assert asked == [[1, 2, 3], [4, 5]]

    asyncio.run(test())


def test_batches_pass_errors_to_all_and_go_on() -> None:
    async def test() -> None:
        failing = True

        async def ask(questions: dict[int, int]) -> dict[int, int]:
            if failing:
                raise VaultError("away")
            return questions

        batches: Batches[int, int, int] = Batches(ask)
        results = await asyncio.gather(batches.submit(1, 1), batches.submit(2, 2), return_exceptions=True)
        assert [type(result) for result in results] == [VaultError, VaultError]
        failing = False
        assert await batches.submit(1, 1) == 1

    asyncio.run(test())


def test_card_rows_have_the_shape_of_the_struct(database: Database) -> None:
    rows = execute(
        dsn_of(database),
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'vault' AND table_name = 'cards'"
        " AND column_name <> 'created_at' ORDER BY ordinal_position",
    )
    names = [row["column_name"].replace("leading_digits", "bin") for row in rows]
    assert names == list(Card.__struct_fields__)
