"""Keys of links held against `[[key]]`: each contradiction has its line, with the place in the file."""

from __future__ import annotations

from typing import Any

import pytest

import specs
from console.config import Config, load_config
from console.errors import ConfigError

WIDE = '52 = { format = "b 64"'


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    from pathlib import Path

    directory = Path(str(specs.__file__)).parent
    return {
        "config": (directory / "cardswitch.toml").read_text("utf-8"),
        "wide": (directory / "iso87-ascii.toml").read_text("utf-8").replace(WIDE, '52 = { format = "b 128"'),
    }


def loaded(texts: dict[str, str], tmp_path: Any, *changes: tuple[str, str]) -> Config:
    """The packaged configuration with some text replaced."""
    text = texts["config"]
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "wide.toml").write_text(texts["wide"])
    file = tmp_path / "cardswitch.toml"
    file.write_text(text)
    return load_config(file)


POS_KEY = 'name = "zpk-pos"\nusage = "pin"'
POS_LINK = 'pin_key = "zpk-pos"'
BDK = (POS_KEY, 'name = "zpk-pos"\nusage = "bdk"')
AES = (POS_KEY, f'{POS_KEY}\nalgorithm = "AES"')
HSM = "dual_control = false"
TOKENS = (POS_LINK, f"{POS_LINK}\ntoken_cryptogram_element = 126")
TOKEN_KEY = ('name = "zpk-beta"\nusage = "pin"', 'name = "token-cryptogram"\nusage = "token-cryptogram"')
BETA_PLAIN = ('pin_key = "zpk-beta"\n', "")
BETA_MAC = ('name = "zpk-beta"\nusage = "pin"', 'name = "zpk-beta"\nusage = "mac"')
WIDE_POS = ('dialect = "iso87-ascii"\npin_key', 'dialect = "wide.toml"\npin_key')


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ([BDK], "acquirer[pos].ksn_element"),
        ([(POS_LINK, f"{POS_LINK}\nksn_element = 62")], "acquirer[pos].ksn_element"),
        ([AES], "acquirer[pos].pin_format"),
        ([WIDE_POS, (POS_LINK, f"{POS_LINK}\npin_format = 4")], "acquirer[pos].pin_format"),
        ([(POS_LINK, 'pin_key = "zak-pos"')], "acquirer[pos].pin_key"),
        ([('mac_key = "zak-pos"', 'mac_key = "zpk-pos"')], "acquirer[pos].mac_key"),
        ([('pin_key = "zpk-beta"', 'pin_key = "zpk-beta"\nmac_key = "zak-nobody"')], "issuer[beta].mac_key"),
        ([('pin_key = "zpk-beta"', 'pin_key = "zpk-beta"\nmac_key = "zak-pos"')], "issuer[beta].mac_key"),
        ([('name = "zpk-beta"\nusage = "pin"', 'name = "zpk-beta"\nusage = "bdk"')], "issuer[beta].pin_key"),
        ([TOKENS], "hsm.network_token_key"),
        ([(HSM, f'{HSM}\nnetwork_token_key = "nobody"')], "hsm.network_token_key"),
        ([(HSM, f'{HSM}\nnetwork_token_key = "zak-pos"')], "hsm.network_token_key"),
        ([TOKENS, (HSM, f'{HSM}\nnetwork_token_key = "zpk-pos"')], "hsm.network_token_key"),
    ],
)
def test_a_key_that_does_not_fit_its_link(
    texts: dict[str, str], tmp_path: Any, changes: list[tuple[str, str]], place: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(texts, tmp_path, *changes)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [place]


@pytest.mark.parametrize(
    "changes",
    [
        [BDK, (POS_LINK, f"{POS_LINK}\nksn_element = 62")],
        [WIDE_POS, AES, (POS_LINK, f"{POS_LINK}\npin_format = 4")],
        [('pin_key = "zpk-beta"', 'mac_key = "zpk-beta"\nmac_management = true'), BETA_MAC],
        [BETA_PLAIN, TOKEN_KEY, TOKENS],
    ],
)
def test_keys_that_fit(texts: dict[str, str], tmp_path: Any, changes: list[tuple[str, str]]) -> None:
    loaded(texts, tmp_path, *changes)


def test_a_missing_key_of_network_tokens_is_named_with_the_fix(texts: dict[str, str], tmp_path: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(texts, tmp_path, TOKENS)
    assert caught.value.problems == (
        "hsm.network_token_key: there is no [[key]] named 'token-cryptogram', which "
        "acquirer[pos].token_cryptogram_element needs: "
        'add one with usage = "token-cryptogram" and a party, or name the one that there is',
    )


def test_simulators_learn_the_algorithm_of_a_mac_key(texts: dict[str, str], tmp_path: Any) -> None:
    zak = 'name = "zak-pos"\nusage = "mac"'
    config = loaded(texts, tmp_path, (zak, f'{zak}\nalgorithm = "ISO9797-1-ALG3"'))
    assert config.mac_algorithm("zak-pos") == "ISO9797-1-ALG3"
    assert loaded(texts, tmp_path).mac_algorithm("zak-pos") == "AES-CMAC"
