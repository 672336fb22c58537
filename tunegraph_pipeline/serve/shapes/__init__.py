"""Shapes: the APIs of other services, so that programs which know those can ask this one.

Here: the table of shapes, and adding their routes. Not here: any of their answers (a module each), or what
they have in common (`common`). Imported only by a service that is asked for shapes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fastapi import APIRouter

from tunegraph_pipeline.serve.problem_details import ErrorWriter
from tunegraph_pipeline.serve.service import Service
from tunegraph_pipeline.serve.settings import Shape
from tunegraph_pipeline.serve.shapes import lastfm, lidarr, listenbrainz, spotify, subsonic
from tunegraph_pipeline.serve.shapes.common import Asking


class ShapeRoutes(NamedTuple):
    """How to add the routes of a shape, what their paths begin with, and what writes their errors (None for
    problem details)."""

    add: Callable[[APIRouter, Asking], None]
    paths: tuple[str, ...]
    write_error: ErrorWriter | None


TABLE: dict[Shape, ShapeRoutes] = {
    "spotify": ShapeRoutes(spotify.add, ("/v1/",), spotify.write_error),
    "lastfm": ShapeRoutes(lastfm.add, ("/2.0",), lastfm.write_error),
    "listenbrainz": ShapeRoutes(listenbrainz.add, ("/1/", "/similar-recordings/"), listenbrainz.write_error),
    "subsonic": ShapeRoutes(subsonic.add, ("/rest/",), subsonic.write_error),
    "lidarr": ShapeRoutes(lidarr.add, ("/lidarr",), None),
}


def add_shapes(
    router: APIRouter, service: Service, shapes: Sequence[Shape]
) -> Callable[[str], ErrorWriter | None]:
    """Add the routes of these shapes; returns a function that gives what writes the errors of a path."""
    asking = Asking(service)
    chosen = [TABLE[shape] for shape in shapes]
    for one in chosen:
        one.add(router, asking)
    writers = [(path, one.write_error) for one in chosen for path in one.paths]
    return lambda path: next((write for start, write in writers if path.startswith(start)), None)
