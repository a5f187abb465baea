"""The service without a socket: callers' rights, deadlines, the audit, a token that goes and comes back, bugs."""

from __future__ import annotations

import asyncio
import errno
import time
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from hsm import callers, server
from hsm.audit import read_records
from hsm.audit_writer import AuditWriter
from hsm.callers import Peer
from hsm.commands import Dispatch, GeneratedMac, GenerateMac, MacCheck, MacVerified, Screen, Screened, VerifyMac
from hsm.config import HsmConfig
from hsm.engine import Engine, Missing, NewCard
from hsm.key_commands import KeyInfo, KeyList, RotateKey
from hsm.key_desk import KeyDesk
from hsm.keys.holder import Keyholder
from hsm.keys.keyring import HeldKey
from hsm.metrics import Metrics
from hsm.service import Service
from hsm.software import SoftwareKeyring, software_keys
from hsm.vault.cards import Card, CardCache, Numbers
from hsm.vault_commands import HsmStatus, ReadStatus
from hsm.wire import REQUESTS, Answer, Refused, Unavailable, encode_body
from tests.hsm.conftest import KEYS, until

MAC = GenerateMac(key="zak-pos", data=b"x")
KEYS_OF_ITS = frozenset({"zak-pos"})


class NoVault:
    """A vault that nobody asks."""

    available = True


class Caller:
    """A caller, with its answers."""

    def __init__(self, name: str = "switch", commands: frozenset[Any] = frozenset(REQUESTS)) -> None:
        self.peer = Peer(callers.Caller(name, "", frozenset(), commands), 1000, 1000, 4711)
        self.answers: dict[int, Answer] = {}

    def answer(self, number: int, answer: Answer) -> None:
        assert number not in self.answers
        self.answers[number] = answer

    def ask(self, service: Service, request: Any, deadline: float = inf) -> Answer:
        """Return the answer that is given at once."""
        number = len(self.answers)
        service.handle(self, number, deadline, encode_body(request))
        return self.answers[number]


def service_over(engine: Engine, directory: Path, handlers: Any = None) -> Service:
    vault: Any = NoVault()
    return Service(engine, vault, Metrics(), AuditWriter(directory / "audit"), handlers)


def memory_service(directory: Path, handlers: Any = None) -> Service:
    keys = software_keys(KEYS, seed=1)
    keyring = SoftwareKeyring(keys, bytes(32), bytes(32))
    service = service_over(Engine(keyring, CardCache(10), Numbers()), directory, handlers)
    service.use(service.engine, tuple(info(name, key.held(name)) for name, key in keys.items()))
    return service


def info(name: str, held: HeldKey) -> KeyInfo:
    return KeyInfo(name=name, version=3, role="", attributes=held.attributes, kcv="ABCDEF", status="active")


def records(service: Service, directory: Path) -> list[dict[str, Any]]:
    service.audit.flush()
    return list(read_records(directory / "audit"))


def test_a_command_that_waited_too_long_is_not_done(tmp_path: Path) -> None:
    service, caller = memory_service(tmp_path), Caller()
    late = caller.ask(service, MAC, deadline=perf_counter() - 0.001)
    assert isinstance(late, Refused) and late.code == "expired"
    assert isinstance(caller.ask(service, MAC, deadline=perf_counter() + 60), GeneratedMac)
    assert [record["outcome"] for record in records(service, tmp_path)] == ["expired", "ok"]


def test_a_command_that_waited_too_long_for_the_vault_is_not_done(tmp_path: Path) -> None:
    service, caller = memory_service(tmp_path), Caller()

    class SlowVault(NoVault):
        def find(self, missing: Missing) -> asyncio.Future[Card | None]:
            found: asyncio.Future[Card | None]
            assert isinstance(missing, NewCard)
            found = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.02, found.set_result, missing.candidate)
            return found

    vault: Any = SlowVault()
    service._vault = vault

    async def ask(left_s: float) -> Answer:
        number = len(caller.answers)
        request = encode_body(Screen(pan="4242424242424242"))
        service.handle(caller, number, perf_counter() + left_s, request)
        await service.drain()
        return caller.answers[number]

    late = asyncio.run(ask(0.01))
    assert isinstance(late, Refused) and late.code == "expired"
    assert isinstance(asyncio.run(ask(60)), Screened)


def test_a_caller_may_send_his_commands_only(tmp_path: Path) -> None:
    service, caller = memory_service(tmp_path), Caller("tokenizer", frozenset({ReadStatus}))
    answer = caller.ask(service, MAC)
    assert answer == Refused("not_permitted", "tokenizer may not send mac")
    [record] = records(service, tmp_path)
    assert (record["caller"], record["command"], record["outcome"]) == ("tokenizer", "mac", "not_permitted")
    status = caller.ask(service, ReadStatus())
    assert isinstance(status, HsmStatus)
    assert 'cardswitch_hsm_commands_total{command="GenerateMac",outcome="not_permitted"} 1.0' in status.metrics


def test_a_caller_with_keys_of_its_own_may_use_no_other(tmp_path: Path) -> None:
    service = memory_service(tmp_path)
    own = callers.Caller("gateway", "", frozenset(), frozenset({GenerateMac, VerifyMac, ReadStatus}), keys=KEYS_OF_ITS)
    caller = Caller("gateway")
    caller.peer = Peer(own, 1000, 1000, 4711)
    made = caller.ask(service, MAC)
    assert isinstance(made, GeneratedMac)
    check = MacCheck("zak-pos", MAC.data, made.mac)
    assert caller.ask(service, VerifyMac(check=check)) == MacVerified()
    wrong = caller.ask(service, VerifyMac(check=MacCheck("zak-pos", MAC.data, bytes(8))))
    assert isinstance(wrong, Refused) and wrong.code == "mac_invalid"
    foreign = (GenerateMac(key="zpk-pos", data=b"x"), VerifyMac(check=MacCheck("zpk-pos", MAC.data, made.mac)))
    for request in foreign:
        refused = caller.ask(service, request)
        assert isinstance(refused, Refused) and refused.code == "not_permitted"
    assert isinstance(caller.ask(service, ReadStatus()), HsmStatus)
    done = [(record["command"], record["outcome"]) for record in records(service, tmp_path)]
    assert done[-2:] == [("mac", "not_permitted"), ("verify_mac", "not_permitted")]


def test_the_audit_says_who_used_which_key(tmp_path: Path) -> None:
    service, caller = memory_service(tmp_path), Caller()
    trace_id = "0123456789abcdef"
    caller.ask(service, GenerateMac(key="zak-pos", data=b"x", trace_id=trace_id))
    caller.ask(service, GenerateMac(key="zpk-pos", data=b"x"))
    caller.ask(service, GenerateMac(key="4242424242424242", data=b"x"))
    caller.ask(service, Screen(mac=MacCheck("zak-pos", b"x", bytes(8)), pan="4242424242424242"))
    service.handle(caller, 99, inf, b"\xc1")
    done = [(record["command"], record["keys"], record["outcome"]) for record in records(service, tmp_path)]
    assert done == [
        ("mac", ["zak-pos/3"], "ok"),
        ("mac", ["zpk-pos/3"], "key_usage"),
        ("mac", ["unknown"], "key_unknown"),
        ("screen", ["zak-pos/3"], "mac_invalid"),
        ("unknown", [], "malformed"),
    ]
    first = records(service, tmp_path)[0]
    assert (first["caller"], first["uid"], first["pid"], first["trace"]) == ("switch", 1000, 4711, trace_id)
    assert "4242424242" not in (tmp_path / "audit" / "000001.jsonl").read_text()


def test_data_keys_are_in_the_audit_too(tmp_path: Path) -> None:
    service, caller = memory_service(tmp_path), Caller()
    found = service.engine.identify("4242424242424242", "3012")
    assert isinstance(found, NewCard)
    service.engine.cards.add(found.candidate)
    caller.ask(service, Screen(pan="4242424242424242"))
    caller.ask(service, Dispatch(token=found.candidate.token))
    caller.ask(service, GenerateMac(key="zak-pos", data=b"x"))
    keys = [record["keys"] for record in records(service, tmp_path)]
    assert keys == [["fingerprint/1"], ["pan/1"], ["zak-pos/3"]]


def test_a_full_disk_stops_commands_until_it_is_not(tmp_path: Path) -> None:
    service, caller = memory_service(tmp_path), Caller()
    service.audit.failure = "the audit cannot be written: No space left on device"
    assert caller.ask(service, MAC) == Unavailable("the audit cannot be written: No space left on device")
    status = caller.ask(service, ReadStatus())
    assert isinstance(status, HsmStatus) and "No space" in status.audit.failure
    assert 'cardswitch_hsm_up{part="audit"} 0.0' in status.metrics
    service.audit.retry()
    assert isinstance(caller.ask(service, MAC), GeneratedMac)


def test_what_is_not_done_is_not_kept_for_an_audit_that_cannot_be_written(tmp_path: Path) -> None:
    service, caller = memory_service(tmp_path), Caller()
    stranger = Caller("tokenizer", frozenset({ReadStatus}))
    service.audit.failure = "the audit cannot be written: No space left on device"
    with capture_logs() as logs:
        caller.ask(service, MAC)
        caller.ask(service, MAC, deadline=perf_counter() - 0.001)
        stranger.ask(service, MAC)
        service.handle(caller, 99, inf, b"\xc1")
    service.refuse_connection(stranger.peer)
    assert service.audit.state.records == 0
    assert [entry["outcome"] for entry in logs] == ["expired", "not_permitted", "malformed"]
    status = caller.ask(service, ReadStatus())
    assert isinstance(status, HsmStatus)
    assert 'cardswitch_hsm_commands_total{command="connect",outcome="not_permitted"} 1.0' in status.metrics
    service.audit.retry()
    stranger.ask(service, MAC)
    assert [record["outcome"] for record in records(service, tmp_path)] == ["not_permitted"]


def test_changes_of_keys_are_on_the_disk_before_they_are_answered(tmp_path: Path) -> None:
    synced: list[int] = []

    class Answers(Caller):
        def answer(self, number: int, answer: Answer) -> None:
            synced.append(sum(record["command"] == "rotate_key" for record in read_records(tmp_path / "audit")))
            super().answer(number, answer)

    service = memory_service(tmp_path, {RotateKey: lambda request: KeyList(())})
    assert Answers().ask(service, RotateKey(name="pan")) == KeyList(())
    assert synced == [1]

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("os.fdatasync", full)
        answer = Caller().ask(service, RotateKey(name="pan"))
    assert isinstance(answer, Unavailable) and "cannot be written" in answer.reason


def test_other_keys_are_taken_without_dropping_what_waits(tmp_path: Path) -> None:
    service, caller = memory_service(tmp_path), Caller()
    before = caller.ask(service, MAC)
    keys = software_keys(KEYS, seed=2)
    engine = Engine(SoftwareKeyring(keys, bytes(32), bytes(32)), service.engine.cards, Numbers())
    service.use(engine, tuple(info(name, key.held(name)) for name, key in keys.items()))
    after = caller.ask(service, MAC)
    assert isinstance(before, GeneratedMac) and isinstance(after, GeneratedMac) and before != after


def test_a_lost_token_is_said_at_once_and_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_FIRST_PAUSE_S", 0.01)
    keyholder = Keyholder(HsmConfig(dual_control=False, keys=KEYS), tmp_path)
    keyring, _ = keyholder.open()
    cards, numbers = CardCache(10), Numbers()

    async def test() -> None:
        caller = Caller()
        service = service_over(Engine(keyring, cards, numbers), tmp_path)
        keys = server.KeyChanges(service, keyholder, KeyDesk(keyholder.store))
        before = caller.ask(service, MAC)
        assert isinstance(before, GeneratedMac)
        keyholder.token.session.close()
        assert caller.ask(service, MAC) == Unavailable("CMAC: SessionHandleInvalid")
        assert caller.ask(service, MAC) == Unavailable("the token is away")
        status = caller.ask(service, ReadStatus())
        assert isinstance(status, HsmStatus) and not status.token and time.time() - status.since < 60
        (tmp_path / "hsm" / "keys.json").rename(tmp_path / "away")
        (tmp_path / "hsm" / "tokens").rename(tmp_path / "tokens")
        recovery = asyncio.create_task(server._reopen_token(service, keys))
        await asyncio.sleep(0.05)
        assert service.token_lost.is_set()
        (tmp_path / "tokens").rename(tmp_path / "hsm" / "tokens")
        (tmp_path / "away").rename(tmp_path / "hsm" / "keys.json")
        await until(lambda: not service.token_lost.is_set())
        assert caller.ask(service, MAC) == before
        back = caller.ask(service, ReadStatus())
        assert isinstance(back, HsmStatus) and back.token and back.since >= status.since
        assert {key.name for key in back.key_list} >= {key.name for key in KEYS}
        assert all(key.kcv for key in back.key_list)
        recovery.cancel()

    with capture_logs() as logs:
        asyncio.run(test())
    keyholder.close()
    assert {"token_lost", "token_still_lost", "token_back"} <= {entry["event"] for entry in logs}


def test_a_bug_tells_its_place_and_nothing_else(tmp_path: Path) -> None:
    class Broken:
        def fingerprint(self, pan: str) -> bytes:
            raise ValueError(pan)

    keyring: Any = Broken()

    async def test() -> Answer:
        service = service_over(Engine(keyring, CardCache(10), Numbers()), tmp_path)
        return Caller().ask(service, Screen(pan="4242424242424242", trace_id="t1"))

    with capture_logs() as logs:
        answer = asyncio.run(test())
    assert answer == Unavailable("the HSM failed on this command")
    assert any(entry["event"] == "command_failed" and "fingerprint" in entry["where"] for entry in logs)
    assert "424242" not in str(logs)
