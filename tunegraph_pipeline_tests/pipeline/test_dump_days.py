"""Raw batches of ListenBrainz's dumps, from a server on loopback. Which of them are due: `test_dump_plan`."""

import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter, namedtuple
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from dagster import AssetKey, DagsterInstance

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.daily import fill_day
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.lake.schemas import DUMPS
from tunegraph_pipeline.lake.tables import empty_table
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.pipeline import current_likes
from tunegraph_pipeline.pipeline.crawl_day import crawl_day
from tunegraph_pipeline.pipeline.deletion_requests import request
from tunegraph_pipeline.pipeline.dump_days import (
    SECTION,
    fetch_day,
    first_day_to_ask,
    received,
)
from tunegraph_pipeline.pipeline.fill_days import days_to_catch_up, days_to_fill
from tunegraph_pipeline.pipeline.forgetting import process_requests
from tunegraph_pipeline.pipeline.prepare_refresh import prepare_dumps
from tunegraph_pipeline.pipeline.status import lake_status
from tunegraph_pipeline.progress import watched_by
from tunegraph_pipeline.simulator.dump_server import DumpFaults, DumpServer
from tunegraph_pipeline.simulator.dumps.archives import publish, publish_full
from tunegraph_pipeline.sources.api_session import RequestPolicy
from tunegraph_pipeline.sources.dumps.fetch import DumpReport, begins_at
from tunegraph_pipeline.sources.dumps.mirror import Mirror
from tunegraph_pipeline.sources.dumps.published import read_name
from tunegraph_pipeline.sources.dumps.settings import DumpSettings
from tunegraph_pipeline.sources.source import CrawlPaused, NoAnswer
from tunegraph_pipeline_tests.conftest import examples
from tunegraph_pipeline_tests.dump_world import (
    FULL,
    SERVED,
    SINCE,
    TODAY,
    Plays,
    archive_of,
    make_world,
    number_of,
    plays,
    reseal,
)
from tunegraph_pipeline_tests.test_cli import tunegraph

pytestmark = pytest.mark.slow

DAYS = [FULL + timedelta(days=i) for i in range(4)]
PATIENT = {"attempts": 8, "longest_wait": 5.0}


# --- from the mirror to raw batches ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("dumps")
    publish(make_world(), made, TODAY)
    return made


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[date, Plays]:
    """What each day has to have."""
    return {day: plays(archive_of(folder, day), SINCE if day == FULL else None) for day in DAYS}


@pytest.fixture
def server(folder: Path) -> Iterator[DumpServer]:
    with DumpServer(folder) as running:
        yield running


def a_lake(root: Path, server: DumpServer, timeout: float = 20.0) -> Lake:
    lake = Lake.open_or_create(root)
    mirror = f"{server.url}/{SERVED}"
    lake.set_section(SECTION, {"mirror": mirror, "months": 1, "timeout": timeout, "memory_gb": 0.5})
    lake.set_section("crawl", PATIENT)
    return lake


def fill(lake: Lake, days: list[date] = DAYS, today: date = TODAY) -> list[DumpReport | None]:
    with lake.writing("a test"):
        return [fetch_day(lake, day, lambda _: None, today=today) for day in days]


def plays_of(lake: Lake, day: date) -> Plays:
    found: Plays = Counter()
    for batch in lake.batches(day):
        for user_id, track_id, played_on, n in batch.read("plays").iter_rows():
            found[user_id, track_id, played_on] += n
    return found


def test_dumps_become_the_plays_of_their_days(
    folder: Path, expected: dict[date, Plays], server: DumpServer, tmp_path: Path
) -> None:
    lake = a_lake(tmp_path / "lake", server)
    assert first_day_to_ask(lake, today=TODAY) == FULL
    said: list[str] = []
    with watched_by(lambda *_: None, said.append):
        reports = fill(lake)
    for day in DAYS:
        assert plays_of(lake, day) == expected[day]
        (batch,) = lake.batches(day)
        assert batch.is_whole == (day == FULL)
        tracks = batch.read("tracks")
        assert set(tracks["track_id"]) == {track for _, track, _ in expected[day]}
        assert tracks["name"].null_count() == tracks["artists"].null_count() == 0
    # No byte twice, only what holds the window, and nothing is left of it.
    whole = archive_of(folder, FULL)
    sent = server.bytes_sent()[f"/{whole.relative_to(folder)}"]
    assert server.bytes_sent_again() == {}
    assert sent < 0.8 * whole.stat().st_size
    assert not any(lake.downloads_of(DUMPS).iterdir())
    assert [report and report.dumps for report in reports] == [
        [f"{'full export' if day == FULL else 'incremental dump'} {number_of(folder, day)}"] for day in DAYS
    ]
    first = reports[0]
    assert first is not None
    assert first.traffic["bytes"] == sent
    assert first.counts["listens"] - first.counts["listens from before the window, left out"] == sum(
        expected[FULL].values()
    )
    assert any("this takes up to" in note and "hold the listens since 2026-08-01" in note for note in said)
    assert any("its checksum cannot be compared" in note for note in said)


def test_what_the_lake_has_is_not_fetched_again(server: DumpServer, tmp_path: Path) -> None:
    lake = a_lake(tmp_path / "lake", server)
    fill(lake)
    sent = server.bytes_sent()
    before = {batch.folder for day in DAYS for batch in lake.batches(day)}
    assert fill(lake) == [None] * 4
    assert first_day_to_ask(lake, today=TODAY) == TODAY
    assert server.bytes_sent() == sent
    assert {batch.folder for day in DAYS for batch in lake.batches(day)} == before


def test_a_refresh_fills_every_day_since_the_first_dump_that_is_missing(
    folder: Path, server: DumpServer, tmp_path: Path
) -> None:
    lake = a_lake(tmp_path / "lake", server)
    days = days_to_fill(lake, DUMPS, today=TODAY)
    assert (days.first, days.last, days.asked) == (FULL, TODAY, (FULL, TODAY))
    fill(lake, DAYS[:2])
    caught_up = days_to_catch_up(Lake.open(lake.root), today=TODAY)
    assert caught_up.asked == (DAYS[2], TODAY)
    with lake.writing("a test"):
        report = crawl_day(lake, "", DAYS[2], today=TODAY)
    assert isinstance(report, DumpReport)
    assert report.dumps == [f"incremental dump {number_of(folder, DAYS[2])}"]


def test_a_tick_without_an_answer_asks_for_all_missed_days_in_its_run(folder: Path, tmp_path: Path) -> None:
    with DumpServer(folder) as server:
        lake = a_lake(tmp_path / "lake", server)
        fill(lake, DAYS[:2])
    lake.write("observations", FULL.isoformat(), empty_table("observations"))
    lake.set_section("crawl", {"attempts": 1})
    assert days_to_catch_up(Lake.open(lake.root), today=TODAY).asked == (DAYS[1], TODAY)
    with pytest.raises(NoAnswer):
        days_to_fill(lake, DUMPS, today=TODAY)


def test_a_dump_before_the_full_export_is_refused_and_names_its_day(
    server: DumpServer, tmp_path: Path
) -> None:
    lake = a_lake(tmp_path / "lake", server)
    with pytest.raises(InputError, match=f"comes before the dump of {DAYS[1]}.*--from {FULL}"):
        fill(lake, [DAYS[1]])
    assert lake.raw_days() == []


def test_a_kept_day_is_filled_without_a_mirror(folder: Path, tmp_path: Path) -> None:
    with DumpServer(folder) as server:
        lake = a_lake(tmp_path / "lake", server)
        fill(lake)
    lake.set_section("crawl", {"attempts": 1})
    (report,) = fill(lake, [FULL])
    assert report is not None
    assert "filled from what was kept" in report.notes[0]
    with pytest.raises(NoAnswer, match="no answer"):
        fill(lake, [TODAY])


def test_who_was_forgotten_does_not_come_back_with_later_dumps(
    expected: dict[date, Plays], server: DumpServer, tmp_path: Path
) -> None:
    lake = a_lake(tmp_path / "lake", server)
    fill(lake, [FULL])
    both = {user for user, *_ in expected[FULL]} & {user for user, *_ in expected[TODAY]}
    gone, kept = sorted(both)[:2]
    with lake.writing("a test"):
        fill_day(lake, FULL)
        request(lake, [gone])
        process_requests(lake)
    fill(lake, DAYS[1:])
    with lake.writing("a test"):
        for day in DAYS:
            fill_day(lake, day)
            assert plays_of(lake, day) == {row: n for row, n in expected[day].items() if row[0] != gone}
            for table in ("users", "plays", "likes", "observations", "feedback"):
                assert gone not in lake.read(table, day.isoformat())["user_id"].to_list()
        current_likes.run(lake, cut_off=TODAY.isoformat())
    assert kept in lake.read("plays", TODAY.isoformat())["user_id"].to_list()
    assert not [path for path in lake.root.rglob("*.parquet") if _names(path, gone)]


def _names(path: Path, user_id: str) -> bool:
    """Whether a column of a file has an id."""
    rows = pl.read_parquet(path, hive_partitioning=False)
    return any(user_id in rows[name].to_list() for name in rows.columns if rows[name].dtype == pl.String)


def test_too_little_disk_is_said_in_one_line_before_the_listens_are_fetched(
    folder: Path, server: DumpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = a_lake(tmp_path / "lake", server)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 1_000))
    with pytest.raises(InputError, match=r"needs .* MB of disk, and .* has 0.0 MB; free some"):
        fill(lake)
    whole = archive_of(folder, FULL)
    assert server.bytes_sent()[f"/{whole.relative_to(folder)}"] < 0.5 * whole.stat().st_size
    assert lake.raw_days() == []
    monkeypatch.undo()
    fill(lake)
    assert not [path for path in server.bytes_sent_again() if path.endswith(".tar")]
    assert len(received(lake)) == 4


def test_disk_is_held_to_what_was_said(server: DumpServer, tmp_path: Path) -> None:
    lake = a_lake(tmp_path / "lake", server)
    place = lake.downloads_of(DUMPS)
    most = 0
    said: list[str] = []

    def look(*_: object) -> None:
        nonlocal most
        most = max(most, sum(path.stat().st_size for path in place.rglob("*") if path.is_file()))

    with watched_by(look, said.append):
        fill(lake, [FULL])
    (need,) = (note.partition("takes up to ")[2].split()[0] for note in said if "takes up to" in note)
    assert 0 < most <= float(need.replace(",", "")) * 1e6


def disk_in_the_middle(lake: Lake, place: Path, then: Callable[[], object]) -> str:
    """What a fill says that is stopped because ``then`` was done once a first file was counted."""

    def look(*_: object) -> None:
        if [*place.rglob("*-counts")]:
            then()

    with pytest.raises(InputError) as raised, watched_by(look):
        fill(lake, [FULL])
    assert lake.raw_days() == []
    return str(raised.value)


def test_disk_that_is_taken_by_others_meanwhile_ends_the_run_and_loses_nothing(
    expected: dict[date, Plays], server: DumpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = a_lake(tmp_path / "lake", server)
    usage = namedtuple("usage", "total used free")

    def is_full() -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 1_000))

    said = disk_in_the_middle(lake, lake.downloads_of(DUMPS), is_full)
    assert re.search(r"needs .* of disk, and .* has 0.0 MB; free some, .* what was fetched is kept$", said)
    monkeypatch.undo()
    fill(lake)
    assert not [path for path in server.bytes_sent_again() if path.endswith(".tar")]
    assert plays_of(lake, FULL) == expected[FULL]


def test_more_disk_than_was_said_is_not_taken_before_it_is_said_anew(
    expected: dict[date, Plays], server: DumpServer, tmp_path: Path
) -> None:
    lake = a_lake(tmp_path / "lake", server)
    place = lake.downloads_of(DUMPS)

    def grow() -> None:
        (folder,) = place.iterdir()
        (folder / "scratch").mkdir(exist_ok=True)
        (folder / "scratch" / "spilled").write_bytes(bytes(5_000_000))

    said = disk_in_the_middle(lake, place, grow)
    assert re.search(
        r"takes more disk than the .* MB that it said; .* run it again to let it take more$", said
    )
    fill(lake)
    assert not [path for path in server.bytes_sent_again() if path.endswith(".tar")]
    assert plays_of(lake, FULL) == expected[FULL]


def test_dumps_after_a_gap_are_taken_until_a_full_export_fills_it(folder: Path, tmp_path: Path) -> None:
    dumps = tmp_path / "dumps"
    shutil.copytree(folder, dumps)
    for day in DAYS[1:3]:
        shutil.rmtree(archive_of(dumps, day).parent)
    with DumpServer(dumps) as server:
        lake = a_lake(tmp_path / "lake", server)
        reports = fill(lake)
        gap = (
            f"the incremental dumps between {number_of(folder, FULL)} and {number_of(folder, TODAY)} are"
            " missing, with what was submitted from 2026-09-01 to 2026-09-03"
        )
        assert reports[-1] is not None
        assert reports[-1].notes == [f"{gap}; the next full export fills the gap"]
        assert plays_of(lake, TODAY) == plays(archive_of(folder, TODAY))
        assert lake_status(lake)["dumps"] == (
            f"full export {number_of(folder, FULL)} and 1 incremental dump until {TODAY}; {gap}"
        )
        (again,) = fill(lake, [TODAY])  # nothing is due, and it is said again
        assert again is not None
        assert (again.dumps, again.notes) == ([], reports[-1].notes)

        next_full = date(2026, 9, 15)
        publish_full(make_world(), dumps, next_full)
        (filled,) = fill(lake, [next_full], today=next_full)
        assert filled is not None
        assert [note.rpartition("; ")[2] for note in filled.notes] == [
            f"full export {number_of(dumps, next_full)} fills the gap"
        ]
        assert plays_of(lake, next_full) == plays(
            archive_of(dumps, next_full), datetime(2026, 8, 15, tzinfo=UTC)
        )
        assert lake_status(lake)["dumps"] == f"full export {number_of(dumps, next_full)}"


def test_where_a_dump_begins_is_read_again_if_it_is_replaced_meanwhile(
    folder: Path, server: DumpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(f"{server.url}/{SERVED}", RequestPolicy(attempts=2), timeout=5.0)
    archive = archive_of(folder, DAYS[2])
    one = read_name(archive.parent.name)
    assert one is not None
    fetch, replaced = mirror.fetch, [1, 1]

    def replacing(*given: Any) -> None:
        if replaced:
            replaced.pop()
            server.replace(f"/{archive.relative_to(folder)}")
        fetch(*given)

    monkeypatch.setattr(mirror, "fetch", replacing)
    assert begins_at(mirror, one, tmp_path / "begins").date() == DAYS[1]
    replaced += [1, 1, 1]
    with pytest.raises(InputError, match=r"was replaced or removed while it was read; run it again later$"):
        begins_at(mirror, one, tmp_path / "again")


def test_what_was_fetched_of_a_dump_outlasts_a_listing_without_its_archive(
    folder: Path, expected: dict[date, Plays], tmp_path: Path
) -> None:
    dumps = tmp_path / "dumps"
    shutil.copytree(folder, dumps)
    archive = archive_of(dumps, DAYS[1])
    hidden = archive.with_name(".hidden")
    with DumpServer(dumps) as server:
        lake = a_lake(tmp_path / "lake", server)
        fill(lake, [FULL])

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), watched_by(interrupt):
            fill(lake, DAYS[1:2])
        archive.rename(hidden)
        fill(lake, DAYS[1:2])
        hidden.rename(archive)
        fill(lake, DAYS[2:3])  # in the same refresh, although an earlier dump is due by now
        archive.rename(hidden)
        (last,) = fill(lake, [TODAY])
        assert last is not None
        assert any("its archive is not there yet" in note for note in last.notes)
        assert [one.day for one in received(lake)] == [FULL, *DAYS[2:]]
        hidden.rename(archive)
        fill(lake, DAYS[1:])
        assert not [path for path in server.bytes_sent_again() if path.endswith(".tar")]
    for day in DAYS:
        assert plays_of(lake, day) == expected[day]
    assert "missing" not in lake_status(lake)["dumps"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        {"reset": 0.05, "truncated": 0.05, "stall": 0.05, "unavailable": 0.05, "retry_after_seconds": 0},
        {"wrong_range": 0.05, "short_range": 0.05, "not_satisfiable": 0.05},
        {"wrong_checksum": 0.3, "unlisted": 0.1},
        {"replaced": 0.05},
    ],
    ids="-".join,
)
def test_faults_are_overcome(
    faults: dict[str, Any], folder: Path, expected: dict[date, Plays], tmp_path: Path
) -> None:
    made: Counter[str] = Counter()
    refusals: list[str] = []
    for seed in range(3):
        with DumpServer(folder, faults=DumpFaults(seed=seed, stall_seconds=1.0, **faults)) as server:
            lake = a_lake(tmp_path / f"lake-{seed}", server, timeout=0.4)
            for _ in range(6):
                try:
                    fill(lake)
                except InputError as error:
                    refusals.append(str(error))
                if len(received(lake)) == 4:
                    break
            made += server.faults_made
        for day in DAYS:
            assert plays_of(lake, day) == expected[day]
    assert set(made) == set(faults) - {"retry_after_seconds"}
    assert not any("\n" in line for line in refusals)


_KILLED = """
import sys
from datetime import date
from pathlib import Path

from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.pipeline.dump_days import fetch_day

lake = Lake.open(Path(sys.argv[1]))
with lake.writing("a test"):
    for day in sys.argv[2:]:
        fetch_day(lake, date.fromisoformat(day), lambda _: None, today=date.fromisoformat(sys.argv[-1]))
"""


@pytest.mark.slow
@pytest.mark.kill
def test_a_fetch_killed_at_any_byte_goes_on_without_fetching_one_again(
    folder: Path, expected: dict[date, Plays], tmp_path: Path
) -> None:
    rng = random.Random(21)
    in_flight = 0
    with DumpServer(folder, faults=DumpFaults(bytes_per_second=400_000)) as server:
        lake = a_lake(tmp_path / "lake", server)
        total = sum(path.stat().st_size for path in folder.glob(f"{SERVED}/*/*/*.tar"))
        for _ in range(examples(9)):
            kill_at = server.bytes_sent().total() + rng.randrange(total // 4)
            before = len(server.sent)
            command = [sys.executable, "-c", _KILLED, str(lake.root), *map(str, DAYS)]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
                while running.poll() is None and server.bytes_sent().total() <= kill_at:
                    time.sleep(0.005)
                running.kill()
            # Of each answer that was cut off, what went out last may be lost.
            in_flight += max((end - start for _, start, end in server.sent[before:]), default=0)
        fill(lake)
    again = {path: n for path, n in server.bytes_sent_again().items() if path.endswith(".tar")}
    assert sum(again.values()) <= in_flight
    for day in DAYS:
        assert plays_of(lake, day) == expected[day]
        assert len(lake.batches(day)) == 1
    assert not any(lake.downloads_of(DUMPS).iterdir())


def test_another_window_after_an_interruption_is_counted_anew(
    folder: Path, server: DumpServer, tmp_path: Path
) -> None:
    lake = a_lake(tmp_path / "lake", server)
    place = lake.downloads_of(DUMPS)

    def interrupt(*_: object) -> None:
        if len([*place.rglob("*-counts")]) >= 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watched_by(interrupt):
        fill(lake, [FULL])
    prepare_dumps(lake, DUMPS, months=2, mirror=None)
    fill(lake, [FULL])
    since = datetime(2026, 7, 1, tzinfo=UTC)
    assert plays_of(lake, FULL) == plays(archive_of(folder, FULL), since)


def edited(folder: Path, copy: Path, day: date, edit: Callable[[bytes], bytes], *, seal: bool) -> Path:
    """A copy of the dumps in which one archive is another."""
    shutil.copytree(folder, copy)
    archive = archive_of(copy, day)
    archive.write_bytes(edit(archive.read_bytes()))
    if seal:
        reseal(archive)
    return copy


def test_an_archive_without_its_checksum_is_refused_and_nothing_of_it_kept(
    folder: Path, tmp_path: Path
) -> None:
    def flip(content: bytes) -> bytes:
        return content[:9_000] + bytes([content[9_000] ^ 1]) + content[9_001:]

    with DumpServer(edited(folder, tmp_path / "dumps", DAYS[1], flip, seal=False)) as server:
        lake = a_lake(tmp_path / "lake", server)
        with pytest.raises(InputError, match="did not fit its checksum, or was replaced, 3 times"):
            fill(lake)
        assert [one.day for one in received(lake)] == [FULL]
        # It is right on the mirror again.
        shutil.copy(archive_of(folder, DAYS[1]), archive_of(tmp_path / "dumps", DAYS[1]))
        fill(lake)
    assert len(received(lake)) == 4


@pytest.mark.parametrize("day", DAYS[:2])
def test_half_an_archive_is_refused_in_one_line(folder: Path, tmp_path: Path, day: date) -> None:
    half = edited(folder, tmp_path / "dumps", day, lambda content: content[: len(content) // 2], seal=True)
    with DumpServer(half) as server:
        lake = a_lake(tmp_path / "lake", server)
        with pytest.raises(InputError) as raised:
            fill(lake)
    assert f"dump-{number_of(folder, day)}" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert day not in [one.day for one in received(lake)]


def test_a_damaged_member_is_fetched_again_and_then_refused(folder: Path, tmp_path: Path) -> None:
    def damage(content: bytes) -> bytes:
        at = content.rindex(b"PAR1") - 20_000  # in the pages of the last member
        return content[:at] + bytes(2_000) + content[at + 2_000 :]

    with DumpServer(edited(folder, tmp_path / "dumps", FULL, damage, seal=True)) as server:
        lake = a_lake(tmp_path / "lake", server)
        said: list[str] = []
        with (
            pytest.raises(
                InputError, match=r"full export .* is damaged on the mirror .*does not hold listens"
            ),
            watched_by(lambda *_: None, said.append),
        ):
            fill(lake)
    assert any("it is fetched again" in note for note in said)
    assert lake.raw_days() == []


def test_a_mirror_that_asks_for_a_long_wait_ends_the_run(folder: Path, tmp_path: Path) -> None:
    with DumpServer(folder, faults=DumpFaults(unavailable=1.0, retry_after_seconds=3_600)) as server:
        lake = a_lake(tmp_path / "lake", server)
        with pytest.raises(CrawlPaused, match="asks not to be asked again before"):
            fill(lake)


# --- a refresh ---


def test_the_mirror_and_the_months_are_saved_in_the_lake(server: DumpServer, tmp_path: Path) -> None:
    lake = a_lake(tmp_path / "lake", server)
    mirror = f"{server.url}/{SERVED}"
    assert prepare_dumps(lake, DUMPS, months=2, mirror=f"{mirror}/") == []
    kept = Lake.open(lake.root).section(SECTION, DumpSettings)
    assert (kept.months, kept.mirror, kept.memory_gb) == (2, mirror, 0.5)
    assert prepare_dumps(lake, "none", months=None, mirror=None) == []
    with pytest.raises(InputError, match=r"--months goes with --source listenbrainz-dumps, not with spotify"):
        prepare_dumps(lake, "spotify", months=2, mirror=None)
    with pytest.raises(InputError, match="--mirror is 'nowhere'; it must be an address"):
        prepare_dumps(lake, DUMPS, months=None, mirror="nowhere")
    fill(lake)
    (notice,) = prepare_dumps(lake, DUMPS, months=5, mirror=None)
    assert notice == "--months 5 counts from the next full export on; the lake has one of 2"


def test_a_mirror_without_dumps_is_one_line_of_the_command(folder: Path, tmp_path: Path) -> None:
    with DumpServer(folder) as server:
        command = (
            "refresh",
            "--source",
            DUMPS,
            "--mirror",
            server.url,
            "--lake",
            tmp_path / "lake",
        )
        done = tunegraph(*command)
    assert done.returncode == 2
    assert "has no folder fullexport/" in done.stderr


@pytest.mark.dagster
@pytest.mark.slow
def test_dagster_shows_what_came_of_each_day(folder: Path, server: DumpServer, tmp_path: Path) -> None:
    lake = a_lake(tmp_path / "lake", server)
    config = {"crawled_users": {"source": DUMPS}}
    with lake.writing("a test"):
        run_job(lake, "daily_tables", FULL, TODAY, config)
    with DagsterInstance.from_config(str(lake.history)) as instance:
        key = AssetKey("crawled_users")
        events = instance.fetch_materializations(key, limit=10).records
    shown = {
        event.partition_key: event.asset_materialization.metadata
        for event in events
        if event.asset_materialization is not None
    }
    first = shown[FULL.isoformat()]
    assert first["dumps"].value == f"full export {number_of(folder, FULL)}"
    assert first["rows of plays"].value == lake.batches(FULL)[0].rows["plays"]
    assert (
        first["bytes fetched"].value
        == server.bytes_sent()[f"/{archive_of(folder, FULL).relative_to(folder)}"]
    )
    assert shown[TODAY.isoformat()]["dumps"].value == f"incremental dump {number_of(folder, TODAY)}"
