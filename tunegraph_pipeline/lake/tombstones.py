"""Tombstones: hashes of the forgotten users, which keep them from coming back.

Here: the file ``<lake>/tombstones.json``, adding to it, and asking whether an id is in it. Not here: removing
users from the lake (`pipeline.forgetting`), or the places where ids enter, which ask this (`raw`,
`feedback_spool`, `sources.frontier`).

The file has a random key of the lake and, for every forgotten user, the BLAKE2b hash of their id under that
key. It holds no id, but anyone with the lake can test whether an id they know is in it: that is its purpose.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import polars as pl

from tunegraph_pipeline.errors import LakeError
from tunegraph_pipeline.ids import composed, forms_of
from tunegraph_pipeline.lake.seals import read_json, sealed_json
from tunegraph_pipeline.lake.storage import STAGING, no_access, staged_file

TOMBSTONES = "tombstones.json"
_WORDS = tuple(map(re.compile, (r"[\w.-]+", r"[\w-]+", r"\w+")))  # ids have dots and dashes, or end at them


@dataclass(frozen=True)
class Tombstones:
    """``hashes`` of the forgotten under ``key``; false where nobody was forgotten. ``last`` is when it
    last happened, None for never."""

    key: bytes = b""
    hashes: frozenset[str] = frozenset()
    last: datetime | None = None

    @classmethod
    def of(cls, lake_root: Path) -> Self:
        """Those of the lake at ``lake_root``, none where there is no file. Raises LakeError for a damaged
        file: without it the forgotten could come back."""
        path = lake_root / TOMBSTONES
        try:
            said = read_json(path.read_bytes())
            hashes = frozenset(map(str, said["users"]))
            return cls(bytes.fromhex(said["key"]), hashes, datetime.fromisoformat(said["last"]))
        except FileNotFoundError:
            return cls()
        except PermissionError as error:
            raise no_access(path) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LakeError(
                f"{path} cannot be read ({error}); restore it from a backup: it keeps forgotten users out"
            ) from error

    def __len__(self) -> int:
        return len(self.hashes)

    def buries_one(self, user_id: str) -> bool:
        """Whether this user was forgotten, whatever the Unicode form of the id."""
        return bool(self.hashes) and not self.hashes.isdisjoint(self._hashes_of(user_id))

    def buries(self, user_ids: pl.Series) -> pl.Series:
        """Which of ``user_ids`` (text, nulls allowed) were forgotten: a Boolean each, false for null."""
        if not self.hashes:
            return pl.repeat(False, len(user_ids), dtype=pl.Boolean, eager=True)
        distinct = user_ids.drop_nulls().unique()
        buried = [user_id for user_id in distinct if self.buries_one(user_id)]
        return user_ids.is_in(buried).fill_null(False)

    def named_in(self, text: bytes) -> bool:
        """Whether a text, JSON or other, names a forgotten user: as a whole value, in an address, or as a
        word."""
        return bool(self.hashes) and any(self.buries_one(name) for name in _names_in(text))

    def with_users(self, user_ids: Iterable[str]) -> "Tombstones":
        """These and the tombstones of ``user_ids``; the same object if it has all of them."""
        key = self.key or secrets.token_bytes(32)
        new = frozenset(_keyed_hash(key, composed(user_id)) for user_id in user_ids)
        return self if new <= self.hashes else Tombstones(key, self.hashes | new, datetime.now(UTC))

    def without_users(self, user_ids: Iterable[str]) -> "Tombstones":
        """These without the tombstones of ``user_ids``; the same object if it has none of them."""
        left = self.hashes.difference(*map(self._hashes_of, user_ids))
        return self if left == self.hashes else Tombstones(self.key, left, self.last)

    def _hashes_of(self, user_id: str) -> set[str]:
        return {_keyed_hash(self.key, form) for form in forms_of(user_id)}

    def write(self, lake_root: Path) -> None:
        """Replace the file of the lake, readable only by its owner. Raises LakeError where the disk cannot be
        written."""
        assert self.last is not None
        # Sorted, so that the order does not tell who was forgotten first.
        said = {
            "key": self.key.hex(),
            "last": self.last.isoformat(timespec="seconds"),
            "users": sorted(self.hashes),
        }
        with staged_file(lake_root / TOMBSTONES, lake_root / STAGING) as draft:
            draft.touch(mode=0o600)
            draft.write_text(sealed_json(json.dumps(said, indent=1)))


def _keyed_hash(key: bytes, user_id: str) -> str:
    # An id may hold a lone surrogate, which is not valid Unicode; it gets a hash like any other.
    return hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=16, key=key).hexdigest()


def _names_in(text: bytes) -> set[str]:
    """Everything in a text that may be the id of a user."""
    decoded = text.decode("utf-8", "replace")
    values: Iterable[str]
    try:
        values = _strings(json.loads(decoded))
    except (ValueError, RecursionError):
        values = [decoded]
    found: set[str] = set()
    for value in values:
        plain = unquote(value)
        found.update((value, plain), value.split("/"), plain.split("/"))
        for words in _WORDS:
            found.update(words.findall(plain))
    return found


def _strings(value: Any) -> Iterator[str]:
    """Every text and number in a JSON value, keys included, as text."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.keys()
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif one is not None:
            yield str(one)
