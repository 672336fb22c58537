"""Where `tunegraph` and `python -m tunegraph_pipeline` start.

It is this small so that Ctrl-C is answered with one line while the imports of the command line still run.
"""

import sys


def main() -> None:
    """Run the command line; 130 when it is interrupted before it could begin."""
    try:
        from tunegraph_pipeline import cli
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
