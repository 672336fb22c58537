"""Remarks on the issue and guests are taken out of names, and nothing else is."""

import pytest

from tunegraph_pipeline.song_names import plain_credit, plain_title


@pytest.mark.parametrize(
    ("title", "name", "guests"),
    [
        ("Blue Harbour", "Blue Harbour", ""),
        ("Blue Harbour - Remastered 2017", "Blue Harbour", ""),
        ("Blue Harbour - 2011 - Remaster", "Blue Harbour", ""),
        ("Blue Harbour; 2011 Remaster", "Blue Harbour", ""),
        ("Blue Harbour - Rémastérisé en 2009", "Blue Harbour", ""),
        ("Blue Harbour - 24-Bit Digitally Remastered", "Blue Harbour", ""),
        ("Blue Harbour (40th Anniversary Edition) [Official Video]", "Blue Harbour", ""),
        ("(I Can't Get No) Sleep - Mono Version", "(I Can't Get No) Sleep", ""),
        ("Blue Harbour (feat. Ida & Bo) [Deluxe]", "Blue Harbour", "Ida & Bo"),
        ("Blue Harbour ft. Ida (Remix)", "Blue Harbour (Remix)", "Ida"),
        ("Blue Harbour (with Ida)", "Blue Harbour", "Ida"),
        ("Blue Harbour (With You)", "Blue Harbour (With You)", ""),
        ("Blue Harbour - Live at the Apollo - Remastered", "Blue Harbour - Live at the Apollo", ""),
        ("Blue Harbour - Remastered / Live", "Blue Harbour - Remastered / Live", ""),
        ("Blue Harbour (2012 Mix)", "Blue Harbour (2012 Mix)", ""),
        ("Blue Harbour (1999)", "Blue Harbour (1999)", ""),
        ("Remastered", "Remastered", ""),
        ("(Remastered)", "(Remastered)", ""),
        ("Ft. Worth", "Ft. Worth", ""),
        ("Feature - Film", "Feature - Film", ""),
        ("", "", ""),
    ],
)
def test_a_title(title: str, name: str, guests: str) -> None:
    assert plain_title(title) == (name, guests)


@pytest.mark.parametrize(
    ("credit", "name", "guests"),
    [
        ("The Lanterns feat. Ida", "The Lanterns", "Ida"),
        ("The Lanterns Featuring Ida & Bo", "The Lanterns", "Ida & Bo"),
        ("The Lanterns (ft. Ida)", "The Lanterns", "Ida"),
        ("Simon & Garfunkel", "Simon & Garfunkel", ""),
        ("Remastered (Deluxe)", "Remastered (Deluxe)", ""),
        ("Feat. Nobody", "Feat. Nobody", ""),
    ],
)
def test_a_credit(credit: str, name: str, guests: str) -> None:
    assert plain_credit(credit) == (name, guests)
