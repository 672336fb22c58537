"""Fixtures of the tests that start servers."""

from tunegraph_pipeline_tests.cluster.object_store import object_store

__all__ = ["object_store"]
