"""A song in answers, defined once for queries, the service, the Lambda function and the command line.

Here: its fields, and which of them every answer has. Not here: reading them from a bundle (`recommender`), or
what an answer adds, such as a score.
"""

from typing import Any, NamedTuple


class SongView(NamedTuple):
    """A song of the catalogue. ``popularity`` is the number of users who like it.

    Texts are "" and ``explicit`` is None if unknown. ``x`` and ``y``, from 0 to 1, are its position on the
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
        """The fields in every answer, for JSON: all but the popularity and the index, which depends on the
        bundle."""
        fields = self._asdict()
        del fields["track_idx"], fields["popularity"]
        return fields
