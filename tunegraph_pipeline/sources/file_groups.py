"""Which files belong together, and are imported as one.

Here: the data files of a folder, and files in groups. Not here: reading a group (`files`), or recognising an
account export (`account_export`) or another zip of somebody's data (`archives`).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.account_export import holds_export, is_export
from tunegraph_pipeline.sources.archives import is_archive
from tunegraph_pipeline.sources.formats import ENDINGS, SEED_FILES
from tunegraph_pipeline.sources.recording_archives import archive_format

EXPORT, SEED, ARCHIVE, FILE = "spotify-export", "seed", "archive", "file"
"""What a group is: all account exports, the seed project's files of one folder, a zip of somebody's data from
another service, any other file; or, by the name of its format, an archive of recordings."""


def files_together(paths: Sequence[Path]) -> list[list[Path]]:
    """Files in groups of those that `files.import_files` reads as one; every file is in one group."""
    return [group for _, group in group_files(paths, "auto")]


def group_files(paths: Sequence[Path], format_name: str) -> Iterator[tuple[str, list[Path]]]:
    """Yield each group of ``paths`` and what it is; a folder stands for the data files in it.

    All account exports are the first group, folders of them included. Raises InputError for a pipe or device,
    and for a folder without a file to import.
    """
    for path in paths:
        _check_rereadable(path)
    files = [file for path in paths for file in _files_of(path, format_name)]
    exports = [file for file in files if format_name == EXPORT or _is_export(file, format_name)]
    if exports:
        yield EXPORT, list(dict.fromkeys(exports))
    others = [file for file in files if file not in exports]
    seeds = _seed_files(others) if format_name in {"auto", SEED} else {}
    for file in others:
        group = seeds.get(file.parent, [])
        if (of_recordings := archive_format(file, format_name)) is not None:
            yield of_recordings, [file]
        elif file not in group:
            yield (ARCHIVE if is_archive(file) else FILE), [file]
        elif file == group[0]:
            yield SEED, group


def _check_rereadable(path: Path) -> None:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is a pipe or device, which is read once; write it into a file first")


def _seed_files(files: Sequence[Path]) -> Mapping[Path, list[Path]]:
    """The seed project's files by their folder."""
    seeds = defaultdict[Path, list[Path]](list)
    for file in files:
        if file.name in SEED_FILES:
            seeds[file.parent].append(file)
    return seeds


def _is_export(path: Path, format_name: str) -> bool:
    if format_name not in {"auto", EXPORT} or not is_export(path):
        return False
    return path.is_dir() or path.suffix.lower() == ".json" or holds_export(path)


def _files_of(path: Path, format_name: str) -> list[Path]:
    """``path`` itself or, if it is a folder and no account export, the data files in it."""
    if not path.is_dir() or _is_export(path, format_name):
        return [path]
    try:
        inside = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    files = [file for file in inside if _is_data(file)]
    if not files:
        raise InputError(f"{path} has no file to import; expected are {', '.join(sorted(ENDINGS))}")
    return files


def _is_data(file: Path) -> bool:
    ending = file.suffix.lower()
    return ending in ENDINGS or (ending == ".zip" and (holds_export(file) or is_archive(file)))
