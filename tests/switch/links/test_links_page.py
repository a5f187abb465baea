"""docs/links.md and the link keys of docs/configuration.md, held against the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from messages.framing import FRAMINGS
from switch.links.mac import CUT_OVER
from switch.links.management import EFFECTS, KEY_CHANGES
from switch.links.settings import AcquirerLink, IssuerLink, Link
from switch.links.state import states_table
from switch.links.tls_context import TlsSettings
from switch.meters import COUNTERS

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "links.md").read_text("utf-8")
SETTINGS = (DOCS / "configuration.md").read_text("utf-8").partition("## Links")[2].partition("\n## ")[0]


def named(rows: str) -> dict[str, str]:
    """Code in the first column of a table, with its row."""
    return {
        name: line
        for line in rows.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([^`]+)`", line.split("|")[1])
    }


def test_the_states_are_those_of_the_table() -> None:
    assert states_table() in PAGE


def test_every_framing_is_named() -> None:
    framings = named(PAGE.partition("| on the wire |")[2].partition("With `header`")[0])
    assert set(framings) == set(FRAMINGS)


def test_every_function_of_network_management_is_named() -> None:
    rows = PAGE.partition("## Network management")[2].partition("\n## ")[0]
    codes = {line[2:5] for line in rows.splitlines() if re.match(r"\| \d{3} ", line)}
    assert codes == {*EFFECTS, *KEY_CHANGES, CUT_OVER}


def test_every_key_of_tls_is_named() -> None:
    rows = PAGE.partition("| key of `tls` |")[2].partition("\n\n")[0]
    assert set(named(rows)) == set(TlsSettings.__struct_fields__)


def test_every_metric_of_the_page_is_there() -> None:
    counters = re.findall(r"`cardswitch_(\w+)_total`", PAGE)
    assert counters and set(counters) <= set(COUNTERS)


@pytest.mark.parametrize(
    ("kind", "section"),
    [
        (Link, SETTINGS.partition("### [[acquirer]]")[0]),
        (AcquirerLink, SETTINGS.partition("### [[acquirer]]")[2].partition("###")[0]),
        (IssuerLink, SETTINGS.partition("### [[issuer]]")[2]),
    ],
)
def test_every_key_of_a_link_is_described_with_its_default(kind: type[Link], section: str) -> None:
    rows = named(section)
    common = {
        *Link.__struct_fields__,
        "sign_on",
        "echo_s",
        "advice_timeout_s",
    }  # the last three differ in their default
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    expected = common if kind is Link else set(fields) - common
    assert set(rows) == expected
    for name in expected & set(fields):
        default: Any = fields[name].default
        if isinstance(default, int | float) and not isinstance(default, bool):
            said = rows[name].split("|")[2]
            names = re.findall(r"`([^`]+)`", rows[name].split("|")[1])
            values = [float(value) for value in re.findall(r"\d+(?:\.\d+)?", said)]
            assert values[names.index(name)] == float(default), name


def test_the_examples_are_links() -> None:
    blocks = [tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]
    assert blocks
    sections: dict[str, type[Link]] = {"acquirer": AcquirerLink, "issuer": IssuerLink}
    for block in blocks:
        assert block and set(block) <= set(sections)
        for section, rows in block.items():
            for row in rows:
                msgspec.convert({"dialect": "iso87-ascii", **row}, sections[section])
    assert {section for block in blocks for section in block} == set(sections)
