"""Fuzz what strangers reach: the importers, the service and the Lambda handler.

    python benchmarks/fuzz.py --minutes 30
    python benchmarks/fuzz.py --minutes 10 --only imports --seed 7

Files are made by changing good ones, one of each format that the tests know: bits and bytes flipped, parts
cut out, doubled or swapped, packed and packed again. Requests and events are good ones changed in the same
way, and arbitrary JSON. A case fails if an importer raises anything but InputError, or an error of several
lines; if the service or the handler raises, answers 500, or answers what is not JSON; or if it takes longer
than ten seconds of a core. Failing cases are written into the folder --found. Those that teach something
belong into `tunegraph_pipeline_tests/data/fuzz`, whose files the tests try each time.
"""

import argparse
import bz2
import contextlib
import gzip
import io
import json
import lzma
import random
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tunegraph_pipeline_tests.fuzz_cases import answers_well, handles_well, imports_well, service_and_handler

SLOW_SECONDS = 10.0


def seeds() -> list[tuple[str, bytes]]:
    """Good files: name and content."""
    from tunegraph_pipeline_tests.sources.test_formats import CASES

    return [
        (case.name, case.content.encode() if isinstance(case.content, str) else case.content)
        for case in CASES
    ]


def changed(data: bytes, draw: random.Random) -> bytes:
    """The bytes after one to four changes."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(out) + 1)
        end = min(len(out), at + draw.choice([1, 1, 4, 16, 200]))
        match draw.randrange(8):
            case 0 if at < len(out):
                out[at] ^= 1 << draw.randrange(8)
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = out[at:end] * draw.choice([1, 2, 50])
            case 3:
                out[at:at] = draw.randbytes(draw.choice([1, 4, 32]))
            case 4:
                out[at:end] = draw.choice(PIECES)
            case 5:
                out[at:at] = draw.choice(PIECES) * draw.choice([1, 1, 3, 300])
            case 6:
                del out[at:]
            case _ if at < end:
                out[at:end] = bytes(reversed(out[at:end]))
    return bytes(out)


PIECES = (
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"'", b",", b";", b"\t", b"\r", b"\n", b"\r\n", b"::",
    b"|",
    b"[", b"]", b"{", b"}", b"[[", b'{"a":', b"null", b"NaN", b"Infinity", b"-1", b"1e999", b"0" * 40,
    b"9" * 25, b"\\ud800", b"\\u0000", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\x1b[2J", b"<", b"<!DOCTYPE a>",
    b"&a;", b"<![CDATA[", b"]]>", b"=1+1", b"user_id", b"track_id", b"1970-01-01", b"9999-12-31T23:59:59Z",
    b"spotify:track:", b"https://", b"PK\x03\x04", b"PAR1", b"bplist00",
)  # fmt: skip


def _zipped(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("likes", data)
    return sink.getvalue()


PACKERS: tuple[Callable[[bytes], bytes], ...] = (gzip.compress, bz2.compress, lzma.compress, _zipped)


def file_cases(draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Strange files: name and content."""
    good = seeds()
    while True:
        name, data = draw.choice(good)
        data = changed(data, draw)
        if draw.random() < 0.1:
            data = draw.choice(PACKERS)(data)
            if draw.random() < 0.5:
                data = changed(data, draw)
        yield name, data


def value(draw: random.Random, depth: int = 0) -> Any:
    """Arbitrary JSON."""
    kind = draw.randrange(9 if depth < 4 else 7)
    if kind == 7:
        return [value(draw, depth + 1) for _ in range(draw.choice([0, 1, 3, 40]))]
    if kind == 8:
        return {draw.choice(WORDS): value(draw, depth + 1) for _ in range(draw.choice([0, 1, 3]))}
    return draw.choice(
        [None, True, False, 0, -1, 1.5, 2**63, -(2**70), 1e308, float("nan"), *WORDS, "x" * 3_000]
    )


WORDS = (
    "", "a", "t0", "u0", "likes", "user_id", "track_id", "k", "events", "shown", "\x00", "\ud800",
    "\u202e", "é",
    "../../etc/passwd", "%00", "'\"<script>", "-1", "NaN", "9" * 30, "a,b", "\n",
)  # fmt: skip


def mutated(good: Any, draw: random.Random) -> Any:
    """A good JSON value with some parts replaced, left out or added."""
    if draw.random() < 0.15:
        return value(draw)
    if isinstance(good, dict):
        kept = {key: mutated(one, draw) for key, one in good.items() if draw.random() > 0.1}
        return kept | ({draw.choice(WORDS): value(draw)} if draw.random() < 0.1 else {})
    if isinstance(good, list):
        return [mutated(one, draw) for one in good]
    return good


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--minutes", type=float, default=30)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", choices=["imports", "http", "lambda"])
    options.add_argument("--found", type=Path, default=Path("build/fuzz"))
    asked = options.parse_args()
    draw = random.Random(asked.seed)
    until = time.monotonic() + 60 * asked.minutes
    tried = dict.fromkeys(["imports", "http", "lambda"] if asked.only is None else [asked.only], 0)
    failures: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as opened:
        folder = Path(name)
        files = file_cases(draw)
        client, requests, events = service_and_handler(folder, opened)
        while time.monotonic() < until:
            for kind in tried:
                attempt: Callable[[], None]
                if kind == "imports":
                    case: tuple[Any, ...] = next(files)
                    attempt = partial(imports_well, folder / "case", *case)
                elif kind == "http":
                    method, path, body = draw.choice(requests)
                    if draw.random() < 0.5:
                        path = changed(path.encode(), draw).decode(errors="replace")
                    case = (method, path, mutated(body, draw))
                    attempt = partial(answers_well, client, *case)
                else:
                    case = (mutated(draw.choice(events), draw),)
                    attempt = partial(handles_well, *case)
                tried[kind] += 1
                _try(kind, case, attempt, failures, asked.found)
    print(", ".join(f"{count:,} {kind}" for kind, count in tried.items()), f"in {asked.minutes:g} minutes")
    for what, count in failures.items():
        print(f"{count:,} times: {what}")
    return 1 if failures else 0


def _try(
    kind: str, case: tuple[Any, ...], attempt: Callable[[], None], failures: dict[str, int], found: Path
) -> None:
    began = time.process_time()
    try:
        attempt()
        what = f"{kind}: slow" if time.process_time() - began > SLOW_SECONDS else ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # whatever it is, it is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = (
            f"{kind}: {type(error).__name__}: {str(error)[:160]} ({Path(place.filename).name}:{place.lineno})"
        )
    if not what:
        return
    key = what.split("): ")[0]
    failures[key] = failures.get(key, 0) + 1
    if failures[key] == 1:
        print(what, flush=True)
        found.mkdir(parents=True, exist_ok=True)
        if kind == "imports":
            (found / f"{len(failures)}-{case[0]}").write_bytes(case[1])
        else:
            (found / f"{len(failures)}-{kind}.json").write_text(json.dumps(case))


if __name__ == "__main__":
    sys.exit(main())
