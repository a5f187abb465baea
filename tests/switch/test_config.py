"""The configuration: settings are read, and every error is listed."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from switch.config import switch_config
from switch.errors import ConfigError


def test_the_sample_is_valid() -> None:
    config = switch_config(tomllib.loads((resources.files("specs") / "cardswitch.toml").read_text("utf-8")))
    assert [link.name for link in config.acquirers] == ["pos", "gateway"]
    assert [link.name for link in config.issuers] == ["alpha", "beta"]
    assert config.acquirers[1].surrogate


def test_all_errors_are_listed_at_once() -> None:
    table = {
        "switch": {"workers": "two"},
        "acquirer": [{"name": "pos", "listen": "nowhere", "dialect": "iso87-ascii"}],
        "issuer": [
            {"name": "pos", "address": "127.0.0.1:1", "dialect": "no-such-dialect"},
            {"name": "alpha", "address": "127.0.0.1:1", "dialect": "iso87-ascii", "deadline_s": 0, "color": "red"},
            {"name": "beta", "address": "127.0.0.1:1", "dialect": "iso87-ascii", "deadline_s": 0},
        ],
        "route": [{"prefix": "4x", "issuer": "gamma"}],
        "fraud": [{"name": "bin", "bin": ["123456789"], "action": "decline"}, {"name": "what", "action": "shout"}],
        "fees": {"rate": "1.5", "fixed_minor": {"EUR": 30}},
        "merchant": [{"id": "SHOP", "dispute_fee_minor": {"EUX": 1}}],
    }
    with pytest.raises(ConfigError) as caught:
        switch_config(table, "cardswitch.toml")
    text = "\n".join(caught.value.problems)
    for part in (
        "[switch]", "used more than once", "'nowhere'", "no-such-dialect", "color", "deadline_s must be > 0",
        "'4x'", "'gamma'", "'123456789'", "what", "rate", "'EUX'", "(link pos)",
    ):  # fmt: skip
        assert part in text, part
