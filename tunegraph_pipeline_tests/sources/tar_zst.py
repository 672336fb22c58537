"""Archives as MetaBrainz publishes them, for tests."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa


def write_tar_zst(path: Path, files: Mapping[str, str]) -> Path:
    """Write texts, by the names they have in the archive."""
    with pa.CompressedOutputStream(path, "zstd") as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path
