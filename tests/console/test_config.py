"""The configuration: all errors at once, each with its path."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.config import Config, load_config, masked_config, write_effective
from console.errors import ConfigError, UsageError
from console.validation import problems

GOOD = """
[fees]
fixed_minor = { EUR = 30 }
dispute_fee_minor = { EUR = 1500 }
other_currencies = "rate-only"
[gateway]
link = "gateway"
[[acquirer]]
name = "pos"
listen = "127.0.0.1:5010"
dialect = "iso87-ascii"
pin_key = "zpk-pos"
[[acquirer]]
name = "gateway"
listen = "unix:gateway.sock"
dialect = "iso87-ascii"
surrogate = true
[[issuer]]
name = "alpha"
address = "127.0.0.1:6001"
dialect = "iso87-ascii"
[[route]]
prefix = "4"
issuer = "alpha"
[[key]]
name = "zpk-pos"
usage = "pin"
party = "pos"
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "cardswitch.toml"
    file.write_text(text)
    return file


def problems_of(tmp_path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, text))
    return raised.value.problems


def test_the_packaged_configuration_is_right() -> None:
    import specs

    config = load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"))
    assert [link.name for link in config.issuer] == ["alpha", "beta"]
    assert {key.name for key in config.hsm_config().keys} == {"zpk-pos", "zak-pos", "zpk-alpha", "zpk-beta"}


def test_errors_of_type_are_all_listed_with_their_path(tmp_path: Path) -> None:
    text = (
        GOOD.replace('name = "alpha"', 'name = "alpha"\ndeadline_s = "soon"\nspeed = 1') + "\n[switch]\nworkers = 1.5\n"
    )
    found = problems_of(tmp_path, text + "[[merchant]]\nname = 'nobody'\n[queue]\n")
    assert len(found) == 5
    assert any(line.startswith("issuer[alpha].deadline_s: expected a number, found text") for line in found)
    assert any(line.startswith("issuer[alpha].speed: unknown setting") for line in found)
    assert any(line.startswith("switch.workers: expected a whole number, found a number") for line in found)
    assert any(line.startswith("merchant[nobody].id: missing") for line in found)
    assert any(line.startswith("queue: unknown setting") for line in found)


def test_errors_of_type_do_not_hide_contradictions(tmp_path: Path) -> None:
    text = GOOD.replace("surrogate = true", 'surrogate = "yes"').replace('issuer = "alpha"', 'issuer = "gamma"')
    found = problems_of(tmp_path, text.replace('pin_key = "zpk-pos"', 'pin_key = "zpk-x"') + "[switch]\nworker = 2\n")
    assert [line.split(":")[0] for line in sorted(found)] == [
        "acquirer[gateway].surrogate",
        "acquirer[pos].pin_key",
        "route 4",
        "switch.worker",
    ]


def test_card_data_does_not_cross_a_network_in_the_clear(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, GOOD + '[tokenizer]\nlisten = "192.0.2.1:443"\n')
    assert problem.startswith("tokenizer.listen: 192.0.2.1:443 can be reached from other machines")
    text = GOOD.replace("[gateway]", '[gateway]\ntokenizer_url = "http://192.0.2.1:8081"', 1)
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith("gateway.tokenizer_url: by http to another machine")
    (problem,) = problems_of(tmp_path, text.replace("http:", "ftp:"))
    assert "is not http://host:port" in problem


@pytest.mark.parametrize(
    ("settings", "told", "called"),
    [
        ("", "http://127.0.0.1:8081", "http://127.0.0.1:8081"),
        ('listen = "[::1]:9"', "http://[::1]:9", "http://[::1]:9"),
        ('certificate = "a.pem"\nprivate_key = "a.key"', "https://127.0.0.1:8081", "https://127.0.0.1:8081"),
        (
            'listen = "0.0.0.0:443"\nurl = "https://t.example"\ncertificate = "a.pem"\nprivate_key = "a.key"',
            "https://t.example",
            "https://t.example",
        ),
        (
            'listen = "0.0.0.0:8081"\nurl = "https://t.example"\nbehind_proxy = true',
            "https://t.example",
            "http://127.0.0.1:8081",
        ),
        ('listen = "[::]:9"\nurl = "https://t.example"\nbehind_proxy = true', "https://t.example", "http://[::1]:9"),
    ],
)
def test_where_merchants_and_the_gateway_reach_the_tokenizer(
    settings: str, told: str, called: str, tmp_path: Path
) -> None:
    config = load_config(write(tmp_path, GOOD + f"[tokenizer]\n{settings}\n"))
    assert config.tokenizer.public_url() == told
    assert config.gateway_config().tokenizer_url == called
    if config.tokenizer.certificate:
        assert config.tokenizer.certificate == str(tmp_path / "a.pem")
    other = GOOD.replace("[gateway]", '[gateway]\ntokenizer_url = "https://inside.example"\ntokenizer_ca = "ca.pem"', 1)
    config = load_config(write(tmp_path, other + f"[tokenizer]\n{settings}\n"))
    assert config.gateway_config().tokenizer_url == "https://inside.example"
    assert config.gateway.tokenizer_ca == str(tmp_path / "ca.pem")


def test_a_misspelt_setting_is_guessed(tmp_path: Path) -> None:
    found = problems_of(tmp_path, GOOD + "[switch]\nworker = 2\n")
    assert found == ("switch.worker: unknown setting (is it 'workers'?)",)


CONTRADICTIONS = {
    "unknown key": (
        ('pin_key = "zpk-pos"', 'pin_key = "zpk-x"'),
        "acquirer[pos].pin_key: there is no [[key]] named 'zpk-x'",
    ),
    "key of another usage": (('usage = "pin"', 'usage = "mac"'), "acquirer[pos].pin_key: key 'zpk-pos' is for mac"),
    "route to nowhere": (('issuer = "alpha"', 'issuer = "gamma"'), "there is no issuer 'gamma'"),
    "gateway link": (('link = "gateway"', 'link = "shop"'), "gateway.link: there is no [[acquirer]] named 'shop'"),
    "gateway without surrogates": (("surrogate = true", ""), "acquirer[gateway].surrogate: must be true"),
    "port twice": (('address = "127.0.0.1:6001"', 'listen = "127.0.0.1:5010"'), "is taken by acquirer[pos].listen"),
    "gateway's port twice": (('"127.0.0.1:5010"', '"127.0.0.1:8080"'), "127.0.0.1:8080 is taken by gateway.listen"),
    "gateway over TCP": (('"unix:gateway.sock"', '"127.0.0.1:5011"'), "use a unix socket, listen = "),
    "gateway with a MAC": (("surrogate = true", 'surrogate = true\nmac_key = "zpk-pos"'), "the gateway has no MAC key"),
    "socket twice": (('"127.0.0.1:5010"', '"unix:gateway.sock"'), "gateway.sock is the socket of pos"),
    "long socket": (('"unix:gateway.sock"', f'"unix:{"x" * 100}"'), "longer than 107 bytes"),
    "no port": (('"127.0.0.1:5010"', '"localhost"'), "expected host:port"),
    "no dialect": (('dialect = "iso87-ascii"\npin_key', 'dialect = "iso88"\npin_key'), "iso88"),
    "log level": (("[gateway]", '[log]\nlevel = "loud"\n[gateway]'), "log.level: 'loud'"),
    "worker count": (("[gateway]", "[switch]\nworkers = 0\n[gateway]"), "switch.workers: must be 1–64"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_between_sections(tmp_path: Path, name: str) -> None:
    (old, new), expected = CONTRADICTIONS[name]
    assert old in GOOD
    found = problems_of(tmp_path, GOOD.replace(old, new))
    assert any(expected in line for line in found), found


def test_the_same_route_twice_is_an_error(tmp_path: Path) -> None:
    found = problems_of(tmp_path, GOOD + '[[route]]\nprefix = "4"\nissuer = "alpha"\n')
    assert found == ("route 4: it has the same numbers and the same conditions as route 4",)


def test_errors_of_routing_are_all_listed_with_those_of_type(tmp_path: Path) -> None:
    sections = """
[[route]]
prefix = "51"
issuer = "alpha"
amount_from_minor = "much"
colour = "red"
[[route]]
from = "400000"
to = "399999"
issuer = "alpha"
currency = "euro"
[[breaker]]
ratio = 2
open = 5.0
[[stand_in]]
issuer = "alpha"
floor_minor = { eur = 1 }
type = ["purchase"]
[saf]
repeat = 1
limit = 0
"""
    found = problems_of(tmp_path, GOOD + sections)
    text = "\n".join(found)
    for part in (
        "amount_from_minor", "colour: unknown setting", "ends before it begins", "'euro'", "ratio must be from 0 to 1",
        "open: unknown setting", "floor_minor: 'eur' is no currency", "type: unknown setting (is it 'types'?)",
        "saf.repeat: unknown setting (is it 'repeats'?)", "limit must be > 0",
    ):  # fmt: skip
        assert part in text, (part, found)
    assert len(found) == 10, found


def test_broken_toml_and_missing_files_say_so(tmp_path: Path) -> None:
    assert "at end of document" in problems_of(tmp_path, "[switch")[0]
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load_config(tmp_path / "other.toml")


def test_the_file_in_the_working_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    config = load_config()
    assert config.source == "cardswitch.toml"
    assert config.state_path == tmp_path / ".cardswitch"


def test_what_is_written_for_children_is_what_was_read(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD), state=tmp_path / "state", workers=3)
    file = tmp_path / "run" / "config.json"
    write_effective(config, file)
    again = load_config(file)
    assert msgspec.structs.replace(again, source=config.source) == config
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_password_is_not_printed(tmp_path: Path) -> None:
    text = '[postgresql]\ndsn = "postgresql://owner:hunter2@db.example/cardswitch"\n' + GOOD
    config = load_config(write(tmp_path, text))
    assert "hunter2" not in str(masked_config(config))
    assert "db.example" in str(masked_config(config))


def test_relative_module_paths_start_at_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD + '[hsm]\nmodule = "lib/token.so"\n'))
    assert config.hsm.module == str(tmp_path / "lib" / "token.so")


@pytest.mark.parametrize("data", [[], "text", {"state": 1}, {"issuer": {}}, {"issuer": [1]}])
def test_anything_is_a_problem_and_never_a_crash(data: Any) -> None:
    assert problems(Config, data)


def test_what_has_no_problem_converts() -> None:
    table = tomllib.loads(GOOD)
    assert problems(Config, table) == []
    assert msgspec.convert(table, Config).route[0].prefix == "4"
