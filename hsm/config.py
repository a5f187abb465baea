"""The configuration of the HSM: `[hsm]` and `[[key]]` of the one TOML file; the tokenizer's is in `hsm.tokenizer`.

`console.config` fills these structs from the file; `HsmConfig.problems` lists everything that is wrong at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from hsm.algorithms.pin_verification import DECIMALIZATION_TABLE, check_decimalization_table
from hsm.callers import CallerConfig, caller_problems
from hsm.errors import ConfigurationError
from hsm.keys.attributes import ROLES
from hsm.keys.lifetimes import LIFETIME_DAYS, MAX_LIFETIME_DAYS
from hsm.vault.cards import SURROGATE_BIN
from hsm.vault.network_token_rules import NETWORK_TOKEN_BIN, NETWORK_TOKEN_KEY

# Debian and Ubuntu first, then Fedora, Homebrew and a build from source.
SOFTHSM_PATHS = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


class KeyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[key]]`: `usage` is a role of `hsm.keys.attributes.ROLES`, `party` who holds the other end.

    `algorithm` is one of the role's, empty for its default.
    """

    name: str
    usage: str
    party: str
    algorithm: str = ""


class HsmConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[hsm]`, with the keys of `[[key]]`.

    Args:
        module: path of the PKCS#11 library; empty: SoftHSM 2 where distributions put it.
        socket: the unix socket, relative to the state directory.
        keys: the link keys.
        callers: the users and commands of each `[[caller]]`.
        vault: whether it keeps cards. False is for a machine with nothing but a gateway: no database is asked, and
            every command about a card is answered as unavailable.
        token: label of the token.
        slot: number of the slot that the token is in; -1: it is found by its label (and `serial`).
        serial: serial number of the token, empty: any.
        pin_file: where the token's PIN is, one line; empty: `hsm/pin` in the state directory. The environment's
            CARDSWITCH_HSM_PIN goes before. A private SoftHSM token has made its own.
        dual_control: changes of keys that would give one person a key take two officers. False is for test systems:
            one person alone makes them. Once officers are registered it decides nothing.
        approval_hours: hours that a proposal of an officer waits for another one, 1 to 168.
        provision: make keys of `[[key]]` that are not there yet, and their party's transport key; False: they are an
            error, and officers bring them. None: only where there is no dual control, which it does not go with.
        key_lifetime_days: cryptoperiods by role, instead of those in `hsm.keys.lifetimes`; 0: without end.
        key_warning_days: days of warning before the end of a key's period.
        expired_keys: "warn", or "refuse": nothing new is made with a key whose period is over.
        key_grace_s: time for which the former version is accepted after an exchange.
        max_queued: commands that wait at most, over all callers; above it they are refused as `overloaded`.
        budget_s: longest wait of a command whose caller states none; then it is refused as `expired`.
        max_connections: callers connected at once.
        cached_cards: cards kept in memory (about 1 KB each).
        database_timeout_s: longest time of a statement on the vault.
        decimalization_tables: of the IBM 3624 method, 16 digits each; a request names one of them.
        network_token_bin: first 6 to 8 digits of the network tokens made here; no issuer's, and not the surrogates'.
        network_token_key: the `[[key]]` of their cryptograms, usage token-cryptogram.
        log_commands: write an event for each dispatch, tokenization and resolution; refusals are always written.
    """

    module: str = ""
    socket: str = "hsm.sock"
    keys: tuple[KeyConfig, ...] = ()
    callers: tuple[CallerConfig, ...] = ()
    vault: bool = True
    token: str = "cardswitch"
    slot: int = -1
    serial: str = ""
    pin_file: str = ""
    dual_control: bool = True
    approval_hours: float = 24.0
    provision: bool | None = None
    key_lifetime_days: dict[str, int] = {}
    key_warning_days: int = 30
    expired_keys: Literal["warn", "refuse"] = "warn"
    key_grace_s: float = 60.0
    max_queued: int = 4096
    budget_s: float = 2.0
    max_connections: int = 256
    cached_cards: int = 100_000
    database_timeout_s: float = 2.0
    decimalization_tables: tuple[str, ...] = (DECIMALIZATION_TABLE,)
    network_token_bin: str = NETWORK_TOKEN_BIN
    network_token_key: str = NETWORK_TOKEN_KEY
    log_commands: bool = True

    def problems(self) -> list[str]:
        """Return a line for each thing that is wrong with these values; empty if they can be used."""
        found = []
        seen: set[str] = set()
        for key in self.keys:
            role = ROLES.get(key.usage)
            if role is None:
                found.append(f"key[{key.name}]: usage {key.usage!r} is not one of {', '.join(ROLES)}")
            elif key.algorithm and key.algorithm not in role.algorithms:
                found.append(f"key[{key.name}]: algorithm {key.algorithm!r} is not one of {', '.join(role.algorithms)}")
            if not key.name or key.name in seen:
                found.append(f"key {key.name!r}: names are unique and not empty")
            if not _plain(key.party):
                found.append(f"key[{key.name}]: party {key.party!r} is used as a file name: letters, digits, - and _")
            seen.add(key.name)
        found += caller_problems(self.callers, self.socket)
        for name in ("max_queued", "budget_s", "max_connections", "cached_cards", "database_timeout_s"):
            if getattr(self, name) <= 0:
                found.append(f"hsm.{name} must be greater than zero")
        if self.provision and self.dual_control:
            found.append(
                "hsm.provision makes zone master keys that nobody has approved: leave it out, or set"
                " hsm.dual_control = false on a test system"
            )
        if not 1 <= self.approval_hours <= 168:
            found.append("hsm.approval_hours is from 1 to 168")
        found += self._lifetime_problems()
        if not 0 <= self.key_grace_s <= 86_400:
            found.append("hsm.key_grace_s is from 0 to 86400")
        for table in self.decimalization_tables:
            try:
                check_decimalization_table(table)
            except ValueError as error:
                found.append(f"hsm.decimalization_tables: {error}")
        leading = self.network_token_bin
        if not (6 <= len(leading) <= 8 and leading.isascii() and leading.isdigit() and leading[0] != "0"):
            found.append("hsm.network_token_bin is 6 to 8 digits")
        elif leading.startswith(SURROGATE_BIN):
            found.append(f"hsm.network_token_bin: {SURROGATE_BIN} is the range of surrogates")
        if self.slot < -1:
            found.append("hsm.slot is the number of a slot, or -1")
        if not self.module and (self.slot >= 0 or self.serial or self.pin_file):
            found.append(
                "hsm.slot, hsm.serial and hsm.pin_file go with hsm.module: SoftHSM's private token has its own"
            )
        return found

    @property
    def provisions(self) -> bool:
        """Whether configured keys make themselves."""
        return not self.dual_control if self.provision is None else self.provision

    def _lifetime_problems(self) -> list[str]:
        found = []
        for role, days in self.key_lifetime_days.items():
            if role not in LIFETIME_DAYS:
                found.append(f"hsm.key_lifetime_days.{role}: there is no role {role!r}")
            elif not 0 <= days <= MAX_LIFETIME_DAYS:
                found.append(f"hsm.key_lifetime_days.{role} is from 0 to {MAX_LIFETIME_DAYS}")
        if not 0 <= self.key_warning_days <= 365:
            found.append("hsm.key_warning_days is from 0 to 365")
        return found

    def module_path(self) -> str:
        """Return the PKCS#11 library to load.

        Raises:
            ConfigurationError: the file is not there, or none of the usual SoftHSM paths exists.
        """
        if self.module:
            if not Path(self.module).is_file():
                raise ConfigurationError(f"hsm.module: {self.module} does not exist")
            return self.module
        for path in SOFTHSM_PATHS:
            if Path(path).is_file():
                return path
        raise ConfigurationError("SoftHSM 2 is not installed: apt-get install softhsm2, or set hsm.module")


def _plain(text: str) -> bool:
    return bool(text) and text.isascii() and text.replace("-", "").replace("_", "").isalnum()
