"""Build the zip for AWS Lambda: the handler, what it imports, numpy, and the live bundle beside them.

Here: choosing the modules, the parts of numpy and the parts of the bundle that go in, and writing the same
bytes for the same content. Not here: the handler itself (`handler`), or fetching a bundle that is not in the
zip (`bundle_fetch`). Run with `python -m tunegraph_pipeline.serve.aws_lambda.package` or `make lambda`.
"""

import argparse
import ast
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tunegraph_pipeline.errors import InputError, LakeError, TuneGraphError
from tunegraph_pipeline.lake.snapshots import lake_path, pull, shown
from tunegraph_pipeline.lake.storage import disk_errors, staged_file
from tunegraph_pipeline.recommend.bundle import Bundle, read_current
from tunegraph_pipeline.serve.aws_lambda.lake_bundle import OF_USERS, write_without_users

HANDLER = "tunegraph_pipeline.serve.aws_lambda.handler"
PYTHONS = ("3.12", "3.13")
"""Lambda runtimes whose C library is recent enough for the numpy wheels."""
ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}
"""Architectures: Lambda's name, and that of wheels."""
MAX_UNPACKED_BYTES = 250 * 1024 * 1024
"""Lambda's limit, unpacked."""
MAX_UPLOADED_BYTES = 50 * 1024 * 1024
"""Lambda's limit for a direct upload; a larger zip goes through S3."""

_PACKAGE = "tunegraph_pipeline"
_TASK_ROOT = "/var/task"  # where Lambda unpacks the zip; shown in tracebacks
_EXCLUDED_FOLDERS = {"tests", "include", "f2py", "_pyinstaller"}
_EXCLUDED_SUFFIXES = {".pyi", ".a", ".typed"}
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip
_COMPILE = """
import pathlib, py_compile, sys
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.py")):
    place = sys.argv[2] + "/" + path.relative_to(sys.argv[1]).as_posix()
    py_compile.compile(path, dfile=place, doraise=True,
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the zip that the options describe. Returns 2 after printing one line on an error."""
    from rich.console import Console
    from rich.markup import escape

    notes = Console(stderr=True, highlight=False)
    options = _parser().parse_args(arguments)
    try:
        if options.only_bundle:
            pack_bundle(options.output, _live_bundle(options.lake))
        else:
            with tempfile.TemporaryDirectory() as folder:
                wheel = numpy_wheel(Path(folder), options.python, options.arch)
                bundle = None if options.without_bundle else _live_bundle(options.lake)
                compiler = interpreter(options.python)
                pack_function(options.output, wheel, bundle, compiler)
            if compiler is None:
                notes.print(
                    f"python{options.python} not found, so nothing is compiled: cold starts take longer"
                )
        size = options.output.stat().st_size
        notes.print(escape(f"{options.output}: {size / 1e6:.1f} MB"), soft_wrap=True)
        if size > MAX_UPLOADED_BYTES:
            notes.print("too large for a direct upload to Lambda: upload it through S3, see docs/lambda.md")
    except TuneGraphError as error:
        notes.print(f"[red]lambda_package:[/red] {escape(str(error))}", soft_wrap=True)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lambda_package", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument(
        "--lake", type=lake_path, default=Path("data_lake/main"), help="the lake whose live bundle to pack"
    )
    parser.add_argument("--output", type=Path, default=Path("build/tunegraph-lambda.zip"))
    parser.add_argument("--python", choices=PYTHONS, default=PYTHONS[-1], help="the runtime of the function")
    parser.add_argument("--arch", choices=ARCHITECTURES, default="x86_64")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--without-bundle", action="store_true", help="only the function, for TUNEGRAPH_BUNDLE_URL"
    )
    which.add_argument(
        "--only-bundle", action="store_true", help="only the bundle, to be fetched from TUNEGRAPH_BUNDLE_URL"
    )
    return parser


def _live_bundle(lake: Path) -> Bundle:
    pull(lake, only_served=True)
    if not (lake / "lake.json").exists():
        raise LakeError(f"there is no lake at {shown(lake)}; name one with --lake")
    return Bundle.verified(read_current(lake / "serving"))


# --- what goes in ---


def pack_function(output: Path, wheel: Path, bundle: Bundle | None, compiler: str | None) -> None:
    """Write the zip of the function: the handler with its imports, numpy from ``wheel``, and ``bundle``.

    ``compiler`` is an interpreter of the function's Python version, which compiles every module, since Lambda
    cannot keep what it compiles; with None every cold start compiles. The same content gives the same bytes.
    Raises InputError if it exceeds Lambda's limit, LakeError on disk errors.
    """
    with _draft(output) as folder:
        _unpack_numpy(wheel, folder)
        for path, place in modules():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / place)
        if compiler is not None:
            command = [compiler, "-I", "-S", "-c", _COMPILE, str(folder), _TASK_ROOT]
            subprocess.run(command, check=True)  # noqa: S603  # a Python of the given version
        if bundle is not None:
            (folder / "bundle").mkdir()
            copy_without_users(bundle, folder / "bundle")
        unpacked = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if unpacked > MAX_UNPACKED_BYTES:
            raise InputError(
                f"the function would be {unpacked >> 20} MiB unpacked, over Lambda's limit of"
                f" {MAX_UNPACKED_BYTES >> 20} MiB;"
                " build it with --without-bundle and set TUNEGRAPH_BUNDLE_URL, see docs/lambda.md"
            )
        write_zip(output, folder)


def pack_bundle(output: Path, bundle: Bundle) -> None:
    """Write the zip of only the bundle, for the address that the function fetches it from."""
    with _draft(output) as folder:
        copy_without_users(bundle, folder)
        write_zip(output, folder)


def copy_without_users(bundle: Bundle, folder: Path) -> None:
    """Write the bundle into the empty ``folder`` without the ids and lists of its users.

    It still knows how many listeners like two songs. Only arrays are copied: other files belong to libraries
    that a function does not have.
    """
    for path in bundle.folder.glob("*.npy"):
        if path.name not in OF_USERS:
            shutil.copyfile(path, folder / path.name)
    hashes = bundle.users.hashes
    write_without_users(folder, bundle.facts, {"shape": hashes.shape, "dtype": hashes.dtype})


def modules() -> Iterator[tuple[Path, str]]:
    """The files of the handler and of all modules of this package that it imports, also inside functions, and
    their paths in the zip."""
    top = Path(__file__).parents[3]
    waiting, found = [HANDLER], set[str]()
    while waiting:
        name = waiting.pop()
        while name and name not in found:
            place = name.replace(".", "/")
            path = next(
                (path for path in (top / f"{place}.py", top / place / "__init__.py") if path.exists()), None
            )
            if path is not None:  # otherwise it is a name inside a module
                found.add(name)
                waiting += _imported(path)
                yield path, path.relative_to(top).as_posix()
            name = name.rpartition(".")[0]


def _imported(path: Path) -> Iterator[str]:
    """Every name of this package that a module imports, except under TYPE_CHECKING."""
    waiting: list[ast.AST] = [ast.parse(path.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name.split(".")[0] == _PACKAGE)


# --- numpy ---


def numpy_wheel(folder: Path, python: str, arch: str) -> Path:
    """Download a wheel of the installed numpy version for a Lambda runtime into ``folder``.

    Uses pip with its own configuration. Raises InputError if pip fails.
    """
    version = importlib.metadata.version("numpy")
    machine = ARCHITECTURES[arch]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in (28, 27, 17)] + [f"manylinux2014_{machine}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    command += ["--abi", f"cp{python.replace('.', '')}", "--dest", str(folder)]
    command += [part for platform in platforms for part in ("--platform", platform)]
    done = subprocess.run(  # noqa: S603  # the pip of this Python
        [*command, f"numpy=={version}"], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("numpy-*.whl"))
    if done.returncode or len(wheels) != 1:
        message = (done.stderr.strip().splitlines() or ["pip printed no error"])[-1]
        raise InputError(f"pip has no numpy {version} for Python {python} on {arch}: {message}")
    return wheels[0]


def interpreter(python: str) -> str | None:
    """An installed Python of this version, to compile bytecode with; None if there is none."""
    for candidate in (sys.executable, shutil.which(f"python{python}")):
        if candidate is None:
            continue
        ask = [candidate, "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(ask, capture_output=True, text=True, check=False)  # noqa: S603  # as above
        if done.returncode == 0 and done.stdout.strip() == python:
            return candidate
    return None


def _unpack_numpy(wheel: Path, folder: Path) -> None:
    """Unpack what `import numpy` needs: no tests, stubs or headers."""
    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():
            place = PurePosixPath(name)
            if not _EXCLUDED_FOLDERS & set(place.parts) and place.suffix not in _EXCLUDED_SUFFIXES:
                packed.extract(name, folder)


# --- the zip ---


def write_zip(output: Path, folder: Path) -> None:
    """Zip all files of ``folder``, sorted and without timestamps, so that equal content gives equal bytes."""
    with (
        staged_file(output, output.parent) as draft,
        zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as packed,
    ):
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        for name, path in sorted(files.items()):
            info = zipfile.ZipInfo(name, _ZIP_EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, for the permissions below
            info.external_attr = (0o100755 if ".so" in path.suffixes else 0o100644) << 16
            with path.open("rb") as source, packed.open(info, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


@contextmanager
def _draft(output: Path) -> Iterator[Path]:
    """A temporary folder for the content of ``output``, on the same disk."""
    with disk_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".lambda-") as folder:
            yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
