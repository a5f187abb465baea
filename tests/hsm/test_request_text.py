"""Text in commands on keys: nothing that an officer approves can be made to look like something else."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from hsm.commands import HsmRefused
from hsm.key_commands import KeyRequest, Rewrap
from hsm.officer_commands import AddOfficer, Controlled, OfficerCard, RemoveOfficer
from hsm.request_text import TEXT_FIELDS, check_text

COMMANDS = sorted(
    {*get_args(KeyRequest), *get_args(Controlled)} - {AddOfficer, RemoveOfficer, Rewrap}, key=lambda kind: kind.__name__
)
FIELDS = [(kind, field.name) for kind in COMMANDS for field in msgspec.structs.fields(kind) if field.type is str]
_VALUES: dict[Any, Any] = {str: "a", int: 1, bytes: b"a"}


def filled(kind: Any) -> dict[str, Any]:
    """The required fields of a command."""
    fields = [field for field in msgspec.structs.fields(kind) if field.required]
    return {field.name: _VALUES[field.type] for field in fields}


def test_each_text_of_a_command_has_a_row() -> None:
    assert {name for _, name in FIELDS} == set(TEXT_FIELDS)
    for kind in COMMANDS:
        check_text(kind(**filled(kind)))


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=[f"{kind.__name__}.{name}" for kind, name in FIELDS])
@pytest.mark.parametrize("text", ["\n", "A\n", "\x1b[2J", "A\r", "\x9b", "A\u202e", "é", "\x00", "A" * 5_000 + "\t"])
def test_no_text_of_a_command_holds_control_characters(kind: Any, name: str, text: str) -> None:
    with pytest.raises(HsmRefused, match=name) as refused:
        check_text(kind(**{**filled(kind), name: text}))
    assert refused.value.code == "malformed"
    assert text not in refused.value.detail


def test_the_card_of_an_officer_holds_plain_text_only() -> None:
    from hsm.officers import is_card

    for name in ("alice\n", "al\x1bice", "\u202e"):
        assert not is_card(OfficerCard(name=name, public_key="00" * 32, signature="00" * 64))
