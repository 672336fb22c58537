"""The operator page and its endpoints, over a lake refreshed twice: by real HTTP, in a real browser."""

import json
import math
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.lake.feedback_spool import append
from tunegraph_pipeline.lake.lake import Lake
from tunegraph_pipeline.orchestration.in_process import run_job
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.serve import run
from tunegraph_pipeline.serve.access import KEY_VARIABLE
from tunegraph_pipeline.serve.settings import ServiceSettings
from tunegraph_pipeline_tests.conftest import recorded
from tunegraph_pipeline_tests.run_stages import run_stages
from tunegraph_pipeline_tests.serve.conftest import (
    RunningService,
    StartService,
    small_content,
    start_service,
)
from tunegraph_pipeline_tests.test_cli import complaint, tunegraph

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_plots")]

KEY = "0123456789abcdef0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {KEY}"}
FIRST, SECOND = date(2026, 2, 1), date(2026, 2, 6)
SUBJECTS = ("overview", "quality", "publications", "drift", "runs", "feedback", "tables")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, blank_plots: None) -> Lake:
    """A small simulated lake. Its second refresh collected feedback, and is in Dagster's history."""
    lake = Lake.open_or_create(tmp_path_factory.mktemp("operated") / "lake")
    lake.set_section("simulator", {"n_users": 120, "n_tracks": 250, "over_http": False})
    lake.set_section("training", {"dimension": 16, "epochs": 1, "encoder": "none"})
    lake.set_section("graph", {"held_out": 0.2})
    run_stages(lake, "refresh", FIRST, FIRST, {"crawled_users": {"source": "simulator"}})
    somebody, track = _somebody(lake)
    noon = datetime(SECOND.year, SECOND.month, SECOND.day, 12, tzinfo=UTC)
    append(lake.root, "one", somebody, [(track, "dislike"), (track, "skip")], at=noon)
    (broken,) = lake.spool.rglob("*.jsonl")
    with broken.open("ab") as file:
        file.write(b'{"cut short\n')
    with recorded():
        run_job(lake, "refresh", SECOND, SECOND)
    append(lake.root, "two", somebody, [(track, "skip")], at=noon)
    return Lake.open(lake.root)


def _somebody(lake: Lake) -> tuple[str, str]:
    """The user of the longest list in the first bundle, and a song that they liked then."""
    bundle = Bundle.open(lake.version_folder("serving", lake.versions("serving")[0]))
    longest = max(range(bundle.n_users), key=lambda user: len(bundle.user_list(user)))
    return bundle.users[longest], bundle.tracks[int(bundle.user_list(longest)[0])]


@pytest.fixture(scope="module")
def service(lake: Lake) -> Iterator[RunningService]:
    running = start_service(lake.root, "--operator", environment={KEY_VARIABLE: KEY})
    yield running
    assert running.stop() == 0
    assert not any("fault" in line or "Traceback" in line for line in running.said), running.said


Ask = Callable[..., Any]


@pytest.fixture
def ask(service: RunningService) -> Ask:
    """The answer of an endpoint to the key; ``body`` is sent by POST."""

    def ask(path: str, body: Any = None, status: int = 200) -> Any:
        how = {"headers": HEADERS}
        got = service.get(path, **how) if body is None else service.post(path, body, **how)
        assert got.status_code == status, got.text
        return got.json()

    return ask


# --- whether there is one, and for whom ---


def test_without_the_option_there_is_none(running_service: StartService) -> None:
    service = running_service(environment={KEY_VARIABLE: KEY})
    assert service.get("/operator").status_code == 404
    assert service.get("/operator/users", headers=HEADERS).status_code == 404
    assert not any("operator" in path for path in service.get("/openapi.json").json()["paths"])
    loaded = "import sys, tunegraph_pipeline.serve.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert not {"tunegraph_pipeline.serve.operator_routes", "polars"} & set(done.stdout.split())


def test_without_a_key_or_with_a_lake_in_a_store_it_is_refused(
    serving_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    done = tunegraph("serve", "--lake", serving_lake, "--operator")
    assert f"--operator needs a key, since its page shows everybody's lists: set {KEY_VARIABLE}" in complaint(
        done
    )
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    where = {"bucket": "music", "prefix": "lake", "endpoint": "", "node": "here", "probed": True}
    (serving_lake.parent / "store.json").write_text(json.dumps(where))
    with pytest.raises(InputError, match=r"--operator cannot show s3://music/lake: a service has only"):
        run._check(ServiceSettings(lake=serving_lake, operator=True))


def test_only_the_key_opens_it_and_the_log_has_neither_key_nor_user(
    service: RunningService, ask: Ask, lake: Lake
) -> None:
    assert service.get("/operator").status_code == 200  # the page itself has nothing to hide
    assert service.get("/operator/page/app.js").headers["cache-control"] == "no-cache"
    assert service.get("/operator/page/../routes.py").status_code == 404
    somebody, _ = _somebody(lake)
    paths = [
        *(f"/operator/{subject}" for subject in SUBJECTS),
        "/operator/users",
        f"/operator/users/{somebody}",
    ]
    with service.client() as client:
        for headers in ({}, {"Authorization": f"Bearer {KEY}x"}, {"X-API-Key": "wrong"}):
            for path in paths:
                refused = client.get(path, headers=headers)
                assert refused.status_code == 401
                assert refused.headers["content-type"] == "application/problem+json"
                assert "\n" not in refused.json()["detail"]
            refused = client.post("/operator/recommendations", json={"user_id": somebody}, headers=headers)
            assert refused.status_code == 401
        assert client.get(f"/operator/users?key={KEY}").status_code == 401
    ask(f"/operator/users/{quote(somebody)}")
    service.wait_for(lambda: any("{user_id" in line["route"] for line in service.log))
    logged = json.dumps(service.log) + "".join(service.said)
    assert KEY not in logged
    assert somebody not in logged
    security = service.get("/openapi.json").json()["paths"]
    assert security["/operator/users"]["get"]["security"] == [{"key": []}]


def test_its_questions_count_for_the_rate_limit(running_service: StartService) -> None:
    service = running_service("--operator", "--rate-limit", 1, environment={KEY_VARIABLE: KEY})
    with service.client(headers={"X-API-Key": "guess"}) as client:
        statuses = [client.get("/operator/users").status_code for _ in range(4)]
    assert statuses[0] == 401
    assert statuses[-1] == 429


# --- what it says ---


def test_the_answers_are_those_of_the_lake_while_somebody_writes_it(lake: Lake, ask: Ask) -> None:
    with lake.writing("a test"):  # no question waits for the lock
        overview, quality = ask("/operator/overview"), ask("/operator/quality")
        published, drift = ask("/operator/publications"), ask("/operator/drift")
        runs, said, tables = ask("/operator/runs"), ask("/operator/feedback"), ask("/operator/tables")

    live = read_current(lake.serving).name
    assert [bundle["version"] for bundle in overview["bundles"] if bundle["live"]] == [live]
    assert len(overview["bundles"]) >= 2
    assert "live bundle" in overview["status"]

    assert quality["models"][0] == "served"
    assert {"map@10", "recall@10"} <= set(quality["metrics"])
    assert [point["bundle"] for point in quality["points"]][-1] == live
    assert all(point["when"] for point in quality["points"])
    rows = lake.read("evaluation").filter(dataset=f"gate of {live}", model="served", metric="map")
    assert quality["points"][-1]["values"]["map@10"]["served"] == rows["value"][0]

    assert published["live"] == live
    first = published["items"][-1]
    assert (first["outcome"], first["gate"]) == ("first", None)
    gate = published["items"][0]["gate"]
    assert (gate["champion"], gate["metric"]) == (first["model"], "map@10")
    assert published["items"][0]["outcome"] == ("accepted" if gate["refusal"] is None else "refused")
    assert gate["protocol"] in {"sets", "continuation"}
    assert gate["figures"]["map@10"]["low"] <= gate["figures"]["map@10"]["high"]

    newest = drift["models"][-1]
    assert newest["parent"] == drift["models"][0]["version"]
    assert -1 <= newest["moved"]["mean_cosine"] <= 1
    assert newest["moved"]["songs"][0]["name"]
    (point,) = drift["points"]
    assert point["version"] == newest["version"]

    (run_of_second,) = runs["items"]
    assert (run_of_second["job"], run_of_second["outcome"]) == ("refresh", "success")
    assert run_of_second["days"] == SECOND.isoformat()
    steps = {step["name"]: step for step in run_of_second["steps"]}
    assert steps["trained_model"]["version"] == newest["version"]
    assert steps["trained_model"]["made"] == "updated"
    assert steps["liked_lists"]["rows"] > 0
    assert any(step["check"] for step in run_of_second["steps"])

    assert (said["spool"]["waiting"], said["listeners"]) == (1, 1)
    assert said["spool"]["oldest"] == said["days"][0]["day"]
    assert [(day["like"], day["dislike"], day["skip"]) for day in said["days"]] == [(0, 1, 1)]
    assert said["rejected"] == {"files": 1, "lines": 1, "reasons": {"incomplete or not JSON": 1}}

    rows_of = {table["name"]: table for table in tables["items"]}
    assert rows_of["likes"]["partitions"] == 2
    assert rows_of["current_likes"]["newest_rows"] == len(lake.read("current_likes", SECOND.isoformat()))
    assert rows_of["evaluation"]["newest"] is None


def test_users_are_searched_and_paged(lake: Lake, ask: Ask) -> None:
    somebody, track = _somebody(lake)
    everybody = ask("/operator/users?limit=200&sort=likes")
    likes = [user["likes"] for user in everybody["items"]]
    assert everybody["total"] == len(likes)
    assert likes == sorted(likes, reverse=True)
    assert {user["last_observed"] for user in everybody["items"]} <= {None, *map(str, (FIRST, SECOND))}
    ids = [user["user_id"] for user in ask("/operator/users?limit=200")["items"]]
    assert ids == sorted(ids)
    page = ask("/operator/users?limit=3&offset=2")
    assert [user["user_id"] for user in page["items"]] == ids[2:5]
    found = ask(f"/operator/users?search={quote(somebody.upper())}")
    assert somebody in [user["user_id"] for user in found["items"]]
    assert ask("/operator/users?search=nobody%20at%20all") == {"total": 0, "items": []}
    assert ask("/operator/users?limit=0", status=422)["errors"][0]["location"] == "query.limit"

    theirs = ask(f"/operator/users/{quote(somebody)}")
    assert track not in [song["track_id"] for song in theirs["likes"]]  # disliked since
    assert [song["track_id"] for song in theirs["dislikes"]] == [track]
    assert "has no user of this id" in ask("/operator/users/nobody", status=404)["detail"]


def test_the_playground_answers_as_the_service_does_with_parts_that_add_up(
    lake: Lake, service: RunningService, ask: Ask
) -> None:
    somebody, track = _somebody(lake)
    options = {"k": 7, "familiarity": 0.8, "diversity": 0.3, "max_per_artist": 1}
    live = ask("/operator/recommendations", {"user_id": somebody, **options})
    asked = "&".join(f"{name}={value}" for name, value in options.items())
    served = ask(f"/users/{quote(somebody)}/recommendations?{asked}")
    for item in live["items"]:
        parts, contributions = item.pop("parts"), item.pop("contributions")
        assert math.isclose(sum(parts.values()), item["score"], abs_tol=1e-5)
        assert parts["familiarity"] > 0
        assert contributions == sorted(contributions, key=lambda one: -one["contribution"])
    assert live == served

    earlier = ask("/operator/overview")["bundles"][-1]["version"]
    before = ask("/operator/recommendations", {"likes": [track], "version": earlier, "k": 5})
    recommender = Recommender(Bundle.open(lake.serving / earlier))
    alone = recommender.recommend([track], 5)
    assert before["bundle_version"] == earlier
    assert [item["track_id"] for item in before["items"]] == [item.song.track_id for item in alone.items]
    explained = recommender.explain([track], before["items"][0]["track_id"])
    assert math.isclose(
        before["items"][0]["contributions"][0]["contribution"], explained.contributions[0].contribution
    )

    popular = ask("/operator/recommendations", {"likes": ["nothing"]})
    assert popular["degraded"]
    assert popular["unknown"] == ["nothing"]
    assert {item["parts"] for item in popular["items"]} == {None}
    genres = {"filters": {"genres": ["no such genre"]}}
    assert ask("/operator/recommendations", {"likes": [track], **genres}, status=404)
    assert "no bundle 2020-x" in ask("/operator/recommendations", {"version": "2020-x"}, status=404)["detail"]
    for version in ("..", "../serving", ".staging", "a/b"):
        assert ask("/operator/recommendations", {"version": version}, status=422)


# --- the process that answers ---


def test_a_reporter_that_is_killed_is_started_again_and_ends_with_the_service(serving_lake: Path) -> None:
    blocked = small_content().track_ids[0]
    (serving_lake.parent / "blocked").write_text(f"track:{blocked}\n")
    service = start_service(
        serving_lake,
        "--operator",
        "--blocklist",
        serving_lake.parent / "blocked",
        environment={KEY_VARIABLE: KEY},
    )
    try:
        assert _reporters(service) == []  # not before somebody asks
        query = {"likes": [small_content().track_ids[4]], "k": 50}
        for _ in range(2):
            answer = service.post("/operator/recommendations", query, headers=HEADERS)
            assert answer.status_code == 200
            assert blocked not in [item["track_id"] for item in answer.json()["items"]]
            (reporter,) = _reporters(service)
            assert KEY_VARIABLE not in reporter.environ()
            reporter.kill()
        # A lake of a bundle alone: what it lacks is said in a line, or is empty.
        for subject in SUBJECTS:
            assert service.get(f"/operator/{subject}", headers=HEADERS).status_code == 200
        (serving_lake / "serving" / "publications.jsonl").write_text("no line of it\n")
        refused = service.get("/operator/publications", headers=HEADERS)
        assert refused.status_code == 503
        assert "publications.jsonl line 1 is not a publication" in refused.json()["detail"]
        (reporter,) = _reporters(service)
    finally:
        service.stop(signal.SIGKILL)
    service.wait_for(lambda: not reporter.is_running() or reporter.status() == psutil.STATUS_ZOMBIE)


def _reporters(service: RunningService) -> list[psutil.Process]:
    children = psutil.Process(service.process.pid).children()
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


# --- the page ---


@contextmanager
def visit(browser: Any, service: RunningService, **options: Any) -> Iterator[Any]:
    """A new page at the service, which asks no other host and complains of nothing."""
    context = browser.new_context(**options)
    page = context.new_page()
    strange, asked_for = list[str](), list[str]()
    page.on("console", lambda said: strange.append(said.text))
    page.on("pageerror", lambda error: strange.append(str(error)))
    page.on("request", lambda asked: asked_for.append(asked.url))
    page.goto(f"{service.url}/operator")
    yield page
    # The browser itself says of a refused key that there was one.
    assert [text for text in strange if "401 (Unauthorized)" not in text] == []
    assert [url for url in asked_for if not url.startswith(service.url) or KEY in url] == []
    context.close()


def enter(page: Any, key: str = KEY) -> None:
    page.fill("#key", key)
    page.press("#key", "Enter")


def settled(page: Any, title: str) -> None:
    """Wait until a subject is shown whole."""
    page.wait_for_function(
        "title => document.querySelector('#title').textContent === title"
        " && !document.querySelector('#main').hasAttribute('aria-busy')"
        " && !document.body.textContent.includes('Reading')",
        arg=title,
    )


def subjects(page: Any) -> Iterator[str]:
    """Go to each subject by the keyboard alone, and yield its title once it is shown."""
    links = page.locator("#subjects a")
    for place in range(links.count()):
        links.nth(place).focus()
        page.keyboard.press("Enter")
        title = links.nth(place).inner_text()
        settled(page, title)
        assert page.locator("#subjects a[aria-current=page]").inner_text() == title
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{title} is too wide"
        yield title


@pytest.mark.browser
def test_the_page_asks_for_the_key_and_shows_every_subject(
    browser: Any, service: RunningService, lake: Lake
) -> None:
    somebody, _ = _somebody(lake)
    live = read_current(lake.serving).name
    shown = {
        "Overview": live,
        "Playground": "Choose a user or songs.",
        "Quality": "served",
        "Publications": f"CURRENT names {live}",
        "Drift": "mean cosine",
        "Runs": "trained_model",
        "Feedback": "incomplete or not JSON",
        "Users": somebody,
        "Tables": "current_likes",
    }
    with visit(browser, service, viewport={"width": 1280, "height": 860}) as page:
        assert page.evaluate("document.activeElement.id") == "key"
        enter(page, f"{KEY}-not")
        page.wait_for_selector("#login-problem:visible")
        assert page.inner_text("#login-problem") == "The service does not accept this key."
        enter(page)
        settled(page, "Overview")
        for title in subjects(page):
            assert shown.pop(title) in page.inner_text("#content"), title
            if title == "Quality":
                page.select_option("#metric", "recall@10")
                label = page.get_attribute("#content svg", "aria-label")
                assert label.startswith("recall@10 of each bundle. Last: served 0.")
                assert page.locator("#content path.line").count() >= 3
        assert not shown
        # The key is where nothing else reads it, and goes with the page.
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        page.reload()
        page.check("#keep")
        enter(page)
        settled(page, "Tables")
        page.reload()
        settled(page, "Tables")
        page.click("#leave")
        assert page.inner_text("#content") == ""
        assert page.evaluate("sessionStorage.length") == 0
        page.reload()
        page.wait_for_selector("#login:visible")


@pytest.mark.browser
def test_the_parts_of_a_large_score_add_up_as_they_are_shown(
    browser: Any, service: RunningService, lake: Lake
) -> None:
    somebody, _ = _somebody(lake)

    def answer(route: Any) -> None:
        response = route.fetch()
        found = response.json()
        parts = {"embedding": 0.5284, "neighbours": 16.0994, "prior": 0.0011, "familiarity": 0.0}
        found["items"][0] |= {"parts": parts, "score": sum(parts.values())}
        route.fulfill(response=response, json=found)

    with visit(browser, service) as page:
        page.route("**/operator/recommendations", answer)
        enter(page)
        settled(page, "Overview")
        page.evaluate("location.hash = '/users'")
        settled(page, "Users")
        with page.expect_response(lambda got: "search=" in got.url and somebody in got.url):
            page.fill("#search-users", somebody)
        page.click(f"button[aria-label='Try {somebody} in the playground']")
        page.wait_for_selector(".song")
        page.click(".song summary")
        said = page.inner_text(".song[data-track] .sum")
    assert re.findall(r"\d+\.\d+", said) == ["0.528", "16.099", "0.001", "0.000", "16.629"]


@pytest.mark.browser
def test_from_a_user_to_what_two_bundles_answer(browser: Any, service: RunningService, lake: Lake) -> None:
    somebody, _ = _somebody(lake)
    with visit(browser, service, viewport={"width": 380, "height": 780}, color_scheme="dark") as page:
        enter(page)
        settled(page, "Overview")
        page.evaluate("location.hash = '/users'")
        settled(page, "Users")
        with page.expect_response(lambda got: "search=" in got.url and somebody in got.url):
            page.fill("#search-users", somebody)
        page.click(f"button[aria-label='Try {somebody} in the playground']")
        settled(page, "Playground")
        page.wait_for_selector(".song")
        assert somebody not in page.url
        assert page.inner_text(".chips li").startswith(f"user {somebody}")
        assert page.locator(".song").count() == 10

        page.focus(".song summary")
        page.keyboard.press("Enter")
        said = page.inner_text(".song[data-track] .sum")
        numbers = [float(text) for text in re.findall(r"-?\d+\.\d+", said.replace("− ", "-"))]
        assert math.isclose(sum(numbers[:4]), numbers[4], abs_tol=0.004)
        assert " from " in page.inner_text(".song .names")

        page.select_option("#compared", page.locator("#compared option").last.get_attribute("value"))
        page.wait_for_selector(".across")
        assert re.fullmatch(r"\d+ of 10 songs are in both\.", page.inner_text(".across"))
        assert page.locator(".answers .card").count() == 2
        assert page.locator(".answers .card:last-child .badge").count() == 10
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

        page.click(".chips button")
        page.wait_for_function("document.querySelector('.answers').textContent.includes('Choose a user')")
        page.fill("#song", "the")
        page.wait_for_selector("#song-found li")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_selector(".song")
        with page.expect_response(lambda got: got.url.endswith("/operator/recommendations")) as told:
            page.press("#diversity", "End")
            page.locator("#diversity").dispatch_event("change")
        assert told.value.request.post_data_json["diversity"] == 1
        assert told.value.request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.browser
def test_axe_core_finds_nothing(browser: Any, service: RunningService) -> None:
    axe = Axe()

    def looked_at(where: str) -> None:
        for scheme, size in (
            ("light", {"width": 1280, "height": 860}),
            ("dark", {"width": 380, "height": 780}),
        ):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size(size)
            results = axe.run(page)
            assert results.violations_count == 0, f"{where}, {scheme}: {results.generate_report()}"

    with visit(browser, service) as page:
        looked_at("the key")
        enter(page)
        settled(page, "Overview")
        for title in subjects(page):
            if title == "Playground":
                page.fill("#user", "a")
                page.wait_for_selector("#user-found li")
                looked_at("what was found")
                page.keyboard.press("Enter")
                page.wait_for_selector(".song")
                page.click(".song summary >> nth=0")
            looked_at(title)
