"""DE 55 of issuers' answers: the part stored with an outcome, and the part that is not."""

from __future__ import annotations

import pytest

from switch.stages.chip_answer import CARD_TAGS, may_be_kept


@pytest.mark.parametrize(
    "icc_data",
    [
        "",
        "910A11223344556677883030",
        "8A023030910400112233",
        "00910100",  # filling before a tag
        "72079F180400000001",  # a script template with its identifier
        "91810400112233",  # a length that is longer than it need be
        "DF8101020000",  # nobody knows it, and it is no card's
    ],
)
def test_cryptograms_codes_and_scripts_are_kept(icc_data: str) -> None:
    assert may_be_kept(icc_data)


@pytest.mark.parametrize("tag", sorted(CARD_TAGS))
def test_card_data_are_not_kept_wherever_they_stand(tag: str) -> None:
    data = f"{tag}024242"
    assert not may_be_kept(data)
    assert not may_be_kept("910400112233" + data)
    inside = f"70{len(data) // 2:02X}{data}"
    assert not may_be_kept(inside)
    assert not may_be_kept(f"72{len(inside) // 2:02X}{inside}")


@pytest.mark.parametrize(
    "icc_data",
    [
        "no hexadecimal",
        "9F",
        "9F26",
        "910A1122",
        "7703915A42",  # a constructed tag whose inside ends too soon
        "FF" * 3 + "5A024242",  # behind filling
    ],
)
def test_what_does_not_read_is_not_kept(icc_data: str) -> None:
    assert not may_be_kept(icc_data)
