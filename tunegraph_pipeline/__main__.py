"""Where `tunegraph` and `python -m tunegraph_pipeline` start.

It is this small so that Ctrl-C is answered with one line while the imports of the command line still run.
"""

import signal
import sys


def main() -> None:
    """Run the command line; 130 when it is interrupted before it could begin."""
    try:
        from tunegraph_pipeline.cli.app import main as run_command
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        run_command()
    finally:
        # The command is over; what is left is the interpreter taking itself apart.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
