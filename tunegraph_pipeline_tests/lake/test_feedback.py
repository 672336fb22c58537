"""What feedback makes of the lists, against the obvious model: a life told in order, day by day."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunegraph_pipeline.lake.feedback import Settled, settle
from tunegraph_pipeline.lake.tables import current_lists, empty_table
from tunegraph_pipeline_tests.conftest import examples

FIRST = date(2026, 3, 1)
Pairs = set[tuple[str, str]]
Said = tuple[str, str, str]  # user, track, action


@dataclass
class Day:
    """Whole lists by (source, user), and then what was said, in order."""

    lists: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    said: Sequence[Said] = ()


def observations_of(day: Day) -> pl.DataFrame:
    rows = [
        {"source": source, "user_id": user, "n_likes": len(liked), "list_hash": ""}
        for (source, user), liked in day.lists.items()
    ]
    return pl.DataFrame(rows, schema=empty_table("observations").schema)


def likes_of(day: Day) -> pl.DataFrame:
    rows = [
        {"user_id": user, "track_id": track, "liked_at": None, "source": source}
        for (source, user), liked in day.lists.items()
        for track in sorted(liked)
    ]
    return pl.DataFrame(rows, schema=empty_table("likes").schema)


def time_of(day: int, place: int) -> datetime:
    return datetime(2026, 3, 1, 9, tzinfo=UTC) + timedelta(days=day, seconds=place)


def feedback_of(days: Sequence[Day]) -> pl.DataFrame:
    rows = [
        {
            "user_id": user,
            "track_id": track,
            "action": action,
            "at": time_of(number, place),
            "shown": [],
            "bundle_version": "",
            "source": "feedback",
        }
        for number, day in enumerate(days)
        for place, (user, track, action) in enumerate(day.said)
    ]
    return pl.DataFrame(rows, schema=empty_table("feedback").schema)


def settled(
    days: Sequence[Day], recordings: dict[str, str] | None = None, shuffle: random.Random | None = None
) -> Settled:
    newest_first = [(observations_of(day), likes_of(day)) for day in reversed(days)]
    seen = [(FIRST + timedelta(days=n), observations_of(day), likes_of(day)) for n, day in enumerate(days)]
    feedback = feedback_of(days)
    if shuffle is not None:
        shuffle.shuffle(seen)
        feedback = feedback.sample(fraction=1.0, shuffle=True, seed=shuffle.randrange(2**32))
    table = None
    if recordings is not None:
        table = pl.DataFrame(list(recordings.items()), ["track_id", "recording"], orient="row")
    return settle(current_lists(newest_first), feedback, seen, table)


def pairs(frame: pl.DataFrame) -> Pairs:
    found = frame.select("user_id", "track_id").rows()
    assert found == sorted(set(found))
    return set(found)


def told(days: Iterable[Day], recording: dict[str, str]) -> tuple[Pairs, Pairs]:
    """Live through the days in order: what each user likes and dislikes in the end, by recording."""
    lists: dict[tuple[str, str], set[str]] = {}
    liked: Pairs = set()
    disliked: Pairs = set()
    for day in days:
        for (source, user), tracks in day.lists.items():
            songs = {recording.get(track, track) for track in tracks}
            before = lists.get((source, user))
            if before is not None:
                disliked -= {(user, song) for song in songs - before}
            lists[source, user] = songs
        whole = {user for _, user in day.lists}
        liked = {pair for pair in liked if pair[0] not in whole}
        for user, track, action in day.said:
            pair = (user, recording.get(track, track))
            if action == "like":
                liked.add(pair)
                disliked.discard(pair)
            elif action == "dislike":
                disliked.add(pair)
                liked.discard(pair)
    current = {(user, song) for (_, user), songs in lists.items() for song in songs}
    return (current - disliked) | liked, disliked


users = st.sampled_from("uv")
tracks = st.sampled_from("abc")
lives = st.lists(
    st.builds(
        Day,
        st.dictionaries(
            st.tuples(st.sampled_from(["files", "spotify"]), users), st.frozensets(tracks), max_size=3
        ),
        st.lists(st.tuples(users, tracks, st.sampled_from(["like", "dislike", "skip"])), max_size=3),
    ),
    max_size=6,
)


@pytest.mark.slow
@settings(max_examples=examples(300))
@given(lives, st.randoms(use_true_random=False))
def test_it_is_what_living_through_the_days_gives_in_whatever_order_they_are_read(
    days: list[Day], shuffle: random.Random
) -> None:
    found = settled(days, shuffle=shuffle)
    liked, disliked = told(days, {})
    assert pairs(found.likes) == liked
    assert pairs(found.dislikes) == disliked


@pytest.mark.slow
@settings(max_examples=examples(150))
@given(lives)
def test_ids_of_one_recording_are_one_song(days: list[Day]) -> None:
    recording = {"a": "a", "b": "a"}
    found = settled(days, recording)
    liked, disliked = told(days, recording)
    assert {(user, recording.get(track, track)) for user, track in pairs(found.likes)} == liked
    assert {(user, recording.get(track, track)) for user, track in pairs(found.dislikes)} == disliked
    assert len(found.dislikes) == len(disliked)


@pytest.mark.slow
@given(lives, st.integers(0, 5))
def test_what_was_said_later_does_not_show_as_of_an_earlier_day(days: list[Day], cut_off: int) -> None:
    """As of a date is the same question with fewer partitions; saying it all once more changes nothing."""
    early = days[: cut_off + 1]
    liked, disliked = told(early, {})
    found = settled(early)
    assert (pairs(found.likes), pairs(found.dislikes)) == (liked, disliked)
    lists = current_lists([(observations_of(day), likes_of(day)) for day in reversed(early)])
    seen = [(FIRST + timedelta(days=n), observations_of(day), likes_of(day)) for n, day in enumerate(early)]
    twice = settle(lists, pl.concat([feedback_of(early)] * 2), seen * 2)
    assert twice.likes.equals(found.likes)
    assert twice.dislikes.equals(found.dislikes)


FILES = ("files", "u")


@pytest.mark.parametrize(
    ("days", "liked", "disliked"),
    [
        # A like is added, also on the day the list was seen; a whole list of a later day says all.
        ([Day({FILES: frozenset("a")}, [("u", "b", "like")])], "ab", ""),
        ([Day(said=[("u", "b", "like")]), Day({FILES: frozenset("a")})], "a", ""),
        ([Day(said=[("u", "b", "like")])], "b", ""),
        # A dislike holds against lists that had the song before, and that have it still.
        ([Day({FILES: frozenset("ab")}, [("u", "b", "dislike")]), Day({FILES: frozenset("ab")})], "a", "b"),
        # Added anew: gone and back, or not there before.
        (
            [
                Day({FILES: frozenset("ab")}, [("u", "b", "dislike")]),
                Day({FILES: frozenset("a")}),
                Day({FILES: frozenset("ab")}),
            ],
            "ab",
            "",
        ),
        ([Day({FILES: frozenset("a")}, [("u", "b", "dislike")]), Day({FILES: frozenset("ab")})], "ab", ""),
        # The first list ever seen may have had it for years.
        ([Day(said=[("u", "b", "dislike")]), Day({FILES: frozenset("ab")})], "a", "b"),
        # What was said last counts.
        ([Day(said=[("u", "b", "dislike"), ("u", "b", "like"), ("u", "b", "skip")])], "b", ""),
        ([Day(said=[("u", "b", "like"), ("u", "b", "dislike")])], "", "b"),
    ],
)
def test_the_rules_one_by_one(days: list[Day], liked: str, disliked: str) -> None:
    found = settled(days)
    assert pairs(found.likes) == {("u", track) for track in liked}
    assert pairs(found.dislikes) == {("u", track) for track in disliked}


def test_a_like_has_the_time_it_was_first_made_since_the_last_dislike() -> None:
    said = [("u", "a", action) for action in ("like", "dislike", "like", "skip", "like")]
    assert settled([Day(said=said)]).likes["liked_at"].to_list() == [time_of(0, 2)]
    said.append(("u", "a", "dislike"))
    assert settled([Day(said=said)]).dislikes["disliked_at"].to_list() == [time_of(0, 5)]


def test_a_like_and_a_dislike_at_the_same_time_are_a_dislike() -> None:
    both = feedback_of([Day(said=[("u", "a", "dislike"), ("u", "a", "like")])])
    lists = empty_table("current_likes")
    for order in (both, both.reverse()):
        found = settle(lists, order.with_columns(at=time_of(0, 0)), [])
        assert (len(found.likes), len(found.dislikes)) == (0, 1)


def test_a_like_of_a_song_the_list_has_under_another_id_adds_no_second() -> None:
    days = [Day({FILES: frozenset(["album"])}, [("u", "single", "like"), ("u", "other", "like")])]
    found = settled(days, {"album": "song", "single": "song"})
    assert pairs(found.likes) == {("u", "album"), ("u", "other")}


def test_the_columns_are_those_of_the_tables() -> None:
    found = settled([Day({FILES: frozenset("ab")}, [("u", "c", "like"), ("u", "b", "dislike")])])
    assert found.likes.schema == empty_table("current_likes").schema
    assert found.dislikes.schema == empty_table("current_dislikes").schema
    without = settled([Day({FILES: frozenset("ab")})])
    assert without.likes.schema == found.likes.schema
    assert without.dislikes.schema == found.dislikes.schema
