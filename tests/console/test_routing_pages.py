"""The pages on routing and stored advices: their settings are right, and their commands print what they show."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import msgspec
import pytest

import specs
from console import cli
from console.config import load_config
from switch.routing.breaker import TRANSITIONS
from switch.routing.settings import BreakerSettings, Route, SafSettings, StandIn
from switch.routing.stand_in import BLOCKED, LIMITS

ROOT = Path(__file__).parents[2]
ROUTING, ADVICES = ((ROOT / "docs" / name).read_text() for name in ("routing.md", "stored-advices.md"))


def base() -> str:
    """The packaged configuration without routes of its own."""
    text = Path(str(specs.__file__)).with_name("cardswitch.toml").read_text()
    return re.sub(r"\[\[route\]\].*?(?=\n\[)", "", text, flags=re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def table_keys(page: str, heading: str) -> set[str]:
    """The keys in the first column of the first table below a heading."""
    section = f"\n{page}".split(f"\n{heading}\n", 1)[1]
    rows = re.search(r"\n(\|.*?)\n\n", section, re.DOTALL)
    assert rows is not None
    return {key for row in rows[1].splitlines()[2:] for key in re.findall(r"`(\w+)`", row.split("|")[1])}


@pytest.mark.parametrize("page", [ROUTING, ADVICES], ids=["routing", "stored-advices"])
def test_every_setting_that_is_shown_is_right(page: str, tmp_path: Path) -> None:
    shown = blocks(page, "toml")
    assert shown
    file = tmp_path / "cardswitch.toml"
    file.write_text("\n".join([base(), *shown]))
    load_config(file)


def test_the_values_that_are_called_defaults_are_those() -> None:
    general = tomllib.loads(blocks(ROUTING, "toml")[1])["breaker"][0]
    assert msgspec.convert(general, BreakerSettings) == BreakerSettings()
    assert msgspec.convert(tomllib.loads(blocks(ADVICES, "toml")[0])["saf"], SafSettings) == SafSettings()


def test_every_setting_is_in_a_table() -> None:
    def names(struct: type[msgspec.Struct]) -> set[str]:
        return {field.encode_name for field in msgspec.structs.fields(struct)}

    assert table_keys(ROUTING, "## [[route]]") == names(Route)
    assert table_keys(ROUTING, "## [[stand_in]]") == names(StandIn)
    assert table_keys(ADVICES, "# Stored advices") == names(SafSettings)
    shown = {key for entry in tomllib.loads(blocks(ROUTING, "toml")[1])["breaker"] for key in entry}
    assert shown == names(BreakerSettings)


def test_the_breakers_table_is_the_programs() -> None:
    rows = re.findall(r"^\| (closed|open|half_open) \|.*\| (closed|open|half_open) \|$", ROUTING, re.MULTILINE)
    assert rows == [(before.value, after.value) for (before, _), after in TRANSITIONS.items()]


def test_limits_are_named_in_their_order() -> None:
    sentence = ROUTING.split("Limits are checked in this order", 1)[1].split("negative list", 1)[0]
    assert re.findall(r"`(\w+)`", sentence) == [*LIMITS, BLOCKED]


def test_the_explanation_that_is_shown_is_what_the_command_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, _, shown = blocks(ROUTING, "console")[0].partition("\n")
    file = tmp_path / "cardswitch.toml"
    file.write_text("\n".join([base(), *blocks(ROUTING, "toml")]))
    arguments = shlex.split(command.removeprefix("$ cardswitch "))
    assert cli.run([*arguments, "--config", str(file), "--state", str(tmp_path)]) == 0
    assert words(capsys.readouterr().out) == words(shown)


def words(text: str) -> list[str]:
    return re.sub(r"─+", "", text).split()
