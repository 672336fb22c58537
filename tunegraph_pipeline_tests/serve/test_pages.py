"""Files for a browser, from memory."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
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


# How eyes without one receptor see red, green and blue light (Machado, Oliveira and Fernandes, 2009).
_EYES = {
    "usual": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}
_CONES = [
    [0.4122215, 0.5363325, 0.0514460],
    [0.2119035, 0.6806995, 0.1073970],
    [0.0883025, 0.2817188, 0.6299787],
]
_OKLAB = [
    [0.2104543, 0.7936178, -0.0040720],
    [1.9779985, -2.4285922, 0.4505937],
    [0.0259040, 0.7827718, -0.8086758],
]


@pytest.mark.parametrize(("scheme", "contrast"), [("light", 2), ("dark", 3)])
def test_genres_are_told_apart_with_any_colour_blindness(scheme: str, contrast: float) -> None:
    place = -1 if scheme == "dark" else 0

    def colours(file: str, name: str) -> NDArray[np.float64]:
        """Red, green and blue of the style's colours of this name, as amounts of light."""
        found = re.findall(rf"(--{name}): #(\w\w)(\w\w)(\w\w);", (PAGE / file).read_text())
        half = len(found) // 2
        parts = np.array([[int(part, 16) / 255 for part in one[1:]] for one in found])
        parts = parts[half:] if place else parts[:half]
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)

    genres, others, page = (
        colours("parts.css", r"genre-\d"),
        colours("style.css", "others"),
        colours("base.css", "page"),
    )
    assert len(genres) == 8
    light, ground = (part @ [0.2126, 0.7152, 0.0722] + 0.05 for part in (genres, page))
    assert (np.maximum(light / ground, ground / light) >= contrast).all()
    for eyes, seen in _EYES.items():
        cones = np.clip(np.concatenate([genres, others]) @ np.array(seen).T, 0, 1) @ np.transpose(_CONES)
        at = 100 * np.cbrt(cones) @ np.transpose(_OKLAB)
        apart = np.linalg.norm(at[:, None] - at[None], axis=2) + 1e3 * np.eye(len(at))
        assert apart.min() > 8, eyes  # about 2 is the least that is seen side by side


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
