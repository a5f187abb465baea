"""Card data as merchants send it: dates are digits and nothing that only looks like them."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from hsm.tokenizer.card_form import checked_card
from hsm.tokenizer.errors import ApiError

TODAY = date(2026, 3, 14)
CARD: dict[str, Any] = {"number": "4242424242424242", "exp_month": "12", "exp_year": "2030"}


def test_digits_are_taken_as_text_and_as_json_integers() -> None:
    assert checked_card(CARD, TODAY).expiry == "3012"
    assert checked_card({**CARD, "exp_month": 1, "exp_year": 30}, TODAY).expiry == "3001"


@pytest.mark.parametrize("name", ["exp_month", "exp_year"])
@pytest.mark.parametrize(
    "value",
    [
        "12.0",
        "1e1",
        "+12",
        " 12",
        "12 ",
        "1_2",
        "-12",
        "",
        "null",
        "\uff11\uff12",
        "12" * 20,
        12.0,
        2030.0,
        True,
        None,
        [12],
    ],
)
def test_anything_else_is_no_date(name: str, value: Any) -> None:
    with pytest.raises(ApiError):
        checked_card({**CARD, name: value}, TODAY)
