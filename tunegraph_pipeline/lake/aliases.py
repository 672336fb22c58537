"""Aliases: other ids of one person, whose lists and feedback count as those of the id they were joined to.

Here: the file ``<lake>/aliases.json``, joining and separating ids, and renaming the users of rows. Not here:
the daily tables, which are made with it (`tables`, `daily`), or checking a pair against what the lake knows
(`pipeline.users`).

Raw batches keep the ids of their source. So a day's tables depend on its batches and on the aliases that
these name, see `day_fingerprints.day_fingerprint`.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import polars as pl

from tunegraph_pipeline.errors import InputError, LakeError
from tunegraph_pipeline.ids import composed
from tunegraph_pipeline.lake.seals import read_json, sealed_json
from tunegraph_pipeline.lake.storage import STAGING, no_access, staged_file

ALIASES = "aliases.json"
RESTORE = "restore it from a backup, or remove it and join the ids again"
"""What to do about a damaged file."""
_LINKS = "links"
"""In the file: the links. A file of an earlier version has nothing but them."""


@dataclass(frozen=True)
class Aliases:
    """``links``: for each alias the id it was joined to, which may be an alias itself; never in a circle."""

    links: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, lake_root: Path) -> Self:
        """Those of the lake at ``lake_root``, none where there is no file. Raises LakeError for a damaged
        file: without it a person would be split in two."""
        path = lake_root / ALIASES
        try:
            said = _links(read_json(path.read_bytes()))
            aliases = cls(_composed(said))
            sound = all(map(_is_id, said.values())) and len(aliases.user_ids) == len(aliases.links)
        except FileNotFoundError:
            return cls()
        except PermissionError as error:
            raise no_access(path) from error
        except (OSError, ValueError, AttributeError) as error:
            raise LakeError(f"{path} cannot be read ({error}); {RESTORE}") from error
        if not sound:
            raise LakeError(f"{path} has something else than ids, or leads in a circle; {RESTORE}")
        return aliases

    @cached_property
    def user_ids(self) -> dict[str, str]:
        """For each alias the id that stands for the user, at the end of the chain; none for a circle."""
        found = {}
        for alias in self.links:
            user_id, steps = self.links[alias], 0
            while user_id in self.links and steps < len(self.links):
                user_id, steps = self.links[user_id], steps + 1
            if user_id not in self.links:
                found[alias] = user_id
        return found

    def user_id(self, user_id: str) -> str:
        """The id that stands for a user: the given one unless it is an alias."""
        return self.user_ids.get(user_id, user_id)

    def all_ids(self, user_ids: Iterable[str]) -> set[str]:
        """These ids and every other id of the same people."""
        people = {*map(self.user_id, user_ids)}
        return people | {alias for alias, user_id in self.user_ids.items() if user_id in people}

    def joined(self, alias: str, user_id: str) -> "Aliases":
        """With ``alias`` counting as ``user_id``; the same object if it does already. Raises InputError where
        the ids are one, ``alias`` is joined to another id, or the two would lead in a circle."""
        if alias == user_id:
            raise InputError(f"{alias!r} cannot be an alias of itself; give OLD=NEW with two ids")
        known = self.links.get(alias)
        if known == user_id:
            return self
        if known is not None:
            raise InputError(
                f"{alias!r} is an alias of {known!r} already; add --unalias {alias} to change that"
            )
        if self.user_id(user_id) == alias:
            raise InputError(
                f"{user_id!r} already counts as {alias!r}; the two cannot be aliases of each other"
            )
        return Aliases({**self.links, alias: user_id})

    def without(self, ids: Collection[str]) -> "Aliases":
        """Without the links from and to these ids; the same object if there are none."""
        left = {alias: to for alias, to in self.links.items() if alias not in ids and to not in ids}
        return self if len(left) == len(self.links) else Aliases(left)

    def named_by(self, rows: pl.DataFrame) -> set[str]:
        """The aliases that rows name as a user."""
        aliases = pl.Series([*self.links], dtype=pl.String).implode()
        found = (rows[column].filter(rows[column].is_in(aliases)) for column in id_columns(rows.columns))
        return {alias for ids in found for alias in ids.unique()}

    def renamed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of raw or daily tables with the id that stands for each user."""
        columns = id_columns(rows.columns)
        if not self.links or not columns:
            return rows
        rows = rows.with_columns(pl.col(columns).replace(self.user_ids))
        if "discovered_from" in columns:
            themselves = rows["discovered_from"].eq(rows["user_id"]).fill_null(False)
            rows = rows.with_columns(discovered_from=rows["discovered_from"].set(themselves, None))
        return rows

    def write(self, lake_root: Path) -> None:
        """Replace the file of the lake, readable only by its owner. Needs the lake's lock. Raises LakeError
        where the disk cannot be written."""
        with staged_file(lake_root / ALIASES, lake_root / STAGING) as draft:
            draft.touch(mode=0o600)
            draft.write_text(sealed_json(json.dumps({_LINKS: self.links}, indent=1, sort_keys=True)))


NO_ALIASES = Aliases()


def id_columns(names: Collection[str]) -> list[str]:
    """Those of the columns that hold ids of users."""
    return [name for name in ("user_id", "discovered_from") if name in names]


def _links(said: Any) -> Any:
    return said[_LINKS] if isinstance(said.get(_LINKS), dict) else said


def _composed(said: Mapping[str, str]) -> dict[str, str]:
    """Links between composed ids, without those that joined two Unicode forms of one id. Raises ValueError
    where two forms of an id are joined to different ones."""
    links: dict[str, str] = {}
    for alias, user_id in said.items():
        one, other = composed(alias), composed(str(user_id))
        if (one != other or alias == user_id) and links.setdefault(one, other) != other:
            raise ValueError(f"{one!r} is joined to two ids, once for each Unicode form")
    return links


def _is_id(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
