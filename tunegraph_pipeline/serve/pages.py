"""Files for a browser: read once, sent from memory.

Here: a folder of files of the program. Not here: what is in them (`page/`, `reference/`).
"""

import hashlib
import mimetypes
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from tunegraph_pipeline.serve.problem_details import Problem

_TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml")


class PageFiles:
    """The files of a folder, all of which are public. A name can reach nothing that is not among them."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
                media_type = f"{kind}; charset=utf-8" if kind.startswith(_TEXT) else kind
                tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
                self._files[path.relative_to(folder).as_posix()] = content, media_type, tag

    def response(self, name: str, request: Request) -> Response:
        """The file, or that the browser has it already. Raises Problem 404 where there is none."""
        try:
            content, media_type, tag = self._files[name]
        except KeyError:
            raise Problem(HTTPStatus.NOT_FOUND, "there is no such file") from None
        # Asked for each time, so that page and service are of one version; answered in a few bytes.
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(content, headers=headers, media_type=media_type)
