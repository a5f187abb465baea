"""The codec's bench: its keys, and that what it measures is as fast as it claims to be."""

from __future__ import annotations

import json

import pytest

from console.bench import codec as bench_codec

KEYS = {
    "dialect",
    "case",
    "bytes",
    "decode_us",
    "encode_us",
    "pyiso8583_decode_us",
    "pyiso8583_encode_us",
    "decode_ratio",
    "encode_ratio",
}


def test_every_case_of_every_dialect_is_measured_and_ours_is_the_faster() -> None:
    cases = bench_codec.bench_codec(seconds=0.6)["cases"]
    assert [(case["dialect"], case["case"]) for case in cases] == [
        (dialect, name) for dialect in ("iso87-ascii", "iso87-bcd") for name in ("echo", "authorization", "large")
    ]
    for case in cases:
        assert set(case) == KEYS
        assert case["bytes"] > 20
        # 5 and more on an idle machine; a busy one must not fail the test, an interpreted message must
        assert case["decode_ratio"] > 2
        assert case["encode_ratio"] > 2


def test_the_authorization_has_19_elements_and_about_400_bytes() -> None:
    assert len(dict(bench_codec.CASES)["authorization"].elements) == 19
    case = bench_codec.bench_codec(seconds=0)["cases"][1]
    assert (case["dialect"], case["case"]) == ("iso87-ascii", "authorization")
    assert 380 <= case["bytes"] <= 420


def test_json_is_printed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    bench_codec.run(as_json=True, seconds=0)
    assert len(json.loads(capsys.readouterr().out)["cases"]) == 6


def test_a_table_is_printed_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    bench_codec.run(as_json=False, seconds=0)
    assert capsys.readouterr().out.count("×") == 12
