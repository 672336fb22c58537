"""What the tests of several machines share: their marker, and what is said where they cannot run.

Here: when they run. Not here: how a server is started; each has a module of its own, whose fixtures are
imported here, so that they last for the whole session. It imports nothing of the extra at its top.

`make cluster-test` installs the extra `cluster` and runs them; there nothing may be missing. Everywhere else
they are left out, with a word where the extra is not installed.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tunegraph_pipeline_tests.cluster.availability import without
from tunegraph_pipeline_tests.cluster.object_store import object_store, on_node
from tunegraph_pipeline_tests.cluster.postgres import postgres
from tunegraph_pipeline_tests.cluster.ray_cluster import ray_cluster

__all__ = ["object_store", "on_node", "postgres", "ray_cluster"]

HERE = Path(__file__).parent
_MISSING = [name for name in ("dagster_postgres", "obstore", "psycopg2", "ray") if find_spec(name) is None]
_ADVICE = f"{', '.join(_MISSING)} not installed: make cluster-test installs the extra `cluster`"


class _LeftOut(pytest.Module):
    """A test module that is not imported, since what it imports is not installed."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        without(_ADVICE)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if _MISSING and module_path.parent == HERE:
        left_out: pytest.Module = _LeftOut.from_parent(parent, path=module_path)
        return left_out
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, before `-m` selects."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)
