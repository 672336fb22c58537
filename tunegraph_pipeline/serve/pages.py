"""Static files for a browser, read and compressed once and sent from memory.

Here: serving a folder of the package. Not here: its files (`page/`, `operator_page/`,
`reference/`).
"""

import gzip
import hashlib
import mimetypes
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from tunegraph_pipeline.serve.problem_details import Problem

_TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml")


class PageFiles:
    """The files of a folder, all public. No name can reach a file outside of it."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        self._compressed: dict[str, bytes] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
                media_type = f"{kind}; charset=utf-8" if kind.startswith(_TEXT) else kind
                tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
                name = path.relative_to(folder).as_posix()
                self._files[name] = content, media_type, tag
                if kind.startswith(_TEXT):
                    self._compressed[name] = gzip.compress(content, mtime=0)

    def response(self, name: str, request: Request) -> Response:
        """The file, or 304 if the browser has it already. Raises Problem 404 if there is no such file."""
        try:
            content, media_type, tag = self._files[name]
        except KeyError:
            raise Problem(HTTPStatus.NOT_FOUND, "there is no such file") from None
        compressed = self._compressed.get(name)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            compressed = None
        # Revalidated each time, so that the page always matches the service; a 304 costs few bytes.
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if compressed is not None:
            headers["ETag"] = tag = f'{tag[:-1]}-gzip"'
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        if compressed is not None:
            headers["Content-Encoding"] = "gzip"
            content = compressed
        return Response(content, headers=headers, media_type=media_type)
