"""From one data key to the next: nothing has to be re-wrapped to be read, and what is re-wrapped is all there."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time

import pytest

from hsm.engine import NewCard
from hsm.key_commands import Rewrap, Rewrapped
from hsm.vault import rewrap
from hsm.vault_commands import Detokenize, GenerateTokenCryptogram, ProvisionNetworkToken
from tests.conftest import Database
from tests.hsm.conftest import execute
from tests.hsm.vault.counter import DOMAIN, Counter, at_counter, opened
from tests.hsm.vault.rewrap_process import KnownKeyring


def pan_of(number: int) -> str:
    return f"40000000{number:08d}"


async def filled(counter: Counter, count: int, start: int = 0) -> dict[str, str]:
    """Store cards; returns PAN by token."""
    return {await counter.card(pan_of(number)): pan_of(number) for number in range(start, start + count)}


async def readable(counter: Counter, cards: dict[str, str]) -> None:
    """All cards give their numbers, from the cache and from the table."""
    for _ in range(2):
        for token, pan in cards.items():
            assert (await counter.ask(Detokenize(id=token, purpose="clearing"))).pan == pan
        for token in cards:
            counter.cards.drop(token)


async def versions(database: Database) -> dict[str, int]:
    found = await asyncio.to_thread(
        execute, database.dsn("cardswitch_vault"), "SELECT key_version, count(*) FROM vault.cards GROUP BY key_version"
    )
    return {row["key_version"]: row["count"] for row in found}


def test_old_ciphertexts_are_read_without_rewrap(database: Database) -> None:
    async def test(counter: Counter) -> None:
        old = await filled(counter, 5)
        counter.keyring.rotate()
        new = await filled(counter, 5, start=5)
        await readable(counter, old | new)
        assert await versions(database) == {"pan-1": 5, "pan-2": 5}

    at_counter(database, test)


def test_batches_bring_everything_under_the_newest_key(database: Database) -> None:
    async def test(counter: Counter) -> None:
        cards = await filled(counter, 7)
        token = await counter.ask(ProvisionNetworkToken(pan=pan_of(0), domain=DOMAIN, expiry="3012"))
        counter.keyring.rotate()
        cards |= await filled(counter, 3, start=7)
        counter.keyring.rotate()
        answers = []
        for _ in range(4):
            answers.append(await counter.ask(Rewrap(limit=4)))
        assert answers == [Rewrapped(4, 7), Rewrapped(4, 3), Rewrapped(3, 0), Rewrapped(0, 0)]
        assert await versions(database) == {"pan-3": 10}
        assert [await counter.vault.cards_under(name) for name in ("pan-1", "pan-2", "pan-3")] == [0, 0, 11]
        counter.keyring.retire("pan-1")
        counter.keyring.retire("pan-2")
        await readable(counter, cards)
        assert (await counter.ask(GenerateTokenCryptogram(id=token.id, domain=DOMAIN))).dpan == token.dpan

    at_counter(database, test)


def test_what_is_left_is_counted_to_a_bound_and_ends_at_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrap, "MAX_COUNTED", 3)

    async def test(counter: Counter) -> None:
        await filled(counter, 9)
        counter.keyring.rotate()
        assert await counter.vault.cards_under("pan-1") == 3
        answers = [await counter.ask(Rewrap(limit=4)) for _ in range(4)]
        assert answers == [Rewrapped(4, 3), Rewrapped(4, 1), Rewrapped(1, 0), Rewrapped(0, 0)]
        assert await counter.vault.cards_under("pan-1") == 0

    at_counter(database, test)


def test_a_key_that_is_to_be_destroyed_is_asked_for_first(database: Database) -> None:
    async def test(counter: Counter) -> None:
        cards = await filled(counter, 3)
        counter.keyring.rotate()
        assert await counter.vault.cards_under("pan-1") == 3
        waiting = counter.engine.identify("4242424242424242", "")
        assert isinstance(waiting, NewCard) and waiting.candidate.key_version == "pan-2"
        storing = counter.vault.find(waiting)
        assert await counter.vault.cards_under("pan-2") == 1  # on its way counts
        await storing
        assert await counter.vault.cards_under("pan-2") == 1
        while (await counter.ask(Rewrap())).left:
            pass
        assert len(counter.cards) == 4
        assert await counter.vault.cards_under("pan-1") == 0
        assert len(counter.cards) == 1  # no ciphertext of a key that may go now
        counter.keyring.retire("pan-1")
        await readable(counter, cards)

    at_counter(database, test)


def test_an_unreadable_ciphertext_is_left_and_the_others_go_on(database: Database) -> None:
    async def test(counter: Counter) -> None:
        cards = await filled(counter, 4)
        broken = next(iter(cards))
        owner = database.dsn("owner")
        sql = "UPDATE vault.cards SET ciphertext = sha256('x') WHERE token = $1"
        await asyncio.to_thread(execute, owner, sql, broken)
        counter.keyring.rotate()
        assert await counter.ask(Rewrap()) == Rewrapped(3, 1)
        assert await counter.ask(Rewrap()) == Rewrapped(0, 1)
        assert await versions(database) == {"pan-1": 1, "pan-2": 3}
        del cards[broken]
        await readable(counter, cards)

    at_counter(database, test)


def test_limits_are_brought_into_range(database: Database) -> None:
    async def test(counter: Counter) -> None:
        await filled(counter, 3)
        counter.keyring.rotate()
        assert await counter.ask(Rewrap(limit=-5)) == Rewrapped(1, 2)
        assert await counter.ask(Rewrap(limit=10**9)) == Rewrapped(2, 0)

    at_counter(database, test)


def test_two_at_once_and_live_traffic_lose_nothing(database: Database) -> None:
    async def test(counter: Counter) -> None:
        cards = await filled(counter, 60)
        counter.keyring.rotate()

        async def all_of(desk: Counter) -> None:
            while (await desk.ask(Rewrap(limit=7))).left:
                pass

        async def traffic(desk: Counter) -> None:
            for token, pan in cards.items():
                assert (await desk.ask(Detokenize(id=token, purpose="clearing"))).pan == pan
                desk.cards.drop(token)

        async with opened(database, keyring=counter.keyring) as other:
            await asyncio.gather(all_of(counter), all_of(other), traffic(counter), traffic(other))
            await readable(other, cards)
        assert await versions(database) == {"pan-2": 60}

    at_counter(database, test)


def test_a_row_that_changed_meanwhile_is_not_overwritten(database: Database) -> None:
    async def test(counter: Counter) -> None:
        cards = await filled(counter, 1)
        (row,) = await asyncio.to_thread(execute, database.dsn("cardswitch_vault"), "SELECT * FROM vault.cards")
        counter.keyring.rotate()
        await counter.ask(Rewrap())
        for version, nonce in (("pan-3", row["nonce"]), ("pan-2", row["nonce"])):  # an earlier reader comes too late
            done = await asyncio.to_thread(
                execute,
                database.dsn("cardswitch_vault"),
                "SELECT vault.rewrap_cards($1, $2, $3, $4, $5) AS done",
                *([row["token"]], [nonce], version, [bytes(12)], [b"late"]),
            )
            assert done[0]["done"] == 0
        await readable(counter, cards)

    at_counter(database, test)


def test_killed_at_any_moment(database: Database) -> None:
    """A process that re-wraps in small batches is killed again and again; its rest is all readable."""
    keyring = KnownKeyring()
    cards: dict[str, str] = {}

    async def fill(counter: Counter) -> None:
        cards.update(await filled(counter, 200))
        counter.keyring.rotate()

    async def look(counter: Counter) -> None:
        await readable(counter, cards)

    async def finish(counter: Counter) -> None:
        while (await counter.ask(Rewrap())).left:
            pass
        await readable(counter, cards)

    at_counter(database, fill, keyring=keyring)
    counts = []
    for attempt in range(8):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.hsm.vault.rewrap_process", database.dsn("cardswitch_vault")],
            stdout=subprocess.PIPE,
        )
        with process:
            assert process.stdout is not None and process.stdout.readline() == b"begun\n"
            time.sleep(0.003 * attempt)
            if attempt == 7:  # on a slow machine, too, one of them dies in the middle of it
                while process.poll() is None and asyncio.run(versions(database)).get("pan-1", 0) == 200:
                    time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        counts.append(asyncio.run(versions(database)).get("pan-1", 0))
        at_counter(database, look, keyring=keyring)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < 200, "killed too early each time"
    at_counter(database, finish, keyring=keyring)
    assert asyncio.run(versions(database)) == {"pan-2": 200}
