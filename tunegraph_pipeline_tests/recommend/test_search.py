"""What typing finds: the right song in spite of errors, in the right order, and never an exception."""

import dataclasses
import itertools
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.lake.array_spec import NEUTRAL
from tunegraph_pipeline.recommend.artists import Artists
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.search import TrackSearch, _one_error_away, _Pattern
from tunegraph_pipeline.recommend.search_index import normalise, number_of, search_arrays, word_of
from tunegraph_pipeline_tests.conftest import examples

SONGS: list[tuple[str, list[str], int]] = [
    ("Bohemian Rhapsody", ["Queen"], 90),
    ("Don't Stop Me Now", ["Queen"], 80),
    ("Queen of Hearts", ["Juice Newton"], 95),
    ("Dancing Queen", ["ABBA"], 85),
    ("Halo", ["Beyoncé"], 70),
    ("Déjà Vu", ["Beyoncé", "JAY-Z"], 40),
    ("Home", ["Michael Bublé"], 60),
    ("Take Me Home, Country Roads", ["John Denver"], 99),
    ("Sweet Home Alabama", ["Lynyrd Skynyrd"], 75),
    ("Losing My Religion", ["R.E.M."], 65),
    ("Thunderstruck", ["AC/DC"], 88),
    ("Blackbird", ["The Beatles"], 50),
    ("Here Comes the Sun", ["The Beatles"], 92),
    ("Kids", ["MGMT"], 30),
    ("With or Without You", ["U2"], 77),
    ("See You Again", ["Tyler, The Creator", "Kali Uchis"], 66),
    ("See You Again (feat. Charlie Puth)", ["Wiz Khalifa"], 67),
    ("÷", ["Ed Sheeran"], 5),
    ("!!!", ["!!!"], 4),
    ("愛してる", ["高橋ひろ"], 8),
    ("Für Elise", ["Ludwig van Beethoven"], 3),
    ("Smells Like Teen Spirit", ["Nirvana"], 91),
    ("", [], 2),
    ("", [], 1),
]
IDS = [f"song{number:03d}" for number in range(len(SONGS) - 2)] + ["4uLU6hMCjMI75M1A2tKUQC", "4uLabc"]


def content_of(
    songs: Sequence[tuple[str, list[str], int]], ids: Sequence[str], canonical: list[int] | None = None
) -> BundleContent:
    n = len(songs)
    embeddings = np.zeros((n, 2), dtype=np.float32)
    embeddings[:, 0] = 1
    own = np.arange(n)
    names = [artists for _, artists, _ in songs]
    return BundleContent(
        track_ids=ids,
        embeddings=embeddings,
        pooling_weight=np.ones(n, dtype=np.float32),
        popularity=np.array([likes for _, _, likes in songs], dtype=np.int32),
        recommendable=np.ones(n, dtype=np.bool_) if canonical is None else np.array(canonical) == own,
        prior=np.zeros(n, dtype=np.float32),
        neighbour_indptr=np.zeros(n + 1, dtype=np.int64),
        neighbour_indices=np.zeros(0, dtype=np.int32),
        neighbour_weight=np.zeros(0, dtype=np.float32),
        user_ids=[],
        user_indptr=np.zeros(1, dtype=np.int64),
        user_tracks=np.zeros(0, dtype=np.int32),
        names=[name for name, _, _ in songs],
        artists=[", ".join(artists) for artists in names],
        by=Artists.of_lists(names, names),
        image_urls=[""] * n,
        preview_urls=[""] * n,
        facts={
            "bundle_version": "v",
            "model_version": "m",
            "blend": {"embedding": 1.0, "neighbour": 1.0, "length_exponent": 1.0},
        },
        canonical=NEUTRAL if canonical is None else np.array(canonical, dtype=np.int32),
    )


def search_over(folder: Path, content: BundleContent) -> TrackSearch:
    write_bundle(folder, content)
    return TrackSearch(Bundle.open(folder))


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> TrackSearch:
    return search_over(tmp_path_factory.mktemp("search") / "v", content_of(SONGS, IDS))


Find = Callable[..., list[str]]


@pytest.fixture
def find(songs: TrackSearch) -> Find:
    """The names found, or the id where there is no name."""
    return lambda query, limit=10: [SONGS[track][0] or IDS[track] for track in songs.find(query, limit)]


# ---- songs that are named in full


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("halo", ["Halo"]),
        ("HALO - Beyoncé", ["Halo"]),
        ("jay-z: deja vu", ["Déjà Vu"]),
        ("beyoncé, jay-z deja vu", ["Déjà Vu"]),
        ("take me home country roads", ["Take Me Home, Country Roads"]),
        ("see you again", ["See You Again"]),  # and not the one that goes on
        ("song004", ["Halo"]),
        ("hlao", []),
        ("take me home", []),
        ("queen", []),
        ("", []),
    ],
)
def test_a_song_is_called_by_its_whole_name_or_its_id(
    songs: TrackSearch, typed: str, named: list[str]
) -> None:
    assert [SONGS[track][0] for track in songs.called(typed)] == named


def test_songs_of_one_name_are_told_apart_by_their_artist_the_most_liked_first(tmp_path: Path) -> None:
    hellos: list[tuple[str, list[str], int]] = [("Hello", ["Adele"], 5), ("Hello", ["Lionel"], 9)]
    search = search_over(tmp_path / "v", content_of(hellos, ["a", "l"]))
    assert search.called("hello") == [1, 0]
    assert search.called("hello adele") == [0]


# ---- what is found


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("bohemian rhapsody", "Bohemian Rhapsody"),
        ("bohemain rapsody", "Bohemian Rhapsody"),
        ("queen bohemian", "Bohemian Rhapsody"),
        ("qeen dont stop", "Don't Stop Me Now"),
        ("hlao", "Halo"),
        ("halo beyonce", "Halo"),
        ("deja vu", "Déjà Vu"),
        ("jay z deja vu", "Déjà Vu"),
        ("hmoe", "Home"),
        ("rem", "Losing My Religion"),
        ("r.e.m", "Losing My Religion"),
        ("acdc", "Thunderstruck"),
        ("ac dc thunder", "Thunderstruck"),
        ("black bird", "Blackbird"),
        ("herecomes the sun", "Here Comes the Sun"),
        ("the sun beatles", "Here Comes the Sun"),
        ("u2", "With or Without You"),
        ("tyler the creator", "See You Again"),
        ("see you again tyler", "See You Again"),
        ("÷", "÷"),
        ("!!!", "!!!"),
        ("愛し", "愛してる"),
        ("fur elise", "Für Elise"),
        ("fuer elise", "Für Elise"),
        ("nirvnaa", "Smells Like Teen Spirit"),
        ("smels like ten spirit", "Smells Like Teen Spirit"),
    ],
)
def test_the_song_that_was_meant_comes_first(find: Find, typed: str, first: str) -> None:
    assert find(typed)[0] == first


def test_whole_names_come_before_beginnings_and_those_before_names_that_hold_it(find: Find) -> None:
    # "queen" is all of an artist, the beginning of one name, and the end of another; the most popular of each
    # first. The most popular of all is in the second group.
    assert find("queen") == ["Bohemian Rhapsody", "Don't Stop Me Now", "Queen of Hearts", "Dancing Queen"]
    assert find("home") == ["Home", "Take Me Home, Country Roads", "Sweet Home Alabama"]


def test_an_unfinished_last_word_is_enough(find: Find) -> None:
    for typed in ("thu", "thunders", "h", "th"):
        assert {"Thunderstruck", "Here Comes the Sun"} & set(find(typed)), typed
    assert find("smel")[0] == find("smells like te")[0] == "Smells Like Teen Spirit"


def test_one_and_two_letters_find_words_that_begin_so(find: Find) -> None:
    found = find("k")
    assert found
    assert all(
        any(word.startswith("k") for word in normalise(f"{name} {' '.join(artists)}").split())
        for name, artists, _ in SONGS
        if name in found
    )


def test_nothing_like_it_finds_nothing(find: Find) -> None:
    assert find("xqzwvkj") == []
    assert find("") == find("   ") == find("\0") == []


def test_what_is_much_farther_off_than_the_best_is_left_out(find: Find) -> None:
    assert find("hlao") == ["Halo"]
    assert find("smels like ten spirit") == ["Smells Like Teen Spirit"]


def test_the_limit_holds(songs: TrackSearch) -> None:
    everything = songs.find("e", 100)
    assert songs.find("e", 2) == everything[:2]
    assert songs.find("e", 0) == songs.find("e", -3) == []


def test_songs_without_a_name_are_found_by_the_beginning_of_their_id(find: Find) -> None:
    assert find("4uLU6h") == ["4uLU6hMCjMI75M1A2tKUQC"]
    assert find("4ul") == ["4uLU6hMCjMI75M1A2tKUQC", "4uLabc"]


@pytest.mark.parametrize(
    "typed",
    [
        "4uLU6hMCjMI75M1A2tKUQC",
        " 4uLU6hMCjMI75M1A2tKUQC\n",
        "spotify:track:4uLU6hMCjMI75M1A2tKUQC",
        "https://open.spotify.com/track/4uLU6hMCjMI75M1A2tKUQC?si=abc",
        "https://open.spotify.com/intl-de/track/4uLU6hMCjMI75M1A2tKUQC",
    ],
)
def test_an_id_and_a_link_give_their_song_first(songs: TrackSearch, typed: str) -> None:
    assert songs.find(typed, 5)[0] == IDS.index("4uLU6hMCjMI75M1A2tKUQC")


def test_an_id_of_a_song_that_has_a_name_is_found_whole(songs: TrackSearch) -> None:
    assert songs.find("song003", 5)[0] == 3


def test_a_recording_is_answered_once_by_any_of_its_names(tmp_path: Path) -> None:
    versions: list[tuple[str, list[str], int]] = [
        ("Yesterday", ["The Beatles"], 9),
        ("Yesterday", ["The Beatles"], 0),
        ("Yesterday - Remastered 2009", ["The Beatles"], 0),
        ("Yesterday Once More", ["Carpenters"], 5),
    ]
    search = search_over(tmp_path / "v", content_of(versions, ["a", "b", "c", "d"], canonical=[0, 0, 0, 3]))
    assert search.find("yesterday", 10) == [0, 3]
    assert search.find("yesterday remastered", 10)[0] == 0
    assert search.find("b", 10)[0] == 0  # the id of another version
    assert search.bundle.search_tracks.tolist() == [0, 2, 3]  # its second name has a place, the same one none


def test_a_bundle_without_tracks_finds_nothing(tmp_path: Path) -> None:
    empty = content_of([], [])
    search = search_over(tmp_path / "v", dataclasses.replace(empty, embeddings=np.zeros((0, 2), np.float32)))
    assert search.find("anything", 5) == []


def test_the_most_popular_of_many_equal_names_come_first(tmp_path: Path) -> None:
    likes = np.random.default_rng(0).permutation(500)
    many = [("Intro", [f"Band {number}"], int(count)) for number, count in enumerate(likes)]
    search = search_over(tmp_path / "v", content_of(many, [f"t{number}" for number in range(500)]))
    assert search.find("intro", 20) == np.argsort(-likes)[:20].tolist()


# ---- any text, and errors of any kind

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONG = [track for track, (name, _, _) in enumerate(SONGS) if name.isascii() and len(normalise(name)) >= 6]


@given(
    track=st.sampled_from(LONG),
    with_artist=st.booleans(),
    kind=st.sampled_from(["swap", "drop", "double", "wrong"]),
    at=st.integers(0, 10**6),
    letter=st.sampled_from(LETTERS),
)
@settings(max_examples=examples(300))
def test_any_one_error_in_a_name_still_finds_it(
    songs: TrackSearch, track: int, with_artist: bool, kind: str, at: int, letter: str
) -> None:
    name, artists, _ = SONGS[track]
    text = f"{name} {artists[0]}" if with_artist else name
    at %= len(text) - 1
    typed = {
        "swap": text[:at] + text[at + 1] + text[at] + text[at + 2 :],
        "drop": text[:at] + text[at + 1 :],
        "double": text[: at + 1] + text[at:],
        "wrong": text[:at] + letter + text[at + 1 :],
    }[kind]
    assert track in songs.find(typed, 5)


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=80))
@settings(max_examples=examples(400))
def test_any_text_is_answered_with_different_tracks(songs: TrackSearch, typed: str) -> None:
    found = songs.find(typed, 8)
    assert len(found) == len(set(found)) <= 8
    assert all(0 <= track < len(SONGS) for track in found)


@pytest.mark.parametrize(
    "typed",
    [
        '"',
        "' OR 1=1 --",
        "queen AND (abba OR NOT beatles) NEAR/3 *",
        "col:queen",
        "\0queen\0",
        "\ud800queen\udfff",
        "🎵🎶🧑‍🎤",
        "queen" * 300_000,
        " " * 1_000_000,
        "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 1000,  # a letter that normalises to eighteen
        "e\N{COMBINING ACUTE ACCENT}" * 5000,
        "a b c d e f g h i j k l m n o p q r s t u v w x y z",
        "\n\n\nqueen\n\n",
    ],
)
def test_no_text_is_an_operator_or_an_error(songs: TrackSearch, typed: str) -> None:
    found = songs.find(typed, 5)
    assert all(0 <= track < len(SONGS) for track in found)


def test_threads_that_share_a_search_get_the_same_answers(songs: TrackSearch) -> None:
    queries = ["queen", "bohemain", "hlao", "see you", "beatles", "u2"]
    alone = [songs.find(query, 5) for query in queries]
    wrong: list[str] = []

    def ask() -> None:
        for _ in range(20):
            wrong.extend(
                query
                for query, expected in zip(queries, alone, strict=True)
                if songs.find(query, 5) != expected
            )

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []


# ---- the parts


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Beyoncé", "beyonce"),
        ("  Two\t Words\n", "two words"),
        ("Don't", "dont"),
        ("Don’t", "dont"),
        ("Simon & Garfunkel", "simon and garfunkel"),
        ("R.E.M.", "rem"),
        ("A.B.C.D", "abcd"),
        ("Mr. Blue", "mr blue"),
        ("A$AP Rocky", "asap rocky"),
        ("Straße", "strasse"),
        ("Øystein Łukasz", "oystein lukasz"),
        ("ＦＵＬＬ", "full"),
        ("???", "???"),
        ("🎵", "🎵"),
        ("", ""),
    ],
)
def test_normalised_names(text: str, normal: str) -> None:
    assert normalise(text) == normal


@given(st.text(max_size=40))
@settings(max_examples=examples(1000))
def test_normalised_text_has_single_spaces_and_is_normal(text: str) -> None:
    normal = normalise(text)
    assert normal == " ".join(normal.split())
    assert normalise(normal) == normal
    assert normalise(f"  {text} ") == normal


def errors_by_table(wanted: str, text: str) -> int:
    """The fewest errors anywhere in the text, by the table of optimal string alignment."""
    rows = [[0] * (len(text) + 1)] + [[row] * (len(text) + 1) for row in range(1, len(wanted) + 1)]
    for i, j in itertools.product(range(1, len(wanted) + 1), range(1, len(text) + 1)):
        rows[i][j] = min(
            rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (wanted[i - 1] != text[j - 1])
        )
        if i > 1 and j > 1 and wanted[i - 2 : i] == text[j - 1] + text[j - 2]:
            rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return min(rows[-1])


@given(st.text("abc ", min_size=1, max_size=12), st.text("abc ", max_size=25))
@settings(max_examples=examples(500))
def test_errors_are_those_of_the_table(wanted: str, text: str) -> None:
    assert _Pattern(wanted).errors_in(text) == errors_by_table(wanted, text)


@given(st.text(f"{LETTERS}0189", min_size=1, max_size=12), st.text(f"{LETTERS}0189", min_size=1, max_size=12))
def test_numbers_of_words_are_in_their_order_and_give_them_back(one: str, other: str) -> None:
    first, second = number_of(one), number_of(other)
    assert first is not None
    assert second is not None
    assert word_of(first) == one
    alphabet = f"{LETTERS}0123456789"
    assert (first < second) == ([*map(alphabet.index, one)] < [*map(alphabet.index, other)])


@pytest.mark.parametrize("word", ["", "thirteenletrs", "naïve", "愛", "two words"])
def test_other_words_have_no_number(word: str) -> None:
    assert number_of(word) is None


@given(st.text("abyz09", min_size=1, max_size=12))
@settings(max_examples=examples(60))
def test_one_error_away_is_every_word_with_one_error(word: str) -> None:
    alphabet = f"{LETTERS}0123456789"
    cuts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    expected = {head + tail[1:] for head, tail in cuts if tail}
    expected |= {head + tail[1] + tail[0] + tail[2:] for head, tail in cuts if len(tail) > 1}
    expected |= {head + letter + tail[1:] for head, tail in cuts if tail for letter in alphabet}
    if len(word) < 12:
        expected |= {head + letter + tail for head, tail in cuts for letter in alphabet}
    found = {}
    for length, numbers in _one_error_away(word):
        for number in numbers.tolist():
            found[word_of(number)] = length
    assert set(found) == expected - {""}
    assert all(len(near) == length for near, length in found.items())


def test_the_same_names_give_the_same_index_in_one_block_or_many(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name, _, _ in SONGS]
    artists = Artists.of_texts(["/".join(makers) for _, makers, _ in SONGS])
    likes = np.array([count for _, _, count in SONGS])

    def built() -> dict[str, np.ndarray]:
        return search_arrays(IDS, names, artists, likes, np.arange(len(SONGS)))

    whole = built()
    monkeypatch.setattr("tunegraph_pipeline.recommend.search_index._BLOCK", 5)
    parts = built()
    assert whole.keys() == parts.keys()
    for key in whole:
        np.testing.assert_array_equal(whole[key], parts[key])


def test_a_query_reads_no_more_of_the_index_than_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [("Love", [f"Band {number}"], number) for number in range(300)]
    search = search_over(tmp_path / "v", content_of(many, [f"t{number}" for number in range(300)]))
    monkeypatch.setattr("tunegraph_pipeline.recommend.search._SHORTLIST", (64, 40))
    # Forty entries of the rarest code are those of the forty most popular.
    assert search.find("love", 100) == list(range(299, 259, -1))
