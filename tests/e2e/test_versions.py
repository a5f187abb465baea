"""Acquirers and issuers of different versions on one system: translation on the way, and the whole message set.

`pos` is iso87-ascii and `west` iso93-ascii; alpha is iso93-binary and checks the chip, beta is iso87-bcd.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import specs
from console.config import Config, load_config
from console.supervisor import System, config_file
from hsm.config import KeyConfig
from hsm.keys.exchange import load_party_keys
from messages.address import address_of
from simulators.acquirer import Acquirer, AcquirerProfile, Card
from simulators.acquirer.chip import ChipCard
from simulators.control import ask
from switch.links.settings import AcquirerLink
from switch.routing.settings import BreakerSettings, Route, StandIn
from tests.e2e.conftest import quick
from tests.e2e.shop import Shop, cardswitch, new_acquirer, pos_address
from tests.e2e.terminal import terminal, utcnow
from tests.state import new_state

pytestmark = pytest.mark.xdist_group("e2e-versions")

VISA = Card("4242424242424242", pin="1234")
MASTERCARD = Card("5555555555554444", pin="1234")
EITHER = Card("6011111111111117")  # beta's, alpha is the alternate
WEST = "west"
IMK = "A1B2C3D4E5F60718293A4B5C6D7E8F90"  # of test chips only
SCENARIO = """
name = "{name}"
prefixes = ["4", "5", "6"]
{chip}
[default]
balance_minor = 100_000_000
pin = "1234"
"""
CHIP = f'cryptogram_key = "imk-test"\n[test_keys]\nimk-test = "{IMK}"'


def configured() -> Config:
    """The packaged configuration with two versions on each side, alternates, stand-in and a breaker."""
    replace = msgspec.structs.replace
    config = quick(load_config(Path(str(specs.__file__)).with_name("cardswitch.toml")))
    dialects = {"alpha": "iso93-binary", "beta": "iso87-bcd"}
    issuers = tuple(replace(link, dialect=dialects[link.name], address=free_address()) for link in config.issuer)
    west = AcquirerLink(name=WEST, listen="127.0.0.1:1", dialect="iso93-ascii", pin_key="zpk-west", mac_key="zak-west")
    return replace(
        config,
        acquirer=(*config.acquirer, west),
        issuer=issuers,
        key=(*config.key, KeyConfig("zpk-west", "pin", WEST), KeyConfig("zak-west", "mac", WEST)),
        route=(*config.route, Route(prefix="60", issuer="beta", alternates=("alpha",), country="US")),
        stand_in=(StandIn(issuer="alpha", floor_minor={"EUR": 5_000}),),
        breaker=(BreakerSettings(issuer="beta", failures=2, ratio=0.0, open_s=2.0, probes=1),),
    )


def free_address() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


@contextmanager
def simulated(system: System, folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """An issuer as its own process, stopped at the end."""
    file = folder / f"{name}.toml"
    file.write_text(SCENARIO.format(name=name, chip=CHIP if name == "alpha" else ""))
    command = [sys.executable, "-m", "console.cli", "sim", "issuer", name, "--scenario", str(file)]
    command += ["--config", str(config_file(system.config.state_path))]
    with (folder / f"{name}.log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()


def wait_signed_on(system: System, timeout_s: float = 30.0) -> None:
    """Until every worker is signed on with both issuers; a worker is ready as soon as one of them is there."""
    deadline = time.monotonic() + timeout_s
    while True:
        done = cardswitch("link", "list", "--json", config=config_file(system.config.state_path))
        rows = [row for table in json.loads(done.stdout).values() for row in table if row["side"] == "issuer"]
        if len(rows) == 2 * system.config.switch.workers and {row["state"] for row in rows} == {"signed_on"}:
            return
        assert time.monotonic() < deadline, rows
        time.sleep(0.1)


@pytest.fixture(scope="module")
def place() -> Iterator[System]:
    state = new_state("versions")
    try:
        with (
            System.start(configured(), state, ports="free", issuers=False, longest_pause_s=0.5) as system,
            simulated(system, state, "alpha"),
            simulated(system, state, "beta"),
        ):
            wait_signed_on(system)
            yield system
    finally:
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(scope="module")
def books(place: System) -> list[Acquirer]:
    """Both acquirers; each test asks for all books."""
    keys = load_party_keys(place.config.exchange_path, WEST)
    profile = AcquirerProfile(link=WEST, dialect="iso93-ascii", acquirer_id="10093", terminal="TERM0093")
    west = Acquirer(profile, pin_key=keys["zpk-west"], mac_key=keys["zak-west"])
    return [new_acquirer(place, "10001", "TERM0001"), west]


@pytest.fixture
def shop(place: System, books: list[Acquirer]) -> Iterator[Shop]:
    """The shop of the acquirer in iso87-ascii."""
    with terminal(books[0], pos_address(place)) as pos:
        yield Shop(place, pos, books)


@pytest.fixture
def west(place: System, books: list[Acquirer]) -> Iterator[Shop]:
    """The shop of the acquirer in iso93-ascii."""
    with terminal(books[1], address_of(place.addresses()[f"acquirer {WEST}"])) as pos:
        yield Shop(place, pos, books)


def either(shop: Shop, west: Shop) -> list[tuple[Shop, Card]]:
    """1987 paid by 1993, and the other way."""
    return [(shop, VISA), (west, MASTERCARD)]


def account(shop: Shop, issuer: str, **rule: object) -> None:
    ask(shop.system.control_socket(issuer), "accounts", set=rule)


def told(shop: Shop, issuer: str, command: str, **arguments: Any) -> str:
    code: str = ask(shop.system.control_socket(issuer), command, **arguments)[0]["response_code"]
    return code


def links_of_advices(shop: Shop, key: str) -> list[tuple[str, str]]:
    rows = shop.sql(
        """SELECT a.link, a.mti FROM ledger.intents i JOIN ledger.advices a ON a.intent_id = i.id
            WHERE i.key = $1 ORDER BY a.id""",
        key,
    )
    return [(row["link"], row["mti"]) for row in rows]


# Translation


@pytest.mark.parametrize("side", [0, 1], ids=["87 to 93", "93 to 87"])
def test_a_pin_a_hold_a_capture_and_a_reversal_go_through(shop: Shop, west: Shop, side: int) -> None:
    at, card = either(shop, west)[side]
    bought, answer = at.pos.buy(card, 1_250)
    assert (answer.mti, answer.elements[39]) == ("0210", "00"), at.system.log_tail(6)
    assert len(answer.elements[38]) == 6
    held, answer = at.pos.authorize(card, 5_000)
    assert answer.elements[39] == "00"
    assert at.pos.capture(held, 4_000)[1].elements[39] == "00"
    other, _ = at.pos.authorize(card, 2_000)
    assert at.pos.reverse(other)[1].elements[39] == "00"
    assert [at.standing(request) for request in (bought, held, other)] == [(0, 1_250), (0, 4_000), (0, 0)]
    at.agree()


@pytest.mark.parametrize("side", [0, 1], ids=["87 to 93", "93 to 87"])
def test_reasons_of_issuers_are_told_in_the_acquirers_own_numbers(shop: Shop, west: Shop, side: int) -> None:
    at, card = either(shop, west)[side]
    issuer = ("alpha", "beta")[side]
    assert at.pos.buy(Card(card.pan, pin="4321"), 1_100)[1].elements[39] == "55"
    poor = Card(card.pan[:8] + "00000000")
    for code in ("05", "41", "43", "51", "54", "61"):
        account(at, issuer, pan=poor.pan, response_code=code)
        request, answer = at.pos.buy(poor, 1_101)
        assert answer.elements[39] == code
        assert at.entries(request) == []
    at.agree()


def test_an_acquirer_of_1993_reads_three_digits_and_its_own_types(west: Shop) -> None:
    request = west.pos.acquirer.purchase(MASTERCARD, 1_300, "EUR", utcnow())
    sent = west.pos.acquirer.encode(request.message)
    west.pos.send_raw(sent)
    data = west.pos.receive_raw()
    assert (sent[:4], data[:4]) == (b"1200", b"1210")
    answer = west.pos.acquirer.decode(data)
    west.pos.acquirer.receive(answer, utcnow())
    assert answer.elements[39] == "00"
    west.pos.send_raw(sent)
    assert west.pos.receive_raw() == data, "the stored answer, byte for byte"
    west.agree()


def test_chip_data_reaches_an_issuer_of_1993_untouched(shop: Shop) -> None:
    chip = ChipCard(Card("4000056655665556"), bytes.fromhex(IMK), seed=1)
    good = chip.presented(2_100, "EUR", utcnow())
    assert shop.pos.buy(good, 2_100)[1].elements[39] == "00", "its cryptogram is right"
    spoiled = chip.presented(2_101, "EUR", utcnow())
    other = msgspec.structs.replace(spoiled, icc_data=spoiled.icc_data.replace("000000002101", "000000002102"))
    assert other != spoiled
    assert shop.pos.buy(other, 2_101)[1].elements[39] != "00", "the issuer looks at each byte"
    shop.agree()


@pytest.mark.parametrize("side", [0, 1], ids=["1422 to 87", "0422 to 93"])
def test_a_chargeback_reaches_an_acquirer_of_another_version(shop: Shop, west: Shop, side: int) -> None:
    at, card = either(shop, west)[side]
    request, _ = at.pos.buy(card, 6_400)
    at.chargeback(("alpha", "beta")[side], request)
    advice = at.pos.wait_unasked("0422")
    assert advice.elements[90].startswith("0200" + request.message.elements[11])
    assert at.standing(request) == (0, 0)
    at.agree()


@pytest.mark.parametrize("side", [0, 1], ids=["87 to 93", "93 to 87"])
def test_a_silent_issuer_of_another_version_is_reversed(shop: Shop, west: Shop, side: int) -> None:
    at, card = either(shop, west)[side]
    at.fault(("alpha", "beta")[side], kind="silence", amount_minor=2_600, count=1)
    request, answer = at.pos.buy(card, 2_600)
    assert answer.elements[39] == "91"
    at.agree(timeout_s=20)
    assert at.acknowledgements(request) == ["00"]
    assert at.standing(request) == (0, 0)


def test_an_acquirer_of_1993_hears_904_for_what_cannot_be_read(west: Shop) -> None:
    request = west.stranger().purchase(MASTERCARD, 2_700, "EUR", utcnow())
    whole = west.pos.acquirer.codec.encode(request.message)
    west.pos.send_raw(whole[:-4])
    data = west.pos.receive_raw()
    assert data[:4] == b"1210" and b"904" in data
    assert west.pos.acquirer.codec.decode(data).elements[39] == "30"
    assert west.pos.buy(MASTERCARD, 2_701)[1].elements[39] == "00", "the connection stays"
    assert west.entries(request) == []
    west.agree()


# The message set


@pytest.mark.parametrize("side", [0, 1], ids=["87 to 93", "93 to 87"])
def test_a_part_is_approved_and_only_that_is_held(shop: Shop, west: Shop, side: int) -> None:
    at, card = either(shop, west)[side]
    poor = Card(card.pan[:8] + "11111111")
    account(at, ("alpha", "beta")[side], pan=poor.pan, balance_minor=3_000, partial=True)
    request, answer = at.pos.authorize(poor, 5_000)
    assert (answer.elements[39], int(answer.elements[4])) == ("10", 3_000)
    assert at.standing(request) == (3_000, 0)
    assert at.pos.capture(request, 3_000)[1].elements[39] == "00"
    assert at.standing(request) == (0, 3_000)
    at.agree()


@pytest.mark.parametrize("side", [0, 1], ids=["87 to 93", "93 to 87"])
def test_more_of_a_hold_cash_back_balances_and_verifications(shop: Shop, west: Shop, side: int) -> None:
    at, card = either(shop, west)[side]
    held, _ = at.pos.authorize(card, 5_000)
    more = at.pos.acquirer.increment(held, card, 2_000, utcnow())
    assert at.pos.exchange(more).elements[39] == "00"
    assert at.standing(held) == (7_000, 0)
    assert at.pos.capture(held, 7_000)[1].elements[39] == "00"
    cash = at.pos.acquirer.purchase(card, 3_000, "EUR", utcnow(), cashback_minor=1_000)
    assert at.pos.exchange(cash).elements[39] == "00"
    assert [at.standing(request) for request in (held, cash)] == [(0, 7_000), (0, 3_000)]
    asked = at.pos.acquirer.inquiry(card, "EUR", utcnow())
    answer = at.pos.exchange(asked)
    assert answer.elements[39] == "00" and answer.elements[54]
    verified = at.pos.acquirer.verification(card, "EUR", utcnow())
    assert at.pos.exchange(verified).elements[39] in ("00", "85")
    assert at.standing(verified) == (0, 0)
    at.agree()


@pytest.mark.parametrize("side", [0, 1], ids=["87 to 93", "93 to 87"])
def test_the_totals_of_a_day_that_a_cut_over_opens_are_in_balance(shop: Shop, west: Shop, side: int) -> None:
    at, card = either(shop, west)[side]
    pos, day = at.pos, f"{utcnow():%m%d}"
    assert pos.exchange(pos.acquirer.cut_over(day, utcnow())).elements[39] == "00"
    before = pos.acquirer.totals.of(day, "EUR").elements()
    paid, _ = pos.buy(card, 2_500)
    assert pos.buy(card, 1_500)[1].elements[39] == "00"
    assert pos.refund(card, 500, paid)[1].elements[39] == "00"
    assert pos.acquirer.totals.of(day, "EUR").elements() != before
    answer = pos.exchange(pos.acquirer.reconciliation("EUR", utcnow(), day=day))
    assert (answer.elements[39], answer.elements[66]) == ("00", "1")
    wrong = pos.acquirer.reconciliation("EUR", utcnow(), day=day)
    wrong.message.elements[88] = f"{int(wrong.message.elements[88]) + 1:016d}"
    assert pos.exchange(wrong).elements[66] == "2"
    at.agree()


# The issuer is away


def test_an_alternate_is_asked_while_an_issuer_is_signed_off(shop: Shop) -> None:
    account(shop, "beta", pan=EITHER.pan, response_code="05")  # so that it is seen who has answered
    assert shop.pos.buy(EITHER, 3_000)[1].elements[39] == "05"
    shop.command("link", "sign-off", "beta", "--json")
    try:
        request, answer = shop.pos.buy(EITHER, 3_001)
        assert answer.elements[39] == "00" and answer.elements[38].isdigit(), "alpha itself, no stand-in for it"
        assert shop.standing(request) == (0, 3_001)
        assert shop.pos.buy(MASTERCARD, 3_002)[1].elements[39] == "91", "no alternate, no stand-in"
    finally:
        shop.command("link", "sign-on", "beta", "--json")
    assert shop.pos.buy(EITHER, 3_003)[1].elements[39] == "05"
    shop.agree()


def test_an_alternate_is_asked_while_a_circuit_is_open(shop: Shop) -> None:
    account(shop, "beta", pan=EITHER.pan, response_code="")
    # A payment that beta answers: the failures in a row that other tests left on this worker count no more.
    assert shop.pos.buy(EITHER, 3_099)[1].elements[39] == "00"
    shop.fault("beta", kind="silence", amount_minor=3_100, count=8)
    silent, code = [], "91"
    for _ in range(6):  # every worker counts by itself; one connection stays on one of them
        request, answer = shop.pos.buy(EITHER, 3_100)
        code = answer.elements[39]
        if code == "00":
            break
        silent.append(request)
    assert code == "00" and len(silent) == 2
    assert answer.elements[38].isdigit(), "alpha itself, no stand-in for it"
    assert shop.standing(request) == (0, 3_100)
    ask(shop.system.control_socket("beta"), "clear")
    shop.agree(timeout_s=20)
    assert [shop.acknowledgements(request) for request in silent] == [["00"], ["00"]]
    deadline = time.monotonic() + 10
    account(shop, "beta", pan=EITHER.pan, response_code="05")
    while shop.pos.buy(EITHER, 3_101)[1].elements[39] != "05":
        assert time.monotonic() < deadline, "the circuit does not close"
        time.sleep(0.3)
    shop.agree()


def test_stand_in_answers_for_an_issuer_that_is_signed_off_within_its_limits_and_tells_it(shop: Shop) -> None:
    shop.command("link", "sign-off", "alpha", "--json")
    plain = Card("4242424242424242")
    try:
        held, answer = shop.pos.authorize(plain, 4_900)
        assert answer.elements[39] == "00" and answer.elements[38].startswith("S")
        over, answer = shop.pos.authorize(plain, 5_001)
        assert answer.elements[39] == "91"
        assert shop.standing(held) == (4_900, 0) and shop.standing(over) == (0, 0)
        assert links_of_advices(shop, held.key) == [("alpha", "0120")]
        assert shop.acknowledgements(held) == []
    finally:
        shop.command("link", "sign-on", "alpha", "--json")
    shop.agree(timeout_s=20)
    assert shop.acknowledgements(held) == ["00"]
    assert links_of_advices(shop, over.key) == [("alpha", "0120")], "it gets advices of declines in its name, too"
    assert shop.acknowledgements(over) == ["00"]


def test_stand_in_declines_a_card_that_its_issuer_has_listed(shop: Shop) -> None:
    listed = Card("4242424242420007")
    assert told(shop, "alpha", "list-card", pan=listed.pan, action="add") == "00"
    shop.command("link", "sign-off", "alpha", "--json")
    try:
        request, answer = shop.pos.buy(listed, 1_000)
        assert answer.elements[39] == "91"
        assert shop.entries(request) == []
        assert shop.pos.buy(Card("4242424242424242"), 1_001)[1].elements[39] == "00"
    finally:
        shop.command("link", "sign-on", "alpha", "--json")
    assert told(shop, "alpha", "list-card", pan=listed.pan, action="delete") == "00"
    shop.agree(timeout_s=20)
