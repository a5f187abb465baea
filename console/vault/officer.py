"""How officers reach the vault: through the running HSM only; nobody else has both the token and the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from console.config import Config
from console.errors import ConsoleError
from console.hsm.officer import Officer, hsm_runs, running_officer


@contextmanager
def vault_officer(config: Config) -> Iterator[Officer]:
    """Give the way to the HSM that runs.

    Raises:
        ConsoleError: none runs, or it does not let this user in.
    """
    if not hsm_runs(config):
        raise ConsoleError("the vault is reached through the running HSM only", "start it: cardswitch up")
    with running_officer(config) as officer:
        yield officer
