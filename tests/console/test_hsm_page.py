"""The commands of docs/hsm.md, run in their order on one token; and its tables, held against the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console import cli
from hsm.algorithms.keyblock_header import VERSIONS
from hsm.keys.attributes import ROLES
from hsm.keys.backup import KEPT

PAGE = (Path(__file__).parents[2] / "docs" / "hsm.md").read_text("utf-8")
# What asks somebody, with what the page has somebody type.
COMPONENT = re.compile(r"^component \d of \d: +([0-9A-F ]+)$", re.MULTILINE)


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
    components = COMPONENT.findall(PAGE)
    assert len(components) == 2
    run = 0
    for language, line in commands():
        program, *arguments = shlex.split(line)
        assert program == "cardswitch", line
        if language == "console":
            typed = "".join(f"{component}\ny\n" for component in components)
            result = CliRunner().invoke(cli.app, arguments, input=typed)
            assert result.exit_code == 0, (line, result.output, result.exception)
            for value in re.findall(r"(?:check value \d|KCV of the key): +([0-9A-F]{6})", PAGE):
                assert value in result.output, line
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
    assert run >= 14


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
