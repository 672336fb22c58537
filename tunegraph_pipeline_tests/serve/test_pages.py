"""Files for a browser, from memory."""

import gzip
import re
from pathlib import Path

import pytest
from starlette.requests import Request

from tunegraph_pipeline import serve
from tunegraph_pipeline.serve.pages import PageFiles
from tunegraph_pipeline.serve.problem_details import Problem

PAGE = Path(serve.__file__).parent / "page"


def request(tag: str = "", encoding: str = "") -> Request:
    headers = [(b"if-none-match", tag.encode())] if tag else []
    headers += [(b"accept-encoding", encoding.encode())] if encoding else []
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers})


@pytest.fixture
def files(tmp_path: Path) -> PageFiles:
    (tmp_path / "page" / "parts").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("not for anybody")
    (tmp_path / "page" / "index.html").write_text("<p>é")
    (tmp_path / "page" / "parts" / "map.js").write_text("1")
    (tmp_path / "page" / "icon.svg").write_text("<svg/>")
    return PageFiles(tmp_path / "page")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("parts/map.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml; charset=utf-8"),
    ],
)
def test_a_file_has_its_type_and_is_sent_once(files: PageFiles, name: str, media_type: str) -> None:
    first = files.response(name, request())
    assert first.headers["content-type"] == media_type
    assert first.headers["cache-control"] == "no-cache"
    again = files.response(name, request(first.headers["etag"]))
    assert (again.status_code, again.body) == (304, b"")
    assert files.response(name, request('"another"')).status_code == 200


def test_a_file_is_compressed_for_whom_it_can_be(files: PageFiles) -> None:
    plain = files.response("index.html", request())
    small = files.response("index.html", request(encoding="br, gzip"))
    assert small.headers["content-encoding"] == "gzip"
    assert gzip.decompress(bytes(small.body)) == plain.body
    assert "content-encoding" not in plain.headers
    # A cache does not take the one for the other.
    assert plain.headers["vary"] == small.headers["vary"] == "Accept-Encoding"
    assert files.response("index.html", request(small.headers["etag"], "gzip")).status_code == 304
    assert files.response("index.html", request(plain.headers["etag"], "gzip")).status_code == 200


def test_the_page_is_small_and_its_modules_are_asked_for_at_once() -> None:
    page = PageFiles(PAGE)
    names = sorted(path.name for path in PAGE.iterdir())
    sent = [len(page.response(name, request(encoding="gzip")).body) for name in names]
    assert sum(sent) < 150_000
    preloaded = re.findall(
        r'<link rel="modulepreload" href="page/(\w+\.js)"', (PAGE / "index.html").read_text()
    )
    assert sorted([*preloaded, "app.js"]) == [name for name in names if name.endswith(".js")]


@pytest.mark.parametrize(
    "name", ["", "nothing", "../secret.txt", "parts", "/index.html", "parts/../index.html"]
)
def test_nothing_else_can_be_reached(files: PageFiles, name: str) -> None:
    with pytest.raises(Problem) as refused:
        files.response(name, request())
    assert refused.value.status == 404


def test_a_folder_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    with pytest.raises(Problem):
        PageFiles(tmp_path / "nowhere").response("index.html", request())
