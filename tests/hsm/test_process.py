"""The HSM as a process: hostile callers, restart after kill -9, dumps, and nothing of a card in its output."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from console.database_roles import OWNER
from console.postgresql import EmbeddedPostgres
from hsm.algorithms.pinblock import encrypt_pin_block
from hsm.asyncio_client import open_hsm
from hsm.commands import Dispatch, HsmRefused, HsmUnavailable, MacCheck, Screen
from hsm.config import HsmConfig
from hsm.keys.exchange import load_party_keys
from hsm.vault_commands import Tokenize
from hsm.wire import Frame, FrameReader, Refused, decode_answer, frame
from tests.hsm.conftest import KEYS, HsmProcess, execute, new_database, until

PAN = "4000000000009995"


def test_a_socket_for_its_owner_only(hsm_process: HsmProcess) -> None:
    assert hsm_process.socket.stat().st_mode & 0o777 == 0o600


def test_no_dumps(hsm_process: HsmProcess) -> None:
    limits = Path(f"/proc/{hsm_process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    # A process that is not dumpable belongs to root in /proc, so that nobody else of its user can look into it.
    assert Path(f"/proc/{hsm_process.pid}/mem").stat().st_uid == 0


def test_garbage_is_answered_or_cut_off(hsm_process: HsmProcess) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(hsm_process.socket))
        caller.settimeout(5)
        caller.sendall(frame(7, b"\x81\xa4type\xa4none") + frame(8, b"") + frame(9, os.urandom(50)))
        reader, answers = FrameReader(), list[Frame]()
        while len(answers) < 3:
            answers += reader.receive(caller.recv(4096))
        for _, _, body in answers:
            refused = decode_answer(body)
            assert isinstance(refused, Refused) and refused.code == "malformed"
        caller.sendall(b"\xff" * 8)
        assert caller.recv(4096) == b""


def test_more_than_the_queue_holds_is_refused(postgresql_server: EmbeddedPostgres, tmp_path: Path) -> None:
    process = HsmProcess(
        tmp_path, new_database(postgresql_server), HsmConfig(dual_control=False, keys=KEYS, max_queued=20)
    )

    async def test() -> None:
        async with open_hsm(process.socket) as hsm:
            await hsm.screen(Screen(pan=PAN))
            answers = await asyncio.gather(*(hsm.screen(Screen(pan=PAN)) for _ in range(500)), return_exceptions=True)
            refused = [answer for answer in answers if isinstance(answer, HsmRefused)]
            assert refused and {answer.code for answer in refused} == {"overloaded"}
            assert len(refused) < 500
            assert (await hsm.screen(Screen(pan=PAN))).token  # and is there again

    try:
        asyncio.run(test())
    finally:
        assert process.stop() == 0


def test_kill_and_restart_keep_cards_and_keys(postgresql_server: EmbeddedPostgres, tmp_path: Path) -> None:
    dsn, config = new_database(postgresql_server), HsmConfig(dual_control=False, keys=KEYS)
    first = HsmProcess(tmp_path, dsn, config)

    async def test() -> None:
        async with open_hsm(first.socket) as hsm:
            before = await hsm.screen(Screen(pan=PAN, expiry="3012"))
            tok = await hsm.tokenize(Tokenize(pan=PAN, expiry="3012", kind="tok"))
            first.stop(signal.SIGKILL)
            with pytest.raises(HsmUnavailable):
                await hsm.screen(Screen(pan=PAN))
            second = HsmProcess(tmp_path, dsn, config)
            try:
                await until(lambda: hsm.connected)
                # Nothing is in the new process's cache: by token, by surrogate, by number.
                assert (await hsm.dispatch(Dispatch(token=before.token))).pan == PAN
                assert await hsm.screen(Screen(pan=tok.surrogate, surrogate=True)) == before
                assert await hsm.screen(Screen(pan=PAN)) == before
            finally:
                assert second.stop() == 0
            assert not second.socket.exists()

    asyncio.run(test())


def test_cards_in_memory_work_while_the_vault_is_away(postgresql_server: EmbeddedPostgres, tmp_path: Path) -> None:
    dsn = new_database(postgresql_server)
    name = execute(dsn, "SELECT current_database()")[0][0]
    process = HsmProcess(tmp_path, dsn, HsmConfig(dual_control=False, keys=KEYS))
    owner = postgresql_server.dsn(OWNER, "postgres")

    async def test() -> None:
        async with open_hsm(process.socket) as hsm:
            known = await hsm.screen(Screen(pan=PAN))
            await asyncio.to_thread(execute, owner, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
            await asyncio.to_thread(execute, owner, terminate, name)

            async def is_away() -> bool:  # the backend takes a moment to die
                try:
                    await hsm.dispatch(Dispatch(token="card_none"))
                except HsmRefused:
                    return False
                except HsmUnavailable:
                    return True
                return False

            await until(is_away)
            with pytest.raises(HsmUnavailable, match="vault"):
                await hsm.screen(Screen(pan="4242424242424242"))
            assert await hsm.screen(Screen(pan=PAN)) == known
            assert (await hsm.dispatch(Dispatch(token=known.token))).pan == PAN
            assert not (await hsm.status()).vault
            await asyncio.to_thread(execute, owner, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

            async def vault_is_back() -> bool:
                return (await hsm.status()).vault

            await until(vault_is_back)
            assert (await hsm.screen(Screen(pan="4242424242424242"))).token

    try:
        asyncio.run(test())
    finally:
        assert process.stop() == 0


def test_nothing_of_a_card_in_log_metrics_or_table(postgresql_server: EmbeddedPostgres, tmp_path: Path) -> None:
    dsn = new_database(postgresql_server)
    process = HsmProcess(tmp_path, dsn, HsmConfig(dual_control=False, keys=KEYS))
    keys = load_party_keys(tmp_path / "exchange", "pos")
    pin = "739158264017"  # long enough not to stand in a ciphertext by chance
    block = encrypt_pin_block(pin, PAN, keys["zpk-pos"])
    texts: list[str] = []

    async def test() -> None:
        async with open_hsm(process.socket) as hsm:
            card = await hsm.screen(Screen(pan=PAN, expiry="3012", trace_id="trace1"))
            with_pin: dict[str, Any] = {"pin_block": block, "pin_key_in": "zpk-pos"}
            for refused in (
                hsm.screen(Screen(pan=PAN + "x", trace_id="trace2")),
                hsm.screen(Screen(mac=MacCheck("zak-pos", PAN.encode(), bytes(8)), trace_id="trace3")),
                hsm.dispatch(Dispatch(token=card.token, pin_key_out="none", trace_id="trace4", **with_pin)),
            ):
                with pytest.raises(HsmRefused) as caught:
                    await refused
                texts.append(str(caught.value))
            await hsm.dispatch(Dispatch(token=card.token, pin_key_out="zpk-alpha", trace_id="trace5", **with_pin))
            await hsm.tokenize(Tokenize(pan=PAN, expiry="3012", kind="tok", trace_id="trace6"))
            texts.append((await hsm.status()).metrics)

    try:
        asyncio.run(test())
    finally:
        assert process.stop() == 0
    texts.append(process.log)
    texts += [str(tuple(row)) for table in ("cards", "tokens") for row in execute(dsn, f"SELECT * FROM vault.{table}")]
    for trace_id, outcome in (("trace2", "pan_invalid"), ("trace3", "mac_invalid"), ("trace5", "ok"), ("trace6", "ok")):
        assert any(trace_id in line and outcome in line for line in process.log.splitlines())
    for text in texts:
        for secret in (PAN, PAN[:12], pin, block.hex(), keys["zpk-pos"].hex()):
            assert secret not in text.lower()


def test_reprs_show_nothing() -> None:
    shown = [
        Screen(pan=PAN, expiry="3012", mac=MacCheck("k", PAN.encode(), b"mac")),
        MacCheck("k", PAN.encode(), b"mac"),
        Dispatch(token="card_1", pin_block=PAN.encode()),
        Tokenize(pan=PAN, expiry="3012"),
    ]
    for value in shown:
        assert PAN not in repr(value) and "3012" not in repr(value) and "mac'" not in repr(value)
