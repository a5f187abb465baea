"""The pytest plugin as an integrator has it: a project of its own, a tiny switch, warnings as errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest

pytest_plugins = ["pytester", "simulators.pytest_plugin"]

# A switch in forty lines: takes connections of acquirers and passes whole frames on to an issuer, and back.
TINY_SWITCH = """
import socket, socketserver, threading

class Tiny:
    def __init__(self, issuer):
        host, port = issuer.rsplit(":", 1)
        self.issuer, self.frames, self.peers = (host, int(port)), 0, []
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.sock.accept()
            except OSError:
                return
            far = socket.create_connection(self.issuer)
            self.peers += [near, far]
            for here, there in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=(here, there), daemon=True).start()

    def pump(self, here, there):
        try:
            while data := here.recv(65536):
                self.frames += 1
                there.sendall(data)
        except OSError:
            pass
        for peer in (here, there):
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.sock.close()
        for peer in self.peers:
            peer.close()
"""

INTEGRATION = """
import pytest
from tiny_switch import Tiny

PAN = "4242424242424242"

@pytest.fixture
def switched(issuer_simulator, acquirer_simulator):
    issuer = issuer_simulator({"name": "alpha", "default": {"balance_minor": 100_000}})
    tiny = Tiny(issuer.address)
    yield issuer, tiny, acquirer_simulator(dial=tiny.address, timeout_s=0.3)
    tiny.close()

def test_a_decline_is_passed_on(switched):
    issuer, tiny, acquirer = switched
    issuer.fault(kind="decline", response_code="61", amount_minor=777)
    assert acquirer.purchase(PAN, 2500).response_code == "00"
    assert acquirer.purchase(PAN, 777).response_code == "61"
    assert tiny.frames >= 4

def test_a_late_answer_is_reversed(switched):
    issuer, tiny, acquirer = switched
    issuer.fault(kind="late", delay_s=1.0, mti=["0100"])
    request = acquirer.authorization(PAN, 100)
    assert str(request.state) == "reversed"
    assert [(line.held_minor, line.posted_minor) for line in issuer.book()] == [(0, 0)]

def test_two_of_a_kind(issuer_simulator, acquirer_simulator, tmp_path):
    file = tmp_path / "beta.toml"
    file.write_text('name = "beta"\\nprefixes = ["5"]\\n[default]\\nbalance_minor = 1\\n')
    first, second = issuer_simulator(), issuer_simulator(file)
    assert first.address != second.address
    assert acquirer_simulator(dial=second.address).purchase("5555555555554444", 5).response_code == "51"
"""


def test_it_is_found_by_its_entry_point() -> None:
    found = [entry for entry in entry_points(group="pytest11") if entry.value == "simulators.pytest_plugin"]
    assert [entry.name for entry in found] == ["simulators.pytest_plugin"], "run make setup again"


@pytest.mark.parametrize("options", [["-W", "error"], ["-W", "error", "-p", "simulators.pytest_plugin"]])
def test_an_integrators_tests_pass_with_warnings_as_errors(pytester: pytest.Pytester, options: list[str]) -> None:
    pytester.makepyfile(tiny_switch=TINY_SWITCH, test_integration=INTEGRATION)
    result = pytester.runpytest_subprocess(*options, "-q", timeout=60)
    result.assert_outcomes(passed=3)


def test_a_wrong_scenario_fails_its_test_only_and_says_everything(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_wrong(issuer_simulator):
            issuer_simulator({"name": "a|b", "dialect": "klingon"})

        def test_right(issuer_simulator):
            assert issuer_simulator().port
        """
    )
    result = pytester.runpytest_subprocess("-W", "error", "-q", timeout=60)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*ScenarioError*must not*klingon*"])


def test_what_breaks_behind_a_test_fails_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_broken(issuer_simulator):
            issuer = issuer_simulator()
            def fall():
                raise RuntimeError("fell")
            issuer._background._token.run_sync_soon(fall)
            issuer.wait_for(lambda: not issuer._background._thread.is_alive())
        """
    )
    result = pytester.runpytest_subprocess("-q", timeout=60)
    result.assert_outcomes(passed=1, errors=1)


def test_nothing_heavy_is_imported_before_a_fixture_is_used() -> None:
    script = (
        "import sys, pytest, simulators.pytest_plugin\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in "
        "('trio', 'msgspec', 'structlog', 'messages', 'hsm', 'cryptography') or name.startswith('simulators.')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "['simulators.pytest_plugin']"


def test_the_fixtures_work_in_this_suite(
    issuer_simulator: Callable[..., Any], acquirer_simulator: Callable[..., Any]
) -> None:
    issuer = issuer_simulator()
    acquirer = acquirer_simulator(dial=issuer.address)
    assert acquirer.purchase("4242424242424242", 100).response_code == "00"
