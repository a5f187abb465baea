"""The parts of an HSM process put together: vault, keys, dual control, engine and service over an open token.

An open key holder, its keyring, the database and the audit trail go in; a service that answers commands comes out, with
everything that changes its keys. Called by `hsm.server`, which owns what goes in and closes it.
"""

from __future__ import annotations

import time
from pathlib import Path

from hsm.audit_commands import audit_handlers
from hsm.audit_writer import AuditWriter
from hsm.config import HsmConfig
from hsm.dual_control import DualControl, Noted
from hsm.engine import Engine
from hsm.key_desk import KeyDesk, key_handlers
from hsm.key_watch import KeyWatch
from hsm.keys.holder import Keyholder
from hsm.keys.keyring import Keyring
from hsm.keys.token import DATA_KEY
from hsm.ledger_seals import LedgerWitness
from hsm.metrics import Metrics
from hsm.service import Service
from hsm.vault.cards import CardCache, Numbers
from hsm.vault.database import Database
from hsm.vault.desk import vault_handlers
from hsm.vault.network_token_table import StoredNetworkTokens
from hsm.vault.network_tokens import NetworkTokens
from hsm.vault.vault import Vault


class Assembly:
    """The parts of an HSM process; they refer to each other, so that they are made together.

    Args:
        config: `[hsm]` with the link keys.
        directory: `state/hsm`.
        keyholder: with its token open, and the keyring that it has returned.
        database: of the vault; open.
        audit: takes down what is done.
    Attributes:
        service: answers commands.
        control: whether changes of keys take two officers.
        keys: brings other keys to the service.
        watch: looks at the ends of cryptoperiods.
    """

    def __init__(
        self,
        config: HsmConfig,
        directory: Path,
        keyholder: Keyholder,
        keyring: Keyring,
        database: Database,
        audit: AuditWriter,
    ) -> None:
        numbers, cards = Numbers(), CardCache(config.cached_cards)
        tokens = (config.network_token_bin, config.network_token_key)
        self._vault = Vault(database, cards, numbers, NetworkTokens(StoredNetworkTokens(database), numbers, *tokens))
        self._audit = audit
        desk = KeyDesk(
            keyholder.store,
            on_change=lambda keyring: self.keys.changed(keyring),
            cards_under=lambda version: self._vault.cards_under(f"{DATA_KEY}-{version}"),
        )
        self.control = DualControl(
            desk,
            key_handlers(desk),
            LedgerWitness(directory, keyholder.seal_audit),
            wanted=config.dual_control,
            peer=lambda: self.service.asking,
            expiry_s=config.approval_hours * 3600,
            audit=self._record,
        )
        handlers = {
            **self.control.handlers(),
            **vault_handlers(self._vault, lambda: self.service.engine, keyholder.seal_audit),
            **audit_handlers(keyholder.seal_audit),
        }
        engine = Engine(
            keyring,
            cards,
            numbers,
            network_token_bin=tokens[0],
            network_token_key=tokens[1],
            decimalization_tables=config.decimalization_tables,
        )
        metrics = Metrics()
        self.service = Service(engine, self._vault, metrics, audit, handlers, log_commands=config.log_commands)
        self.service.dual_control = lambda: self.control.state
        self.keys = KeyChanges(self.service, keyholder, desk)
        self.keys.use(engine)
        self.watch = KeyWatch(
            lambda: keyholder.store.infos(), metrics, config.key_warning_days, time.time, self.keys.expired
        )

    def _record(self, about: Noted) -> None:
        """Take down in the audit what became of a proposal."""
        keys = self.service.labelled(about.names)
        self._audit.record(self.service.asking, about.command, keys, about.outcome, "", about.officers)


class KeyChanges:
    """Brings other keys to the service: after a change of keys, and when the token was opened again."""

    def __init__(self, service: Service, keyholder: Keyholder, desk: KeyDesk) -> None:
        self._service = service
        self._keyholder = keyholder
        self._desk = desk

    def use(self, engine: Engine) -> None:
        self._service.use(engine, self._keyholder.store.infos())

    def changed(self, keyring: Keyring) -> None:
        """Go on with the new keys, and hand them to their parties where that is done here."""
        self.use(self._service.engine.with_keys(keyring))
        self._keyholder.write_party_files()

    def expired(self) -> None:
        """Make the keyring anew after the period of a key has ended: where that is wanted, it refuses the key."""
        self.use(self._service.engine.with_keys(self._keyholder.store.keyring()))

    def reopen(self) -> None:
        """Open the token again.

        Raises:
            TokenError, KeyStoreError: it is still away.
        """
        keyring, _ = self._keyholder.open()
        self._desk.store = self._keyholder.store
        self.use(self._service.engine.with_keys(keyring))
