"""What rows say, whatever their columns are called: likes, dislikes, ratings, plays, and what was taken
# ruff: noqa: E501  (files as people have them)
back."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.file_import import FileImport
from tunegraph_pipeline.sources.files import import_files
from tunegraph_pipeline_tests.sources.test_formats import songs

Read = Callable[..., FileImport]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def from_text(text: str, name: str = "given.csv", **options: object) -> FileImport:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        [one] = import_files([path], **options)  # type: ignore[arg-type]
        return one

    return from_text


def both(one: FileImport) -> tuple[set[str], set[str]]:
    """The songs that somebody likes, and those that somebody dislikes."""
    return set(one.batch.likes["track_id"]), set(one.batch.feedback["track_id"])


RATINGS = (
    *(
        "rating",
        "stars",
        "score",
        "vote",
        "rating_value",
        "Rating (1-5)",
        "Your rating",
        "Stars (1-5)",
        "num_stars",
    ),
    *(
        "rate",
        "rated",
        "grade",
        "preference_score",
        "Bewertung",
        "Meine Wertung",
        "Note",
        "Puntuación",
        "評価",
    ),
    *("Valutazione", "userRating", "overall", "my_rating"),
)


@pytest.mark.parametrize("column", RATINGS)
def test_one_star_is_no_like(column: str, read: Read) -> None:
    one = read(f"user_id,track_id,{column}\nann,t1,5\nann,t2,1\nann,t3,4\nann,t4,\n")
    assert both(one) == ({"t1", "t3"}, set())
    assert any("4 and more of 5 is a like" in rule for rule in one.rules)


@pytest.mark.parametrize(
    ("values", "liked"),
    [
        (("5", "4.5", "0.5"), {0, 1}),
        (("10", "8", "7"), {0, 1}),
        (("100", "80", "79"), {0, 1}),
        (("★★★★★", "★★★☆☆", "★"), {0}),
        (("5/5", "4/5", "1/5"), {0, 1}),
        (("4 stars", "1 star", "5 stars"), {0, 2}),
        (("90 %", "20%", "80%"), {0, 2}),
    ],
)
def test_a_rating_is_measured_by_its_scale(values: tuple[str, ...], liked: set[int], read: Read) -> None:
    rows = "".join(f"ann,t{number},{value}\n" for number, value in enumerate(values))
    assert both(read(f"user_id,track_id,rating\n{rows}"))[0] == {f"t{number}" for number in liked}


@pytest.mark.parametrize("values", [(1, 1), (0, 1), (255, 3), (0.731, 0.2), (-3, 4)])
def test_a_rating_of_an_unclear_scale_is_refused_until_an_option_says_more(
    values: tuple[float, float], read: Read
) -> None:
    text = "user_id,track_id,stars\n" + "".join(f"ann,t{n},{value}\n" for n, value in enumerate(values))
    if values != (0.731, 0.2):  # a share of one
        with pytest.raises(
            InputError, match=r"column stars holds numbers from .* --min-rating, .* --ignore-column"
        ):
            read(text)
    assert both(read(text, min_rating=0.5))[0] == {f"t{n}" for n, value in enumerate(values) if value >= 0.5}
    assert both(read(text, ignore=["stars"]))[0] == {"t0", "t1"}


WORDS = (
    *(
        "feedback",
        "event_type",
        "action",
        "preference",
        "behavior_type",
        "verb",
        "response",
        "LikeStatus",
        "liking",
    ),
    *(
        "like_status",
        "fav",
        "is_like",
        "reaction_type",
        "signal",
        "status",
        "opinion_type",
        "Liked (Y/N)",
        "type",
    ),
    *("LikeDislike", "thumbs_up_down", "thumb_rating", "FeedbackType", "target"),
)


@pytest.mark.parametrize("column", WORDS)
def test_a_hated_song_is_no_like(column: str, read: Read) -> None:
    assert both(read(f"user_id,track_id,{column}\nann,t1,like\nann,t2,dislike\n")) == ({"t1"}, {"t2"})


@pytest.mark.parametrize(
    ("like", "dislike", "nothing"),
    [
        ("1", "-1", "0"),
        ("like", "dislike", "skip"),
        ("LIKE", "DISLIKE", "NEUTRAL"),
        ("Loved", "hated", "none"),
        ("thumbs_up", "thumbs down", "neutral"),
        ("👍", "👎", ""),
        ("❤️", "💔", ""),
        ("favorite", "banned", "view"),
        ("1.0", "-1.0", "0.0"),
    ],
)
def test_words_and_signs_say_likes_dislikes_and_nothing(
    like: str, dislike: str, nothing: str, read: Read
) -> None:
    text = f"user_id,track_id,feedback\nann,t1,{like}\nann,t2,{dislike}\nben,t3,{nothing}\n"
    assert both(read(text)) == ({"t1"}, {"t2"})


@pytest.mark.parametrize(
    "column", ["dislike", "is_disliked", "thumbs_down", "hate", "ban", "blocked", "banned"]
)
@pytest.mark.parametrize("yes", ["1", "true", "yes"])
def test_yes_in_a_column_of_dislikes_is_a_dislike(column: str, yes: str, read: Read) -> None:
    no = {"1": "0", "true": "false", "yes": "no"}[yes]
    one = read(f"user_id,track_id,liked,{column}\nann,t1,{no},{yes}\nann,t2,{yes},{no}\n")
    assert both(one) == ({"t2"}, {"t1"})


def test_a_column_of_opinions_that_is_not_understood_is_refused_with_the_options(read: Read) -> None:
    text = "user_id,track_id,verdict_score\nann,t1,ace\nann,t2,meh\nann,t3,super\n"
    with pytest.raises(
        InputError, match="column verdict_score says 'ace', 'meh', 'super', which is not understood"
    ):
        read(text)
    assert both(read(text, like_when={"verdict_score": frozenset({"ace", "Super"})}))[0] == {"t1", "t3"}
    assert both(read(text, ignore=["verdict_score"]))[0] == {"t1", "t2", "t3"}
    with pytest.raises(InputError, match="no row has 'grand' in column verdict_score; check --like-when"):
        read(text, like_when={"verdict_score": frozenset({"grand"})})


@pytest.mark.parametrize(
    "column",
    [
        "likes_count",
        "popularity",
        "avg_rating",
        "Album Rating",
        "Bit Rate",
        "rated_at",
        "comment",
    ],
)
def test_columns_about_others_decide_nothing_and_are_named(column: str, read: Read) -> None:
    one = read(f"user_id,track_id,{column}\nann,t1,1\nann,t2,900\n")
    assert both(one) == ({"t1", "t2"}, set())
    assert list(one.unused) == [column]


@pytest.mark.parametrize("column", ["starred", "is_starred", "liked", "favourite"])
def test_a_star_is_a_flag_and_no_scale(column: str, read: Read) -> None:
    assert both(read(f"user_id,track_id,{column}\nann,t1,1\nann,t2,0\n"))[0] == {"t1"}


@pytest.mark.parametrize("column", ["operating", "hate speech", "score_spotify", "helpful_vote"])
def test_a_word_inside_another_says_nothing(column: str, read: Read) -> None:
    one = read(f"user_id,track_id,{column}\nann,t1,5\nann,t2,1\n")
    assert both(one) == ({"t1", "t2"}, set())


def test_opinions_may_stand_in_a_column_without_a_name(read: Read) -> None:
    assert both(read("user_id,track_id,\nann,a,like\nann,b,dislike\nann,c,like\n")) == ({"a", "c"}, {"b"})


def test_likes_and_dislikes_may_be_two_columns(read: Read) -> None:
    assert both(read("user,track,likes,dislikes\nann,t1,1,0\nann,t2,0,1\n")) == ({"t1"}, {"t2"})


def test_a_date_of_taking_back_is_no_like(read: Read) -> None:
    text = "user,track,loved_at,unloved_at\nann,t1,2021-01-01,2022-01-01\nann,t2,2021-01-01,\n"
    assert both(read(text))[0] == {"t2"}


def test_a_skipped_play_is_no_like(read: Read) -> None:
    assert both(read("user,track,skipped\nann,t1,true\nann,t2,false\n"))[0] == {"t2"}


def test_a_table_of_low_ratings_is_no_list(read: Read) -> None:
    with pytest.raises(
        InputError, match=r"has no like that can be read .* --kind tracks takes its songs alone"
    ):
        read("user,track_id,title,rating\nann,t1,Intro,2\nann,t2,Home,3\n")


# --- one opinion after another ---


@pytest.mark.parametrize(
    ("events", "liked", "disliked"),
    [
        ("like unlike", False, False),
        ("unlike like", True, False),
        ("like dislike", False, True),
        ("dislike like", True, False),
        ("dislike undislike", False, False),
        ("like undislike", True, False),
        ("like skip", True, False),
        ("like none", False, False),
        ("1 0", False, False),
        ("-1 0", False, False),
        ("0 1", True, False),
        ("5 1", False, False),
        ("1 5", True, False),
    ],
)
def test_the_last_opinion_of_a_user_on_a_song_counts(
    events: str, liked: bool, disliked: bool, read: Read
) -> None:
    rows = [f"ann,t1,{event},{number}" for number, event in enumerate(events.split(), 1_500_000_000)]
    rows += ["ben,t9,like,1500000000" if "like" in events or "none" in events else "ben,t9,5,1500000000"]
    if set(events.split()) <= {"0", "1", "-1"}:
        rows[-1] = "ben,t9,1,1500000000"
    for order in (rows, rows[::-1]):
        one = read("user_id,track_id,score,timestamp\n" + "\n".join(order) + "\n")
        assert both(one) == ({"t9"} | ({"t1"} if liked else set()), {"t1"} if disliked else set())


def test_times_since_no_known_day_order_events_and_are_not_stored(read: Read) -> None:
    text = "user_id,track_id,event,timestamp\nann,t1,unlike,10\nann,t1,like,5\nann,t2,like,7\n"
    one = read(text)
    assert both(one) == ({"t2"}, set())
    assert one.batch.likes["liked_at"].null_count() == 1
    assert one.batch.counts["times before 1990 or in the future"] == 3


# --- plays ---


def test_plays_count_per_song_and_person(read: Read) -> None:
    rows = "ann,A,X,1600000000\nann,A,X,1600001000\nann,A,Y,1600000000\nben,A,X,1600000000\n"
    one = read(f"user,artist,track,played_at\n{rows}", min_plays=2)
    assert songs(one.batch.likes) == {"ann": {"name:a/x"}}
    assert one.batch.counts["songs played fewer than 2 times"] == 2


def test_short_plays_do_not_count(read: Read) -> None:
    one = read("user_id,track_id,ms_played\nann,t1,29999\nann,t2,30000\n")
    assert both(one)[0] == {"t2"}


def test_where_people_say_what_they_like_plays_count_only_if_asked_for(read: Read) -> None:
    text = "user_id,track_id,liked,plays\nann,t1,1,3\nann,t2,0,50\nann,t3,,1\n"
    assert both(read(text))[0] == {"t1"}
    assert both(read(text, min_plays=10))[0] == {"t1", "t2"}


@pytest.mark.parametrize("third", [("5", "1"), ("4.5", "0.5"), ("10", "1"), ("100", "20"), ("255", "7")])
def test_numbers_without_a_name_may_be_ratings_or_plays(third: tuple[str, str], read: Read) -> None:
    text = f"u1\ts1\t{third[0]}\nu1\ts2\t{third[1]}\n"
    with pytest.raises(
        InputError, match="may be ratings or plays; say which with --min-rating or --min-plays"
    ):
        read(text)
    assert both(read(text, min_rating=4))[0] == ({"s1", "s2"} if float(third[1]) >= 4 else {"s1"})
    assert both(read(text, min_plays=4))[0] == ({"s1", "s2"} if float(third[1]) >= 4 else {"s1"})


def test_signs_without_a_name_are_likes_and_dislikes(read: Read) -> None:
    assert both(read("u1,s1,1\nu1,s2,-1\nu2,s1,0\n")) == ({"s1"}, {"s2"})


# --- libraries ---


def test_a_low_rating_in_a_library_is_no_like(read: Read) -> None:
    head = "Name\tArtist\tKind\tBit Rate\tMy Rating\n"
    with pytest.raises(InputError, match="no like that can be read"):
        read(f"{head}Bad\tX\tMPEG\t320\t20\nUnrated\tY\tMPEG\t320\t\n")
    assert both(read(f"{head}Bad\tX\tMPEG\t320\t\nUnrated\tY\tMPEG\t320\t\n"))[0] == {
        "name:x/bad",
        "name:y/unrated",
    }


# --- lists of JSON ---


@pytest.mark.parametrize(
    ("text", "likes", "dislikes"),
    [
        ('{"loved": ["spotify:track:A1"], "hated": ["spotify:track:B1"]}', {"A1"}, {"B1"}),
        ('{"liked": [{"id": "a1"}], "disliked": [{"id": "b1"}, {"id": "c1"}]}', {"a1"}, {"b1", "c1"}),
        ('{"disliked_tracks": ["spotify:track:B1"], "saved_tracks": ["spotify:track:A1"]}', {"A1"}, {"B1"}),
        (
            '{"tracks": [{"artist": "X", "title": "I"}], "albums": [{"artist": "X", "title": "T"}]}',
            {"name:x/i"},
            set(),
        ),
        (
            '{"liked_albums": [{"artist": "X", "title": "T"}],"liked": [{"artist": "X", "title": "I"}]}',
            {"name:x/i"},
            set(),
        ),
        ('{"history": [{"id": "a1"}], "liked": [{"id": "b1"}]}', {"b1"}, set()),
        ('{"disliked": [{"artist": "X", "title": "Y"}], "albums": [{"title": "Z"}]}', set(), {"name:x/y"}),
    ],
)
def test_the_key_of_a_list_says_what_its_songs_are(
    text: str, likes: set[str], dislikes: set[str], read: Read
) -> None:
    one = read(text, "lists.json")
    assert both(one) == (likes, dislikes)
    assert set(pl.concat([one.batch.likes["user_id"], one.batch.feedback["user_id"]])) == {"me"}


@pytest.mark.parametrize(
    "text",
    [
        '{"ann": [{"artist": "X", "title": "Y"}], "ben": [{"artist": "X", "title": "Z"}]}',
        '{"2021-01-01": ["spotify:track:A1"]}',
        '{"recommendations": [{"artist": "X", "title": "Y"}]}',
        '{"Queen": ["Bohemian Rhapsody", "Innuendo"]}',
    ],
)
def test_lists_of_unclear_keys_are_refused(text: str, read: Read) -> None:
    with pytest.raises(InputError):
        read(text, "lists.json")


def test_an_object_may_hold_a_user_and_a_list(read: Read) -> None:
    lists = [("ann", ["spotify:track:A1"]), ("ben", ["spotify:track:A1", "B1"])]
    text = json.dumps([{"user": user, "tracks": tracks} for user, tracks in lists])
    assert songs(read(text, "lists.json").batch.likes) == {"ann": {"A1"}, "ben": {"A1", "B1"}}
    assert songs(read('{"user": "ann", "tracks": ["spotify:track:A1"]}', "one.json").batch.likes) == {
        "ann": {"A1"}
    }
