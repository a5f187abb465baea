"""Chip cards of the acquirer: the issuer finds their cryptograms right, once each, in every scheme."""

from __future__ import annotations

import pytest

from hsm.algorithms.emv_schemes import SCHEMES
from simulators.acquirer import Acquirer, AcquirerProfile, Card
from simulators.acquirer.chip import ISSUER_DATA, ChipCard
from simulators.acquirer.scenario import acquirer_scenario_from
from simulators.errors import ScenarioError
from simulators.issuer.chip import read_tags
from simulators.testing import start_acquirer, start_issuer
from tests.simulators.samples import IMK, NOW, PAN, issuer, told


@pytest.mark.parametrize("scheme", SCHEMES)
def test_its_cryptograms_are_right_and_counted(scheme: str) -> None:
    core, chip = issuer(imk=IMK, chip_scheme=scheme), ChipCard(Card(PAN), IMK, scheme)
    acquirer = Acquirer(AcquirerProfile(link="pos"))
    for atc in (1, 2):
        card = chip.presented(1000, "EUR", NOW)
        request = acquirer.purchase(card, 1000, "EUR", NOW)
        assert told(core, request.message) == "00"
        assert int.from_bytes(read_tags(bytes.fromhex(card.icc_data))["9F36"], "big") == atc
    again = acquirer.purchase(card, 1000, "EUR", NOW)
    assert told(core, again.message) == "05", "the same counter again"
    other = ChipCard(Card(PAN), bytes(16), scheme, atc=7).presented(1000, "EUR", NOW)
    assert told(core, acquirer.purchase(other, 1000, "EUR", NOW).message) == "82"
    assert PAN not in repr(chip)


def test_every_scheme_has_its_application_data() -> None:
    assert set(ISSUER_DATA) == set(SCHEMES)


def test_traffic_of_chip_cards_is_approved() -> None:
    keys = {"imk": IMK.hex()}
    cards = [{"prefix": "42424242", "count": 5, "chip_key": "imk", "sequence": "001"}]
    with (
        start_issuer(
            name="alpha", cryptogram_key="imk", test_keys=keys, default={"balance_minor": 10**9, "psn": "01"}
        ) as alpha,
        start_acquirer(dial=alpha.address, card=cards, test_keys=keys) as pos,
    ):
        report = pos.run(count=60, rate=0.0, concurrency=3)
        assert (report.total.count, report.total.declined) == (60, 0)
        assert any(55 in message.elements for message in alpha.heard)


@pytest.mark.parametrize(
    ("card", "problem"),
    [
        ({"chip_key": "none"}, "chip_key must be one of the test_keys"),
        ({"chip_key": "imk", "track2": f"{PAN}=3012"}, "makes its own icc_data"),
        ({"chip_scheme": "tin"}, "chip_scheme must be one of"),
    ],
)
def test_what_is_wrong_with_a_chip_is_said(card: dict[str, str], problem: str) -> None:
    with pytest.raises(ScenarioError, match=problem):
        acquirer_scenario_from({"name": "pos", "test_keys": {"imk": IMK.hex()}, "card": [{"pan": PAN, **card}]})
