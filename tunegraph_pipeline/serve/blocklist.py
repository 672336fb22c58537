"""The blocklist: artists and tracks that a service never shows, from a file.

Here: reading the file. Not here: leaving them out (`recommend.recommender`).

One entry a line: ``track:ID``, ``artist:ID`` or ``artist:NAME``, which is compared without regard to case.
Empty lines and lines that begin with # say nothing.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tunegraph_pipeline.errors import InputError


@dataclass(frozen=True)
class Blocklist:
    """What is never shown: ids of tracks, ids or names of artists."""

    tracks: frozenset[str] = field(default_factory=frozenset)
    artists: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def read(cls, path: Path | None) -> Self:
        """Read the file, or nothing where there is none. Raises InputError naming file and line."""
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
            kind, _, what = text.partition(":")
            if kind.strip().lower() not in found or not what.strip():
                raise InputError(
                    f"--blocklist {path} line {number}: {text[:60]!r} is neither track:ID nor"
                    " artist:ID or artist:NAME"
                )
            found[kind.strip().lower()].add(what.strip())
        return cls(frozenset(found["track"]), frozenset(found["artist"]))
