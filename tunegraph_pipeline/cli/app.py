"""The command line `tunegraph …`: a thin layer over the same jobs and functions as the Dagster UI.

Here: the list of commands, and exit codes: 0 done, 1 a bug, 2 bad input (one line says what to do), 130
Ctrl-C. Not here: the commands. They import what is heavy inside their functions, so that `--help` is quick.
"""

import sys
import traceback

import typer

from tunegraph_pipeline.cli import evaluate, ingest, operate, query, refresh, serve, users
from tunegraph_pipeline.cli.show import complain
from tunegraph_pipeline.errors import TuneGraphError

app = typer.Typer(
    name="tunegraph",
    help="Liked songs in, recommendations out, refreshed every day.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # reflows the paragraphs of a docstring
    pretty_exceptions_enable=False,
)
INTERRUPTED = 130

# In the order of `tunegraph --help`.
app.command("import")(ingest.import_files)
app.command()(refresh.refresh)
app.command()(refresh.publish)
app.command()(users.users)
app.command()(operate.forget)
app.command()(operate.rollback)
app.command()(operate.login)
app.command()(serve.simulator)
app.command()(serve.serve)
app.command()(query.recommend)
app.command()(query.similar)
app.command()(evaluate.evaluate)
app.command()(evaluate.compare)
app.command()(operate.status)
app.command()(operate.verify)
app.command()(serve.ui)


def main() -> None:
    """Run the command line; turn errors into one line and an exit code."""
    try:
        # typer turns Ctrl-C and Exit into the code it returns here.
        code = app(standalone_mode=False) or 0
    except TuneGraphError as error:
        complain(str(error))
        sys.exit(2)
    except PermissionError as error:
        from tunegraph_pipeline.lake.storage import no_access

        complain(str(no_access(error.filename)))
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001  # a bug: shown, with an exit code of its own
        if (usage := getattr(error, "format_message", None)) is not None:
            complain(usage())
            sys.exit(2)
        # Plain, since rich can take minutes over the long messages of a schema mismatch.
        traceback.print_exc()
        sys.exit(1)
    if code == INTERRUPTED:
        complain("interrupted; the lake is as it was after the last finished step")
    sys.exit(code)
