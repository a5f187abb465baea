"""DE 43 of 1987 and of 1993."""

from __future__ import annotations

import pytest

from messages.countries import ALPHA_2, ALPHA_3
from messages.places import place_1987, place_1993

SHOP = "Corner shop            Hannover     NIDE"


def test_a_place_has_three_letters_of_its_country_in_1993_and_comes_back() -> None:
    assert place_1993(SHOP) == "Corner shop\\\\Hannover\\          NI DEU"
    assert place_1987(place_1993(SHOP)) == SHOP


def test_names_are_cut_to_their_room_and_street_and_postal_code_stay_behind() -> None:
    long = "A very long name of a corner shop\\Main street 1\\Hannover-Kirchrode\\30559     NI DEU"
    assert place_1987(long) == "A very long name of a cHannover-KircNIDE"


def test_what_ends_a_name_in_1993_is_not_in_one() -> None:
    said = place_1993("Corner\\shop            Hannover     NIDE")
    assert said.count("\\") == 3 and said.startswith("Corner/shop\\\\")


def test_countries_that_nobody_knows_stay() -> None:
    assert place_1993(SHOP[:38] + "QQ").endswith("NI QQ ")
    assert place_1987("Shop\\\\Hannover\\          NI QQQ") == f"{'Shop':23}{'Hannover':13}NIQQ"


@pytest.mark.parametrize(
    "de43", ["", "Shop", "Shop\\Hannover\\          NI DEU", "Shop\\\\Hannover\\NI DEU", SHOP, "\\\\\\\\"]
)
def test_another_shape_is_no_place(de43: str) -> None:
    assert place_1987(de43) is None


def test_each_country_has_one_pair() -> None:
    assert len(ALPHA_2) == len(ALPHA_3) == 249
    assert all(len(short) == 2 and len(long) == 3 for short, long in ALPHA_3.items())
