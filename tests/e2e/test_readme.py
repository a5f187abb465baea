"""The commands and the code of the README and docs/, run as written but for addresses; so they cannot rot."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from typer.main import get_command

from console.cli import app
from console.config import Config, load_config
from console.errors import ConfigError
from console.supervisor import System
from hsm.algorithms.mac import generate_mac
from hsm.algorithms.pinblock import encrypt_pin_block
from hsm.keys.exchange import load_party_keys
from simulators.issuer.scenario import load_scenario
from tests.e2e.shop import Shop
from web.config import HttpConfig

pytestmark = pytest.mark.xdist_group("e2e")

ROOT = Path(__file__).parents[2]
ACTIVATE = ". .venv/bin/activate\n"
PORTS = {"127.0.0.1:8080": "gateway", "127.0.0.1:8081": "tokenizer"}


def section(title: str, file: str = "README.md") -> str:
    """The text of one section of a document."""
    text = (ROOT / file).read_text("utf-8") + "\n## "
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert found, f"{file} has no section {title!r}"
    return found[1]


def blocks(title: str, language: str, file: str = "README.md") -> list[str]:
    """The code blocks of one section of a document."""
    return re.findall(rf"^```{language}\n(.*?)^```$", section(title, file), re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(system: System, tmp_path: Path) -> dict[str, str]:
    """The environment of the README's reader: `cardswitch` on the path, and the session's system."""
    command = tmp_path / "bin" / "cardswitch"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m console.cli "$@"\n')
    command.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{command.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "CARDSWITCH_STATE": str(system.config.state_path),
        "COLUMNS": "120",
    }


def here(text: str, system: System) -> str:
    """The block with this system's addresses in place of the sample configuration's."""
    addresses = system.addresses()
    for address, name in PORTS.items():
        text = text.replace(f"http://{address}", addresses[name])
    return text.replace(ACTIVATE, "")


def run(command: list[str], shell: dict[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=shell, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_block_starts_the_system_that_the_others_use() -> None:
    start, key, curl = blocks("Your first payment", "sh")
    assert start.splitlines()[-1] == "cardswitch up"
    assert "export KEY=" in key
    assert all(f"http://{address}" in curl for address in PORTS)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_first_payment_by_curl(system: System, shell: dict[str, str]) -> None:
    _, key, curl = blocks("Your first payment", "sh")
    intent = json.loads(run(["sh", "-euc", here(key + curl, system)], shell))
    assert intent["status"] == "succeeded"
    assert intent["amount_received"] == 2500


def test_first_payment_by_the_stripe_package(system: System, shell: dict[str, str]) -> None:
    _, key, _ = blocks("Your first payment", "sh")
    (script,) = blocks("Your first payment", "python")
    secret = run(["sh", "-euc", here(key, system) + 'printf %s "$KEY"'], shell)
    assert run([sys.executable, "-c", here(script, system)], {**shell, "KEY": secret}) == "succeeded 500 eur\n"


def test_a_message_without_a_pos(system: System, shop: Shop, shell: dict[str, str]) -> None:
    (send,) = blocks("Connect an acquirer", "sh")
    shown = run(["sh", "-euc", send], shell)
    request, answer = shown.split("←")
    assert re.search(r"^ *39 .* 00 +Approved", answer, re.MULTILINE), shown
    # Nobody's book knows of it, so it is taken back.
    de7, stan = (found(rf"^ *{number} .* (\d+) *$", request) for number in (7, 11))
    reversal = shop.command(
        *("send", "--mti", "0400", "--set", "32=10001", "--set", "41=TERM0001"),
        *("--set", f"90=0100{stan}{de7}{10001:011d}{0:011d}", "--json"),
    )
    assert reversal["elements"]["39"] == "00"
    shop.agree()


def test_a_jpos_packager_reads_a_message(shell: dict[str, str], tmp_path: Path) -> None:
    (block,) = blocks("Bring your jPOS packager", "sh")
    (shown,) = blocks("Bring your jPOS packager", "text")
    done = subprocess.run(
        ["sh", "-euc", block], capture_output=True, text=True, timeout=60, env=shell, cwd=tmp_path, check=True
    )
    printed = [line.rstrip() for line in done.stdout.splitlines()]
    assert [line for line in printed if line] == [line for line in shown.splitlines() if line]


def test_the_scenario_of_the_readme_is_checked(shell: dict[str, str], tmp_path: Path) -> None:
    (block,) = blocks("Test your issuer integration", "sh")
    subprocess.run(["sh", "-euc", block], timeout=60, env=shell, cwd=tmp_path, check=True)
    scenario = load_scenario(str(tmp_path / "night.toml"))
    assert [fault.kind for fault in scenario.fault] == ["late", "half-frame"]


def test_the_link_of_the_first_ten_minutes_is_one_and_is_tried(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "acquirer.md").read_text("utf-8")
    steps = page.split("## In ten minutes")[1].split("\n## ")[0].replace("\n   ", "\n")
    link, tries = (re.findall(rf"^```{language}\n(.*?)^```$", steps, re.M | re.S)[0] for language in ("toml", "sh"))
    file = tmp_path / "cardswitch.toml"
    file.write_text((ROOT / "specs" / "cardswitch.toml").read_text("utf-8") + link)
    config = load_config(file)
    added = config.acquirer[-1]
    assert {key.name for key in config.key} >= {added.pin_key, added.mac_key}
    assert set(re.findall(r"--to (\w+)", tries)) == {added.name}


def test_an_acquirer_unwraps_its_keys_and_makes_pin_block_and_mac(system: System) -> None:
    (code,) = blocks("Keys", "python", "docs/acquirer.md")
    names: dict[str, Any] = {}
    exec(code.replace(".cardswitch", str(system.config.state_path)), names)
    keys = load_party_keys(system.config.exchange_path, "pos")
    assert names["keys"] == keys
    pan = "4242424242424242"
    assert bytes.fromhex(names["pin_block"]("1234", pan)) == encrypt_pin_block("1234", pan, keys["zpk-pos"])
    assert names["mac"](b"0100...") == generate_mac(keys["zak-pos"], b"0100...")


def test_the_control_socket_as_documented(system: System) -> None:
    (code,) = blocks("Control socket", "python", "docs/simulators.md")
    exec(code.replace(".cardswitch", str(system.config.state_path)), {})


def test_the_documented_test_of_an_integrator_passes() -> None:
    (code,) = blocks("In pytest", "python", "docs/simulators.md")
    names: dict[str, Any] = {}
    exec(code, names)
    names["test_a_decline_is_passed_on"]()


def test_the_documented_scenario_is_one(tmp_path: Path) -> None:
    (text,) = blocks("Issuer", "toml", "docs/simulators.md")
    (tmp_path / "night.toml").write_text(text)
    assert load_scenario(str(tmp_path / "night.toml")).fault[0].kind == "late"


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    parts = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    sections = {name: body for names, body in parts for name in re.findall(r"\[(\w+)\]", names)}
    links = dict(parts)["Links"]
    shared = {"merchant": sections["fees"], "acquirer": links, "issuer": links}
    of_other_pages = {"route", "breaker", "stand_in", "saf"}  # held to the code by tests/console/test_routing_pages.py
    elsewhere = {("hsm", "keys"), ("hsm", "callers")}  # [[key]] and [[caller]]
    for part in msgspec.structs.fields(Config):
        if part.name in of_other_pages:
            continue
        of = next((kind for kind in (part.type, *get_args(part.type)) if hasattr(kind, "__struct_fields__")), None)
        for setting in getattr(of, "__struct_encode_fields__", ()):
            body = shared.get(part.name, sections.get(part.name, ""))
            assert f"`{setting}`" in body or (part.name, setting) in elsewhere, f"[{part.name}] {setting}"


def test_every_limit_of_the_http_servers_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    part = text.split("## [gateway.http], [tokenizer.http]\n")[1].split("\n## ")[0]
    assert [name for name in HttpConfig.__struct_fields__ if f"`{name}`" not in part] == []


def test_upgrading_quotes_the_errors_of_settings_that_have_changed(tmp_path: Path) -> None:
    sample = (ROOT / "specs" / "cardswitch.toml").read_text("utf-8")
    first_route = 'prefix = "4"\n'
    stand_in = '[[stand_in]]\nissuer = "alpha"\nfloor_minor = { EUR = 1, USD = 1 }\nsum_1h_minor = { EUR = 1 }\n'
    before = (
        ('listen = "unix:gateway.sock"', 'listen = "127.0.0.1:5011"'),
        ("amount_over_minor = { EUR = 1_000_000 }", "amount_over_minor = 1_000_000"),
        (first_route, f"{first_route}amount_from_minor = 100\n"),
        (first_route, f'{first_route}amount_from_minor = 100\ncurrency = ["EUR", "JPY"]\n'),
        ("[acquirer.permissions]", "[acquirer.permissions]\namounts_minor = { EUR = 100 }"),
        ("[[route]]\n", f"{stand_in}[[route]]\n"),
        (first_route, f'{first_route}currency = ["EUX"]\n'),
        ("[tokenizer] ", "[tokenizer]\nmax_connections = 100 "),
        ("dual_control = false", 'network_token_key = "none"\ndual_control = false'),
        ("dual_control = false", "provision = true"),
    )
    quoted = re.findall(r"\| `([^`|]*)` \|$", section("Upgrading", "docs/operations.md"), re.MULTILINE)
    assert len(quoted) == len(before)
    for (new, old), error in zip(before, quoted, strict=True):
        assert new in sample
        file = tmp_path / "cardswitch.toml"
        file.write_text(sample.replace(new, old, 1))
        with pytest.raises(ConfigError) as refused:
            load_config(file)
        form = re.escape(error).replace("NAME", r"[\w-]+").replace("…", ".+")
        assert any(re.match(form, one) for one in refused.value.problems), error


def test_the_readme_has_every_command_and_every_page() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    table = text[text.index("| command |") : text.index("Every command has")]
    rows = [set(re.findall(r"[a-z-]+", " ".join(re.findall(r"`([^`]*)`", row)))) for row in table.splitlines()]
    for command in commands(get_command(app)):
        assert any(row >= set(command[:2]) for row in rows), " ".join(command)
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert pages <= set(re.findall(r"\]\((docs/[\w-]+\.md)\)", text[text.index("## More") :]))


def test_links_between_documents_lead_somewhere() -> None:
    for file in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!https:)([^)#]+)", file.read_text("utf-8")):
            assert (file.parent / link).exists(), f"{file.name}: {link}"


def test_files_that_documents_name_are_there() -> None:
    rooms = "messages|switch|ledger|hsm|simulators|console|gateway|specs|tests"
    of_a_state = {"hsm/keys.json", "hsm/ledger_head.json", "ledger/verified.json", "hsm/pin", "hsm/backup/"}
    of_a_state |= {"specs/scenario-NAME.toml"}
    for file in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for name in set(re.findall(rf"`((?:{rooms})/[\w/*.-]*)`", file.read_text("utf-8"))) - of_a_state:
            assert any(ROOT.glob(name.rstrip("/"))), f"{file.name}: {name}"


def commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command that `--help` shows."""
    if not getattr(command, "commands", None):
        return [] if command.hidden else [path]
    return [words for name, below in command.commands.items() for words in commands(below, (*path, name))]


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match, text
    return match[1]
