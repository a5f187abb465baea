"""Secrets typed at a terminal, hidden: a question in, the text out; an error where nobody can type unseen."""

from __future__ import annotations

import getpass
import warnings

import typer

from console.errors import UsageError


def ask_hidden(question: str, instead: str, *, twice: bool = False) -> str:
    """Return a secret that is typed without an echo.

    Args:
        instead: the way without a terminal, for the error.
        twice: ask again, and until both are equal.
    Raises:
        UsageError: there is no terminal whose echo can be turned off.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)  # getpass would go on and show what is typed
        try:
            typed: str = typer.prompt(f"{question} (hidden)", hide_input=True, confirmation_prompt=twice)
        except getpass.GetPassWarning:
            raise UsageError(f"{question}: there is no terminal to type it at", instead) from None
    return typed
