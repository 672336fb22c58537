"""Static files for a browser, read and compressed once and sent from memory.

Here: serving a folder of the package. Not here: its files (`page/`, `reference/`).
"""

import gzip
import hashlib
import mimetypes
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from tunegraph_pipeline.serve.problem_details import Problem

_TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml")


class _File(NamedTuple):
    """The bytes of a file, those of it compressed with gzip if that is text, its type and a tag of its content."""

    content: bytes
    compressed: bytes | None
    media_type: str
    tag: str


class PageFiles:
    """The files of a folder, all public. No name can reach a file outside of it."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, _File] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self._files[path.relative_to(folder).as_posix()] = _read(path)

    def response(self, name: str, request: Request) -> Response:
        """The file, or 304 if the browser has it already. Raises Problem 404 if there is no such file."""
        try:
            file = self._files[name]
        except KeyError:
            raise Problem(HTTPStatus.NOT_FOUND, "there is no such file") from None
        # Revalidated each time, so that the page always matches the service; a 304 costs few bytes.
        headers = {"ETag": f'"{file.tag}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        content = file.content
        if file.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            content = file.compressed
            headers |= {"ETag": f'"{file.tag}-gzip"', "Content-Encoding": "gzip"}
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            headers.pop("Content-Encoding", None)
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(content, headers=headers, media_type=file.media_type)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    is_text = kind.startswith(_TEXT)
    return _File(
        content,
        gzip.compress(content, 9, mtime=0) if is_text else None,
        f"{kind}; charset=utf-8" if is_text else kind,
        hashlib.sha256(content).hexdigest()[:20],
    )
