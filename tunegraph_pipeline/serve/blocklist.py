"""The blocklist: a file of artists and tracks that a service never shows.

Here: reading the file. Not here: leaving its entries out of answers (`recommend.recommender`).

One entry per line: ``track:ID``, ``artist:ID`` or ``artist:NAME``. Names are compared without regard to case.
Empty lines and lines that begin with # are ignored.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tunegraph_pipeline.errors import InputError


@dataclass(frozen=True)
class Blocklist:
    """Ids of tracks, and ids or names of artists."""

    tracks: frozenset[str] = field(default_factory=frozenset)
    artists: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def read(cls, path: Path | None) -> Self:
        """Read the file; empty without a path. Raises InputError naming file and line."""
        if path is None:
            return cls()
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise InputError(f"--blocklist {path} is not UTF-8 text ({error.reason})") from None
        except OSError as error:
            raise InputError(f"--blocklist {path} cannot be read: {error.strerror}") from None
        found: dict[str, set[str]] = {"track": set(), "artist": set()}
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            kind, _, what = map(str.strip, text.partition(":"))
            if kind.lower() not in found or not what:
                raise InputError(
                    f"--blocklist {path} line {number}: {text[:60]!r} is neither track:ID nor"
                    " artist:ID or artist:NAME"
                )
            found[kind.lower()].add(what)
        return cls(frozenset(found["track"]), frozenset(found["artist"]))
