"""The cost of the Lambda function's zip: its size, memory, and the time of a start and of a query.

    make lambda LAKE=…
    python benchmarks/lambda_function.py build/tunegraph-lambda.zip [--python python3.13] [--queries 1000]

The zip is unpacked into an empty folder and run by a Python that sees only its standard library and that
folder, with at most 128 MiB of data (RLIMIT_DATA), on one core. The first line is the ratio of a start, from
the new process to the first answer from an open bundle, to that of a process that only imports the same
numpy. The exit code is 1 when the zip is above 60 MB or its peak memory above 128 MB. Times are of this
machine; a function of 128 MB has about a fourteenth of a core once it runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

MOST_ZIPPED, MOST_MEMORY = 60e6, 128e6
_STARTS = 15

_NUMPY_ALONE = """
import sys; sys.path.insert(0, sys.argv[1])
import numpy
"""
_FUNCTION = """
import json, os, resource, sys, time
resource.setrlimit(resource.RLIMIT_DATA, (128 << 20, 128 << 20))
os.environ["AWS_LAMBDA_FUNCTION_NAME"] = "benchmark"
sys.path.insert(0, sys.argv[1])
from tunegraph_pipeline.serve.aws_lambda.handler import lambda_handler, recommender
bundle = recommender().bundle
times = []
for query in range(int(sys.argv[2])):
    likes = [bundle.tracks[(query * 7919 + place * 131) % bundle.n_tracks] for place in range(10)]
    event = {"httpMethod": "POST", "body": json.dumps({"likes": likes})}
    start = time.perf_counter()
    done = lambda_handler(event, None)
    times.append(time.perf_counter() - start)
    assert done["statusCode"] == 200, done
(peak,) = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")]
json.dump({"times": times, "peak": peak * 1024, "tracks": bundle.n_tracks, "likes": len(bundle.listeners),
           "dimension": bundle.dimension}, sys.stdout)
"""


def run(python: str, code: str, *arguments: str) -> str:
    """Run ``code`` in a Python without anything of others; returns what it printed."""
    command = [python, "-I", "-S", "-B", "-c", code, *arguments]  # nothing is written in Lambda either
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={}).stdout


def start_ms(python: str, code: str, *arguments: str) -> float:
    """The median time of such a process from its start to its end."""
    times = []
    for _ in range(_STARTS):
        start = time.perf_counter()
        run(python, code, *arguments)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("zip", type=Path)
    parser.add_argument("--python", default="python3.13", help="the version the zip was made for")
    parser.add_argument("--queries", type=int, default=1_000)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(options.zip) as packed:
        packed.extractall(folder)
        unpacked = sum(info.file_size for info in packed.infolist())
        told = json.loads(run(options.python, _FUNCTION, folder, str(options.queries)))
        bare = start_ms(options.python, _NUMPY_ALONE, folder)
        start = start_ms(options.python, _FUNCTION, folder, "0")
    zipped, peak = options.zip.stat().st_size, told["peak"]
    p50, p99 = np.percentile(told["times"], [50, 99]) * 1e3
    print(f"start / import of numpy: {start / bare:.2f} ({start:.0f} ms and {bare:.0f} ms)")
    print(f"{told['tracks']:,} tracks, {told['likes']:,} likes, d={told['dimension']}")
    print(f"  zip {zipped / 1e6:.1f} MB (at most {MOST_ZIPPED / 1e6:.0f}), unpacked {unpacked / 1e6:.1f} MB")
    print(f"  peak memory {peak / 1e6:.1f} MB (at most {MOST_MEMORY / 1e6:.0f}), {options.queries} queries")
    print(f"  a query, event to response: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    return int(zipped > MOST_ZIPPED or peak > MOST_MEMORY)


if __name__ == "__main__":
    sys.exit(main())
