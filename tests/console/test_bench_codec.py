"""The codec's bench: its keys, and that what it measures is as fast as it claims to be."""

from __future__ import annotations

import itertools
import json

import pytest

from console.bench import codec as bench_codec
from console.bench import codec_cases

WAYS = ("decode", "encode", "unseen_decode", "unseen_encode")
KEYS = {
    "dialect",
    "case",
    "bytes",
    *(key for way in WAYS for key in (f"{way}_us", f"pyiso8583_{way}_us", f"{way}_ratio")),
}
DIALECTS = ("iso87-ascii", "iso87-bcd", "iso87-ebcdic", "iso93-ascii", "iso93-binary", "iso2003-ascii")
CASES = ("echo", "authorization", "large")


def test_every_case_of_every_dialect_is_measured_and_ours_is_the_faster() -> None:
    cases = bench_codec.bench_codec(seconds=1.5)["cases"]
    assert [(case["dialect"], case["case"]) for case in cases] == list(itertools.product(DIALECTS, CASES))
    for case in cases:
        assert set(case) == KEYS
        assert case["bytes"] > 20
        # 5 and more on an idle machine; a busy one must not fail the test, an interpreted message must
        assert case["decode_ratio"] > 3
        assert case["encode_ratio"] > 3
        # 2.5 and more on an idle machine; the interpretation of pyiso8583 must fail the test
        assert case["unseen_decode_ratio"] > 1
        assert case["unseen_encode_ratio"] > 1


def test_the_authorization_has_19_elements_and_about_400_bytes() -> None:
    for dialect, cases in codec_cases.CASES.items():
        assert len(cases["authorization"].elements) == 19, dialect
    case = bench_codec.bench_codec(seconds=0)["cases"][1]
    assert (case["dialect"], case["case"]) == ("iso87-ascii", "authorization")
    assert 380 <= case["bytes"] <= 420


def test_no_two_unseen_messages_have_the_same_elements() -> None:
    for cases in codec_cases.CASES.values():
        for message in cases.values():
            variants = list(itertools.islice(bench_codec._variants(message), 50))
            assert len({tuple(sorted(variant.elements)) for variant in variants}) == 50


def test_json_is_printed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    bench_codec.run(as_json=True, seconds=0)
    assert len(json.loads(capsys.readouterr().out)["cases"]) == 18


def test_a_table_is_printed_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    bench_codec.run(as_json=False, seconds=0)
    assert capsys.readouterr().out.count("×") == 72
