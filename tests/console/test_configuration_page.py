"""docs/configuration.md held against the config structs: each key is a setting, with the default of the code.

`tests/switch/links/test_links_page.py` does it for links, `tests/console/test_routing_pages.py` for routing and [saf].
"""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from console.config import Config
from web.config import HttpConfig

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
WORDS = {"empty": "", "true": True, "false": False, "required": msgspec.NODEFAULT}
NOTHING = (None, "", (), {})
OTHER_TESTS = {"acquirer", "issuer", "route", "breaker", "stand_in", "saf"}
ELSEWHERE = {
    "hsm": {"keys", "callers"},  # [[key]] and [[caller]]
    "tokenizer": {
        "request_timeout_s",
        "max_connections",
        "connections_per_address",
    },  # errors: [tokenizer.http] has them
}
# Defaults that depend on other settings; the page has them in words.
IN_WORDS = {
    "postgresql": {"role_prefix"},
    "hsm": {"pin_file", "provision", "key_lifetime_days"},
    "caller": {"socket", "users", "commands", "keys"},
    "key": {"algorithm"},
    "tokenizer": {"http"},
    "gateway": {"http", "sealing_keys"},
}


def struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """The struct of a section, or of the entries of a list of tables; None for a single value."""
    return next((one for one in (kind, *get_args(kind)) if hasattr(one, "__struct_fields__")), None)


def settings(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The names of the file with their defaults; NODEFAULT for a required one."""
    return {
        field.encode_name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in msgspec.structs.fields(struct)
    }


def rows_below(heading: str, column: str) -> dict[str, str]:
    """The keys and defaults of the table with this first column below a heading; one row may have several of both."""
    table = PAGE.split(f"\n## {heading}\n", 1)[1].split(f"\n| {column} | default |", 1)[1].split("\n\n", 1)[0]
    found = {}
    for row in table.splitlines()[2:]:
        names = re.findall(r"`(\w+)`", row.split("|")[1])
        default = row.split("|")[2].strip()
        several = default.split(", ")
        found |= dict(zip(names, several if len(several) == len(names) else [default] * len(names), strict=True))
    return found


def is_default(value: Any, said: str) -> bool:
    """Whether the page's word for a default is this value."""
    if said in WORDS or said == "none":
        return value in NOTHING if said == "none" else value == WORDS[said]
    said = said.strip("`")
    if isinstance(value, str) and said == value:
        return True
    try:
        read = tomllib.loads(f"value = {said}")["value"]
    except tomllib.TOMLDecodeError:
        read = said
    if isinstance(value, Decimal):
        return isinstance(read, str) and Decimal(read) == value
    return read == (list(value) if isinstance(value, tuple) else value)


HEADINGS = {"http": "[gateway.http], [tokenizer.http]", "fees": "[fees] and [[merchant]]"}
STRUCTS = {
    field.name: struct
    for field in msgspec.structs.fields(Config)
    if field.name not in OTHER_TESTS and (struct := struct_of(field.type))
} | {"http": HttpConfig}


@pytest.mark.parametrize("section", STRUCTS)
def test_each_key_of_the_page_is_a_setting_with_its_default(section: str) -> None:
    here = settings(STRUCTS[section])
    if section == "merchant":  # its own rates and amounts are in one row
        said = rows_below(HEADINGS["fees"], "key of `[[merchant]]`")
        missing = set(here) & set(settings(STRUCTS["fees"]))
    else:
        double = f"[[{section}]]" if f"\n## [[{section}]]\n" in PAGE else f"[{section}]"
        said, missing = rows_below(HEADINGS.get(section, double), "key"), set()
    assert set(said) == set(here) - ELSEWHERE.get(section, set()) - missing
    wrong = {
        name: (default, here[name])
        for name, default in said.items()
        if name not in IN_WORDS.get(section, ()) and not is_default(here[name], default)
    }
    assert wrong == {}
