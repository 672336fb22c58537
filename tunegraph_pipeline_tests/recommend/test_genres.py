import numpy as np

from tunegraph_pipeline.recommend.genres import Genres, GenresOfSongs, folded, names_in


def test_a_text_may_name_several_genres() -> None:
    assert names_in("Rock; Pop,  Dream   Pop|Folk") == ["Rock", "Pop", "Dream Pop", "Folk"]
    assert names_in("Folk, World, & Country") == ["Folk", "World", "Country"]
    assert names_in("R&B/Soul") == ["R&B/Soul"]
    assert names_in(" ; ,") == []


def test_spellings_of_a_genre_are_one() -> None:
    assert len({folded(name) for name in ("Hip-Hop", "hip hop", "HIPHOP", "Hip–Hop")}) == 1
    assert folded("Étude") == folded("e\u0301tude")
    assert folded("☆") != folded("★")


def test_the_songs_of_a_genre_are_those_of_all_its_spellings_and_the_most_frequent_one_is_shown() -> None:
    texts = ["Hip-Hop", "hip hop; Jazz", "jazz", "nobody's"]
    genres = Genres.of_texts(texts, np.array([2, -1, 0, 1, 0, 2, -1], dtype=np.int32))
    assert genres.names == ["Hip-Hop", "jazz"]
    assert genres.indptr.tolist() == [0, 3, 6]
    assert genres.tracks.tolist() == [2, 3, 4, 0, 3, 5]


def test_a_song_has_the_three_genres_of_most_songs() -> None:
    texts = ["rock;pop;jazz;folk", "rock;pop;jazz", "rock;pop", "rock", "nobody's"]
    genres = Genres.of_texts(texts, np.array([3, 2, 1, 0, -1], dtype=np.int32))
    songs = GenresOfSongs(genres, 5).of(np.array([4, 3, 2, 0], dtype=np.int32))
    assert songs == [(), ("rock", "pop", "jazz"), ("rock", "pop", "jazz"), ("rock",)]
    nothing = GenresOfSongs(Genres.of_texts([], np.full(2, -1, dtype=np.int32)), 2)
    assert nothing.of(np.array([1, 0], dtype=np.int32)) == [(), ()]


def test_a_catalogue_without_genres_has_none() -> None:
    genres = Genres.of_texts([], np.full(5, -1, dtype=np.int32))
    assert (genres.names, genres.indptr.tolist(), genres.tracks.tolist()) == ([], [0], [])
