"""A song as answers show it, in one definition for the query, the service, the Lambda and the command line.

Here: the fields, and those of them that every answer has. Not here: reading them from a bundle
(`recommender`), or what an answer adds to them, such as a score.
"""

from typing import Any, NamedTuple


class SongView(NamedTuple):
    """A song of the catalogue; ``popularity`` is how many like it now.

    Texts are "" and ``explicit`` is None where unknown. ``x`` and ``y``, from 0 to 1, are its place on the
    map.
    """

    track_id: str
    track_idx: int
    name: str
    artists: str
    image_url: str
    preview_url: str
    popularity: int
    explicit: bool | None
    x: float
    y: float

    def shown(self) -> dict[str, Any]:
        """The fields that every answer has, for JSON: all but the index, which is of one bundle, and the
        popularity."""
        fields = self._asdict()
        del fields["track_idx"], fields["popularity"]
        return fields
