"""The command line `tunegraph …`: a thin layer over the same jobs and functions as the Dagster UI.

Here: the list of commands with their groups and examples, and exit codes: 0 done, 1 a bug, 2 bad input (one
line says what to do), 130 Ctrl-C. Not here: the commands. They import what is heavy inside their functions,
so that `--help` and completion are quick.
"""

import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from tunegraph_pipeline.cli import evaluate, ingest, operate, query, refresh, serve, users
from tunegraph_pipeline.cli.show import complain
from tunegraph_pipeline.errors import ShortageError, TuneGraphError, check_shortage
from tunegraph_pipeline.words import in_plain_words

INTERRUPTED = 130
EVERYDAY, SERVING, OPERATING = "Everyday", "Serving", "Operating"


class _Command(TyperCommand):
    """A command whose help gives arguments by name, without their type in the words of Python."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for kind in ("argument", "option"):
            params = [one for one in self.get_params(ctx) if one.param_type_name == kind]
            if records := [record for one in params if (record := one.get_help_record(ctx))]:
                with formatter.section(f"{kind.title()}s"):
                    formatter.write_dl([(re.sub(r" <.*>$", "", name), text) for name, text in records])


class _Grouped(TyperGroup):
    """Lists the commands under the heading of their group, with their first sentence whole."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        widest = max(map(len, self.commands))
        for group in (EVERYDAY, SERVING, OPERATING):
            named = [one for one in self.commands.items() if getattr(one[1], "rich_help_panel", "") == group]
            with formatter.section(group):
                formatter.write_dl(
                    [(name.ljust(widest), one.get_short_help_str(limit=200)) for name, one in named]
                )


app = typer.Typer(
    name="tunegraph",
    cls=_Grouped,
    rich_markup_mode=None,  # plain text: boxes leave too little of 80 columns
    pretty_exceptions_enable=False,
    epilog="`tunegraph COMMAND --help` explains a command. First steps: import a file, refresh, recommend.",
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"tunegraph {version('tunegraph-pipeline')}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Liked songs in, recommendations out, refreshed every day."""


def _add(group: str, command: Callable[..., Any], *examples: str, name: str | None = None) -> None:
    """Add a command to the help of `tunegraph` and give its own help examples, each in one line."""
    lines = ["\b", "Example:" if len(examples) == 1 else "Examples:", *(f"  {one}" for one in examples)]
    app.command(name, cls=_Command, rich_help_panel=group, epilog="\n".join(lines))(command)


# In the order of `tunegraph --help`.
_add(
    EVERYDAY,
    ingest.import_files,
    "tunegraph import my_spotify_data.zip --dry-run",
    "tunegraph import likes.csv --user-id ann",
    name="import",
)
_add(EVERYDAY, refresh.refresh, "tunegraph refresh", "tunegraph refresh --source none --full")
_add(EVERYDAY, operate.status, "tunegraph status --lake data_lake/demo")
_add(EVERYDAY, query.search, "tunegraph search after the wolf", "tunegraph search lanterns --ids")
_add(
    EVERYDAY,
    query.recommend,
    "tunegraph recommend --user me",
    'tunegraph recommend --likes "After the Wolf, Blue Harbour" -k 20',
    "tunegraph recommend --users users.csv --output recommendations.parquet",
)
_add(
    EVERYDAY, query.similar, 'tunegraph similar "After the Wolf"', "tunegraph similar 4uLU6hMCjMI75M1A2tKUQC"
)
_add(
    EVERYDAY,
    users.users,
    "tunegraph users --sort likes --limit 10",
    "tunegraph users --alias old_name=new_name",
)
_add(SERVING, serve.serve, "tunegraph serve --port 8000")
_add(SERVING, refresh.publish, 'tunegraph publish --override "the new catalogue is worth it"')
_add(SERVING, operate.rollback, 'tunegraph rollback --reason "too many lullabies"')
_add(OPERATING, serve.ui, "tunegraph ui --port 3001")
_add(OPERATING, operate.verify, "tunegraph verify --repair")
_add(OPERATING, operate.lock, "tunegraph lock -- rsync -a --delete data_lake/main/ /backup")
_add(OPERATING, operate.forget, "tunegraph forget --file leavers.txt")
_add(
    OPERATING,
    evaluate.evaluate,
    "tunegraph evaluate --held-out likes_of_april.csv --baselines",
)
_add(
    OPERATING,
    evaluate.compare,
    "tunegraph compare --model tunegraph --model ease --users 1000",
)
_add(OPERATING, operate.login, "tunegraph login --no-browser")
_add(
    OPERATING,
    serve.simulator,
    "tunegraph simulator --users 500 --port 0",
    "tunegraph simulator --dumps data_lake/dumps",
)


def main() -> None:
    """Run the command line; turn errors into one line and an exit code."""
    try:
        # typer turns Ctrl-C and Exit into the code it returns here.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # names of songs on a terminal that has ASCII alone
        code = app(sys.argv[1:] or ["--help"], prog_name="tunegraph", standalone_mode=False) or 0
        sys.stdout.flush()
    except TuneGraphError as error:
        complain(str(error))
        sys.exit(2)
    except MemoryError:
        complain("there is not enough memory for this; close other programs, or use a machine with more")
        sys.exit(2)
    except PermissionError as error:
        from tunegraph_pipeline.lake.storage import no_access

        complain(str(no_access(error.filename)))
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        _give_up_output()  # whoever read it has seen enough, as in `tunegraph users | head`
        sys.exit(0)
    except OSError as error:
        if (shortage := _shortage(error)) is not None:
            complain(shortage)
            sys.exit(2)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or error.filename is not None:
            raise
        _give_up_output()
        complain(f"the output cannot be written: {error.strerror}; free some space, or write it elsewhere")
        sys.exit(2)
    except Exception as error:  # noqa: BLE001  # a bug: shown, with an exit code of its own
        if (usage := getattr(error, "format_message", None)) is not None:
            where, _, problem = usage().partition(": ")
            complain(f"{where}: {in_plain_words(problem)}" if problem else where)
            sys.exit(2)
        # Plain, since rich can take minutes over the long messages of a schema mismatch.
        traceback.print_exc()
        sys.exit(1)
    if code == INTERRUPTED:
        complain("interrupted; the lake is as it was after the last finished step")
    sys.exit(code)


def _shortage(error: OSError) -> str | None:
    try:
        check_shortage(error, f"cannot open {error.filename or 'a file or socket'}")
    except ShortageError as named:
        return str(named)
    return None


def _give_up_output() -> None:
    """Point standard output at nothing, so that Python does not fail on it again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
