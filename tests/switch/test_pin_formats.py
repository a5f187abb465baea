"""PIN blocks of every format, and DUKPT terminals, from an acquirer's link to an issuer's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import specs
from hsm.algorithms.pin_translation import TRANSLATIONS
from hsm.config import KeyConfig
from simulators.acquirer import Card
from switch.config import SwitchConfig, switch_config
from switch.errors import ConfigError
from switch.pin_rules import PIN_TRANSLATIONS
from tests.simulation.world import TABLE, World
from tests.switch.desk import MASTERCARD, VISA, in_world, purchase, told
from tests.switch.links.test_link_mac import configured

TDES_KSN = bytes.fromhex("FFFF9876543210E00000")  # the initial KSN of ANSI X9.24-1:2009, annex A.4
AES_KSN = bytes.fromhex("123456789012345600000000")  # the initial key id of ANSI X9.24-3:2017, supplement


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dialect whose DE 52 has 16 bytes."""
    text = Path(str(specs.__file__)).with_name("iso87-ascii.toml").read_text("utf-8")
    file = tmp_path_factory.mktemp("dialects") / "wide.toml"
    assert '52 = { format = "b 64"' in text
    file.write_text(text.replace('52 = { format = "b 64"', '52 = { format = "b 128"').replace("iso87-ascii", "wide"))
    return str(file)


def key(name: str, usage: str, algorithm: str = "") -> KeyConfig:
    return KeyConfig(name=name, usage=usage, party=name[4:], algorithm=algorithm)


def pays(config: SwitchConfig, *keys: KeyConfig, ksn: bytes = b"") -> None:
    """The right PIN is approved by both issuers, a wrong one is 55; three times each, as a counter counts."""

    async def script(world: World) -> None:
        client = world.clients["pos"]
        for _ in range(3):
            for pan in (VISA.pan, MASTERCARD.pan):
                for pin, code in (("1234", "00"), ("4321", "55")):
                    bought = client.acquirer.purchase(Card(pan, pin=pin), 1000, "EUR", world.clock.now())
                    assert (await client.perform(bought)).response_code == code

    in_world(script, config=config, keys=keys, ksn=ksn)


@pytest.mark.parametrize("given", [0, 1, 3])
@pytest.mark.parametrize("wanted", [0, 3])
def test_blocks_change_their_format_on_the_way(given: int, wanted: int) -> None:
    pays(configured(pos={"pin_format": given}, alpha={"pin_format": wanted}, beta={"pin_format": wanted}))


@pytest.mark.parametrize("given", [0, 3, 4])
def test_format_4_needs_a_dialect_with_room_and_an_aes_key(given: int, wide: str) -> None:
    """With MACs on all links: the hole for the PIN block is as long as the issuer's format."""
    pos: dict[str, Any] = {"pin_format": given, **({"dialect": wide} if given == 4 else {})}
    keys = [key("zpk-alpha", "pin", "AES"), *([key("zpk-pos", "pin", "AES")] if given == 4 else [])]
    pays(configured(pos=pos, alpha={"pin_format": 4, "dialect": wide}), *keys)


@pytest.mark.parametrize(("algorithm", "ksn"), [("TDES", TDES_KSN), ("AES", AES_KSN)])
@pytest.mark.parametrize("given", [0, 1, 3])
def test_a_dukpt_terminal_pays(given: int, algorithm: str, ksn: bytes) -> None:
    config = configured(pos={"pin_format": given, "pin_key": "bdk-pos", "ksn_element": 62})
    pays(config, key("bdk-pos", "bdk", algorithm), ksn=ksn)


def test_an_aes_dukpt_terminal_pays_with_format_4(wide: str) -> None:
    config = configured(pos={"pin_format": 4, "pin_key": "bdk-pos", "ksn_element": 62, "dialect": wide})
    pays(config, key("bdk-pos", "bdk", "AES"), ksn=AES_KSN)


@pytest.mark.parametrize("ksn", ["", "FFFF9876543210E0", "nonsense", "FFFF9876543210E0000" * 2])
def test_a_pin_without_its_ksn_is_30(ksn: str) -> None:
    async def script(world: World) -> None:
        changes = {"de52": "0123456789ABCDEF", "de2": VISA.pan, **({"de62": ksn} if ksn else {})}
        answer = await told(world, purchase(**changes), "pos")
        assert answer is not None and answer.elements[39] == "30"
        assert world.issuers["alpha"].issuer.entries.entries() == []

    config = configured(pos={"pin_key": "bdk-pos", "ksn_element": 62})
    in_world(script, config=config, keys=(key("bdk-pos", "bdk"),), ksn=TDES_KSN)


def test_a_ksn_of_the_other_algorithm_opens_nothing() -> None:
    async def script(world: World) -> None:
        changes = {"de52": "0123456789ABCDEF", "de2": VISA.pan, "de62": AES_KSN.hex().upper()}
        answer = await told(world, purchase(**changes), "pos")
        assert answer is not None and answer.elements[39] not in ("00", "91")

    config = configured(pos={"pin_key": "bdk-pos", "ksn_element": 62})
    in_world(script, config=config, keys=(key("bdk-pos", "bdk"),), ksn=TDES_KSN)


@pytest.mark.parametrize(
    ("links", "part"),
    [
        ({"pos": {"pin_format": 2}}, "pin_format 2 is not one of 0, 1, 3, 4"),
        ({"alpha": {"pin_format": 9}}, "pin_format 9 is not one of"),
        ({"alpha": {"pin_format": 1}}, "PCI PIN 3-3"),
        ({"pos": {"pin_format": 4}}, 'use a dialect with 52 = { format = "b 128" }'),
        ({"pos": {"ksn_element": 53}}, "has no room for a KSN"),
        ({"pos": {"ksn_element": 1}}, "has no room for a KSN"),
        ({"alpha": {"key_exchange_hours": -1.0}}, "key_exchange_hours"),
        ({"gateway": {"key_exchange_hours": 24.0}}, "no key to exchange"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(links: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(**links)
    assert part in "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 1


def test_format_1_may_stay_what_it_is() -> None:
    config = configured(pos={"pin_format": 1}, alpha={"pin_format": 1}, beta={"pin_format": 1})
    pays(config)


def test_a_wide_dialect_does_not_carry_short_blocks(wide: str) -> None:
    table = {**TABLE, "acquirer": [{**TABLE["acquirer"][0], "dialect": wide}]}
    with pytest.raises(ConfigError, match="b 64"):
        switch_config(table)


def test_the_switch_and_the_hsm_forbid_the_same_translations() -> None:
    permitted = {given: {to for to, reason in row.items() if not reason} for given, row in TRANSLATIONS.items()}
    assert permitted == PIN_TRANSLATIONS
