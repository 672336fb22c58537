"""Versions of arrays: graphs, matrices and models, and the checkpoints of a training.

Here: what ``CURRENT`` names, and arrays that are not as their manifest declares. Not here: the bundles
(`bundles`), or comparing a version with what it was built from (`consistency`).
"""

from collections.abc import Callable
from pathlib import Path

from tunegraph_pipeline.errors import BundleError, LakeError, check_shortage
from tunegraph_pipeline.lake.arrays import MANIFEST, ArrayFolder
from tunegraph_pipeline.lake.schemas import TABLES
from tunegraph_pipeline.lake.seals import read_json
from tunegraph_pipeline.lake.tensors import load_tensors
from tunegraph_pipeline.models.arrays import REFITTED
from tunegraph_pipeline.pipeline.stages import array_stages
from tunegraph_pipeline.pipeline.verify.inspection import Inspection, folders, named_first, short
from tunegraph_pipeline.pipeline.verify.tables import of_unit_length
from tunegraph_pipeline.recommend.publication import live_model


def check_versions(inspection: Inspection) -> None:
    for kind, asset in array_stages().items():
        current = check_current(inspection, kind, asset)
        for folder in folders(inspection.lake.folder(kind)):
            again, path = f"rematerialise {asset}", folder
            if folder.name != current:
                again = "it is not the current version: the repair removes it, and nothing is rebuilt"
                if kind == "models" and folder.name == _live_model_or_none(inspection.lake.serving):
                    again = (
                        "the live bundle is of this model: restore it from a backup, or let the repair"
                        ' remove it, and publish the current one by `tunegraph publish --override "why"`'
                    )
            mend = inspection.remove(folder)
            if kind == "models":  # its table of embeddings, which is not rebuilt while it exists
                table = inspection.lake.table_path("track_embeddings", folder.name).parent
                mend = inspection.remove(folder, table)
            arrays = check_arrays(inspection, folder, again, mend)
            if arrays is None or kind != "models":
                continue
            for name in ("embeddings", f"{REFITTED}embeddings"):
                if name in arrays and not of_unit_length(arrays[name]):
                    path = folder / f"{name}.npy"
                    inspection.problem(path, "an embedding is not finite and of unit length", again, mend)
    for path in sorted(inspection.lake.checkpoints.glob("*.safetensors")):
        inspection.seen.add(path)
        try:
            load_tensors(path)
        except LakeError as error:
            again = "the repair removes it, and the training starts again from the beginning"
            inspection.problem(path, short(error, path), again, inspection.remove(path))


def check_current(inspection: Inspection, kind: str, asset: str) -> str | None:
    """The version that ``CURRENT`` of a kind names, None without a valid one."""
    path = inspection.lake.current_file(kind)
    if not path.exists():
        if folders(inspection.lake.folder(kind)) and kind not in TABLES:
            inspection.note(path, "is not there", f"rematerialise {asset}")
        return None
    inspection.seen.add(path)
    try:
        named = inspection.lake.current_version(kind)
    except LakeError as error:
        inspection.problem(path, short(error, path), f"rematerialise {asset}", inspection.remove(path))
        return None
    inside = f"cut_off={named}/data.parquet" if kind in TABLES else named
    if not _is_name(named) or not (path.parent / inside).exists():
        what = f"names {named[:80]!r}, which is not there"
        inspection.problem(path, what, f"rematerialise {asset}", inspection.remove(path))
        return None
    return named


def check_arrays(
    inspection: Inspection, folder: Path, repairs: str, mend: Callable[[], None] | None
) -> ArrayFolder | None:
    """Read everything that a folder of arrays declares; None where it differs."""
    inspection.seen.add(folder / MANIFEST)
    try:
        arrays = ArrayFolder.open(folder)
        declared = set(read_json((folder / MANIFEST).read_bytes())["parts"])
        arrays.verify()
        for name in declared:
            if name.endswith(".safetensors"):
                load_tensors(folder / name)
    except (BundleError, LakeError, OSError) as error:
        check_shortage(error, f"cannot read {folder}")
        # The message begins with the damaged file; the others are known files.
        inspection.seen.update(path for path in folder.iterdir() if path.is_file())
        file = named_first(folder, str(error))
        inspection.problem(file, short(error, file), repairs, mend)
        return None
    inspection.seen.update(folder / name for name in declared)
    return arrays


def _live_model_or_none(serving: Path) -> str | None:
    """The live model, or None where it cannot be read, which another check reports."""
    try:
        return live_model(serving)
    except BundleError:
        return None


def _is_name(version: str) -> bool:
    return bool(version) and version == Path(version).name and version[0] != "." and "\0" not in version
