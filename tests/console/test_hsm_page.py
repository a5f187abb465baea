"""The commands of docs/hsm.md, run in their order on one token; and its tables, held against the code."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console import cli
from console.hsm.signing import PASSPHRASE_VARIABLE
from hsm.algorithms.keyblock_header import VERSIONS
from hsm.keys.attributes import ROLES
from hsm.keys.backup import KEPT
from hsm.keys.lifetimes import LIFETIME_DAYS

PAGE = (Path(__file__).parents[2] / "docs" / "hsm.md").read_text("utf-8")
# Custodians' components on paper: the page shows the first component, whose check value and the key's are on it.
COMPONENTS = (
    "E7F4 B42D 4FF8 FB11 88F3 FA51 4EB6 1888 6C9E 8378 1E23 7EDC 90ED 2588 48D8 AC9D",
    "106E CCFA 6FFC C15C FEBF E639 6D11 E45B FA9B 7236 DC60 3DF5 E029 13A0 5E61 804C",
)
NUMBER = re.compile(r"\b[0-9a-f]{12}\b")


def commands() -> Iterator[tuple[str, str]]:
    """Language and line of each command of the page, in its order."""
    for language, block in re.findall(r"^```(sh|console)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if language == "sh":
                yield language, line
            elif line.startswith("$ "):
                yield language, line[2:]


def test_every_command_of_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CARDSWITCH_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("hsm.process.forbid_dumps", lambda: None)
    monkeypatch.chdir(tmp_path)
    sample = (Path(cli.__file__).parents[1] / "specs" / "cardswitch.toml").read_text().splitlines()
    Path("cardswitch.toml").write_text("\n".join(line for line in sample if not line.startswith("dual_control")))
    Path("passphrase").write_text("correct horse battery staple")
    Path("passphrase").chmod(0o600)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "passphrase")
    assert COMPONENTS[0] in PAGE
    components = iter(COMPONENTS)
    run = 0
    for language, line in commands():
        if NUMBER.search(line):
            cli.run(["hsm", "pending", "--json"])
            line = NUMBER.sub(json.loads(capsys.readouterr().out)["proposals"][-1]["id"], line)
        program, *arguments = shlex.split(line)
        assert program == "cardswitch", line
        if language == "console":
            asks = "import" in arguments or components_wait(capsys)
            typed = f"{next(components)}\ny\n" if asks else "y\n"
            result = CliRunner().invoke(cli.app, arguments, input=typed)
            assert result.exit_code == 0, (line, result.output, result.exception)
            shown = re.findall(r"^Check value of the component: ([0-9A-F]{6})$", result.output, re.MULTILINE)
            assert len(shown) == asks and all(value in PAGE for value in shown), result.output
            assert "606F6C" in result.output or not asks
        else:
            target = None
            if ">" in arguments:
                *arguments, _, target = arguments
            status = cli.run(arguments)
            out, err = capsys.readouterr()
            assert status == 0, (line, err)
            if target is not None:
                (tmp_path / target).write_text(out)
        run += 1
    assert run >= 25 and next(components, None) is None


def components_wait(capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether the newest proposal is an import of components."""
    cli.run(["hsm", "pending", "--json"])
    proposals = json.loads(capsys.readouterr().out)["proposals"]
    return bool(proposals) and proposals[-1]["request"]["type"] == "import_components"


def test_the_roles_of_the_page_are_those_of_the_code() -> None:
    table = PAGE.split("### Roles")[1].split("\n\n")[1]
    named = set(re.findall(r"`([a-z0-9-]+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:])))
    assert named == set(ROLES)
    for role in ROLES.values():
        for name, attributes in role.algorithms.items():
            assert attributes.usage in table and name.split("-")[0] in table


def test_numbers_and_versions_of_the_page() -> None:
    assert KEPT == 12 and "the last\ntwelve" in PAGE
    written = {version for version, rules in VERSIONS.items() if rules.writable}
    assert written == {"B", "D"} and "Versions A and C" in PAGE


def test_links_of_the_page_lead_somewhere() -> None:
    docs = Path(__file__).parents[2] / "docs"
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", PAGE):
        assert not target or (docs / target).exists(), target
    for path in re.findall(r"`(tests/[\w/.]+)`", PAGE):
        assert (docs.parent / path).exists(), path


def test_the_lifetimes_of_the_page_are_those_of_the_code() -> None:
    table = PAGE.split("### Lifetimes")[1].split("\n\n")[2]
    found = {
        role: int(days)
        for roles, days in re.findall(r"^\| ([^|]+) \| (\d+) \|", table, re.MULTILINE)
        for role in re.findall(r"`([a-z0-9-]+)`", roles)
        if role != "pan"
    }
    assert found == LIFETIME_DAYS
