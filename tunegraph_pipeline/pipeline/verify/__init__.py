"""Check every file of a lake, for `tunegraph verify`, and repair damage.

Here: reading every file and comparing each stage with its inputs; a finding names the file, what is wrong and
what repairs it. Not here: how files are read (`lake`, `recommend`), or the checks of a run
(`orchestration.checks`).

A *problem* is damage. A *note* is what a person may want to know: a day not refreshed yet, half a line of
feedback, an unknown file. What a killed refresh left is not damage: the next one continues.
"""

from tunegraph_pipeline.pipeline.verify.run import verify

__all__ = ["verify"]
