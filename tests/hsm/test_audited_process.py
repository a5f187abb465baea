"""The HSM as a process: its callers on their sockets, and the audit trail that it leaves, also where it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.postgresql import EmbeddedPostgres
from hsm.asyncio_client import open_hsm
from hsm.audit import MAX_CLAIMS, AuditReport, Claim, Head, head_bytes, read_records, verify_audit
from hsm.audit_commands import CheckedSeals, CheckSeals
from hsm.callers import CALLERS, CallerConfig
from hsm.commands import Dispatch, GenerateMac, HsmRefused, HsmUnavailable, Screen
from hsm.config import HsmConfig
from hsm.key_commands import GenerateKey, ListKeys, RotateKey
from hsm.keys.holder import Keyholder
from hsm.server import AUDIT
from hsm.vault_commands import Tokenize
from hsm.wire import FrameReader, Refused, decode_answer, encode_body, frame
from tests.hsm.conftest import KEYS, HsmProcess, new_database, until

PAN = "4000000000009995"
MAC = GenerateMac(key="zak-pos", data=b"x", trace_id="0123456789abcdef")


@pytest.fixture
def process(postgresql_server: EmbeddedPostgres, tmp_path: Path) -> Any:
    config = HsmConfig(dual_control=False, keys=KEYS, callers=(CallerConfig(name="gateway", keys=("zak-pos",)),))
    running = HsmProcess(tmp_path, new_database(postgresql_server), config)
    yield running
    running.stop(signal.SIGKILL)


def sealed_report(state: Path) -> AuditReport:
    """Verify the trail of a stopped process with its token."""
    holder = Keyholder(HsmConfig(dual_control=False, keys=KEYS), state)
    holder.open()
    try:
        return verify_audit(state / AUDIT, holder.token.seal_audit)
    finally:
        holder.close()


def test_every_caller_has_a_socket_and_its_commands(process: HsmProcess) -> None:
    requests: dict[str, Any] = {"mac": MAC, "tokenize": Tokenize(pan=PAN, expiry="3012"), "list_keys": ListKeys()}

    async def test() -> None:
        for name in CALLERS:
            path = process.state / ("hsm.sock" if name == "switch" else f"hsm-{name}.sock")
            assert path.stat().st_mode & 0o777 == 0o600
            async with open_hsm(path) as hsm:
                assert (await hsm.status()).token
                for tag, request in requests.items():
                    if tag in CALLERS[name]:
                        await hsm.ask(request)
                    else:
                        with pytest.raises(HsmRefused, match="not_permitted"):
                            await hsm.ask(request)

    asyncio.run(test())
    assert process.stop() == 0
    report = sealed_report(process.state)
    assert report.ok and report.unsealed == 0, [str(problem) for problem in report.problems]
    said, *taken = read_records(process.state / AUDIT)
    assert (said["caller"], said["command"], said["outcome"]) == ("hsm", "dual_control", "off")
    assert {record["uid"] for record in taken} == {os.getuid()} and {record["pid"] for record in taken} == {os.getpid()}
    outcomes = {(record["caller"], record["command"]): record["outcome"] for record in taken}
    assert outcomes["switch", "mac"] == "ok" and outcomes["switch", "tokenize"] == "not_permitted"
    assert outcomes["tokenizer", "tokenize"] == "ok" and outcomes["tokenizer", "mac"] == "not_permitted"
    assert outcomes["officer", "list_keys"] == "ok" and len(outcomes) == 3 * len(CALLERS)
    assert next(record for record in taken if record["outcome"] == "ok")["keys"] == ["zak-pos/1"]
    assert not list(process.state.glob("*.sock"))


def test_status_says_how_it_is(process: HsmProcess) -> None:
    async def test() -> None:
        async with open_hsm(process.socket) as hsm:
            await hsm.mac(MAC)
            status = await hsm.status()
            assert status.token and status.vault and status.since > 0 and status.queued == 1
            assert status.audit.records >= 1 and status.audit.segment == 1 and not status.audit.failure
            listed = {key.name: key.kcv for key in status.key_list}
            assert listed.keys() > {key.name for key in KEYS} and all(listed.values())
            assert status.keys["zak-pos"] == listed["zak-pos"]
            for name in ("queued", "audit_records_total", "commands_total", 'up{part="audit"}'):
                assert f"cardswitch_hsm_{name}" in status.metrics

    asyncio.run(test())


def test_a_command_past_its_budget_is_not_done(process: HsmProcess) -> None:
    """A hundred dispatches come at once; one that waits one millisecond is refused, and counted."""

    async def test() -> None:
        reader, writer = await asyncio.open_unix_connection(str(process.socket))
        writer.write(b"".join(frame(number, encode_body(MAC), 1) for number in range(2000)))
        frames, outcomes = FrameReader(), dict[str, int]()
        while sum(outcomes.values()) < 2000:
            for _, _, body in frames.receive(await reader.read(65_536)):
                answer = decode_answer(body)
                outcome = answer.code if isinstance(answer, Refused) else "ok"
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
        writer.close()
        assert set(outcomes) <= {"ok", "expired"} and outcomes["expired"] > 0
        async with open_hsm(process.socket) as hsm:
            await hsm.mac(MAC)
            metrics = (await hsm.status()).metrics
            assert f'outcome="expired"}} {outcomes["expired"]}.0' in metrics

    asyncio.run(test())


def test_nothing_that_was_answered_is_missing_after_a_kill(process: HsmProcess) -> None:
    answered = 0

    async def test() -> None:
        nonlocal answered
        async with open_hsm(process.socket) as hsm:

            async def ask() -> None:
                nonlocal answered
                while True:
                    try:
                        await hsm.mac(MAC)
                    except HsmUnavailable:
                        return
                    answered += 1

            asking = [asyncio.create_task(ask()) for _ in range(8)]
            await until(lambda: answered > 500)
            process.stop(signal.SIGKILL)
            await asyncio.gather(*asking)

    asyncio.run(test())
    there = sum(
        record["command"] == "mac" and record["outcome"] == "ok" for record in read_records(process.state / AUDIT)
    )
    assert there >= answered > 500
    again = HsmProcess(process.state, process.dsn, HsmConfig(dual_control=False, keys=KEYS))
    assert again.stop() == 0
    report = sealed_report(process.state)
    assert report.ok and report.segments == 2, [str(problem) for problem in report.problems]


def test_changed_keys_are_used_at_once_and_nothing_waits_in_vain(process: HsmProcess) -> None:
    async def test() -> None:
        async with open_hsm(process.socket) as hsm:
            await hsm.generate_key(GenerateKey(name="zak-own", role="mac"))
            before = await hsm.mac(GenerateMac(key="zak-own", data=b"x"))
            work = [asyncio.create_task(hsm.screen(Screen(pan=PAN))) for _ in range(200)]
            rotated = await hsm.rotate_key(RotateKey(name="zak-own"))
            assert rotated.keys[0].version == 2
            after = await hsm.mac(GenerateMac(key="zak-own", data=b"x"))
            assert before != after and len({card.token for card in await asyncio.gather(*work)}) == 1
            card = await hsm.screen(Screen(pan=PAN))
            assert (await hsm.rotate_key(RotateKey(name="pan"))).keys[0].version == 2
            assert (await hsm.dispatch(Dispatch(token=card.token))).pan == PAN
            status = await hsm.status()
            assert {key.version for key in status.key_list if key.name == "pan"} == {1, 2}

    asyncio.run(test())
    assert process.stop() == 0
    keys = [record["keys"] for record in read_records(process.state / AUDIT) if record["command"] == "mac"]
    assert keys == [["zak-own/1"], ["zak-own/2"]]


def test_the_process_checks_seals_and_makes_none(process: HsmProcess) -> None:
    """An officer verifies the trail of the running HSM; a trail made up with a seal from elsewhere is found."""
    trail = process.state / AUDIT

    async def test() -> None:
        async with open_hsm(process.socket) as hsm:
            await hsm.mac(MAC)
        async with open_hsm(process.state / "hsm-officer.sock") as officer:
            await until(lambda: (trail / "head.json").exists())
            head = msgspec.json.decode((trail / "head.json").read_bytes(), type=Head)
            right = Claim(head_bytes(head.segment, head.n, head.chain), head.seal)
            later = Claim(head_bytes(head.segment, head.n + 1, head.chain), head.seal)
            empty = Claim(right.data, "")
            answer = await officer.ask(CheckSeals(claims=(right, later, empty, right)))
            assert answer == CheckedSeals((1, 2))
            for other in ((Claim(b"a card number", head.seal),), (right,) * (MAX_CLAIMS + 1)):
                with pytest.raises(HsmRefused, match="malformed"):
                    await officer.ask(CheckSeals(claims=other))

    asyncio.run(test())
