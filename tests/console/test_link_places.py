"""Links that dial or listen, in either role: ports, sockets, paths and what the console makes of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from console.config import Config, StateConfig, load_config
from console.errors import ConfigError, UsageError
from console.ports import listening_sockets, on_free_ports
from console.send import target_of
from console.sim_process import link_scenario
from tests.console.test_config import GOOD
from tests.switch.links.certificates import Forge

TURNED = GOOD.replace('listen = "127.0.0.1:5010"', 'address = "10.0.0.1:5010"').replace(
    'address = "127.0.0.1:6001"', 'listen = "127.0.0.1:6001"'
)


def loaded(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "cardswitch.toml"
    file.write_text(text)
    return load_config(file)


def test_what_listens_is_listed_and_moved_and_what_is_dialled_is_not(tmp_path: Path) -> None:
    config = loaded(tmp_path, TURNED)
    assert config.listeners()["issuer[alpha].listen"] == ("127.0.0.1", 6001)
    assert "acquirer[pos].listen" not in config.listeners() and config.simulated_listeners() == {}
    moved = on_free_ports(msgspec.structs.replace(config, state=StateConfig(str(tmp_path))), issuers=True)
    pos, gateway = moved.acquirer
    assert (pos.listen, pos.address) == ("", "10.0.0.1:5010")
    assert moved.issuer[0].address == "" and moved.issuer[0].listen != "127.0.0.1:6001"
    sockets = listening_sockets(moved)
    try:
        assert gateway.listen == "unix:gateway.sock"
        assert set(sockets) == {f"unix:{tmp_path}/gateway.sock", moved.issuer[0].listen}
    finally:
        for shared in sockets.values():
            shared.close()


def test_two_links_on_one_port(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, TURNED.replace("127.0.0.1:6001", "127.0.0.1:8080"))
    assert raised.value.problems == ("issuer[alpha].listen: 127.0.0.1:8080 is taken by gateway.listen",)


def test_a_simulated_issuer_dials_where_the_switch_listens(tmp_path: Path) -> None:
    scenario = link_scenario(loaded(tmp_path, TURNED), "alpha")
    assert (scenario.listen, scenario.dial) == ("", "127.0.0.1:6001")
    scenario = link_scenario(loaded(tmp_path, GOOD), "alpha")
    assert (scenario.listen, scenario.dial) == ("127.0.0.1:6001", "")


@pytest.mark.parametrize("setting", ['header = "tpdu"', 'framing = "4-ascii"'])
def test_the_gateway_speaks_the_plainest_framing_only(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=r"acquirer\[gateway\]: the gateway dials it"):
        loaded(tmp_path, GOOD.replace("surrogate = true", f"surrogate = true\n{setting}"))


def test_send_takes_links_that_listen_with_their_header(tmp_path: Path) -> None:
    text = GOOD.replace('pin_key = "zpk-pos"', 'header = "tpdu"')
    assert target_of(loaded(tmp_path, text), "pos").header == "tpdu"
    with pytest.raises(UsageError, match="dialled by the switch"):
        target_of(loaded(tmp_path, TURNED), "pos")


def test_tls_files_start_at_the_configuration_file(tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    forge.make("switch", file="switch")
    forge.make("their CA", authority=True, file="ca")
    tls = 'tls = { certificate = "switch.crt", private_key = "switch.key", ca = "ca.crt" }'
    config = loaded(tmp_path, GOOD.replace('pin_key = "zpk-pos"', tls))
    settings = config.acquirer[0].tls
    assert settings is not None
    assert [settings.certificate, settings.private_key, settings.ca] == [
        str(tmp_path / name) for name in ("switch.crt", "switch.key", "ca.crt")
    ]
    with pytest.raises(ConfigError, match=r"acquirer\[pos\]\.tls: ca .*nothing\.crt cannot be read: No such file"):
        loaded(tmp_path, GOOD.replace('pin_key = "zpk-pos"', tls.replace("ca.crt", "nothing.crt")))


def test_dialect_files_of_other_products_start_at_the_configuration_file(tmp_path: Path) -> None:
    from console.config import _resolved

    for name, expected in (("iso87-ascii", "iso87-ascii"), ("x.xml", str(tmp_path / "x.xml")), ("/y.json", "/y.json")):
        table = {"issuer": [{"dialect": name}]}
        assert _resolved(table, tmp_path / "cardswitch.toml")["issuer"][0]["dialect"] == expected


def test_what_children_get_is_what_was_read(tmp_path: Path) -> None:
    config = loaded(tmp_path, TURNED)
    again = msgspec.json.decode(msgspec.json.encode(config), type=Config)
    assert again == config
