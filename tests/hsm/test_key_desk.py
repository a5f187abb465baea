"""The commands on keys, over a token: officers' and links' rights to keys, and every refusal."""

from __future__ import annotations

import asyncio
import random
import secrets
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psec
import pytest

from hsm.algorithms.check_value import clear_check_value, clear_key
from hsm.algorithms.components import odd_parity, split_key
from hsm.algorithms.keyblock import unwrap_block, wrap_block
from hsm.commands import HsmRefused
from hsm.config import KeyConfig
from hsm.errors import KeyStoreError
from hsm.key_commands import (
    AcceptLinkKey,
    ActivateKey,
    ExportKey,
    GenerateKey,
    ImportBlock,
    ImportComponents,
    KeyBlock,
    KeyInfo,
    KeyList,
    KeyRequest,
    ListKeys,
    RenewLinkKey,
    RetireKey,
    Rewrap,
    RotateKey,
)
from hsm.key_desk import KeyDesk, key_handlers
from hsm.keys.attributes import ROLES, KeyAttributes
from hsm.keys.exchange import load_party_zmk
from hsm.keys.holder import Keyholder
from hsm.keys.keyring import Keyring
from hsm.keys.permissions import Operation
from hsm.keys.roles import attributes_for
from tests.hsm.keys.opened import Clock, opened, statuses

KEYS = (
    KeyConfig("zpk", "pin", "alpha"),
    KeyConfig("zak", "mac", "alpha"),
    KeyConfig("cvk", "cvk", "alpha"),
    KeyConfig("zpk-beta", "pin", "beta"),
)
PIN = attributes_for("pin")
# psec calls TripleDES as cryptography no longer wants it.
pytestmark = pytest.mark.filterwarnings("ignore:.*TripleDES")


class Desk:
    """The key commands with their effects for callers."""

    def __init__(self, holder: Keyholder, clock: Clock) -> None:
        self.holder = holder
        self.clock = clock
        self.cards: dict[int, int] = {}
        self.keyrings: list[Keyring] = []
        self.desk = KeyDesk(holder.store, on_change=self.keyrings.append, cards_under=self._cards_under, settle_s=0.0)

    async def _cards_under(self, version: int) -> int:
        return self.cards.get(version, 0)

    def ask(self, request: Any) -> Any:
        answer = key_handlers(self.desk)[type(request)](request)
        if not isinstance(answer, KeyList | KeyBlock):
            return asyncio.run(answer)
        return answer

    def one(self, request: Any) -> KeyInfo:
        [info] = self.ask(request).keys
        assert isinstance(info, KeyInfo)
        return info

    def refused(self, request: Any, code: str, words: str = "") -> None:
        before, changes = self.holder.store.infos(), len(self.keyrings)
        with pytest.raises(HsmRefused) as refused:
            self.ask(request)
        assert refused.value.code == code, refused.value
        assert words in refused.value.detail
        assert self.holder.store.infos() == before and len(self.keyrings) == changes, "a refusal changes nothing"

    def value(self, name: str) -> bytes:
        record = self.holder.store.active(name)
        assert record is not None
        return self.holder.store.reveal(record)

    def bring_zmk(self, name: str, value: bytes, party: str = "") -> None:
        """Import a zone master key, as two custodians would."""
        algorithm = "AES" if len(value) == 32 else "TDES"
        self.ask(
            ImportComponents(
                name=name,
                role="zmk",
                components=split(value),
                party=party,
                algorithm=algorithm,
            )
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = Clock()
    with opened(tmp_path, *KEYS, clock=clock) as holder:
        yield Desk(holder, clock)


def zmk_of(desk: Desk, party: str = "alpha") -> Any:
    return clear_key("A", load_party_zmk(desk.holder._state / "exchange", party))


_values = random.Random(1)  # the same in each process: some values are in the names of tests


def tdes_key(length: int) -> bytes:
    return odd_parity(_values.randbytes(length))


def split(value: bytes, count: int = 2) -> tuple[bytes, ...]:
    return split_key(value, count, _values.randbytes)


def test_every_command_has_its_handler(desk: Desk) -> None:
    assert set(key_handlers(desk.desk)) == set(typing.get_args(KeyRequest)) - {Rewrap}


def test_lists_show_every_key_with_its_check_value(desk: Desk) -> None:
    infos = desk.ask(ListKeys()).keys
    assert {info.name for info in infos} == {
        *("zpk", "zak", "cvk", "zpk-beta", "zmk-alpha", "zmk-beta", "pan"),
        *("storage", "fingerprint", "integrity", "audit"),
    }
    assert all(len(info.kcv) == 6 and info.kcv == info.kcv.upper() for info in infos)
    assert [info.name for info in desk.ask(ListKeys(name="zpk")).keys] == ["zpk"]
    assert desk.ask(ListKeys(name="nobody")).keys == ()


@pytest.mark.parametrize("role", ROLES)
def test_generate_every_role_and_algorithm(desk: Desk, role: str) -> None:
    for algorithm, attributes in ROLES[role].algorithms.items():
        name = f"gen-{role}-{algorithm}"
        made = desk.one(GenerateKey(name=name, role=role, algorithm=algorithm, party="gamma"))
        assert (made.attributes, made.version, made.status, made.origin) == (attributes, 1, "active", "generated")
        assert (made.party, made.created_at) == ("gamma", 1_800_000_000)
        assert made.kcv == clear_check_value(attributes.algorithm, desk.value(name))
        desk.refused(GenerateKey(name=name, role=role, algorithm=algorithm), "key_exists", "rotate it")


def test_generate_narrowed(desk: Desk) -> None:
    made = desk.one(GenerateKey(name="in", role="pin", mode="D", exportability="N"))
    assert (made.attributes.mode, made.attributes.exportability) == ("D", "N")
    keyring = desk.keyrings[-1]
    assert keyring.key("in", Operation.PIN_DECRYPT).name == "in"
    with pytest.raises(HsmRefused, match="key_usage"):
        keyring.key("in", Operation.PIN_ENCRYPT)


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (GenerateKey(name="", role="pin"), "malformed", "name"),
        (GenerateKey(name="a b", role="pin"), "malformed", "name"),
        (GenerateKey(name="../x", role="pin"), "malformed", "name"),
        (GenerateKey(name="ä", role="pin"), "malformed", "name"),
        (GenerateKey(name="zpk-4242424242424242", role="pin"), "malformed", "card number"),
        (GenerateKey(name="zpk_4242-4242_4242-4242", role="pin"), "malformed", "card number"),
        (GenerateKey(name="x" * 65, role="pin"), "malformed", "64 at most"),
        (GenerateKey(name="pan", role="pin"), "key_exists", "the token's own"),
        (GenerateKey(name="storage", role="zmk"), "key_exists", "the token's own"),
        (GenerateKey(name="x", role="data"), "malformed", "role 'data' is not one of"),
        (GenerateKey(name="x", role="pin", algorithm="DES"), "malformed", "algorithm 'DES'"),
        (GenerateKey(name="x", role="pin", mode="X"), "malformed", "mode"),
        (GenerateKey(name="x", role="pin", exportability="Z"), "malformed", "exportability"),
    ],
)
def test_generate_refused(desk: Desk, request_: GenerateKey, code: str, words: str) -> None:
    desk.refused(request_, code, words)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    ("role", "algorithm", "value"),
    [
        ("zmk", "AES", bytes(range(1, 33))),
        ("zmk", "TDES", tdes_key(24)),
        ("zmk", "TDES", tdes_key(16)),
        ("pin", "TDES", tdes_key(16)),
        ("cvk", "TDES", tdes_key(16)),
        ("mac", "HMAC-SHA-256", bytes(range(1, 21))),
    ],
)
def test_components(desk: Desk, role: str, algorithm: str, value: bytes, count: int) -> None:
    components = split(value, count)
    made = desk.one(ImportComponents(name="new", role=role, components=components, algorithm=algorithm, party="gamma"))
    assert (made.attributes.length, made.origin, made.party) == (len(value), "components", "gamma")
    assert made.kcv == clear_check_value(made.attributes.algorithm, value)
    assert desk.value("new") == value


@pytest.mark.parametrize(
    ("components", "role", "code", "words"),
    [
        ((bytes(range(32)),), "zmk", "malformed", "2 or 3 components"),
        ((b"\1" * 32, b"\2" * 32, b"\3" * 32, b"\4" * 32), "zmk", "malformed", "2 or 3 components"),
        ((b"\1" * 32, b"\2" * 24), "zmk", "malformed", "differ in length"),
        ((b"\1" * 32, bytes(32)), "zmk", "malformed", "all zeros"),
        ((b"\1" * 32, b"\1" * 32), "zmk", "malformed", "equal"),
        ((b"\1" * 20, b"\2" * 20), "zmk", "malformed", "20 bytes"),
        ((b"\1" * 8, b"\2" * 8), "pin", "malformed", "8 bytes"),
        (split(tdes_key(24)), "cvk", "malformed", "16 bytes, not 24"),
        (split(tdes_key(8) * 2), "cvk", "malformed", "equal"),
        (split(b"\x02" * 7 + b"\x06" + b"\x05" * 8), "cvk", "malformed", "parity"),
    ],
)
def test_components_refused(desk: Desk, components: tuple[bytes, ...], role: str, code: str, words: str) -> None:
    desk.refused(ImportComponents(name="new", role=role, components=components), code, words)


def test_components_of_wrong_parity_put_right(desk: Desk) -> None:
    value = tdes_key(16)
    wrong = bytes([value[0] ^ 1]) + value[1:]
    components = split(wrong)
    desk.ask(ImportComponents(name="new", role="cvk", components=components, adjust_parity=True))
    assert desk.value("new") == value


ZMKS = {"AES-256": bytes(range(32)), "TDES-192": tdes_key(24), "TDES-128": tdes_key(16)}


@pytest.mark.parametrize("zmk", ZMKS)
@pytest.mark.parametrize("role", ["pin", "cvk", "pvk", "bdk", "imk-ac", "imk-smi", "mac"])
def test_export_and_import_again(desk: Desk, role: str, zmk: str) -> None:
    """A key exported under a zone master key is imported under it as the same key, in this HSM and in another's."""
    desk.bring_zmk("zmk-gamma", ZMKS[zmk], "gamma")
    algorithm = "ISO9797-1-ALG3" if role == "mac" else ""
    attributes = attributes_for(role, algorithm)
    desk.ask(GenerateKey(name="out", role=role, algorithm=algorithm, party="gamma"))
    if attributes.length == 24 and zmk == "TDES-128":
        desk.refused(ExportKey(name="out", under="zmk-gamma"), "key_block_invalid", "stronger")
        return
    block = desk.ask(ExportKey(name="out", under="zmk-gamma"))
    assert block.block[0] == ("D" if zmk.startswith("AES") else "B")
    assert (block.name, block.version, block.kcv) == ("out", 1, clear_check_value("T", desk.value("out")))
    outside = unwrap_block(clear_key("A" if zmk.startswith("AES") else "T", ZMKS[zmk]), block.block)  # type: ignore[arg-type]
    assert (outside.key, outside.attributes) == (desk.value("out"), attributes)
    header, by_psec = psec.tr31.unwrap(ZMKS[zmk], block.block)
    assert (by_psec, header.key_usage, header.mode_of_use) == (outside.key, attributes.usage, attributes.mode)
    info = desk.one(ImportBlock(name="in", role=role, block=block.block, under="zmk-gamma", party="gamma"))
    assert (info.kcv, info.attributes, info.origin) == (block.kcv, attributes, "block")
    assert desk.value("in") == desk.value("out")


@pytest.mark.parametrize("role", ["mac", "pin", "zmk"])
def test_aes_and_hmac_keys_go_under_aes_only(desk: Desk, role: str) -> None:
    desk.bring_zmk("own-tdes", ZMKS["TDES-192"])
    desk.bring_zmk("own-aes", ZMKS["AES-256"])
    for algorithm, attributes in ROLES[role].algorithms.items():
        if attributes.algorithm == "T":
            continue
        name = f"out-{algorithm}"
        desk.ask(GenerateKey(name=name, role=role, algorithm=algorithm))
        desk.refused(ExportKey(name=name, under="own-tdes"), "key_block_invalid", "stronger")
        block = desk.ask(ExportKey(name=name, under="own-aes"))
        info = desk.one(ImportBlock(name=f"in-{algorithm}", role=role, block=block.block, under="own-aes"))
        assert info.kcv == block.kcv and info.attributes == attributes


@pytest.mark.parametrize("version", ["A", "C"])
def test_variant_blocks_are_read(desk: Desk, version: str) -> None:
    """Versions A and C are under the zone master key XOR a mask, which the token keeps prepared."""
    desk.bring_zmk("zmk-gamma", ZMKS["TDES-128"], "gamma")
    value = tdes_key(16)
    header = psec.tr31.Header(version, "P0", "T", "B", "00", "E")
    block = psec.tr31.wrap(ZMKS["TDES-128"], header, value)
    info = desk.one(ImportBlock(name="in", role="pin", block=block, under="zmk-gamma"))
    assert desk.value("in") == value and info.attributes.length == 16


def block_of(desk: Desk, value: bytes, attributes: KeyAttributes, party: str = "alpha") -> str:
    return wrap_block(zmk_of(desk, party), value, attributes, "D", secrets.token_bytes)


def changed(**changes: Any) -> KeyAttributes:
    return msgspec.structs.replace(PIN, **changes)


@pytest.mark.parametrize(
    ("attributes", "value", "role", "code", "words"),
    [
        (PIN, tdes_key(24), "mac", "key_usage", "role mac takes"),
        (changed(usage="M6"), tdes_key(24), "pin", "key_usage", "role pin takes"),
        (changed(mode="X"), tdes_key(24), "pin", "key_usage", "mode"),
        (changed(usage="C0", mode="C"), tdes_key(24), "cvk", "key_usage", "has 16 bytes, not 24"),
        (changed(usage="D0"), tdes_key(24), "pin", "key_usage", "role pin takes"),
        (PIN, bytes(range(24)), "pin", "key_block_invalid", "parity"),
        (PIN, tdes_key(8) * 3, "pin", "key_block_invalid", "equal"),
        (PIN, tdes_key(24), "data", "malformed", "role 'data'"),
    ],
)
def test_block_refused(desk: Desk, attributes: KeyAttributes, value: bytes, role: str, code: str, words: str) -> None:
    block = block_of(desk, value, attributes)
    desk.refused(ImportBlock(name="in", role=role, block=block, under="zmk-alpha"), code, words)


def test_broken_blocks_are_refused(desk: Desk) -> None:
    block = block_of(desk, tdes_key(24), PIN)
    for broken in ("", "D", block[:-1], block[:-2], block + "00", block[:20] + "Z" + block[21:], "X" + block[1:]):
        desk.refused(ImportBlock(name="in", role="pin", block=broken, under="zmk-alpha"), "key_block_invalid")
    for place in range(0, len(block), 7):
        flipped = block[:place] + ("1" if block[place] != "1" else "2") + block[place + 1 :]
        desk.refused(ImportBlock(name="in", role="pin", block=flipped, under="zmk-alpha"), "key_block_invalid")
    desk.refused(ImportBlock(name="in", role="pin", block=block, under="zmk-beta"), "key_block_invalid", "MAC")
    desk.refused(ImportBlock(name="in", role="pin", block=block, under="zpk"), "key_usage", "unwrap a key")
    desk.refused(ImportBlock(name="in", role="pin", block=block, under="nobody"), "key_unknown")
    desk.refused(ImportBlock(name="in", role="pin", block=block, under="storage"), "key_unknown")
    desk.refused(ImportBlock(name="pan", role="pin", block=block, under="zmk-alpha"), "key_exists")


def test_a_version_comes_in_as_a_block(desk: Desk) -> None:
    value = tdes_key(24)
    block = block_of(desk, value, PIN)
    pending = desk.one(ImportBlock(name="zpk", role="pin", block=block, under="zmk-alpha", party="alpha", pending=True))
    assert (pending.version, pending.status) == (2, "pending")
    assert desk.keyrings[-1].key("zpk", Operation.PIN_ENCRYPT).version == 1
    active = desk.one(ActivateKey(name="zpk", version=2))
    assert active.status == "active"
    assert desk.keyrings[-1].key("zpk", Operation.PIN_ENCRYPT).version == 2
    assert statuses(desk.holder.store, "zpk") == ["previous", "active"]
    assert desk.one(ActivateKey(name="zpk", version=2)) == active  # said twice, done once
    desk.refused(ActivateKey(name="zpk", version=1), "key_usage", "previous")
    desk.refused(ActivateKey(name="zpk", version=9), "key_unknown")
    third = block_of(desk, tdes_key(24), PIN)
    desk.refused(
        ImportBlock(name="zpk", role="pin", block=third, under="zmk-alpha", party="beta"), "key_usage", "is of alpha"
    )
    theirs = block_of(desk, tdes_key(24), PIN, "beta")
    desk.refused(ImportBlock(name="zpk", role="pin", block=theirs, under="zmk-beta"), "key_exists", "with alpha")
    cvk = block_of(desk, tdes_key(16), attributes_for("cvk"))
    desk.refused(ImportBlock(name="zpk", role="cvk", block=cvk, under="zmk-alpha", party="alpha"), "key_exists")


def test_exportability(desk: Desk) -> None:
    desk.bring_zmk("own", bytes(range(32)))
    for exportability in "ENS":
        desk.ask(GenerateKey(name=f"k-{exportability}", role="pin", exportability=exportability))
    assert desk.ask(ExportKey(name="k-E", under="own")).name == "k-E"
    desk.refused(ExportKey(name="k-N", under="own"), "not_exportable", "is not exportable")
    assert desk.ask(ExportKey(name="k-S", under="own")).name == "k-S"
    desk.ask(GenerateKey(name="k-S-alpha", role="pin", exportability="S", party="alpha"))
    desk.refused(ExportKey(name="k-S-alpha", under="zmk-alpha"), "not_exportable", "this HSM's owner only")
    desk.refused(ExportKey(name="own", under="own"), "not_exportable", "under itself")
    block = desk.ask(ExportKey(name="k-S", under="own"))
    info = desk.one(ImportBlock(name="back", role="pin", block=block.block, under="own"))
    assert info.attributes.exportability == "S"


def test_a_key_is_exported_under_a_zone_master_key_of_its_own_party_only(desk: Desk) -> None:
    desk.ask(GenerateKey(name="mine", role="pin"))
    desk.bring_zmk("own", bytes(range(32)))
    desk.bring_zmk("zmk-gamma", bytes(range(1, 33)))  # it names nobody, but its name does
    for name, under in (("zpk", "zmk-beta"), ("zpk-beta", "zmk-alpha"), ("mine", "zmk-alpha"), ("zpk", "own"),
                        ("mine", "zmk-gamma"), ("zmk-alpha", "zmk-beta"), ("zmk-gamma", "own")):  # fmt: skip
        desk.refused(ExportKey(name=name, under=under), "not_exportable", "zone master key")
    assert desk.ask(ExportKey(name="zpk", under="zmk-alpha")).name == "zpk"


def test_a_key_comes_in_for_the_party_of_its_zone_master_key_only(desk: Desk) -> None:
    block = block_of(desk, tdes_key(24), PIN)
    assert desk.one(ImportBlock(name="theirs", role="pin", block=block, under="zmk-alpha")).party == "alpha"
    desk.refused(
        ImportBlock(name="other", role="pin", block=block, under="zmk-alpha", party="beta"), "key_usage", "is of alpha"
    )


def test_the_name_of_a_party_s_zone_master_key_is_that_party_s(desk: Desk) -> None:
    """Links find it by its name: under another party's key that one would get all the keys of the link."""
    desk.refused(GenerateKey(name="zmk-gamma", role="zmk", party="mallory"), "malformed", "of gamma, not of mallory")
    components = split(bytes(range(1, 33)))
    desk.refused(
        ImportComponents(name="zmk-gamma", role="zmk", components=components, party="mallory"), "malformed", "of gamma"
    )


def test_no_link_exchanges_a_zone_master_key(desk: Desk) -> None:
    desk.ask(GenerateKey(name="second", role="zmk", party="alpha"))
    block = block_of(desk, bytes(range(1, 33)), attributes_for("zmk"))
    for name in ("zmk-alpha", "second"):
        desk.refused(RenewLinkKey(name=name), "key_usage", "no link exchanges it")
        desk.refused(AcceptLinkKey(name=name, block=block), "key_usage", "no link exchanges it")


@pytest.mark.parametrize("name", ["pan", "storage", "fingerprint", "integrity", "audit"])
def test_the_tokens_own_keys_never_leave_it(desk: Desk, name: str) -> None:
    desk.refused(ExportKey(name=name, under="zmk-alpha"), "not_exportable", "never leaves the token")
    desk.refused(RenewLinkKey(name=name), "not_exportable")
    desk.refused(ImportComponents(name=name, role="zmk", components=(b"\1" * 32, b"\2" * 32)), "key_exists")
    if name != "pan":
        desk.refused(RotateKey(name=name), "key_usage", "the token's own")
        desk.refused(RetireKey(name=name, version=1), "key_in_use", "the token's own")


@pytest.mark.parametrize("under", ["zpk", "zak", "cvk"])
def test_only_key_encryption_keys_wrap_keys(desk: Desk, under: str) -> None:
    desk.refused(ExportKey(name="zpk-beta", under=under), "key_usage", "wrap a key")
    desk.refused(ExportKey(name="zpk-beta", under="nobody"), "key_unknown")
    desk.refused(ExportKey(name="nobody", under="zmk-alpha"), "key_unknown")


def test_the_modes_of_a_zone_master_key_hold(desk: Desk) -> None:
    desk.ask(GenerateKey(name="wraps", role="zmk", mode="E", party="alpha"))
    desk.ask(GenerateKey(name="unwraps", role="zmk", mode="D", party="alpha"))
    block = desk.ask(ExportKey(name="zpk", under="wraps")).block
    desk.refused(ExportKey(name="zpk", under="unwraps"), "key_usage", "wrap a key")
    desk.refused(ImportBlock(name="in", role="pin", block=block, under="wraps"), "key_usage", "unwrap a key")
    desk.refused(ImportBlock(name="in", role="pin", block=block, under="unwraps"), "key_block_invalid")


def test_block_versions_go_with_their_key(desk: Desk) -> None:
    assert desk.ask(ExportKey(name="zpk", under="zmk-alpha", block_version="D")).block.startswith("D")
    for version in ("A", "B", "C", "E"):
        desk.refused(ExportKey(name="zpk", under="zmk-alpha", block_version=version), "key_block_invalid")


def test_a_link_key_is_renewed(desk: Desk) -> None:
    block = desk.ask(RenewLinkKey(name="zpk"))
    assert (block.name, block.version, statuses(desk.holder.store, "zpk")) == ("zpk", 2, ["active", "pending"])
    received = unwrap_block(zmk_of(desk), block.block)
    assert received.attributes == PIN
    keyring = desk.keyrings[-1]
    assert keyring.key("zpk", Operation.PIN_ENCRYPT).version == 1
    assert [held.version for held in keyring.candidates("zpk", Operation.PIN_DECRYPT)] == [1, 2]
    info = desk.one(ActivateKey(name="zpk", version=2))
    assert info.kcv == block.kcv == clear_check_value("T", received.key)
    keyring = desk.keyrings[-1]
    assert keyring.key("zpk", Operation.PIN_ENCRYPT).version == 2
    assert [held.version for held in keyring.candidates("zpk", Operation.PIN_DECRYPT)] == [2, 1]
    desk.clock.now += 60
    assert [held.version for held in keyring.candidates("zpk", Operation.PIN_DECRYPT)] == [2]


def test_a_renewal_without_an_answer_is_replaced(desk: Desk) -> None:
    first = desk.ask(RenewLinkKey(name="zpk"))
    second = desk.ask(RenewLinkKey(name="zpk"))
    assert (first.version, second.version) == (2, 3)
    desk.refused(ActivateKey(name="zpk", version=2), "key_usage", "retired")
    assert desk.one(ActivateKey(name="zpk", version=3)).status == "active"


def test_a_renewal_without_an_answer_is_given_again(desk: Desk) -> None:
    """The same key in another block: the party may have it already."""
    first = desk.ask(RenewLinkKey(name="zpk"))
    again = desk.ask(RenewLinkKey(name="zpk", version=first.version))
    assert (again.version, again.kcv) == (first.version, first.kcv)
    zmk = zmk_of(desk)
    assert unwrap_block(zmk, again.block).key == unwrap_block(zmk, first.block).key
    assert statuses(desk.holder.store, "zpk") == ["active", "pending"]
    for version in (1, 9):
        with pytest.raises(HsmRefused):
            desk.ask(RenewLinkKey(name="zpk", version=version))


def test_a_link_key_is_accepted_once(desk: Desk) -> None:
    value = tdes_key(24)
    block = block_of(desk, value, PIN)
    info = desk.one(AcceptLinkKey(name="zpk", block=block))
    assert (info.version, info.status, info.kcv) == (2, "active", clear_check_value("T", value))
    assert desk.one(AcceptLinkKey(name="zpk", block=block)) == info  # the message came twice
    assert statuses(desk.holder.store, "zpk") == ["previous", "active"]
    desk.one(AcceptLinkKey(name="zpk", block=block_of(desk, tdes_key(24), PIN)))
    desk.refused(AcceptLinkKey(name="zpk", block=block), "key_exists", "replaced")  # an old message, sent again


def test_a_link_key_of_another_length(desk: Desk) -> None:
    short = changed(length=16)
    assert desk.one(AcceptLinkKey(name="zpk", block=block_of(desk, tdes_key(16), short))).attributes.length == 16


@pytest.mark.parametrize(
    ("attributes", "length"),
    [(changed(usage="M6", mode="C"), 24), (attributes_for("pin", "AES"), 32), (changed(mode="X"), 24)],
)
def test_a_link_key_for_something_else_is_refused(desk: Desk, attributes: KeyAttributes, length: int) -> None:
    value = tdes_key(length) if attributes.algorithm == "T" else secrets.token_bytes(length)
    desk.refused(AcceptLinkKey(name="zpk", block=block_of(desk, value, attributes)), "key_usage")


def test_link_keys_of_somebody_else(desk: Desk) -> None:
    block = block_of(desk, tdes_key(24), PIN, "beta")
    desk.refused(AcceptLinkKey(name="zpk", block=block), "key_block_invalid", "MAC")
    desk.refused(AcceptLinkKey(name="nobody", block=block), "key_unknown")
    desk.refused(RenewLinkKey(name="nobody"), "key_unknown")
    desk.ask(GenerateKey(name="mine", role="pin"))
    desk.refused(RenewLinkKey(name="mine"), "key_usage", "shared with nobody")
    desk.refused(AcceptLinkKey(name="mine", block=block), "key_usage", "shared with nobody")
    desk.ask(GenerateKey(name="theirs", role="pin", party="gamma"))
    desk.refused(RenewLinkKey(name="theirs"), "key_unknown", "zmk-gamma")
    desk.refused(AcceptLinkKey(name="theirs", block=block), "key_unknown", "zmk-gamma")


def test_rotate(desk: Desk) -> None:
    data = desk.one(RotateKey(name="pan"))
    assert (data.version, data.status) == (2, "active")
    assert desk.keyrings[-1].seal(b"", bytes(12), b"").key_version == "pan-2"
    assert desk.one(RotateKey(name="zpk")).status == "pending"  # the other party must learn of it first
    assert desk.one(RotateKey(name="cvk")).status == "active"
    desk.ask(GenerateKey(name="mine", role="mac"))
    assert desk.one(RotateKey(name="mine")).status == "active"
    desk.refused(RotateKey(name="zmk-alpha"), "key_usage", "import its next version")
    desk.refused(RotateKey(name="nobody"), "key_unknown")


def test_retire_a_data_key(desk: Desk) -> None:
    desk.refused(RetireKey(name="pan", version=1), "key_in_use", "new cards")
    desk.ask(RotateKey(name="pan"))
    desk.cards[1] = 3
    desk.refused(RetireKey(name="pan", version=1), "key_in_use", "3 cards")
    desk.cards[1] = 0
    retired = desk.one(RetireKey(name="pan", version=1))
    assert retired.status == "retired"
    assert desk.one(RetireKey(name="pan", version=1)) == retired
    assert set(desk.holder.token.data_keys) == {"pan-2"}
    desk.refused(RetireKey(name="pan", version=3), "key_unknown", "no version 3")


def test_a_data_key_is_not_retired_blindly(desk: Desk) -> None:
    desk.ask(RotateKey(name="pan"))
    desk.desk = KeyDesk(desk.holder.store)
    desk.refused(RetireKey(name="pan", version=1), "key_in_use", "without the vault")
    desk.desk = KeyDesk(desk.holder.store, cards_under=lambda version: 0, settle_s=0.0)
    assert desk.one(RetireKey(name="pan", version=1)).status == "retired"


def test_cards_on_their_way_are_waited_for(desk: Desk) -> None:
    """A card may have been encrypted before the rotation, and be counted only when the vault has it."""
    stored: list[int] = []
    desk.ask(RotateKey(name="pan"))
    desk.desk = KeyDesk(desk.holder.store, cards_under=lambda version: len(stored), settle_s=0.05)

    async def test() -> None:
        retiring = asyncio.ensure_future(key_handlers(desk.desk)[RetireKey](RetireKey(name="pan", version=1)))
        await asyncio.sleep(0.01)
        stored.append(1)
        with pytest.raises(HsmRefused, match="key_in_use: 1 cards"):
            await retiring
        desk.clock.now += 1.0
        stored.clear()
        both = [key_handlers(desk.desk)[RetireKey](RetireKey(name="pan", version=1)) for _ in range(2)]
        assert [answer.keys[0].status for answer in await asyncio.gather(*both)] == ["retired", "retired"]

    asyncio.run(test())


def test_retire_destroys(desk: Desk) -> None:
    desk.ask(GenerateKey(name="mine", role="pin"))
    assert desk.one(RetireKey(name="mine", version=1)).status == "retired"
    with pytest.raises(HsmRefused, match="key_unknown"):
        desk.keyrings[-1].key("mine", Operation.PIN_DECRYPT)
    desk.refused(ExportKey(name="mine", under="zmk-alpha"), "key_unknown")
    desk.refused(GenerateKey(name="mine", role="pin"), "key_exists")  # its versions go on, its name is not reused
    assert (
        b'"whole"'
        not in next(
            line for line in (desk.holder._state / "hsm" / "keys.json").read_bytes().split(b'"name": "mine"')[1:]
        ).split(b'"name"')[0]
    )


def test_keys_in_use_are_not_retired(desk: Desk) -> None:
    desk.refused(RetireKey(name="zpk", version=1), "key_in_use", "configured")
    desk.refused(RetireKey(name="zmk-alpha", version=1), "key_in_use", "shared with alpha")
    desk.refused(RetireKey(name="nobody", version=1), "key_unknown")
    desk.ask(RotateKey(name="cvk"))
    assert desk.one(RetireKey(name="cvk", version=1)).status == "retired"


def test_refusals_tell_no_values(desk: Desk) -> None:
    value = tdes_key(16)
    wrong = bytes([value[0] ^ 1]) + value[1:]
    requests: list[Any] = [
        ImportComponents(name="x", role="cvk", components=split(wrong)),
        ImportBlock(name="x", role="mac", block=block_of(desk, tdes_key(24), PIN), under="zmk-alpha"),
        ImportBlock(name="x", role="pin", block="D0000", under="zmk-alpha"),
    ]
    for request in requests:
        with pytest.raises(HsmRefused) as refused:
            desk.ask(request)
        text = f"{refused.value} {request!r}".upper()
        assert wrong.hex().upper() not in text and value.hex().upper() not in text
        for component in getattr(request, "components", ()):
            assert component.hex().upper() not in text


def test_the_desk_goes_on_after_the_token_was_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path, *KEYS) as holder:
        desk = Desk(holder, Clock())
        handlers = key_handlers(desk.desk)
        holder.open()
        desk.desk.store = holder.store
        assert handlers[RotateKey](RotateKey(name="pan")).keys[0].version == 2


def test_a_key_that_its_zone_key_cannot_protect_is_not_renewed(desk: Desk) -> None:
    """Nothing is left behind, and an offer that the party may hold is not withdrawn: `refused` looks."""
    desk.bring_zmk("zmk-weak", odd_parity(bytes(range(1, 25))), "weak")
    desk.one(GenerateKey(name="zak-weak", role="mac", party="weak"))
    for _ in range(2):
        desk.refused(RenewLinkKey(name="zak-weak"), "key_block_invalid", "stronger")
    assert statuses(desk.holder.store, "zak-weak") == ["active"]


def test_a_retirement_that_was_cut_off_is_finished_by_the_next(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    record = desk.holder.store.active("cvk")
    assert record is not None
    desk.one(RotateKey(name="cvk"))
    wrapped = set(record.parts.values())

    def in_copies() -> bool:
        folder = desk.holder._state / "hsm"
        files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
        return any(value.encode() in content for value in wrapped for content in files)

    def cut_off(*_: Any, **__: Any) -> None:
        raise KeyStoreError("no room")

    with monkeypatch.context() as broken:
        broken.setattr("hsm.keys.store.drop_backups", cut_off)
        changes = len(desk.keyrings)
        with pytest.raises(KeyStoreError):
            desk.ask(RetireKey(name="cvk", version=1))
    assert in_copies() and len(desk.keyrings) == changes + 1, "out of use all the same"
    assert desk.one(RetireKey(name="cvk", version=1)).status == "retired"
    assert not in_copies()
