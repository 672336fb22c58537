"""Choose the rule by which plays become likes: by what people come to play later.

    python benchmarks/like_rule.py data_lake/open

Time divides the plays of a lake twice, at the end of the last ``--days`` days and of those before them. Each
rule makes likes of the plays before a moment, a recommender learns from them, and is judged by the songs that
a user played on two days or more after the moment and never before it. So what is asked for is the same for
every rule. Songs played before the moment are left out of all rankings. A user whom a rule gives no like gets
what is popular, and counts.

Rule and shrinkage of the recommender, ItemKNN, are chosen on the first of the two windows (validation). The
second (test) is opened once, for the chosen rule and the default, and also with EASE. Bots are left out as
the setting `most_plays_a_day` finds them. Not here: the rule itself (`lake.plays`).
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.evaluation.baselines import ALL
from tunegraph_pipeline.evaluation.baselines.common import BaselineConfig
from tunegraph_pipeline.evaluation.bootstrap import intervals
from tunegraph_pipeline.evaluation.metrics import Ranked, user_metrics
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.plays import DayOfPlays, PlaysSettings, bounded_duckdb, fetch, liked_by_playing
from tunegraph_pipeline.markdown import markdown_table
from tunegraph_pipeline.pipeline.like_graph import open_like_graph
from tunegraph_pipeline.pipeline.settings import open_lake
from tunegraph_pipeline.pipeline.track_ids import known_track_ids

K = 20
METRIC = "ndcg"
SHRINKAGE = (30.0, 100.0)
DEFAULT = PlaysSettings()
_EVER = 36_500  # days
_EVERY = 10_000_000  # songs
_BLOCK = 100  # users


def rules() -> list[PlaysSettings]:
    """The default, then the others."""
    needs: list[dict[str, float]] = [{"min_plays": plays} for plays in (1, 2, 3, 5)]
    needs += [{"share": share} for share in (0.002, 0.005, 0.01)]
    others = [
        PlaysSettings.model_validate({**need, "min_days": days})
        for need, days in product(needs, (1, 2))
        # A play on each of two days is two plays.
        if (need.get("min_plays"), days) != (1, 2)
    ]
    others += [DEFAULT.model_copy(update={"most_likes": most}) for most in (100, 200)]
    return [DEFAULT, *(rule for rule in others if rule != DEFAULT)]


def words_of(rule: PlaysSettings) -> str:
    """A rule for people."""
    need = f"{rule.min_plays} plays" if rule.share is None else f"{rule.share:.1%} of the plays"
    if rule.min_plays == 1 and rule.share is None:
        need = "1 play"
    days = "2 days" if rule.min_days == 2 else "1 day"
    return f"{need}, {days}, at most {rule.most_likes}"


@dataclass(frozen=True)
class Learnt:
    """What a rule makes of the plays before a moment: the likes, CSR (users x recordings) of ones, and the
    share of all plays that are of liked songs."""

    likes: csr_matrix
    share_of_plays: float


class Plays:
    """The plays of a lake, by recording. A user or recording is a row or column of every matrix, the same
    at every moment."""

    def __init__(self, lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._days: Mapping[str, DayOfPlays] = {day: lake.plays_of(day) for day in lake.partitions("plays")}
        if not self._days:
            raise InputError(f"{lake.root} has no plays; refresh it from a source that has")
        rows = " UNION ALL ".join(f"SELECT played_on FROM ({day.rows})" for day in self._days.values())
        self.last: date = fetch(connection, f"SELECT max(played_on) AS last FROM ({rows})")["last"][0]
        ids, canonical = known_track_ids(lake), open_like_graph(lake).canonical
        self._recordings = pl.DataFrame({"track_id": ids, "recording": canonical.astype(np.int64)})
        played = self._at(self.last, PlaysSettings(min_plays=1, min_days=1, most_likes=_EVERY))
        self._played: dict[date, int] = {}
        self._users = played.select("user_id").unique().sort("user_id").with_row_index("user")
        self._tracks = played.select("recording").unique().sort("recording").with_row_index("track")

    def _at(self, moment: date, rule: PlaysSettings) -> pl.DataFrame:
        found = liked_by_playing(self._connection, self._days, moment, rule)
        return found.likes.join(self._recordings, on="track_id")

    def learnt(self, moment: date, rule: PlaysSettings) -> Learnt:
        """What a rule makes of the plays up to a day."""
        likes = self._at(moment, rule)
        if moment not in self._played:
            self._played[moment] = int(self._at(moment, _any(1))["plays"].sum())
        return Learnt(self._matrix(likes), int(likes["plays"].sum()) / self._played[moment])

    def heard(self, until: date, *, on_days: int = 1) -> csr_matrix:
        """Which songs users had played by a day, on ``on_days`` days or more."""
        return self._matrix(self._at(until, _any(on_days)))

    def _matrix(self, pairs: pl.DataFrame) -> csr_matrix:
        placed = pairs.join(self._users, on="user_id").join(self._tracks, on="recording")
        placed = placed.select("user", "track").unique().sort("user", "track")
        places = (placed["user"].to_numpy(), placed["track"].to_numpy())
        shape = (len(self._users), len(self._tracks))
        return csr_matrix((np.ones(len(placed), dtype=np.float32), places), shape=shape)


def _any(on_days: int) -> PlaysSettings:
    return PlaysSettings(min_plays=1, min_days=on_days, most_likes=_EVERY, window_days=_EVER)


@dataclass(frozen=True)
class Window:
    """What is asked for after ``moment``: ``relevant``, CSR (judged users x recordings), of the rows
    ``users``; ``heard``: what each of them had played by then."""

    moment: date
    users: NDArray[np.int64]
    heard: csr_matrix
    relevant: csr_matrix

    @classmethod
    def of(cls, plays: Plays, moment: date, end: date) -> "Window":
        heard, later = plays.heard(moment), plays.heard(end, on_days=2)
        new = csr_matrix(later - later.multiply(heard))
        new.eliminate_zeros()
        users = np.flatnonzero((np.diff(new.indptr) > 0) & (np.diff(heard.indptr) > 0))
        if not len(users):
            raise InputError(f"nobody came to play a new song on two days between {moment} and {end}")
        return cls(moment, users, heard[users], new[users])

    def judge(self, learnt: Learnt, name: str, config: BaselineConfig) -> NDArray[np.float64]:
        """The metric of each judged user."""
        model = ALL[name](config)
        model.fit(learnt.likes)
        ranked = np.full((len(self.users), K), -1, dtype=np.int32)
        # By how much they had heard, so that a ranking need not be longer than its block asks for.
        order = np.argsort(np.diff(self.heard.indptr), kind="stable")
        for block in np.array_split(order, -(-len(order) // _BLOCK)):
            depth = K + int(np.diff(self.heard.indptr)[block].max())
            lists = model.rank(learnt.likes[self.users[block]], min(depth, self.heard.shape[1]))
            ranked[block] = _without(lists, self.heard[block])
        return user_metrics(ranked, self.relevant, np.diff(self.relevant.indptr), K)[METRIC]


def _without(ranked: Ranked, heard: csr_matrix) -> Ranked:
    """The first K of each ranking that are not in the same row of ``heard``."""
    rows = np.arange(ranked.shape[0])[:, np.newaxis]
    new = (ranked >= 0) & ~(heard.toarray() > 0)[rows, ranked]
    kept = np.full((ranked.shape[0], K), -1, dtype=np.int32)
    row, place = np.nonzero(new)
    nth = np.arange(len(row)) - np.searchsorted(row, row)
    kept[row[nth < K], nth[nth < K]] = ranked[row[nth < K], place[nth < K]]
    return kept


@dataclass(frozen=True)
class Judged:
    """A rule on the validation window, with the shrinkage that suits it best."""

    rule: PlaysSettings
    shrinkage: float
    figures: NDArray[np.float64]
    learnt: Learnt


def validate(plays: Plays, window: Window, candidates: list[PlaysSettings]) -> list[Judged]:
    """How well the likes of each rule tell what comes, in the order of the rules."""
    found = []
    for rule in candidates:
        learnt = plays.learnt(window.moment, rule)
        tries = [(window.judge(learnt, "item_knn", _knn(shrink)), shrink) for shrink in SHRINKAGE]
        figures, shrink = max(tries, key=lambda one: float(one[0].mean()))
        found.append(Judged(rule, shrink, figures, learnt))
        print(f"{words_of(rule)}: {figures.mean():.4f}, shrinkage {shrink:g}", file=sys.stderr, flush=True)
    return found


def _knn(shrinkage: float) -> BaselineConfig:
    return BaselineConfig(item_knn_shrink=shrinkage)


def validation_table(judged: list[Judged]) -> str:
    default = judged[0]
    apart = intervals(np.stack([one.figures - default.figures for one in judged]))
    rows = []
    for one, interval in zip(judged, apart, strict=True):
        difference = f"{interval.mean:+.4f} ({interval.low:+.4f} … {interval.high:+.4f})"
        likes = one.learnt.likes
        rows.append(
            [
                words_of(one.rule) + (", the default" if one is default else ""),
                f"{np.count_nonzero(np.diff(likes.indptr)):,}",
                f"{likes.nnz:,}",
                f"{one.learnt.share_of_plays:.0%}",
                f"{one.figures.mean():.4f}",
                "" if one is default else difference,
            ]
        )
    order = sorted(range(len(rows)), key=lambda place: -float(judged[place].figures.mean()))
    head = ["rule", "users", "likes", "of the plays", f"nDCG@{K}", "beside the default, 95 %"]
    return markdown_table(head, [rows[place] for place in order])


def test_table(plays: Plays, window: Window, chosen: Judged, default: Judged) -> str:
    rows = []
    for name in ("item_knn", "ease"):
        figures = [
            window.judge(plays.learnt(window.moment, one.rule), name, _knn(one.shrinkage))
            for one in (default, chosen)
        ]
        (apart,) = intervals((figures[1] - figures[0])[np.newaxis])
        difference = f"{apart.mean:+.4f} ({apart.low:+.4f} … {apart.high:+.4f})"
        rows.append([name, *(f"{one.mean():.4f}" for one in figures), difference])
    head = ["recommender", words_of(default.rule), words_of(chosen.rule), "difference, 95 %"]
    return markdown_table(head, rows)


@contextmanager
def opened(path: Path) -> Iterator[Plays]:
    lake = open_lake(path)
    with bounded_duckdb(lake.staging, DEFAULT.memory_gb) as connection:
        yield Plays(lake, connection)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("lake", type=Path, help="a lake with dated plays, refreshed")
    parser.add_argument("--days", type=int, default=21, help="length of each of the two windows")
    arguments = parser.parse_args()
    with opened(arguments.lake) as plays:
        test_moment = plays.last - timedelta(days=arguments.days)
        validation = Window.of(plays, test_moment - timedelta(days=arguments.days), test_moment)
        judged = validate(plays, validation, rules())
        chosen = max(judged, key=lambda one: float(one.figures.mean()))
        print(
            f"Validation: likes of plays until {validation.moment}, {len(validation.users):,} users,"
            f" {validation.relevant.nnz:,} new songs.\n\n{validation_table(judged)}\n"
        )
        test = Window.of(plays, test_moment, plays.last)
        print(
            f"Test: likes of plays until {test.moment}, {len(test.users):,} users,"
            f" {test.relevant.nnz:,} new songs.\n\n{test_table(plays, test, chosen, judged[0])}"
        )


if __name__ == "__main__":
    main()
