"""The documents name headings, settings, commands and options that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.main import get_command

from console.cli import app
from console.config import Config
from switch.meters import COUNTERS
from tests.console.test_configuration_page import struct_of

ROOT = Path(__file__).parents[2]
PAGES = {
    file.relative_to(ROOT).as_posix(): file.read_text("utf-8") for file in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
}
ROOT_COMMAND: Any = get_command(app)
FENCED = re.compile(r"^ *```.*?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `cardswitch …` in code, without prompt and comment."""
    joined = "\n".join(FENCED.findall(text)).replace("\\\n", " ")
    spans = re.findall(r"`([^`\n]*)`", FENCED.sub("", text))
    for line in (*joined.splitlines(), *spans):
        found = re.search(r"(?:^|[$(] ?)\s*cardswitch ([^#|&>)…]*)", line)
        if found:
            try:
                yield shlex.split(found[1])
            except ValueError:  # a quotation that goes on in the next line
                yield found[1].split()


@pytest.mark.parametrize("page", PAGES)
def test_links_to_headings_lead_somewhere(page: str) -> None:
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", PAGES[page]):
        target = ((ROOT / page).parent / file).resolve().relative_to(ROOT).as_posix() if file else page
        assert anchor in anchors(PAGES[target]), f"{file}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_are_named_with_their_section_exist(page: str) -> None:
    sections = {field.name: struct for field in msgspec.structs.fields(Config) if (struct := struct_of(field.type))}
    for section, key in re.findall(r"`\[+(\w+)\]+ (\w+)", PAGES[page]):
        names = {field.encode_name for field in msgspec.structs.fields(sections[section])}
        assert key in names, f"[{section}] {key}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page: str) -> None:
    for words in commands(PAGES[page]):
        command = ROOT_COMMAND
        for word in words:
            for name in word.split("|") if getattr(command, "commands", None) else ():
                assert name in command.commands or not name.isalpha(), " ".join(words)
            if word not in getattr(command, "commands", {}):
                break
            command = command.commands[word]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.split("=")[0] for word in words if re.match(r"--\w", word)}
        assert used <= known | {"--help"}, " ".join(words)


def test_each_counter_of_a_worker_is_described_with_its_labels() -> None:
    described = {}
    for row in PAGES["docs/operations.md"].splitlines():
        if row.startswith("| `cardswitch_"):
            names, labels = row.split("|")[1:3]
            found = [tuple(re.findall(r"`(\w+)`", part)) for part in labels.split(";")]
            names = re.findall(r"`cardswitch_(\w+)_total`", names)
            described |= dict(zip(names, found if len(found) == len(names) else found * len(names), strict=True))
    assert described == {name: labels for name, (_, labels) in COUNTERS.items()}


def test_events_and_reasons_of_the_trouble_table_exist() -> None:
    table = PAGES["docs/operations.md"].split("## At three in the morning")[1].split("\n## ")[0]
    packages = ("switch", "hsm", "gateway", "web", "console", "ledger")
    source = "".join(file.read_text("utf-8") for name in packages for file in (ROOT / name).rglob("*.py"))
    named = {
        word
        for row in table.splitlines()
        if row.startswith("| ")
        for word in re.findall(r"`(\w+_\w+)`", row.split("|")[1])
    }
    # A database logs `<its name>_lost`.
    missing = {word for word in named if f'"{word}"' not in source and f'"{word.removesuffix("_lost")}"' not in source}
    assert named and not missing
