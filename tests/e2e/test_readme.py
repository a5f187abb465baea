"""The README's own commands for the first payment, run as they stand there but for addresses; so they cannot rot."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from console.supervisor import System
from tests.e2e.shop import Shop

pytestmark = pytest.mark.xdist_group("e2e")

ROOT = Path(__file__).parents[2]
ACTIVATE = ". .venv/bin/activate\n"
PORTS = {"127.0.0.1:8080": "gateway", "127.0.0.1:8081": "tokenizer"}


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of one section of the README."""
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no section {section!r}"
    return re.findall(rf"^```{language}\n(.*?)^```$", found[1], re.MULTILINE | re.DOTALL)


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


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match, text
    return match[1]
