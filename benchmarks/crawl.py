"""The crawl compared with the rate a service allows, and its requests with those of the 2022 scheme.

    python benchmarks/crawl.py [--users 1500] [--rate 100] [--latency 20] [--memory-users 0]

A server of the simulated world, in a process of its own, answers every request after ``--latency``
milliseconds and allows ``--rate`` requests in any second. It prints the share of the allowed rate that the
crawl uses, the share of its requests answered with 429, and requests per user beside those that the first
version of this pipeline would have sent for the same users: one for a user's playlists, one per playlist, one
per 100 features of each playlist, and one per 50 tracks for their names. With ``--memory-users N`` a second
crawl, of N users and without a limit, prints the peak memory of the crawling process.

It also prints how long a crawl takes to stop when the server asks it to wait for a day.

Exits 1 when less than 95 % of the rate is used, 1 % or more of the requests are answered with 429, more
requests per user are sent than by the scheme, stopping takes 5 seconds, or the memory is above 500 MB.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import date
from math import ceil
from pathlib import Path

from tunegraph_pipeline.simulator.world import World, WorldConfig
from tunegraph_pipeline.sources.crawl import Crawl, CrawlReport, CrawlSettings
from tunegraph_pipeline.sources.frontier import Frontier
from tunegraph_pipeline.sources.source import CrawlPaused
from tunegraph_pipeline.sources.spotify import SpotifyFeatures, SpotifySource
from tunegraph_pipeline.sources.spotify_login import SpotifySettings

DAY = date(2026, 6, 1)
KEPT, REFUSED, WAIT_S, MEMORY_MB = 0.95, 0.01, 5, 500


def crawl(
    config: WorldConfig, starts: list[str], faults: dict[str, float], ceiling: float
) -> tuple[CrawlReport, float]:
    """Crawl a server of this world; the report and the seconds of the crawl."""
    command = [sys.executable, "-m", "tunegraph_pipeline.simulator.server", "--until-stdin-closes"]
    options = ["--world", config.model_dump_json(), "--day", DAY.isoformat(), "--faults", json.dumps(faults)]
    with (
        tempfile.TemporaryDirectory() as scratch,
        subprocess.Popen(
            [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        settings = CrawlSettings(requests_per_second=ceiling, users_per_day=10**9, requests_per_day=10**9)
        with Frontier(Path(scratch) / "crawl.sqlite", DAY) as frontier:
            source = SpotifySource(
                SpotifySettings(start_users=tuple(starts), api_url=f"{url}/v1", accounts_url=url),
                settings,
                frontier,
                name="simulator",
                credentials=("simulator", "simulator"),
                providers=lambda source: [SpotifyFeatures(source)],
            )
            crawling = Crawl(source, frontier, Path(scratch) / "raw", settings)
            started = time.perf_counter()
            with suppress(CrawlPaused):
                crawling.run()
            seconds = time.perf_counter() - started
            source.close()
        server.stdin.close()
    return crawling.report, seconds


def scheme_of_2022(world: World) -> float:
    """Requests a user of the first version, for everyone whose page is open."""
    requests = users = 0
    states = world.crawl(DAY).users.filter(state="listed")["user_id"].to_list()
    for user in states:
        users += 1
        requests += 1
        for playlist in world.playlists(user, DAY):
            if playlist.owner_id == user and playlist.track_ids:
                tracks = len(playlist.track_ids)
                requests += 1 + ceil(tracks / 100) + ceil(tracks / 50)
    return requests / users


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=1_500, help="listeners of the world")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second the server allows")
    parser.add_argument("--latency", type=float, default=20.0, help="milliseconds")
    parser.add_argument("--memory-users", type=int, default=0, help="listeners of a second, unlimited crawl")
    options = parser.parse_args()

    config = WorldConfig(n_users=options.users, n_tracks=2 * options.users)
    world = World(config)
    faults = {"latency_ms": options.latency, "requests_per_second": options.rate}
    report, seconds = crawl(config, world.start_users(), faults, options.rate)
    requests = report.counts["requests"]
    kept = requests / seconds / options.rate
    refused = report.counts["429"] / requests
    print(f"{kept:.1%} of the allowed {options.rate:g} requests a second kept (target at least {KEPT:.0%})")
    print(f"{refused:.2%} of the requests answered 429 (target below {REFUSED:.0%})")
    ours, scheme = requests / report.users, scheme_of_2022(world)
    print(f"{ours:.2f} requests a user, {ours / scheme:.2f} times the {scheme:.2f} of the 2022 scheme")
    print(f"  {report.users:,} users, {requests:,} requests, {seconds:.0f} s, {options.latency:g} ms latency")
    good = kept >= KEPT and refused < REFUSED and ours <= scheme

    _, seconds = crawl(config, world.start_users(), {"long_wait_after": 20}, 5_000)
    print(f"{seconds:.1f} s for a crawl told after 20 answers to wait a day (target below {WAIT_S})")
    good = good and seconds < WAIT_S

    if options.memory_users:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        many = WorldConfig(n_users=options.memory_users, n_tracks=options.memory_users)
        starts = starts_of(many)
        report, seconds = crawl(many, starts, {}, 10_000)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        print(f"{peak:.0f} MB peak in a crawl of {report.users:,} users (target below {MEMORY_MB})")
        requests = report.counts["requests"]
        print(f"  {before:.0f} MB before it; {requests:,} requests in {seconds:.0f} s")
        good = good and peak < MEMORY_MB
    return int(not good)


def starts_of(config: WorldConfig) -> list[str]:
    """The start users of a world that is made in another process: its memory is not the crawl's."""
    code = "import sys; from tunegraph_pipeline.simulator.world import World, WorldConfig; import json\n"
    code += "print(json.dumps(World(WorldConfig.model_validate_json(sys.argv[1])).start_users()))"
    command = [sys.executable, "-c", code, config.model_dump_json()]
    starts: list[str] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return starts


if __name__ == "__main__":
    sys.exit(main())
