"""No card number, PIN, PIN block or key stands in any log, table, error, metric or book of the running system."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import stripe

from hsm.algorithms.pinblock import encode_pin_block, encrypt_pin_block
from hsm.asyncio_client import open_hsm
from hsm.card_commands import (
    CardValue,
    Chip,
    PinBlock,
    TranslatePin,
    VerifyCardValue,
    VerifyCryptogram,
    VerifyPin,
    VisaPvv,
)
from hsm.commands import HsmRefused, HsmUnavailable
from hsm.keys.exchange import load_party_keys
from hsm.vault_commands import Detokenize
from messages.address import address_of
from messages.card import luhn_digit
from messages.message import Message
from simulators.acquirer import Acquirer, AcquirerProfile, Card
from simulators.control import ask
from tests.card_number_cases import spellings
from tests.e2e.leaks import (
    Secrets,
    add_keys,
    files_of,
    open_as_owner,
    pages_of,
    rows_of,
)
from tests.e2e.merchant import Merchant
from tests.e2e.shop import Shop, run
from tests.e2e.terminal import Terminal, utcnow

pytestmark = pytest.mark.xdist_group("e2e")


def test_number(beginning: str) -> str:
    """A number in a range of test cards; no other test uses it, so what is found comes from here."""
    return beginning + luhn_digit(beginning)


test_number.__test__ = False  # type: ignore[attr-defined]

TILL = test_number("424242861397105")
TILL_BCD = test_number("555555719304826")
WITHOUT_MONEY = test_number("424242519638270")
BLOCKED = test_number("400000997516038")
UNROUTED = test_number("601111482937164")
WRONG_DIGIT = "4242428613972999"
SILENT = test_number("424242705918364")
ONLINE = test_number("424242318650972")
ONLINE_BCD = test_number("555555260847193")
GARBAGE = test_number("424242947061835")
MISTAKE = test_number("424242653018497")
PEER = test_number("424242130759284")
TEXT = test_number("424242758203916")
PANS = {
    "TILL": TILL, "TILL_BCD": TILL_BCD, "WITHOUT_MONEY": WITHOUT_MONEY, "BLOCKED": BLOCKED, "UNROUTED": UNROUTED,
    "WRONG_DIGIT": WRONG_DIGIT, "SILENT": SILENT, "ONLINE": ONLINE, "ONLINE_BCD": ONLINE_BCD, "GARBAGE": GARBAGE,
    "MISTAKE": MISTAKE, "PEER": PEER, "TEXT": TEXT,
}  # fmt: skip
# As long as a PIN can be: a short one is found in any log by chance.
PIN, WRONG_PIN = "739184625017", "618203957448"

OFFICE = test_number("424242976130485")
# Two custodians' components of a zone PIN key, and what they make together; odd parity.
FIRST, SECOND = (
    bytes.fromhex(text)
    for text in (
        "7A5D97E3C8204FB6194CD5A23EF1860BE0299EC4733D58A1",
        "D0154C8A2F3BE6705DA1B0196E93CD38460E34B9C7FD8A52",
    )
)


def combine(first: bytes, second: bytes) -> bytes:
    """The key of two components as the HSM takes it: XOR, with the parity put right."""
    mixed = (left ^ right for left, right in zip(first, second, strict=True))
    return bytes(byte & 0xFE | (bin(byte >> 1).count("1") + 1) % 2 for byte in mixed)


@pytest.fixture
def secrets(shop: Shop) -> Secrets:
    """All that was used, in clear; PIN blocks also as they travel."""
    secrets = Secrets()
    for name, pan in PANS.items():
        secrets.add_number(name, pan)
    keys = load_party_keys(shop.system.config.exchange_path, "pos")
    issuers = {"zpk-alpha": "alpha", "zpk-beta": "beta"}
    for name, party in issuers.items():
        keys[name] = load_party_keys(shop.system.config.exchange_path, party)[name]
    for pin in (PIN, WRONG_PIN):
        secrets.add_number("PIN", pin)
        for pan in (TILL, TILL_BCD):
            secrets.add_bytes("clear PIN block", encode_pin_block(pin, pan))
            for name in ("zpk-pos", *issuers):
                secrets.add_bytes(f"PIN block under {name}", encrypt_pin_block(pin, pan, keys[name]))
    for name, value in (("component", FIRST), ("component", SECOND), ("key of components", combine(FIRST, SECOND))):
        for half in (value[:8], value[8:16], value[16:]):
            secrets.add_bytes(name, half)
    secrets.add_number("OFFICE", OFFICE)
    assert add_keys(secrets, shop.system) >= 7, "four zone keys and a transport key for each of three parties"
    return secrets


def search_files(shop: Shop, secrets: Secrets) -> dict[str, set[str]]:
    found = {}
    for path in files_of(shop.system.config.state_path):
        content = path.read_bytes()
        if path.suffix == ".gz":  # of the audit
            content = gzip.decompress(content)
        if names := secrets.found_in_text(content):
            found[str(path)] = names
    return found


async def search_tables(connection: asyncpg.Connection, secrets: Secrets) -> dict[str, set[str]]:
    found = {}
    for table, rows in (await rows_of(connection)).items():
        if names := secrets.found_in_text(b"\n".join(rows)):
            found[table] = names
    return found


# First of all: the search finds what is there.


FORMS = {
    "as it is": TILL.encode(),
    "in groups": f"{TILL[:4]} {TILL[4:8]} {TILL[8:12]} {TILL[12:]}".encode(),
    "BCD": b"\x01" + bytes.fromhex(TILL) + b"\x02",
    "hex of ASCII": TILL.encode().hex().upper().encode(),
    "hex of EBCDIC": TILL.encode("cp037").hex().upper().encode(),
    "EBCDIC": TILL.encode("cp037"),
    "base64": base64.b64encode(b"card=" + TILL.encode() + b"&exp=1231"),
    "track 2": f"{TILL}=30122011234567890".encode(),
    **{name: text.encode() for name, text in spellings(TILL).items()},
}


def test_the_search_finds_planted_numbers_in_logs(shop: Shop, secrets: Secrets) -> None:
    """A file for each form: one search of the whole state directory must find them all."""
    log = shop.system.config.log_path
    planted = {form: log / f"planted-{number}.jsonl" for number, form in enumerate(FORMS)}
    try:
        for form, file in planted.items():
            file.write_bytes(b'{"event": "payment", "detail": "' + FORMS[form] + b'"}\n')
        found = search_files(shop, secrets)
    finally:
        for file in planted.values():
            file.unlink(missing_ok=True)
    missed = [f for f, file in planted.items() if not any("TILL" in name for name in found.get(str(file), ()))]
    assert missed == []


def test_the_search_finds_planted_secrets_in_a_table(shop: Shop, secrets: Secrets) -> None:
    key = load_party_keys(shop.system.config.exchange_path, "pos")["zpk-pos"]

    planted = {
        "text": f"card {TILL}",
        "json": json.dumps({"2": TILL}),
        "jsonb": json.dumps({"elements": {"35": f"{TILL}=3012"}}),
        "bytea": bytes.fromhex(TILL),
        "bytea ": TILL.encode(),
        "bytea  ": encode_pin_block(PIN, TILL),
        "bytea   ": key,
        "numeric": int(TILL),
    }

    async def search() -> dict[str, set[str]]:
        connection = await open_as_owner(shop.system)
        try:
            for number, (kind, value) in enumerate(planted.items()):
                await connection.execute(f"CREATE TEMPORARY TABLE planted_{number} (n integer, v {kind})")
                await connection.execute(f"INSERT INTO planted_{number} VALUES (1, $1::{kind})", value)
            return await search_tables(connection, secrets)
        finally:
            await connection.close()

    found = {table.rpartition(".")[2] for table in run(search())}
    assert found == {f"planted_{number}" for number in range(len(planted))}


def test_the_search_sees_every_log_table_and_page(shop: Shop) -> None:
    shop.pos.buy(Card("4242424242424242"), 1_401)
    names = {path.name for path in files_of(shop.system.config.state_path)}
    processes = {"hsm", "gateway", "tokenizer", "switch-0", "switch-1", "issuer-alpha", "issuer-beta"}
    assert names >= {f"{process}.jsonl" for process in processes}
    assert names >= {"postgresql.log", "alpha.book", "beta.book"}

    async def tables() -> dict[str, list[bytes]]:
        connection = await open_as_owner(shop.system)
        try:
            return await rows_of(connection)
        finally:
            await connection.close()

    rows = run(tables())
    assert rows.keys() >= {"ledger.intents", "ledger.advices", "vault.cards", "gateway.attempts", "gateway.events"}
    assert rows["ledger.intents"] and rows["vault.cards"]
    assert any(b"424242" in row and b"4242" in row for row in rows["ledger.intents"]), "masked numbers are there"
    assert len(pages_of(shop.system)) == shop.system.config.switch.workers + 2


# Then a day on which everybody does what he should not; their answers are collected.


def test_nothing_leaks(shop: Shop, merchant: Merchant, secrets: Secrets, tmp_path: Path) -> None:
    ask(shop.system.control_socket("alpha"), "accounts", set={"pan": TILL, "pin": PIN, "balance_minor": 1_000_000})
    ask(shop.system.control_socket("beta"), "accounts", set={"pan": TILL_BCD, "pin": PIN, "balance_minor": 1_000_000})
    said: list[bytes] = []
    for part in (
        at_the_till(shop), with_faults(shop), frames(shop), online(merchant), mistakes(merchant),
        officers(shop, tmp_path), card_commands(shop),
    ):  # fmt: skip
        said.extend(part)
    said.extend(commands(shop))
    assert len(said) > 50
    shop.agree(timeout_s=20)
    time.sleep(0.3)  # payment events are written every 0.1 s
    for answer in said:
        assert not secrets.found_in(answer), answer[:500]
    assert search_files(shop, secrets) == {}

    async def search() -> dict[str, set[str]]:
        connection = await open_as_owner(shop.system)
        try:
            return await search_tables(connection, secrets)
        finally:
            await connection.close()

    assert run(search()) == {}
    for url, page in pages_of(shop.system).items():
        assert not secrets.found_in(page), url
    for issuer in ("alpha", "beta"):
        for command in ("book", "accounts", "stats", "faults"):
            answer = json.dumps(ask(shop.system.control_socket(issuer), command)).encode()
            assert not secrets.found_in(answer), (issuer, command)


def shown(answer: Message) -> bytes:
    """An answer as the terminal gets it, but for DE 2: the standard has it echoed to the sender."""
    return json.dumps([answer.mti, {number: text for number, text in answer.elements.items() if number != 2}]).encode()


def at_the_till(shop: Shop) -> Iterator[bytes]:
    """PINs and tracks, right and wrong; cards that are declined for every reason."""
    for pan in (TILL, TILL_BCD):
        for pin, code in ((PIN, "00"), (WRONG_PIN, "55")):
            request = shop.pos.acquirer.purchase(Card(pan, pin=pin), 1_410, "EUR", utcnow())
            request.message.elements[35] = f"{pan}=30122011234567890"
            answer = shop.pos.exchange(request)
            assert answer.elements[39] == code
            yield shown(answer)
        request = shop.pos.acquirer.purchase(Card(pan), 1_411, "EUR", utcnow())
        del request.message.elements[2]
        request.message.elements[35] = f"{pan}=30122011234567890"
        answer = shop.pos.exchange(request)
        assert answer.elements[39] == "00", "track 2 alone is enough"
        yield shown(answer)
        _, answer = shop.pos.refund(Card(pan), 500, request)
        assert answer.elements[39] == "00"
        yield shown(answer)
    for text in spellings(TEXT).values():
        if text.isascii() and text.isprintable():
            answer = shop.pos.exchange(shop.pos.acquirer.administrative(f"about {text}.", utcnow()))
            assert answer.elements[39] == "00"
            yield shown(answer)
    for pan in (WITHOUT_MONEY, BLOCKED, UNROUTED, WRONG_DIGIT):
        _, answer = shop.pos.buy(Card(pan), 1_412)
        assert answer.elements[39] != "00", pan
        yield shown(answer)


def with_faults(shop: Shop) -> Iterator[bytes]:
    """An issuer that says nothing, the reversal that follows, a repeat, a chargeback."""
    shop.fault("alpha", kind="silence", name="leak", amount_minor=1_420, count=1)
    request, answer = shop.pos.buy(Card(SILENT), 1_420)
    assert answer.elements[39] == "91"
    yield shown(answer)
    yield shown(shop.pos.repeat(request))
    request, answer = shop.pos.buy(Card(SILENT), 1_421)
    yield shown(answer)
    shop.chargeback("alpha", request)
    yield shown(shop.pos.wait_unasked("0422"))
    request, _ = shop.pos.authorize(Card(SILENT), 1_422)
    yield shown(shop.pos.reverse(request)[1])


def frames(shop: Shop) -> Iterator[bytes]:
    """Garbage with a card number in it, and elements that hold one where none belongs."""
    whole = shop.pos.acquirer.encode(shop.stranger().purchase(Card(GARBAGE), 1_430, "EUR", utcnow()).message)
    for body in (
        GARBAGE.encode(), bytes.fromhex(GARBAGE), f"0200{GARBAGE}".encode(), whole[:60], whole[1:], whole[:-20],
        b"\x02\x00" + bytes.fromhex(GARBAGE) * 3, f"%B{GARBAGE}^DOE/JANE^3012201?".encode(),
    ):  # fmt: skip
        with shop.another_connection() as other:
            other.send_raw(body)
            try:
                answer = other.receive_raw(timeout_s=0.3)
            except TimeoutError:
                continue
            yield shown(shop.pos.acquirer.codec.decode(answer)) if answer else answer
    with shop.another_connection() as other:
        other.send_bytes(b"\xff\xff" + GARBAGE.encode() * 10)
        yield other.receive_raw()
    for number in (43, 48, 60, 62, 63, 120):
        request = shop.pos.acquirer.purchase(Card(PEER), 1_431, "EUR", utcnow())
        request.message.elements[number] = f"card {PEER}".ljust(40)
        yield shown(shop.pos.exchange(request))
    yield from _on_the_gateways_link(shop)
    for name in ("gateway", "tokenizer"):
        with socket.create_connection(address_of(shop.system.addresses()[name].removeprefix("http://")), 5) as plain:
            plain.sendall(f"0200{GARBAGE}\r\nGET /{GARBAGE}\r\n\r\n".encode())
            yield plain.recv(65536)
    page = next(url for key, url in shop.system.addresses().items() if key.startswith("metrics "))
    yield httpx.get(page.replace("/metrics", f"/{GARBAGE}"), trust_env=False).content


def _on_the_gateways_link(shop: Shop) -> Iterator[bytes]:
    """A card number where a surrogate and a trace id belong."""
    link = shop.system.config.acquirer_link("gateway")
    assert link is not None and link.trace_element == 63
    acquirer = Acquirer(AcquirerProfile(link="gateway", acquirer_id="400001", terminal="STRANGER"))
    shell = Terminal(acquirer, address_of(link.listen))
    try:
        shell.send(Message("0800", {7: utcnow().strftime("%m%d%H%M%S"), 11: "900001", 32: "400001", 70: "001"}))
        shell.receive()
        for trace_id in (PEER, f"a{PEER}b", PEER.encode().hex(), f"{PEER:x<32}"):
            request = acquirer.purchase(Card(PEER), 1_440, "EUR", utcnow())
            request.message.elements[63] = trace_id
            shell.send(request.message)
            answer = shell.receive()
            assert answer.elements[39] != "00"
            yield shown(answer)
    finally:
        shell.close()


def online(merchant: Merchant) -> Iterator[bytes]:
    """A shop on the web, as it should be, and cards that the tokenizer or the issuer refuses."""
    for pan in (ONLINE, ONLINE_BCD):
        intent = merchant.pay(pan, 1_450, capture_method="manual")
        yield str(intent).encode()
        yield str(merchant.stripe.v1.payment_intents.capture(intent.id)).encode()
        yield str(merchant.stripe.v1.refunds.create({"payment_intent": intent.id, "amount": 450})).encode()
        method = merchant.token(pan, "payment_methods")
        pay: Any = {"amount": 1_452, "currency": "eur", "payment_method": method, "confirm": True}
        yield str(merchant.stripe.v1.payment_intents.create(pay)).encode()
        yield str(merchant.stripe.v1.payment_methods.retrieve(method)).encode()
    with pytest.raises(stripe.CardError) as declined:
        merchant.pay(WITHOUT_MONEY, 1_451)
    yield str(declined.value.json_body).encode()
    yield str(merchant.stripe.v1.events.list({"limit": 100})).encode()
    url = f"{merchant.tokenizer}/v1/tokens"
    for fields in (
        {"card[number]": WRONG_DIGIT, "card[exp_month]": "12", "card[exp_year]": "2031"},
        {"card[number]": MISTAKE, "card[exp_month]": "12", "card[exp_year]": "2019"},
        {"card[number]": MISTAKE, "card[exp_month]": "13", "card[exp_year]": "2031"},
        {"card[number]": MISTAKE + MISTAKE, "card[exp_month]": "12", "card[exp_year]": "2031"},
        {"card[number]": MISTAKE, f"card[{MISTAKE}]": "12"},
        {"number": MISTAKE},
        {MISTAKE: MISTAKE},
        {"card": MISTAKE},
    ):
        answer = httpx.post(url, data=fields, auth=(merchant.publishable_key, ""), trust_env=False)
        assert answer.status_code in (400, 402), answer.text
        yield answer.content
    for request in (
        httpx.Request("GET", f"{url}/{MISTAKE}", headers={"Authorization": f"Bearer {merchant.key}"}),
        httpx.Request("GET", f"{url}/tok_visa", headers={"Authorization": f"Bearer {MISTAKE}"}),
        httpx.Request("POST", url, content=f'{{"card": {MISTAKE}', headers={"Content-Type": "application/json"}),
        httpx.Request("POST", url, json={"card": {"number": int(MISTAKE)}}, headers={"X-Trace-Id": f"a{MISTAKE}"}),
        httpx.Request("POST", f"{merchant.tokenizer}/{MISTAKE}?card={MISTAKE}"),
        httpx.Request("POST", f"{merchant.tokenizer}/internal/resolve", json={"id": MISTAKE}),
    ):
        with httpx.Client(trust_env=False, auth=None) as client:
            yield client.send(request).content


def mistakes(merchant: Merchant) -> Iterator[bytes]:
    """A card number sent to the gateway, wherever a request has room for one."""
    base = {"amount": "1460", "currency": "eur"}
    spaced = f"{MISTAKE[:4]} {MISTAKE[4:8]} {MISTAKE[8:12]} {MISTAKE[12:]}"
    for more in (
        {"payment_method_data[type]": "card", "payment_method_data[card][number]": MISTAKE},
        {"payment_method": MISTAKE},
        {"description": f"paid with {spaced}"},
        {"description": f"{spaced} 12/31 123"},
        {"description": f"{MISTAKE}1231123"},
        {"description": f"{MISTAKE}=30122011234567890"},
        {"metadata[card]": MISTAKE},
        {f"metadata[{MISTAKE}]": "x"},
        {"statement_descriptor": MISTAKE},
        {"amount": MISTAKE},
        {"currency": MISTAKE},
        {MISTAKE: "x"},
        {f"payment_method_data[{MISTAKE}]": "x"},
    ):
        answer = merchant.post("/v1/payment_intents", base | more)
        assert answer.status_code == 400, (more, answer.text)
        yield answer.content
    for name, text in spellings(MISTAKE).items():
        for more in ({"description": text}, {"metadata[note]": text}):
            answer = merchant.post("/v1/payment_intents", base | more)
            assert answer.status_code == 400, (name, answer.text)
            yield answer.content
    for value in (float(MISTAKE), int(MISTAKE), [MISTAKE[:4], MISTAKE[4:8], MISTAKE[8:12], MISTAKE[12:]]):
        answer = httpx.post(
            f"{merchant.gateway}/v1/payment_intents",
            json={"amount": 1460, "currency": "eur", "metadata": {"note": value}},
            auth=(merchant.key, ""),
            trust_env=False,
        )
        assert answer.status_code == 400, value
        yield answer.content
    answer = merchant.post("/v1/payment_intents", base, Idempotency_Key=MISTAKE)
    assert answer.status_code == 400
    yield answer.content
    yield merchant.post("/v1/payment_intents", base, User_Agent=MISTAKE, X_Card=MISTAKE).content
    for path in ("/v1/tokens", "/v1/payment_methods", f"/v1/{MISTAKE}", f"/v1/payment_intents/{MISTAKE}/confirm"):
        answer = merchant.post(path, {"card[number]": MISTAKE})
        assert 400 <= answer.status_code < 500, path
        yield answer.content
    for request in (
        httpx.Request("GET", f"{merchant.gateway}/v1/payment_intents/{MISTAKE}"),
        httpx.Request("GET", f"{merchant.gateway}/v1/payment_intents?starting_after={MISTAKE}&x={MISTAKE}"),
        httpx.Request("GET", f"{merchant.gateway}/v1/charges", headers={"Authorization": f"Bearer {MISTAKE}"}),
        httpx.Request(
            "POST",
            f"{merchant.gateway}/v1/payment_intents",
            content=f'{{"card": "{MISTAKE}"',
            headers={"Content-Type": "application/json"},
        ),
    ):
        if "Authorization" not in request.headers:
            request.headers["Authorization"] = f"Bearer {merchant.key}"
        with httpx.Client(trust_env=False) as client:
            answer = client.send(request)
        assert 400 <= answer.status_code < 500
        yield answer.content


def commands(shop: Shop) -> Iterator[bytes]:
    """The command line's output about a card, with and without success."""
    card = (
        "--mti",
        "0200",
        "--set",
        f"2={WITHOUT_MONEY}",
        "--set",
        "3=000000",
        "--set",
        "4=000000001470",
        "--set",
        "49=978",
    )
    yield shop.output("send", *card, "--set", "41=TERM0009", "--set", "42=DEMOSHOP", "--set", "32=39990")[1]
    status, output = shop.output("send", *card, "--set", f"4={WITHOUT_MONEY}")
    assert status != 0
    yield output
    status, output = shop.output("send", f"0200{WITHOUT_MONEY}")
    assert status != 0
    yield output


def officers(shop: Shop, folder: Path) -> Iterator[bytes]:
    """A ceremony of two custodians, and what goes wrong in one; an export, a rotation, the lists."""
    files = []
    for name, component in (("first", FIRST), ("second", SECOND), ("short", FIRST[:7])):
        files.append(folder / name)
        files[-1].write_text(component.hex().upper())
        files[-1].chmod(0o600)
    first, second, short = (("--component-file", str(file)) for file in files)
    key = ("hsm", "key", "import", "zpk-leak", "--role", "pin", "--party", "pos", "--adjust-parity")
    for more, done in (
        ((*first, *short), False),
        ((*first, *first), False),
        ((*first, *second, "--kcv", "000000"), False),
        (("--block", FIRST.hex().upper(), "--under", "zmk-pos"), False),
        ((*first, *second), True),
    ):
        status, output = shop.output(*key, *more)
        assert (status == 0) == done, output
        yield output
    for arguments in (
        ("hsm", "key", "export", "zpk-leak", "--under", "zmk-pos"),
        ("hsm", "key", "rotate", "zpk-leak"),
        ("hsm", "key", "list", "--json"),
        ("hsm", "audit", "show", "--json"),
        ("hsm", "status", "--json"),
        ("vault", "delete", OFFICE, "--reason", "erasure"),
    ):
        yield shop.output(*arguments)[1]


def card_commands(shop: Shop) -> Iterator[bytes]:
    """An issuer's process asks the HSM, rightly and wrongly."""
    zpk = load_party_keys(shop.system.config.exchange_path, "pos")["zpk-pos"]
    right = PinBlock(block=encrypt_pin_block(PIN, TILL, zpk), key="zpk-pos")
    wrong = PinBlock(block=encrypt_pin_block(WRONG_PIN, OFFICE, zpk), key="zpk-pos")
    clear = PinBlock(block=encode_pin_block(PIN, TILL), key="zpk-pos")
    for name, role in (("pvk-leak", "pvk"), ("cvk-leak", "cvk"), ("imk-leak", "imk-ac")):
        yield shop.output("hsm", "key", "generate", name, "--role", role)[1]
    pvv = VisaPvv(key="pvk-leak", pvv="1234")
    value = CardValue(kind="cvv2", key="cvk-leak", expiry="3012")
    chip = Chip(scheme="emv-csk", atc=b"\0\1")
    asked: list[Any] = [
        VerifyPin(pin=right, method=pvv, pan=TILL),
        VerifyPin(pin=wrong, method=pvv, pan=TILL),
        VerifyPin(pin=clear, method=pvv, pan=TILL),
        VerifyPin(pin=right, method=VisaPvv(key=OFFICE), pan=TILL),
        VerifyPin(pin=right, method=VisaPvv(key="cvk-leak"), pan=TILL),
        TranslatePin(pin=right, key_out="zpk-alpha", pan=TILL),
        TranslatePin(pin=right, key_out="zpk-alpha", pan=OFFICE),
        TranslatePin(pin=right, key_out="zpk-alpha", pan=f"{OFFICE}{OFFICE}"),
        TranslatePin(pin=right, key_out="zpk-alpha", token=OFFICE),
        TranslatePin(pin=right, key_out="zpk-alpha", pan=TILL, trace_id=OFFICE),
        VerifyCardValue(card_value=value, value="000", pan=OFFICE),
        VerifyCardValue(card_value=value, value=OFFICE, pan=OFFICE),
        VerifyCryptogram(key="imk-leak", chip=chip, data=OFFICE.encode(), cryptogram=bytes(8), pan=OFFICE),
        VerifyCryptogram(key="imk-leak", chip=chip, data=b"x", cryptogram=OFFICE.encode(), pan=OFFICE),
        Detokenize(id="card_0000000000000000000000", purpose="clearing"),
    ]

    async def ask_all() -> list[bytes]:
        answers = []
        state, config = shop.system.config.state_path, shop.system.config.hsm
        async with open_hsm(state / config.socket.replace(".sock", "-issuer.sock")) as hsm:
            for request in asked:
                try:
                    answer = await hsm.ask(request)
                except (HsmRefused, HsmUnavailable) as refusal:
                    answer = refusal
                answers.append(f"{request!r} {answer!r} {answer}".encode())
        return answers

    answers = run(ask_all())
    assert b"Verified" in answers[0] and b"not_permitted" in answers[-1]
    yield from answers
