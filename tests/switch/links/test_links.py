"""Links: sign-on, echo, back-off, draining; health pages; advices under a lease."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from messages.codec import Codec
from messages.exchange import de7
from messages.framing import framing
from messages.message import Message
from simulators.acquirer import Card
from simulators.faults import FaultRule
from switch.config import switch_config
from switch.errors import WireError
from switch.health import HealthServer
from switch.links.network import Acceptor, SocketNetwork
from switch.links.settings import AcquirerLink
from switch.links.state import LinkState
from switch.links.tls import TlsEnd
from switch.links.tls_context import TlsSettings
from switch.worker import run_worker
from tests.simulation.world import TABLE, World
from tests.switch.desk import NOW, in_world, purchase, surrogate, told
from tests.switch.links.certificates import Certificate, Forge
from tests.switch.links.peers import Peer, until


def changed(section: str, **values: Any) -> Any:
    """The world's configuration with other values in every row of a section."""
    rows = TABLE[section]
    other = [{**row, **values} for row in rows] if isinstance(rows, list) else {**rows, **values}
    return switch_config({**TABLE, section: other})


def network_message(code: str) -> Message:
    return Message("0800", {7: de7(NOW), 11: "000099", 70: code})


@pytest.mark.parametrize(("code", "expected"), [("001", "00"), ("002", "00"), ("301", "00"), ("999", "12")])
def test_network_management_is_answered(code: str, expected: str) -> None:
    async def script(world: World) -> None:
        answer = await told(world, network_message(code))
        assert answer is not None
        assert (answer.mti, answer.elements[39], answer.elements[70]) == ("0810", expected, code)

    in_world(script)


def test_a_link_that_must_sign_on_carries_nothing_before() -> None:
    async def script(world: World) -> None:
        answer = await told(world, purchase(de2=surrogate(world)))
        assert answer is not None and answer.elements[39] == "58"
        client = world.clients["gateway"]  # signs on by itself
        paid = await client.perform(client.acquirer.purchase(card_of(world), 100, "EUR", world.clock.now()))
        assert paid.response_code == "00"

    in_world(script, config=changed("acquirer", must_sign_on=True))


def card_of(world: World) -> Card:
    return Card(surrogate(world))


def test_an_idle_issuer_is_echoed_and_a_dead_one_is_left() -> None:
    async def script(world: World) -> None:
        line = world.workers[0][0].lines["alpha"]
        await trio.sleep(65.0)
        assert line.session is not None
        assert world.issuers["alpha"].issuer.stats["0800"] >= 3  # sign-on and two echoes
        world.issuers["alpha"].issuer.faults.add(FaultRule(kind="silence", mti=("0800",)))
        await trio.sleep(60.0)
        assert line.session is None
        assert world.counted("sessions_closed", "alpha") >= 1
        world.issuers["alpha"].issuer.faults.clear()
        await trio.sleep(20.0)
        assert line.session is not None

    in_world(script)


def test_only_echoes_in_a_row_that_nobody_answers_end_a_connection() -> None:
    async def script(world: World) -> None:
        line, faults = world.workers[0][0].lines["alpha"], world.issuers["alpha"].issuer.faults
        session = line.session
        for _ in range(2 * line.link.missed_echoes):
            faults.add(FaultRule(kind="silence", mti=("0800",), count=1))
            await trio.sleep(2 * (line.link.idle_s + line.link.answer_s))
        assert world.counted("echoes_missed", "alpha") >= 2 * line.link.missed_echoes
        assert line.session is session

    in_world(script)


def test_dialling_never_ends() -> None:
    async def script(world: World) -> None:
        world.network.refusing.add("alpha:1")
        world.network.cut("alpha:1")
        await trio.sleep(3600.0)
        failed = world.counted("dials_failed", "alpha")
        assert 3600 / 10 <= failed <= 3600 / 4  # capped at 10 s, with jitter
        world.network.refusing.clear()
        await trio.sleep(11.0)
        assert world.workers[0][0].lines["alpha"].session is not None

    in_world(script)


def test_a_draining_worker_finishes_what_it_has() -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        answers: list[Message | None] = []

        async def ask(stan: str) -> None:
            answers.append(await told(world, purchase(stan, de2=surrogate(world))))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, f"{number + 1:06d}")
            await trio.sleep(1.0)
            assert worker.pipeline.in_flight == 20
            sessions = [*worker.ports["gateway"].sessions, *worker.lines["alpha"].sessions]
            await worker.drain()
            assert worker.pipeline.in_flight == 0
        assert [a.elements[39] for a in answers if a is not None] == ["00"] * 20
        assert len(sessions) >= 21 and all(session.state is LinkState.CLOSED for session in sessions)

    in_world(script, faults={"alpha": (FaultRule(kind="delay", delay_s=2.0),)})


def test_what_was_taken_before_a_worker_drains_still_goes_to_its_issuer() -> None:
    """Also what had not got that far. Later requests are turned away at once, but for repeats."""

    async def script(world: World) -> None:
        worker = world.workers[0][0]
        world.journal_delay_s = (0.5, 0.5)
        answers: list[Message | None] = []

        async def ask(message: Message) -> None:
            answers.append(await told(world, message))

        wire = await world.network.dial("gateway:1", 1.0)
        codec = world.clients["gateway"].acquirer.codec
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(ask, purchase(f"{number + 1:06d}", de2=surrogate(world)))
            await trio.sleep(0.1)
            assert worker.pipeline.in_flight == 5 and worker.lines["alpha"].pending == 0
            nursery.start_soon(worker.drain)
            await trio.sleep(0.1)
            for mti, stan in (("0201", "000007"), ("0200", "000006")):
                late = purchase(stan, mti=mti, de2=surrogate(world))
                await wire.send(framing().encode(codec.encode(late)))
            decoder, frames = framing().decoder(), list[bytes]()
            while data := await wire.receive():
                frames += decoder.receive(data)
        assert [a.elements[39] for a in answers if a is not None] == ["00"] * 5
        assert [(m.elements[11], m.elements[39]) for m in map(codec.decode, frames)] == [("000006", "91")]
        assert worker.meters.value("unanswered", "draining") == 1
        assert len(world.issuers["alpha"].issuer.entries) == 5

    in_world(script)


def test_what_an_issuer_starts_while_a_worker_drains_is_left_to_its_repeat() -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        await told(world, purchase(de2=surrogate(world)))
        server = world.issuers["alpha"]
        world.journal_delay_s = (2.0, 2.0)

        async def ask() -> None:
            await told(world, purchase("000002", de2=surrogate(world)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.5)
            nursery.start_soon(worker.drain)
            await trio.sleep(0.1)
            server.chargeback(server.issuer.entries.entries()[0].key)
        assert worker.meters.value("unanswered", "draining") >= 1
        assert "0432" not in server.issuer.stats

    in_world(script)


def test_one_worker_sends_the_advices_of_a_link_in_their_order() -> None:
    async def script(world: World) -> None:
        await world.start_worker(1)
        client, now = world.clients["gateway"], world.clock.now
        held = await client.perform(client.acquirer.authorization(card_of(world), 1000, "EUR", now()))
        for amount in (100, 200, 300):
            await client.perform(client.acquirer.capture(held, amount, now(), final=False))
        assert await world.journal.lease("advices:alpha", "somebody else", 1.0) is False
        await trio.sleep(60.0)
        assert await world.journal.advices("alpha", 0, 10) == []
        captures = world.issuers["alpha"].issuer.entries.entries()[0].captures
        assert len(captures) == 3
        assert [key for key, _ in captures] == sorted(key for key, _ in captures)

    in_world(script, faults={"alpha": (FaultRule(kind="silence", mti=("0220",), rate=0.5, count=6, booked=False),)})


def test_a_request_that_no_frame_of_the_issuer_holds_is_declined_and_nothing_is_reversed() -> None:
    async def script(world: World) -> None:
        answer = await told(world, purchase(de2=surrogate(world)))
        assert answer is not None and answer.elements[39] == "30"
        assert await world.journal.advices("alpha", 0, 10) == []
        assert world.counted("failures", "pipeline") == 0
        (line,) = (worker.lines["alpha"] for worker, _ in world.workers.values())
        assert line.gate.in_flight == 0

    in_world(script, config=changed("issuer", max_frame=130))


def test_readiness_says_what_is_missing() -> None:
    async def script(world: World) -> None:
        worker = world.workers[0][0]
        assert await worker.ready() == {"journal": True, "hsm": True, "issuer": True}
        world.journal.available = world.hsm.available = False
        world.network.refusing.update(("alpha:1", "beta:1"))
        world.network.cut("alpha:1")
        world.network.cut("beta:1")
        await trio.sleep(1.0)
        assert await worker.ready() == {"journal": False, "hsm": False, "issuer": False}

    in_world(script)


def test_metrics_name_link_stage_and_reason() -> None:
    async def script(world: World) -> None:
        await told(world, purchase(de2=surrogate(world)))
        await told(world, purchase("000002", de2=surrogate(world), de4="000099999999"))
        text = world.workers[0][0].meters.exposition().decode()
        assert 'cardswitch_answers_total{kind="purchase",link="gateway",response_code="00"} 1.0' in text
        assert 'cardswitch_declines_total{reason="fraud_amount-limit"} 1.0' in text
        assert 'cardswitch_stage_seconds_count{stage="forward"} 1.0' in text
        assert 'cardswitch_link_up{link="alpha"} 1.0' in text
        assert 'cardswitch_in_flight{link="all"} 0.0' in text

    in_world(script)


def test_health_pages_over_a_socket() -> None:
    ready = {"journal": True}

    async def check() -> dict[str, bool]:
        return ready

    async def get(address: str, line: bytes) -> tuple[int, bytes]:
        host, _, port = address.rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        async with stream:
            await stream.send_all(line + b"\r\nHost: x\r\n\r\n")
            reply = b""
            async for part in stream:
                reply += part
        head, _, body = reply.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    async def script() -> None:
        server = HealthServer(lambda: b"metric 1\n", check)
        address, listeners = await server.listen("127.0.0.1:0")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run, listeners)
            assert await get(address, b"GET /healthz HTTP/1.1") == (200, b"ok\n")
            assert await get(address, b"GET /metrics?x=1 HTTP/1.1") == (200, b"metric 1\n")
            assert await get(address, b"GET /readyz HTTP/1.1") == (200, b'{"journal":true}\n')
            ready["journal"] = False
            status, body = await get(address, b"GET /readyz HTTP/1.1")
            assert (status, json.loads(body)) == (503, {"journal": False})
            assert (await get(address, b"GET /nothing HTTP/1.1"))[0] == 404
            assert (await get(address, b"POST /healthz HTTP/1.1"))[0] == 405
            assert (await get(address, b"nonsense"))[0] == 400
            nursery.cancel_scope.cancel()

    trio.run(script)


def test_a_worker_on_real_sockets_serves_and_stops() -> None:
    """The same worker over TCP, with an event line a payment; `stopping` ends it."""
    lines: list[bytes] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(nursery)
            network = SocketNetwork()
            acceptor = await network.listen("127.0.0.1:0")

            async def issuer() -> None:
                nursery.start_soon(world.issuers["alpha"].serve, await acceptor.accept())

            nursery.start_soon(issuer)
            table = {
                **TABLE,
                "switch": {"metrics": "127.0.0.1:0"},
                "acquirer": [{**TABLE["acquirer"][1], "listen": "127.0.0.1:0"}],
                "issuer": [{**TABLE["issuer"][0], "address": acceptor.address}],
                "route": TABLE["route"][:1],
            }
            stopping = trio.Event()

            async def start(*, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
                await run_worker(
                    switch_config(table), world.journal, world.hsm, network, clock=world.clock, stopping=stopping,
                    write_events=lines.append, task_status=task_status,
                )  # fmt: skip
                acceptor.close()
                nursery.cancel_scope.cancel()

            worker = await nursery.start(start)
            with trio.fail_after(5.0):
                while worker.lines["alpha"].session is None:  # noqa: ASYNC110 (there is no event for it)
                    await trio.sleep(0.01)
            wire = await network.dial(worker.ports["gateway"].address, 1.0)
            codec = world.clients["gateway"].acquirer.codec
            await wire.send(
                framing().encode(codec.encode(purchase(at=world.clock.now(), de2=surrogate(world), de63="5ace" * 4)))
            )
            with trio.fail_after(5.0):
                answer = codec.decode(framing().decoder().receive(await wire.receive())[0])
            assert answer.elements[39] == "00"
            assert worker.health_address
            wire.close()
            stopping.set()

    trio.run(main)
    event = msgspec.json.decode(b"".join(lines))
    assert (event["event"], event["trace_id"], event["response_code"]) == ("payment", "5ace" * 4, "00")
    assert event["masked_pan"] == "424242******4242"


def test_a_stopping_worker_answers_all_that_it_has_taken_over_tls(tmp_path: Path) -> None:
    """SIGTERM sets `stopping`: on real sockets, under TLS both ways, no answer is lost with its connection."""
    forge = Forge(tmp_path)
    switch, other = forge.make("switch"), forge.make("other")
    answered: list[str] = []
    count = 200

    def tls(own: Certificate, peer: Certificate) -> dict[str, Any]:
        return {"certificate": own.certificate, "private_key": own.private_key, "ca": peer.certificate}

    async def acquirer(address: str, serving: trio.Event, codec: Codec) -> None:
        end = TlsEnd(
            AcquirerLink(name="x", address=address, dialect="iso87-ascii"),
            msgspec.convert(tls(other, switch), TlsSettings),
        )
        wire = await end.secured(await SocketNetwork().dial(address, 30.0))
        sent = [purchase(f"{stan:06d}", at, de4=f"{stan:012d}", de2=card) for stan in range(1, count + 1)]
        await wire.send(b"".join(framing().encode(codec.encode(message)) for message in sent))
        serving.set()
        decoder = framing().decoder()
        while data := await wire.receive():
            answered.extend(codec.decode(frame).elements[39] for frame in decoder.receive(data))
        wire.close()

    async def main() -> None:
        nonlocal card, at
        async with trio.open_nursery() as nursery:
            world = World(nursery, faults={"alpha": (FaultRule(kind="delay", delay_s=1.0),)})
            card, at = surrogate(world), world.clock.now()
            network = SocketNetwork()
            acceptor = await network.listen("127.0.0.1:0")
            nursery.start_soon(_issue, nursery, world, acceptor)
            table = {
                **TABLE,
                "acquirer": [
                    {**TABLE["acquirer"][1], "listen": "127.0.0.1:0", "tls": tls(switch, other), "max_in_flight": 300}
                ],
                "issuer": [{**TABLE["issuer"][0], "address": acceptor.address, "connections": 2, "deadline_s": 60.0}],
                "route": TABLE["route"][:1],
                "fraud": [],
                "switch": {**TABLE["switch"], "drain_s": 60.0},
            }
            stopping, serving = trio.Event(), trio.Event()

            async def work(*, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
                await run_worker(
                    switch_config(table), world.journal, world.hsm, network, clock=world.clock, stopping=stopping,
                    write_events=lambda lines: None, task_status=task_status,
                )  # fmt: skip
                acceptor.close()
                stopped.set()

            stopped = trio.Event()
            worker = await nursery.start(work)
            await until(lambda: len(worker.lines["alpha"].sessions) == 2 and worker.lines["alpha"].session, 60.0)
            async with trio.open_nursery() as asking:
                codec = world.clients["gateway"].acquirer.codec
                asking.start_soon(acquirer, worker.ports["gateway"].address, serving, codec)
                await serving.wait()
                # On a slow machine the first are answered before the last are taken.
                await until(lambda: worker.meters.value("received", "gateway", "0200") == count, 60.0)
                stopping.set()
            with trio.fail_after(60.0):
                await stopped.wait()
            assert len(world.issuers["alpha"].issuer.entries) == count
            nursery.cancel_scope.cancel()

    card, at = "", NOW
    trio.run(main)
    assert answered == ["00"] * count


def test_an_acquirer_that_we_dial_pays_as_any_other() -> None:
    rows = [row if row["name"] != "gateway" else {**row, "listen": "", "address": "far:1"} for row in TABLE["acquirer"]]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(nursery, config=switch_config({**TABLE, "acquirer": rows}), acquirers=("pos",))
            acceptor = await world.network.listen("far:1")
            await world.open(workers=1)
            peer = Peer(await acceptor.accept())
            for stan in ("000001", "000002"):
                answer = await peer.asked(purchase(stan, de2=surrogate(world)))
                assert answer is not None and (answer.mti, answer.elements[39]) == ("0210", "00")
            # Messages to the acquirer go there, too: a chargeback, as a stored advice.
            server = world.issuers["alpha"]
            server.chargeback(server.issuer.entries.entries()[0].key)  # type: ignore[attr-defined]
            advice = await peer.receive()
            assert advice is not None and advice.mti == "0422"
            await peer.answer(advice)
            await trio.sleep(5.0)
            assert world.counted("advices_acknowledged", "gateway", "00") == 1
            peer.wire.close()
            again = Peer(await acceptor.accept())
            answer = await again.asked(purchase("000003", de2=surrogate(world)))
            assert answer is not None and answer.elements[39] == "00"
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def _issue(nursery: trio.Nursery, world: World, acceptor: Acceptor) -> None:
    try:
        while True:
            nursery.start_soon(world.issuers["alpha"].serve, await acceptor.accept())
    except WireError:
        return
