"""The keyrings of the PIN tests: clear keys, and a SoftHSM token that took the same keys in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hsm.config import HsmConfig
from hsm.keys.holder import Keyholder
from hsm.keys.keyring import Keyring
from hsm.pins import Handler, pin_handlers
from tests.hsm.pins.keys import KEYS, TABLES, ClearKeyring


@pytest.fixture(scope="module", params=["clear", "token"])
def keyring(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyring]:
    if request.param == "clear":
        yield ClearKeyring()  # type: ignore[misc]
        return
    holder = Keyholder(HsmConfig(), tmp_path_factory.mktemp("pins"))
    holder.open(provisioning=False)
    for name, role, attributes, value in KEYS:
        holder.store.take(name, role, attributes, "", value, "imported")
    yield holder.store.keyring()
    holder.close()


@pytest.fixture
def handlers(keyring: Keyring) -> dict[type, Handler]:
    return pin_handlers(keyring, tables=TABLES)
