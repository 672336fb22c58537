"""The objects of a lake in an object store: that each file of the newest snapshot is there and whole.

Not here: the files of the cache, which the other checks read as those of any lake.
"""

from functools import partial

from tunegraph_pipeline.lake.snapshots import check, store_again
from tunegraph_pipeline.pipeline.verify.inspection import Inspection
from tunegraph_pipeline.words import counted


def check_store(inspection: Inspection) -> None:
    """Compare every object with its checksum. One that is missing or damaged is stored again from the cache
    of this machine. Does nothing for a lake in a folder."""
    root = inspection.lake.root
    flaws, unnamed = check(root)
    for flaw in flaws:
        path = root / flaw.file
        what = f"its object {flaw.key} in the store {flaw.what}"
        if path.is_file():
            mend = partial(store_again, root, [flaw.file])
            inspection.problem(path, what, "it is stored again from the cache of this machine", mend)
        else:
            inspection.problem(path, what, "verify on a machine whose cache has the file")
    if unnamed:
        objects = (
            f"{counted(len(unnamed), 'object')} of the store that no snapshot names, such as {unnamed[0]}"
        )
        inspection.note(root, objects, "the next writer deletes what a dead one left")
