"""The lists of the users of a range, made alone: the block of work of `current_likes`.

Here: what the blocks share, and the function that any machine runs. Not here: which ranges there are, and
writing the tables (`current_likes`), or what the lists are (`lake.current`). A process of a cluster imports
this, so it imports little.
"""

import json
from dataclasses import replace
from typing import NamedTuple

import polars as pl

from tunegraph_pipeline.engine.engine import Files, Input, Outputs, Parcel
from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.lake.current import (
    Basis,
    CurrentLists,
    Played,
    moved_pairs,
    pairs_sums,
    rebuilt_lists,
    updated_lists,
)
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.tables import TableFiles
from tunegraph_pipeline.lake.user_ranges import AnyRange, UserRange

LISTS = ("current_likes", "current_dislikes", "last_observations")
"""The tables that hold `CurrentLists`, in the order of its fields."""


class MadeOf(NamedTuple):
    """What the lists of a cut-off are made of; see `lake.current.rebuilt_lists`."""

    basis: Basis
    said: pl.DataFrame
    recordings: pl.DataFrame | None
    played: Played

    def of(self, users: UserRange) -> "MadeOf":
        """What the lists of these users are made of."""
        changed = self.played.changed
        played = replace(
            self.played,
            likes=users.of(self.played.likes),
            changed=None if changed is None else users.among(changed),
        )
        return self._replace(said=users.of(self.said), played=played)


class KnownLists(NamedTuple):
    """Lists that are there: their partition, what they were made of, and the fingerprint of their pairs."""

    key: str
    basis: Basis
    fingerprint: str


class CannotUpdateError(Exception):
    """The lists have to be rebuilt; the text says why, where a person should know."""


class RangeOfLists(NamedTuple):
    """A block of the current lists: those of the users of a range, read ``rows`` rows of a day at a time."""

    users: UserRange
    rows: int


def lists_of_range(inputs: Parcel, block: RangeOfLists) -> Outputs:
    """The lists of the users of a range: ``likes``, ``dislikes`` and ``observed``, as in `CurrentLists`, the
    users whose list ``moved``, if the lists before are among the inputs, and the sums to add to the
    fingerprints of likes and dislikes, ``moved_sums`` and ``dislike_sums``.

    Raises LakeError, or CannotUpdateError where the lists cannot be made from those before.
    """
    tables = TableFiles(inputs.folder("lake"))
    ranges = inputs.once(
        "reader",
        lambda: AnyRange(
            lambda table, day, after: tables.read_in_blocks(table, day, rows=block.rows, after=after),
            tables.read,
        ),
    )
    read = ranges.at(block.users)
    theirs = inputs.once("made of", lambda: _made_of(inputs)).of(block.users)
    moved: dict[str, pl.DataFrame] = {}
    if "known key" not in inputs:
        now = rebuilt_lists(read, *theirs)
        gone, come = now.likes.clear(), now.likes
    else:
        earlier = inputs.once("known basis", lambda: Basis.from_json(inputs.text("known basis")))
        assert earlier is not None
        try:
            then = CurrentLists(*(read(table, inputs.text("known key")) for table in LISTS))
        except LakeError as error:
            raise CannotUpdateError(str(error)) from None
        found = updated_lists(then, earlier, read, *theirs)
        if found is None:
            raise CannotUpdateError
        now, touched = found
        gone, come = moved_pairs(then.likes, now.likes, touched)
        moved["moved"] = pl.concat([gone, come])["user_id"].unique().sort().to_frame("user_id")
    return {
        "likes": now.likes,
        "dislikes": now.dislikes,
        "observed": now.observed,
        "moved_sums": pairs_sums(come) - pairs_sums(gone),
        "dislike_sums": pairs_sums(now.dislikes),
        **moved,
    }


def inputs_of_ranges(lake: Lake, made_of: MadeOf, known: KnownLists | None) -> dict[str, Input]:
    """What the blocks of the lists share."""
    paths = [lake.table_path(table, day) for table in ("observations", "likes") for day in made_of.basis.days]
    paths += [lake.table_path("feedback", day) for day in made_of.basis.feedback]
    sent: dict[str, Input] = {}
    if known is not None:
        paths += [lake.table_path(table, known.key) for table in LISTS]
        sent = {"known key": known.key, "known basis": known.basis.to_json()}
    played = made_of.played
    return {
        **sent,
        "lake": Files.of(lake.root, paths),
        "basis": made_of.basis.to_json(),
        "said": made_of.said,
        "recordings": made_of.recordings,
        "played": played.likes,
        "played fingerprints": json.dumps([played.fingerprint, played.before]),
        "played changed": None if played.changed is None else played.changed.to_frame("user_id"),
    }


def _made_of(inputs: Parcel) -> MadeOf:
    """What :func:`inputs_of_ranges` made of a `MadeOf`."""
    basis = Basis.from_json(inputs.text("basis"))
    assert basis is not None
    changed = inputs.frame("played changed")["user_id"] if "played changed" in inputs else None
    fingerprint, before = json.loads(inputs.text("played fingerprints"))
    played = Played(inputs.frame("played"), fingerprint, before, changed)
    recordings = inputs.frame("recordings") if "recordings" in inputs else None
    return MadeOf(basis, inputs.frame("said"), recordings, played)
