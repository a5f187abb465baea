"""Secrets at rest: sealed under keys of a file, bound to their rows, sealed again when a key is added."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import stripe

from gateway import sealing
from gateway.errors import ConfigurationError
from gateway.sealing import Sealer, SealError, add_key, make_keys, open_sealer, read_keys
from gateway.server import serve_gateway
from tests.gateway.conftest import Gateway
from tests.gateway.fake_switch import eventually
from tests.gateway.stubs import SECRET, Sink

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


def test_what_is_sealed_opens_in_its_own_row_only() -> None:
    sealer = Sealer({1: KEY})
    sealed, version = sealer.seal("whsec_x", "webhook_endpoint we_1")
    assert version == 1
    assert b"whsec" not in sealed
    assert sealer.open(sealed, 1, "webhook_endpoint we_1") == "whsec_x"
    assert sealed != sealer.seal("whsec_x", "webhook_endpoint we_1")[0], "nonces are new each time"
    changed = bytes([sealed[0] ^ 1]) + sealed[1:]
    for wrong, number, bound_to in (
        (sealed, 1, "webhook_endpoint we_2"),
        (changed, 1, "webhook_endpoint we_1"),
        (sealed[:20], 1, "webhook_endpoint we_1"),
        (b"", 1, "webhook_endpoint we_1"),
        (sealed, 2, "webhook_endpoint we_1"),
    ):
        with pytest.raises(SealError):
            sealer.open(wrong, number, bound_to)
    with pytest.raises(SealError):
        Sealer({1: OTHER}).open(sealed, 1, "webhook_endpoint we_1")


def test_the_newest_key_seals_and_older_ones_open() -> None:
    sealed, _ = Sealer({1: KEY}).seal("x", "row")
    both = Sealer({1: KEY, 2: OTHER})
    assert both.open(sealed, 1, "row") == "x"
    assert both.seal("x", "row")[1] == 2
    assert KEY.hex() not in repr(both) and repr(both) == "Sealer(versions=[1, 2])"


def test_the_file_is_made_once_and_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sealing.keys"
    make_keys(path)
    content = path.read_text()
    make_keys(path)
    assert path.read_text() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["sealing.keys"]
    assert add_key(path) == 2
    assert read_keys(path).keys() == {1, 2}
    assert path.read_text().startswith(content)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "1 00\n", f"0 {KEY.hex()}\n", f"1 {KEY.hex()}\n1 {OTHER.hex()}\n", "\x00\xff"])
def test_a_file_that_is_none_is_refused_by_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "sealing.keys"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match=str(path)) as refused:
        read_keys(path)
    assert KEY.hex() not in str(refused.value)


def test_a_file_that_others_may_read_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "sealing.keys"
    make_keys(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        read_keys(path)


def opened(gateway: Gateway, path: Path) -> Sealer:
    return connected(gateway, lambda connection: open_sealer(connection, path))


def connected(gateway: Gateway, work: Callable[[Any], Any]) -> Any:
    async def run() -> Any:
        connection = await asyncpg.connect(gateway.dsn)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_another_or_no_file_is_refused_once_something_is_sealed(idle_gateway: Gateway, tmp_path: Path) -> None:
    path, other = tmp_path / "own.keys", tmp_path / "other.keys"
    opened(idle_gateway, path)
    opened(idle_gateway, path)
    make_keys(other)
    with pytest.raises(ConfigurationError, match=rf"{other} has another key of version 1.*Copy the file"):
        opened(idle_gateway, other)
    with pytest.raises(ConfigurationError, match=rf"{tmp_path}/none.keys is missing.*Copy the file"):
        opened(idle_gateway, tmp_path / "none.keys")
    assert not (tmp_path / "none.keys").exists()
    add_key(path)
    opened(idle_gateway, path)
    old, new = path.read_text().splitlines()
    path.write_text(f"{old}\n")
    with pytest.raises(ConfigurationError, match=rf"{path} lacks the key of version 2"):
        opened(idle_gateway, path)
    path.write_text(f"{new}\n")
    assert opened(idle_gateway, path).version == 2, "an old key under which nothing is sealed may go"
    connected(
        idle_gateway,
        lambda connection: connection.execute(
            f"""INSERT INTO gateway.idempotency (account_id, key, digest, holder, held_until, status, sealed_body,
                    key_version) VALUES ('{idle_gateway.account}', 'k', '', '', now(), 200, 'x', 2)"""
        ),
    )
    add_key(path)
    opened(idle_gateway, path)
    path.write_text(path.read_text().splitlines()[1] + "\n")
    with pytest.raises(ConfigurationError, match=rf"{path} lacks the key of version 2"):
        opened(idle_gateway, path)


def test_two_gateways_that_start_at_once_have_one_key(idle_gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "own.keys"

    async def both() -> list[Sealer]:
        connections = [await asyncpg.connect(idle_gateway.dsn) for _ in range(2)]
        try:
            return list(await asyncio.gather(*(open_sealer(connection, path) for connection in connections)))
        finally:
            for connection in connections:
                await connection.close()

    first, second = asyncio.run(both())
    assert first.checks == second.checks


def test_what_is_in_clear_or_under_an_older_key_is_sealed_at_the_start(idle_gateway: Gateway, tmp_path: Path) -> None:
    account = idle_gateway.account
    connected(
        idle_gateway,
        lambda connection: connection.execute(
            f"""INSERT INTO gateway.webhook_endpoints (id, account_id, created_at, url, secret, enabled_events)
                VALUES ('we_1', '{account}', now(), 'http://x', 'whsec_inclear', '{{*}}');
                INSERT INTO gateway.idempotency (account_id, key, digest, holder, held_until, status, body)
                VALUES ('{account}', 'k', '', '', now(), 200, '{{"secret":"whsec_inclear"}}')"""
        ),
    )
    path = tmp_path / "own.keys"
    for version in (1, 2):
        sealer = opened(idle_gateway, path)
        (endpoint,) = idle_gateway.rows("SELECT * FROM gateway.webhook_endpoints")
        (answer,) = idle_gateway.rows("SELECT * FROM gateway.idempotency")
        assert (endpoint["secret"], endpoint["key_version"]) == (None, version)
        assert sealing.endpoint_secret(sealer, endpoint) == "whsec_inclear"
        assert answer["body"] is None
        opened_body = sealer.open(answer["sealed_body"], answer["key_version"], sealing.bound_to_answer(account, "k"))
        assert opened_body == '{"secret":"whsec_inclear"}'
        if version == 1:
            add_key(path)


def test_no_webhook_secret_is_in_any_table_and_deliveries_are_signed_with_it(
    gateway: Gateway, sink: Callable[..., Sink]
) -> None:
    receiver = sink()
    client = gateway.stripe()
    params: Any = {"url": receiver.url, "enabled_events": ["payment_intent.created"]}
    endpoint = client.v1.webhook_endpoints.create(params, {"idempotency_key": "once"})
    assert (endpoint.secret or "").startswith("whsec_")
    assert client.v1.webhook_endpoints.create(params, {"idempotency_key": "once"}).secret == endpoint.secret
    tables = [row["t"] for row in gateway.rows("SELECT tablename AS t FROM pg_tables WHERE schemaname = 'gateway'")]
    stored = "".join(str(gateway.rows(f"SELECT x::text FROM gateway.{table} x")) for table in tables)
    assert endpoint.id in stored
    assert "whsec_" not in stored
    assert (endpoint.secret or "").encode().hex() not in stored
    gateway.stop()
    gateway.start()
    gateway.wait_ready()
    gateway.stripe().v1.payment_intents.create({"amount": 100, "currency": "eur"})
    eventually(lambda: receiver.calls)
    headers, body = receiver.calls[0][-2:]
    assert stripe.WebhookSignature.verify_header(
        body.decode(), headers["stripe-signature"], endpoint.secret or "", tolerance=300
    )


def test_stored_answers_are_sealed(gateway: Gateway) -> None:
    intent: Any = {"amount": 100, "currency": "eur", "description": "a pair of shoes"}
    made = gateway.stripe().v1.payment_intents.create(intent, {"idempotency_key": "k"})
    assert gateway.stripe().v1.payment_intents.create(intent, {"idempotency_key": "k"}).id == made.id
    (row,) = gateway.rows("SELECT * FROM gateway.idempotency")
    assert (row["body"], row["status"], row["key_version"]) == (None, 200, 1)
    assert b"shoes" not in row["sealed_body"]


def test_a_gateway_with_the_wrong_keys_does_not_start(gateway: Gateway) -> None:
    gateway.stop()
    Path(gateway.config.sealing_keys).unlink()
    serve = partial(
        serve_gateway,
        dsn=gateway.dsn,
        switch_address=gateway.switch.address,
        dialect="iso87-ascii",
        tokenizer_url=gateway.tokens.url,
        internal_secret=SECRET,
    )
    with pytest.raises(ConfigurationError, match=r"sealing\.keys is missing"):
        asyncio.run(serve(gateway.config))
    with pytest.raises(ConfigurationError, match=r"gateway\.sealing_keys"):
        asyncio.run(serve(msgspec.structs.replace(gateway.config, sealing_keys="")))
