"""Whether tests of several machines may be left out.

Here: skip or failure. Not here: what is looked for; each server says so itself, and `conftest` of the extra.
"""

import os
from typing import NoReturn

import pytest

REQUIRED = bool(os.environ.get("TUNEGRAPH_REQUIRE_CLUSTER"))
"""Whether this is `make cluster-test`, in which nothing may be skipped."""


def without(what: str) -> NoReturn:
    """Skip what needs a server that is not installed; in `make cluster-test` fail."""
    if REQUIRED:
        pytest.fail(what)
    pytest.skip(what)
