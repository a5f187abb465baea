"""Secrets are typed hidden or not at all."""

from __future__ import annotations

import getpass
import warnings
from typing import Any

import pytest
import typer

from console.errors import UsageError
from console.hsm import signing
from console.hsm.ceremony import ask_components
from console.hsm.hidden_input import ask_hidden


def _without_terminal(*args: Any, **options: Any) -> str:
    warnings.warn("Can not control echo on the terminal.", getpass.GetPassWarning, stacklevel=2)
    return "seen by all"


def test_without_a_terminal_the_error_names_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer, "prompt", _without_terminal)
    with pytest.raises(UsageError, match=r"^Passphrase: there is no terminal to type it at; name a file$"):
        ask_hidden("Passphrase", "name a file")


def test_a_component_and_a_passphrase_name_their_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer, "prompt", _without_terminal)
    monkeypatch.delenv(signing.PASSPHRASE_VARIABLE, raising=False)
    with pytest.raises(UsageError, match="--component-file"):
        ask_components(1, "A")
    with pytest.raises(UsageError, match=signing.PASSPHRASE_VARIABLE):
        signing.passphrase("Passphrase of alice")


def test_at_a_terminal_the_typed_text_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer, "prompt", lambda *args, **options: "typed")
    assert ask_hidden("Passphrase", "name a file", twice=True) == "typed"
