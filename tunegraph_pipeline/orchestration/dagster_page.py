"""`dagster dev` with a guard before its page: what `tunegraph ui` becomes.

Here: the two processes in which our code takes part. Not here: what the guard checks (`page_guard`).

    python -m tunegraph_pipeline.orchestration.dagster_page dev OPTIONS         as `dagster dev OPTIONS`
    python -m tunegraph_pipeline.orchestration.dagster_page webserver OPTIONS   the webserver that it starts

Dagster, whose version is pinned, has no setting for middleware. So `dev` names this module where Dagster
names its webserver, and the webserver gets a subclass that adds the guard. Daemon and code server stay
Dagster's.
"""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from starlette.middleware import Middleware

from tunegraph_pipeline.orchestration.page_guard import PageGuard, PageSettings

MODULE = "tunegraph_pipeline.orchestration.dagster_page"
"""The name of this module, also where it runs as a program."""


def dev(arguments: Sequence[str]) -> None:
    """`dagster dev`, with the guarded webserver in the place of Dagster's."""
    from dagster._cli import dev as dagster_dev
    from dagster_shared.ipc import open_ipc_subprocess

    def start(parts: Sequence[str], **kwargs: Any) -> subprocess.Popen[Any]:
        if parts[1:3] == ["-m", "dagster_webserver"]:
            parts = [parts[0], "-m", MODULE, "webserver", *parts[3:]]
        return open_ipc_subprocess(parts, **kwargs)

    dagster_dev.open_ipc_subprocess = start  # type: ignore[attr-defined]  # it imports the name
    dagster_dev.dev_command.main(list(arguments), prog_name="dagster dev")


def webserver(arguments: Sequence[str]) -> None:
    """`dagster-webserver`, with the guard around every request."""
    from dagster_webserver import app, cli
    from dagster_webserver.webserver import DagsterWebserver

    settings = PageSettings.of_environment()

    class GuardedWebserver(DagsterWebserver[Any, Any]):
        def build_middleware(self) -> list[Middleware]:
            return [Middleware(PageGuard, settings=settings), *super().build_middleware()]

    app.DagsterWebserver = GuardedWebserver  # type: ignore[attr-defined]  # it imports the name
    cli.cli.main(list(arguments), prog_name="dagster-webserver", auto_envvar_prefix="DAGSTER_WEBSERVER")


if __name__ == "__main__":
    {"dev": dev, "webserver": webserver}[sys.argv[1]](sys.argv[2:])
