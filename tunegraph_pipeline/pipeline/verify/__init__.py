"""Whether every file of a lake is what it should be: what `tunegraph verify` finds, and its repairs.

Here: reading everything, comparing what belongs together, and for each finding the file, what is wrong with
it and what repairs it. Not here: how files are read (`lake`, `recommend`), or the checks of a run
(`orchestration.checks`).

A *problem* is damage. A *note* is what a person may want to know: a day not refreshed yet, half a line of
feedback, an unknown file. What a killed refresh left behind is no damage: the next one continues.
"""

from tunegraph_pipeline.pipeline.verify.run import verify

__all__ = ["verify"]
