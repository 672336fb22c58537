"""Where `tunegraph` and `python -m tunegraph_pipeline` start.

It is this small so that Ctrl-C is answered with one line while the imports of the command line still run.
"""

import gc
import signal
import sys

_COUNT_AT_THE_END = ("_duckdb", "sparse_dot_topn")
"""Modules that complain on standard error of objects that nobody collected."""


def main() -> None:
    """Run the command line; 130 when it is interrupted before it could begin."""
    # Imports make hundreds of thousands of objects that stay. As it is, the garbage collector goes through
    # them again and again, and twice at the end: a third of what a short command takes.
    gc.set_threshold(20_000, 20, 50)
    try:
        from tunegraph_pipeline.cli.app import main as run_command
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        run_command()
    finally:
        # The command is over; what is left is the interpreter taking itself apart.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if sys.modules.keys().isdisjoint(_COUNT_AT_THE_END):
            gc.freeze()


if __name__ == "__main__":
    main()
